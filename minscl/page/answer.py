"""The machine's answer about a note, as the log keeps it: what `generate` writes of a document, and what is said of it.

    CodedDocument → answer_of → a member `answer` of a "code-again" entry's `after` → machine_document → CodedDocument

Read next: entry.py, which checks it; static/coding.js, which puts it into the log.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from minscl.data.checks import own_warnings
from minscl.data.record_checks import checked_record, checked_texts
from minscl.data.types import CodedDocument
from minscl.infer.report import about_document, no_codes

REMARK = {"about": str, "noCodes": str, "ownWarnings": list}


def remark(document: CodedDocument) -> dict[str, Any]:
    """What the page says of a document as it came from the model, in the words of the text table.

    `ownWarnings`: those that no check of the rules repeats.
    """
    no_code = no_codes(document) if is_coded(document) and not document.codes else ""
    return {"about": about_document(document), "noCodes": no_code, "ownWarnings": own_warnings(document)}


def is_coded(document: CodedDocument) -> bool:
    """Whether somebody has coded `document`, perhaps without finding a code."""
    return bool(document.codes) or document.coded_with is not None or document.output is not None


def answer_of(document: CodedDocument) -> dict[str, Any]:
    """The JSON object of an answer: `document` without id, text and the raw output, which repeat the note."""
    record = document.to_dict()
    return {key: value for key, value in record.items() if key not in ("id", "text", "output")} | remark(document)


def read_answer(answer: Mapping[str, Any], document: str, text: str) -> CodedDocument:
    """The coded document that `answer` is of, without its output. Raises InputError for what is none."""
    said = {key: value for key, value in answer.items() if key in REMARK}
    checked_record(said, CodedDocument, {}, REMARK)
    checked_texts(said.get("ownWarnings"), CodedDocument, "ownWarnings")
    record = {key: value for key, value in answer.items() if key not in REMARK}
    return CodedDocument.from_dict({"codes": [], **record, "id": document, "text": text})


def machine_document(document: CodedDocument, answers: Iterable[Mapping[str, Any]]) -> CodedDocument | None:
    """The machine's codes of `document` before a coder decided: as it was shown, or else the first of its answers.

    None where no machine has coded it.
    """
    if is_coded(document):
        return document
    return next((read_answer(answer, document.id, document.text) for answer in answers), None)
