"""Coded documents for people: a text table, and one self-contained HTML page with the evidence marked in the notes.

The page has no script and no external link; every value from a note is escaped. Control characters, which a terminal
would obey and a browser would hide, are shown as escapes in both (`\\x1b`); the documents keep them.

Read next: coder.py, which makes the documents.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from html import escape

from minscl.data.assertion.cues import AFFIRMED
from minscl.data.calibration import NONE, SETTING
from minscl.data.checks import is_informational
from minscl.data.locate import line_and_column
from minscl.data.types import CodedDocument, Evidence
from minscl.errors import printable
from minscl.infer.answer import LEFT_OUT

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1a1a1a; \
background: #fff }
section { display: grid; grid-template-columns: minmax(0, 3fr) minmax(0, 2fr); gap: 2rem; border-top: 1px solid #999; \
padding: 1rem 0 }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; font: inherit }
mark { background: #ffe9a8; padding: 0 .1em } mark sup { font-weight: 600 }
.code { font-weight: 600 } .missing, .rule { color: #a00000 } dd { margin: 0 0 .3rem 1rem }
@media (max-width: 50rem) { section { grid-template-columns: 1fr } }
"""


def text_table(document: CodedDocument) -> str:
    """Code, description, score, and below each code its quotations with their line:column; then the warnings, and what
    a score is.

    It is printable: neither the note nor the model can control the terminal.
    """
    lines = [document.id + code_set(document, "  ({})"), ""]
    for item in document.codes:
        score = "" if item.score is None else f"  [{item.score:.2f}]"
        lines.append(f"  {item.code:<9} {item.description or '(not in the Tabular List)'}{score}")
        for evidence in item.evidence:
            position = "not found in note"
            if evidence.start is not None:
                position = "{}:{}".format(*line_and_column(document.text, evidence.start))
            status = f"  {evidence.assertion}" if needs_look(evidence) else ""
            lines.append(f"            “{' '.join(evidence.text.split())}”  {position}{status}")
        if not item.evidence:
            lines.append("            (no evidence named)")
    if not document.codes:
        lines.append(f"  {no_codes(document)}")
    lines += [f"  warning: {warning}" for warning in document.warnings or ()]
    notes = {rule for item in document.codes for rule in item.rules or () if is_informational(rule)}
    if notes:
        applies = "notes of the Tabular List apply" if len(notes) > 1 else "note of the Tabular List applies"
        lines.append(f"  {len(notes)} more {applies}: see --json or --html")
    if about := about_scores(document):
        lines.append(f"  [{about}]")
    return "\n".join(map(printable, lines)) + "\n"


def needs_look(evidence: Evidence) -> bool:
    """Whether the note says something else of the evidence than that the patient has it."""
    return evidence.assertion not in (None, AFFIRMED)


def code_set(document: CodedDocument, template: str) -> str:
    """The code set of `document` in `template`: "ICD-10-CM edition 2027, date of service 2026-11-02"; "" if unknown."""
    if document.edition is None:
        return ""
    date = f", date of service {document.date}" if document.date else ""
    return template.format(f"ICD-10-CM edition {document.edition}{date}")


def about_scores(document: CodedDocument) -> str:
    """What the scores of `document` are: "score: the model's own, not calibrated"; "" without scores or if unknown."""
    calibration = (document.coded_with or {}).get(SETTING)
    if calibration is None or all(item.score is None for item in document.codes):
        return ""
    if calibration == NONE:
        return "score: the model's own, not calibrated"
    return f"score: calibrated; of codes with 0.70, for example, 70% were right on {calibration}"


def no_codes(document: CodedDocument) -> str:
    """Why `document` has no codes: the model found none, or all scored less than the threshold."""
    for warning in document.warnings or ():
        if warning.startswith(LEFT_OUT):
            number = warning.removeprefix(LEFT_OUT).count(",") + 1
            return f"no code is left: {number} scored below the threshold; --min-score 0 keeps all"
    return "nothing to code was found"


def html_page(documents: Iterable[CodedDocument], about: str = "") -> str:
    """The whole page, as text. `about`: a sentence on the code set, below the heading."""
    sections = []
    for document in documents:
        below_codes = {rule for item in document.codes for rule in item.rules or ()}  # shown there
        others = [warning for warning in document.warnings or () if warning not in below_codes]
        items = "".join(f"<li>{to_html(warning)}</li>" for warning in others)
        warnings = f"<h3>Warnings</h3><ul>{items}</ul>" if items else ""
        sections.append(
            f"<h2>{to_html(document.id)}</h2>{code_set_line(document)}<section><pre>{marked_text(document)}</pre>"
            f"<div>{code_list(document)}{warnings}</div></section>"
        )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>Coded notes</title><style>{STYLE}</style></head>"
        f"<body><h1>Coded notes</h1>{f'<p>{to_html(about)}.</p>' if about else ''}{''.join(sections)}</body></html>\n"
    )


def code_set_line(document: CodedDocument) -> str:
    """A paragraph with the code set and the model of `document` and what its scores are, as far as it says."""
    settings = document.coded_with or {}
    model = [f"{name} {settings[name]}" for name in ("model", "adapter") if settings.get(name)]
    parts = [code_set(document, "{}"), *model, about_scores(document)]
    return f"<p>{to_html('; '.join(filter(None, parts)))}</p>" if any(parts) else ""


def marked_text(document: CodedDocument) -> str:
    """The note as HTML with every located quotation inside <mark>, followed by its codes.

    Overlapping quotations split the text where either starts or ends, and a shared piece carries the codes of both, in
    the document's order.
    """
    starting, ending = defaultdict(list), defaultdict(list)  # offset → indices of codes with a quotation there
    for index, item in enumerate(document.codes):
        for evidence in item.evidence:
            if evidence.start is not None and evidence.end is not None and evidence.start < evidence.end:
                starting[evidence.start].append(index)
                ending[evidence.end].append(index)
    open_quotations: Counter[int] = Counter()  # index of a code → its quotations that the piece lies in
    pieces = []
    cuts = sorted({0, len(document.text), *starting, *ending})
    for start, end in zip(cuts, cuts[1:], strict=False):
        open_quotations.update(starting[start])
        piece = to_html(document.text[start:end])
        codes = dict.fromkeys(document.codes[index].code for index in sorted(open_quotations))
        if codes:
            closed = {document.codes[index].code for index in ending[end]}
            labels = " ".join(f"<sup>{to_html(code)}</sup>" for code in codes if code in closed)
            piece = f'<mark title="{to_html(", ".join(codes))}">{piece}{labels}</mark>'
        pieces.append(piece)
        open_quotations.subtract(ending[end])
        for index in ending[end]:
            if not open_quotations[index]:
                del open_quotations[index]
    return "".join(pieces)


def to_html(text: str) -> str:
    """`text` escaped for HTML, control characters other than those of its layout as escapes."""
    return escape(re.sub(r"[^\t\r\n]+", lambda match: printable(match[0]), text))


def code_list(document: CodedDocument) -> str:
    """The codes and their quotations as a definition list; a quotation that is not in the note is labelled so."""
    items = []
    for item in document.codes:
        score = "" if item.score is None else f" ({item.score:.2f})"
        items.append(
            f'<dt><span class="code">{to_html(item.code)}</span> {to_html(item.description or "")}{score}</dt>'
        )
        for evidence in item.evidence:
            missing = "" if evidence.start is not None else ' <span class="missing">not found in note</span>'
            status = f" <strong>{to_html(evidence.assertion or '')}</strong>" if needs_look(evidence) else ""
            items.append(f"<dd>“{to_html(evidence.text)}”{missing}{status}</dd>")
        items += rule_list(item.rules or ())
    return f"<dl>{''.join(items) or f'<dt>{no_codes(document)}</dt>'}</dl>"


def rule_list(rules: Iterable[str]) -> list[str]:
    """The rules of a code as HTML: what they forbid in sight, what they only inform about folded away."""
    conflicts = [rule for rule in rules if not is_informational(rule)]
    information = [f"<li>{to_html(rule)}</li>" for rule in rules if is_informational(rule)]
    items = [f'<dd class="rule">{to_html(rule)}</dd>' for rule in conflicts]
    if information:
        summary = f"Tabular List: {len(information)} note{'s' * (len(information) != 1)}"
        items.append(f"<dd><details><summary>{summary}</summary><ul>{''.join(information)}</ul></details></dd>")
    return items
