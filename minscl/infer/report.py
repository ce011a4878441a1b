"""Coded documents as text for people: a table for the terminal, and what is said of a document's code set and scores.

Control characters, which a terminal would obey, are shown as escapes (`\\x1b`); the documents keep them.

Read next: coder.py, which makes the documents; ../page/build.py, the page that shows them.
"""

from minscl.data.assertion.cues import AFFIRMED
from minscl.data.calibration import NONE, SETTING
from minscl.data.checks import is_informational
from minscl.data.locate import line_and_column
from minscl.data.types import CodedDocument, Evidence
from minscl.errors import printable

LEFT_OUT = "left out, score below"  # the warning of answer.filter_by_score begins so


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
    notes = calibration.rpartition(" ")[0]  # without the digest
    return f"score: calibrated; of codes with 0.70, for example, 70% were right on {notes}"


def no_codes(document: CodedDocument) -> str:
    """Why `document` has no codes: the model found none, or all scored less than the threshold."""
    for warning in document.warnings or ():
        if warning.startswith(LEFT_OUT):
            number = warning.removeprefix(LEFT_OUT).count(",") + 1
            return f"no code is left: {number} scored below the threshold; --min-score 0 keeps all"
    return "nothing to code was found"


def about_document(document: CodedDocument) -> str:
    """The code set and the model of `document` and what its scores are, as far as it says; "" if nothing."""
    settings = document.coded_with or {}
    model = [f"{name} {settings[name]}" for name in ("model", "adapter") if settings.get(name)]
    return "; ".join(filter(None, [code_set(document, "{}"), *model, about_scores(document)]))
