"""Notes to be coded one after another, and human evidence for them.

Offsets count the characters of a note as its file has them, newlines included, without a UTF-8 signature.

Read next: jsonl.py; ../infer/coder.py, which codes the notes.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path

from minscl.data.checks import check_document
from minscl.data.icd import CodeBook
from minscl.data.icd.codebook import is_procedure
from minscl.data.jsonl import MAX_NOTE_BYTES, read_jsonl, read_text
from minscl.data.record_checks import show_id
from minscl.data.types import CodedDocument, Note
from minscl.errors import InputError
from minscl.files import read_text as read_whole_text

Skip = Callable[[Note, InputError], None]
# Only these end a line of an evidence file: a quotation may have a form feed or U+2028, at which str.splitlines cuts.
_LINE_END = re.compile(r"\r\n|\r|\n")


class NoteRecord:
    """A line of a notes JSONL: a note, or a coded document, whose codes are not read."""

    @classmethod
    def from_dict(cls, record) -> Note:
        """The note in `record`; raises InputError."""
        if isinstance(record, dict) and "codes" in record:
            ignored = {field.name for field in fields(CodedDocument)} - {field.name for field in fields(Note)}
            record = {key: value for key, value in record.items() if key not in ignored}
        return Note.from_dict(record)


def require_text(note: Note) -> None:
    """Raises InputError for a note without text."""
    if not note.text.strip():
        raise InputError(f"{show_id(note.id)}: the note is empty; give a note with text")


def code_each_note(
    notes: Iterable[Note], code: Callable[[Note], CodedDocument], codebook: CodeBook, skip: Skip | None = None
) -> Iterator[CodedDocument]:
    """`code(note)` of each note with text, checked against `codebook`, in order.

    A note that is empty, or of which `code` raises InputError, is passed to `skip(note, error)` and left out; without
    `skip`, the error is raised.
    """
    for note in notes:
        try:
            require_text(note)
            document = code(note)
        except InputError as error:
            if skip is None:
                raise
            skip(note, error)
            continue
        yield check_document(document, codebook)


def read_notes(paths: Sequence[str | Path], skip: Skip | None = None) -> list[Note]:
    """The notes of all files, in order: a .jsonl file holds many; any other file is one note, with its path as id.

    A line of a .jsonl file is a note or a coded document, of which the codes are ignored.
    A text file that cannot be read is passed to `skip(note, error)`, if given. Raises InputError for an unreadable file
    otherwise, for two notes with the same id, and where there is no note at all.
    """
    notes: list[Note] = []
    for path in map(Path, paths):
        if path.suffix.lower() == ".jsonl":
            notes += read_jsonl(path, NoteRecord)
            continue
        try:
            if path.suffix.lower() in (".json", ".ndjson"):
                raise InputError(f"{path}: JSON is not a note's text; name a file with one note per line .jsonl")
            notes.append(Note(str(path), read_text(path)))
        except InputError as error:
            if skip is None:
                raise
            skip(Note(str(path), ""), error)
    seen: set[str] = set()
    for note in notes:
        if note.id in seen:
            raise InputError(
                f"{show_id(note.id)}: two notes have this id; name each file once, and give each note its own"
            )
        seen.add(note.id)
    if not notes:
        raise InputError(
            f'{", ".join(map(str, paths))}: no note to code; a notes JSONL has one {{"id", "text"}} object per line'
        )
    return notes


def read_evidence(path: str, notes: list[Note], codebook: CodeBook | None = None) -> dict[str, list[str]] | None:
    """Human quotations by note id, in document order (the paper's "+ Evid."); None where `path` is empty.

    A .jsonl file holds coded documents with the notes' ids and texts; evidence of procedures (ICD-10-PCS) is not used:
    `codebook` (None: the default edition) tells them from diagnoses.
    Any other file holds one quotation per line, for a single note. Raises InputError for a file that cannot be read or
    has no quotation, and where a note has no record or a record with another text.
    """
    if not path:
        return None
    if Path(path).suffix.lower() == ".jsonl":
        records = {document.id: document for document in read_jsonl(Path(path), CodedDocument)}
        book = codebook or CodeBook.load()
        return {note.id: _document_evidence(path, records.get(note.id), note, book) for note in notes}
    if len(notes) != 1:
        raise InputError(
            f"{path}: a text file has the evidence of one note, but there are {len(notes)} notes; "
            "use a JSONL of coded documents"
        )
    text = read_whole_text(path, "give a text file with one quotation per line", MAX_NOTE_BYTES)
    quotations = [line.strip() for line in _LINE_END.split(text) if line.strip()]
    if not quotations or "\0" in text:
        raise InputError(f"{path}: has no quotations; write one per line, as plain UTF-8 text")
    return {notes[0].id: quotations}


def _document_evidence(path: str, document: CodedDocument | None, note: Note, book: CodeBook) -> list[str]:
    """The quotations of `document`, the record for `note`, in document order; without offsets last, as in training."""
    if document is None:
        raise InputError(f"{path}: no record with id {show_id(note.id)}; evidence is needed for every note")
    if document.text != note.text:
        raise InputError(
            f"{path}: the text of record {show_id(note.id)} is not the note's; give evidence of these notes"
        )
    spans = {
        (evidence.start is None, evidence.start or 0, evidence.end or 0, evidence.text)
        for code in document.codes
        if book.normalise(code.code) or not is_procedure(code.code)
        for evidence in code.evidence
    }
    return [text for *_, text in sorted(spans)]
