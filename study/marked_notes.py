"""Notes with their evidence marked by a large language model, as coded documents: in the text, or in lists.

    === A-001                                                                === S0004-06142005000100009-1
    He returns for [[high blood pressure|I10]] and denies chest pain.        high blood pressure | I10
                                                                             * kidney failure | N17.9;D63.1

Left, resources/written_notes.txt and written_cases.txt: invented outpatient notes and case reports, written with their
codes. No patient, no text of a corpus. Right, background_annotations.txt: phrases of CodiEsp's background texts, each
at its first place, or with a star at all.

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


def sections(path: Path) -> list[tuple[str, str]]:
    """(ID, text) of each part of the file that a line `=== ID` begins. Raises InputError naming the file."""
    before, *parts = HEADING.split(path.read_text(encoding="utf-8"))
    if before.strip():
        raise InputError(f"{path}: text before the first heading; begin with a line === ID")
    if repeated := [id for id, number in Counter(parts[::2]).items() if number > 1]:
        raise InputError(f"{path}: note {repeated[0]}: two notes have this id; rename one of them")
    return [(id, text.strip()) for id, text in zip(parts[::2], parts[1::2], strict=True)]


def read_marked_notes(path: Path, codebook: CodeBook) -> list[CodedDocument]:
    """The notes of a file.

    Raises InputError naming file and note for a heading or a mark that cannot be read and for a code that is not
    billable in the edition.
    """
    return [read_marked(id, text, codebook, str(path)) for id, text in sections(path)]


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
    return CodedDocument(id=id, text=text, codes=assignments(evidence_of, codebook))


def read_phrase_lists(path: Path, texts: dict[str, str], codebook: CodeBook) -> list[CodedDocument]:
    """The documents of a file of phrases; `texts`: by id.

    Raises InputError naming file, note and line for a line that cannot be read, a phrase that is not in the text as
    whole words, and a code that is not billable in the edition.
    """
    documents = []
    for id, lines in sections(path):
        evidence_of: dict[str, list[Evidence]] = {}
        for number, line in enumerate(lines.splitlines(), 1):
            phrase, _, codes = line.rpartition(" | ")
            where = f"{path}: note {id}: phrase {number}"
            if not phrase or id not in texts:
                raise InputError(f"{where}: no text has this id, or the line is not PHRASE | CODE; correct it")
            places = list(re.finditer(rf"(?<!\w){re.escape(phrase.removeprefix('* '))}(?!\w)", texts[id]))
            if not places:
                raise InputError(f"{where}: the text does not have this phrase; correct the line")
            for code in codes.split(";"):
                if not codebook.is_billable(code):
                    raise InputError(f"{where}: {code} is not billable in {codebook.label}; correct the line")
                for place in places if phrase.startswith("* ") else places[:1]:
                    evidence_of.setdefault(code, []).append(Evidence(place[0], *place.span()))
        documents.append(CodedDocument(id=id, text=texts[id], codes=assignments(evidence_of, codebook)))
    return documents


def assignments(evidence_of: dict[str, list[Evidence]], codebook: CodeBook) -> tuple[Assignment, ...]:
    """The codes with their descriptions, in order; evidence that is listed twice counts once."""
    return tuple(
        Assignment(code, codebook.description(code) or "", tuple(dict.fromkeys(evidence)))
        for code, evidence in evidence_of.items()
    )
