"""Notes to be coded, and human evidence for them.

Read next: jsonl.py; ../infer/coder.py, which codes the notes.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from minscl.data.icd import CodeBook
from minscl.data.jsonl import read_jsonl, read_text
from minscl.data.types import CodedDocument, Note
from minscl.errors import InputError

Skip = Callable[[Note, InputError], None]


def read_notes(paths: Sequence[str | Path], skip: Skip | None = None) -> list[Note]:
    """The notes of all files, in order: a .jsonl file holds many; any other file is one note, with its path as id.

    A text file that cannot be read is passed to `skip(note, error)`, if given. Raises InputError for an unreadable file
    otherwise, for two notes with the same id, and where there is no note at all.
    """
    notes: list[Note] = []
    for path in map(Path, paths):
        if path.suffix == ".jsonl":
            notes += read_jsonl(path, Note)
            continue
        try:
            notes.append(Note(str(path), read_text(path)))
        except InputError as error:
            if skip is None:
                raise
            skip(Note(str(path), ""), error)
    seen: set[str] = set()
    for note in notes:
        if note.id in seen:
            raise InputError(f"{note.id}: two notes have this id; name each file once and give each note its own id")
        seen.add(note.id)
    if not notes:
        raise InputError(
            f'{", ".join(map(str, paths))}: no note to code; a notes JSONL has one {{"id", "text"}} object per line'
        )
    return notes


def read_evidence(path: str, notes: list[Note]) -> dict[str, list[str]] | None:
    """Human quotations by note id, in document order (the paper's "+ Evid."); None where `path` is empty.

    A .jsonl file holds coded documents with the notes' ids and texts; the evidence of their ICD-10-CM codes is used.
    Any other file holds one quotation per line, for a single note. Raises InputError where a note has no record or
    a record with another text.
    """
    if not path:
        return None
    if Path(path).suffix == ".jsonl":
        records = {document.id: document for document in read_jsonl(Path(path), CodedDocument)}
        return {note.id: _document_evidence(path, records.get(note.id), note) for note in notes}
    if len(notes) != 1:
        raise InputError(
            f"{path}: a text file has the evidence of one note, but there are {len(notes)} notes; "
            "use a JSONL of coded documents"
        )
    if not Path(path).exists():
        raise InputError(f"--evidence {path}: no such file; write one quotation per line")
    return {notes[0].id: [line.strip() for line in read_text(Path(path)).splitlines() if line.strip()]}


def _document_evidence(path: str, document: CodedDocument | None, note: Note) -> list[str]:
    """The quotations of `document`, the record for `note`, in document order; without offsets last, as in training."""
    if document is None:
        raise InputError(f"{path}: no record with id {note.id!r}; evidence is needed for every note")
    if document.text != note.text:
        raise InputError(
            f"{path}: the text of record {note.id!r} is not the note's; give the evidence of the notes that are coded"
        )
    book = CodeBook.load()
    spans = {
        (evidence.start is None, evidence.start or 0, evidence.end or 0, evidence.text)
        for code in document.codes
        if book.normalise(code.code)
        for evidence in code.evidence
    }
    return [text for *_, text in sorted(spans)]
