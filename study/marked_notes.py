"""Notes with their evidence marked in the text, `[[phrase|CODE]]` or `[[phrase|CODE;CODE]]`, as coded documents.

    === A-001
    He returns for [[high blood pressure|I10]] and denies chest pain.

resources/written_notes.txt and resources/written_cases.txt are in this format: invented outpatient notes and case
reports, written with their codes by a large language model (Claude). No patient, no text of a corpus.

Read next: corpus.py.
"""

import re
from pathlib import Path

from minscl.data.icd import CodeBook
from minscl.data.types import Assignment, CodedDocument, Evidence
from minscl.errors import InputError

HEADING = re.compile(r"^=== *(\S+) *$", re.MULTILINE)
MARK = re.compile(r"\[\[([^\[\]|]+)\|([^\[\]|]+)\]\]")


def read_marked_notes(path: Path, codebook: CodeBook) -> list[CodedDocument]:
    """The notes of a file. Raises InputError naming file, note and code where a code is not billable in the edition."""
    parts = HEADING.split(path.read_text(encoding="utf-8"))
    return [
        read_marked(id, text.strip(), codebook, str(path)) for id, text in zip(parts[1::2], parts[2::2], strict=True)
    ]


def read_marked(id: str, marked: str, codebook: CodeBook, source: str) -> CodedDocument:
    """One note; `source` names the file in messages."""
    text, end, evidence_of = "", 0, {}
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
    codes = tuple(
        Assignment(code, codebook.description(code) or "", tuple(evidence)) for code, evidence in evidence_of.items()
    )
    return CodedDocument(id=id, text=text, codes=codes)
