"""Coded documents for people: a text table, and one self-contained HTML page with the evidence marked in the notes.

The page has no script and no external link; every value from a note is escaped. Control characters, which a terminal
would obey and a browser would hide, are shown as escapes in both (`\\x1b`); the documents keep them.

Read next: coder.py, which makes the documents.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from html import escape

from minscl.data.locate import line_and_column
from minscl.data.types import CodedDocument
from minscl.errors import printable
from minscl.infer.answer import LEFT_OUT

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1a1a1a; \
background: #fff }
section { display: grid; grid-template-columns: minmax(0, 3fr) minmax(0, 2fr); gap: 2rem; border-top: 1px solid #999; \
padding: 1rem 0 }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; font: inherit }
mark { background: #ffe9a8; padding: 0 .1em } mark sup { font-weight: 600 }
.code { font-weight: 600 } .missing { color: #a00000 } dd { margin: 0 0 .3rem 1rem }
@media (max-width: 50rem) { section { grid-template-columns: 1fr } }
"""


def text_table(document: CodedDocument) -> str:
    """Code, description, score, and below each code its quotations with their line:column; then the warnings.

    It is printable: neither the note nor the model can control the terminal.
    """
    lines = [document.id, ""]
    for item in document.codes:
        score = "" if item.score is None else f"  [{item.score:.2f}]"
        lines.append(f"  {item.code:<9} {item.description or '(not in the Tabular List)'}{score}")
        for evidence in item.evidence:
            position = "not found in note"
            if evidence.start is not None:
                position = "{}:{}".format(*line_and_column(document.text, evidence.start))
            lines.append(f"            “{' '.join(evidence.text.split())}”  {position}")
        if not item.evidence:
            lines.append("            (no evidence named)")
    if not document.codes:
        lines.append(f"  {no_codes(document)}")
    lines += [f"  warning: {warning}" for warning in document.warnings or ()]
    return "\n".join(map(printable, lines)) + "\n"


def no_codes(document: CodedDocument) -> str:
    """Why `document` has no codes: the model found none, or all scored less than --min-score."""
    for warning in document.warnings or ():
        if warning.startswith(LEFT_OUT):
            number = warning.removeprefix(LEFT_OUT).count(",") + 1
            return f"no code is left: {number} scored below --min-score"
    return "nothing to code was found"


def html_page(documents: Iterable[CodedDocument]) -> str:
    """The whole page, as text."""
    sections = []
    for document in documents:
        warnings = "".join(f"<li>{to_html(warning)}</li>" for warning in document.warnings or ())
        sections.append(
            f"<h2>{to_html(document.id)}</h2><section><pre>{marked_text(document)}</pre>"
            f"<div>{code_list(document)}<ul>{warnings}</ul></div></section>"
        )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>Coded notes</title><style>{STYLE}</style></head>"
        f"<body><h1>Coded notes</h1>{''.join(sections)}</body></html>\n"
    )


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
            items.append(f"<dd>“{to_html(evidence.text)}”{missing}</dd>")
    return f"<dl>{''.join(items) or f'<dt>{no_codes(document)}</dt>'}</dl>"
