"""Notes with their evidence marked in the text, `[[phrase|CODE]]` or `[[phrase|CODE;CODE]]`, as coded documents.

    === A-001
    He returns for [[high blood pressure|I10]] and denies chest pain.

resources/written_notes.txt and resources/written_cases.txt are in this format: invented outpatient notes and case
reports, written with their codes by a large language model (Claude). No patient, no text of a corpus.

Read next: corpus.py.
"""

import re
from collections import Counter
from pathlib import Path

from minscl.data.icd import CodeBook
from minscl.data.types import Assignment, CodedDocument, Evidence
from minscl.errors import InputError

HEADING = re.compile(r"^=== *(\S+) *$", re.MULTILINE)
MARK = re.compile(r"\[\[([^\[\]|]+)\|([^\[\]|]+)\]\]")


def read_marked_notes(path: Path, codebook: CodeBook) -> list[CodedDocument]:
    """The notes of a file.

    Raises InputError naming file and note for a heading or a mark that cannot be read and for a code that is not
    billable in the edition.
    """
    before, *parts = HEADING.split(path.read_text(encoding="utf-8"))
    if before.strip():
        raise InputError(f"{path}: text before the first heading; begin with a line === ID")
    if repeated := [id for id, number in Counter(parts[::2]).items() if number > 1]:
        raise InputError(f"{path}: note {repeated[0]}: two notes have this id; rename one of them")
    return [
        read_marked(id, text.strip(), codebook, str(path)) for id, text in zip(parts[::2], parts[1::2], strict=True)
    ]


def read_marked(id: str, marked: str, codebook: CodeBook, source: str) -> CodedDocument:
    """One note; `source` names the file in messages."""
    text, end = "", 0
    evidence_of: dict[str, list[Evidence]] = {}
    for mark in MARK.finditer(marked):
        text += marked[end : mark.start()]
        evidence = Evidence(mark[1], len(text), len(text) + len(mark[1]))
        for code in mark[2].split(";"):
            if not codebook.is_billable(code):
                raise InputError(f"{source}: note {id}: {code} is not billable in {codebook.label}; correct the mark")
            evidence_of.setdefault(code, []).append(evidence)
        text, end = text + mark[1], mark.end()
    text += marked[end:]
    if "[[" in text or "]]" in text:
        raise InputError(f"{source}: note {id}: a mark is not [[phrase|CODE]]; correct it")
    if "===" in text:
        raise InputError(f"{source}: note {id}: holds ===, but not as a heading; write a line === ID with one word")
    codes = tuple(
        Assignment(code, codebook.description(code) or "", tuple(evidence)) for code, evidence in evidence_of.items()
    )
    return CodedDocument(id=id, text=text, codes=codes)
