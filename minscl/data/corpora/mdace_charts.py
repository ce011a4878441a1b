"""MDACE's chart files: the annotated notes of an admission, and how they become one document (Eq. 4).

MDACE (Cheng et al. 2023) is stand-off: a chart refers to characters of MIMIC-III's notes and has no text of its own
until MDACE's script inserts it. `note_id` is ROW_ID of NOTEEVENTS; offsets are half-open characters of TEXT.
Only ICD-10-CM is read (`code_system`); codes that this year's list lacks are kept, because they are gold. The
notes of an admission are joined in ascending id with a blank line between.

Read next: mdace.py, which finds the texts of a split.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from minscl.data.corpora.counts import Counts
from minscl.data.corpora.csv_rows import parse_whole_number
from minscl.data.corpora.folder import files_with_ending
from minscl.data.icd import CodeBook
from minscl.data.record_checks import show_code, show_id
from minscl.data.types import Assignment, CodedDocument, Evidence
from minscl.errors import InputError, describe_value, is_text
from minscl.files import path_kind
from minscl.settings import read_settings

NOTE_SEPARATOR = "\n\n"  # between the notes of an admission
FETCH_REMEDY = "fetch the whole of github.com/3mcloud/MDACE and name its folder"
MAX_OFFSET = 2**31
# Of quotations with a misplaced boundary. CodiEsp's coders left 8 of 12,225 (0.07%); the same quotations moved by 1 to
# 60 characters give 97% to 100%. MDACE's annotations are published without text, so theirs is not known.
MAX_MISPLACED_SHARE = 0.05


@dataclass(frozen=True)
class Annotation:
    """Characters `begin` to `end` (excluded) of a note that support `code`."""

    begin: int
    end: int
    code: str
    description: str


@dataclass(frozen=True)
class AnnotatedNote:
    """A note of MDACE without its text; its ICD-10-CM annotations in order of begin and end."""

    admission: int
    id: int
    category: str
    annotations: tuple[Annotation, ...]


def read_chart(path: Path, counts: Counts, admission: int | None = None) -> tuple[list[AnnotatedNote], dict]:
    """(notes by id, the whole JSON object) of a chart file. `admission` None: the file's hadm_id. Raises InputError."""
    chart = read_settings(path, FETCH_REMEDY).values
    number = _number(path, chart, "hadm_id") if admission is None else admission
    notes = sorted(
        (_parse_note(path, number, note, counts) for note in _objects(path, chart, "notes")), key=lambda note: note.id
    )
    for note, following in itertools.pairwise(notes):
        if note.id == following.id:
            raise InputError(f"{path}: note_id {note.id} appears twice; {FETCH_REMEDY}")
    return notes, chart


def _parse_note(path: Path, admission: int, note: dict, counts: Counts) -> AnnotatedNote:
    id, annotations = _number(path, note, "note_id"), []
    place = f"{path}: note {id}"
    for item in _objects(place, note, "annotations"):
        system = _text(place, item, "code_system")
        counts.numbers[f"annotations in {show_id(system)}"] += 1
        if system != "ICD-10-CM":
            continue
        code, description = _text(place, item, "code"), _text(place, item, "description")
        begin, end = item.get("begin"), item.get("end")
        if not (type(begin) is type(end) is int and 0 <= begin < end < MAX_OFFSET):
            raise InputError(f"{place}, code {show_code(code)}: its begin and end are no span; {FETCH_REMEDY}")
        annotations.append(Annotation(begin, end, code, description))
    annotations.sort(key=lambda annotation: (annotation.begin, annotation.end))
    return AnnotatedNote(admission, id, _text(place, note, "category").strip(), tuple(annotations))


def _objects(place, record: dict, key: str) -> list[dict]:
    """record[key], a list of JSON objects. Raises InputError that begins with `place`, as the next two do."""
    value = record.get(key)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise _wrong_type(place, record, key, "a list of objects")
    return value


def _number(place, record: dict, key: str) -> int:
    """record[key], a whole number or a text with one."""
    number = parse_whole_number(record.get(key))
    if number is None:
        raise _wrong_type(place, record, key, "a whole number")
    return number


def _text(place, record: dict, key: str) -> str:
    """record[key], a text that can be written as UTF-8."""
    value = record.get(key)
    if not isinstance(value, str) or not is_text(value):
        raise _wrong_type(place, record, key, "a text of whole characters")
    return value


def _wrong_type(place, record: dict, key: str, expected: str) -> InputError:
    value = describe_value(record[key]) if key in record else "missing"
    return InputError(f"{place}: {key} is {value}, not {expected}; {FETCH_REMEDY}")


def read_charts(path, codebook: CodeBook) -> list[CodedDocument]:
    """MDACE's own JSON (a chart, or a folder of charts) as documents, one per admission, its hadm_id as id.

    Every note needs its `text`, which MDACE's script inserts. Warnings go to stderr. Raises InputError for a note
    without it, an annotation that does not fit it, and two charts of one admission.
    """
    counts = Counts()
    files = files_with_ending(path, ".json", counts) if path_kind(path) == "folder" else [Path(path)]
    if not files:
        raise InputError(f"{path}: contains no .json file; name a folder of MDACE's charts")
    documents: list[CodedDocument] = []
    file_of: dict[str, Path] = {}
    for file in files:
        notes, chart = read_chart(file, counts)
        texts = _chart_texts(file, chart["notes"])
        document = build_document(str(_number(file, chart, "hadm_id")), notes, texts, codebook, counts, file)
        first = file_of.setdefault(document.id, file)
        if first != file:
            raise InputError(
                f"{file}: hadm_id {document.id} is also {first}'s; an admission has one chart: keep one of the two"
            )
        documents.append(document)
    check_boundaries(documents, counts, path)
    counts.print_warnings()
    return documents


def _chart_texts(file: Path, notes: list[dict]) -> dict[int, str]:
    """Note id → text, of notes that read_chart has checked.

    Raises InputError unless every note has its text and every annotation matches it.
    """
    texts = {}
    for note in notes:
        id = _number(file, note, "note_id")
        if "text" not in note:
            raise InputError(
                f"{file}: note {id} has no text; insert it with MDACE's script, or make documents: "
                "python -m minscl.expand documents mdace"
            )
        texts[id] = text = _text(f"{file}: note {id}", note, "text")
        for item in note["annotations"]:
            begin, end = item.get("begin"), item.get("end")
            is_span = type(begin) is type(end) is int and 0 <= begin <= end <= len(text)
            if not is_span or item.get("covered_text", text[begin:end]) != text[begin:end]:
                raise InputError(
                    f"{file}: note {id}, code {show_code(str(item.get('code')))}: begin, end and covered_text do not "
                    "fit the note's text; the text is not the annotated one: insert it again with MDACE's script"
                )
    return texts


def build_document(
    id: str, notes: list[AnnotatedNote], texts: dict[int, str], codebook: CodeBook, counts: Counts, file
) -> CodedDocument:
    """One document of `notes`: texts joined, each offset moved by the length of what precedes its note.

    `texts`: note id → text. An annotation beyond its text's end, or whose code is none, is left out with a
    warning that names `file`.
    """
    text = ""
    evidence: dict[str, dict[tuple[int, int], Evidence]] = {}
    descriptions: dict[str, str] = {}
    for note in notes:
        text += NOTE_SEPARATOR if text else ""
        offset, length = len(text), len(texts[note.id])
        text += texts[note.id]
        for annotation in note.annotations:
            if annotation.end > length:
                counts.warn(
                    "annotations beyond their note's end, left out",
                    f"{file}: ROW_ID {note.id}: annotation {annotation.begin}:{annotation.end} of "
                    f"{show_code(annotation.code)} lies beyond the text's {length} characters and is left out; use "
                    "NOTEEVENTS of MIMIC-III 1.4 as published",
                )
                continue
            start, end = offset + annotation.begin, offset + annotation.end
            code = codebook.normalise(annotation.code)
            if code is None:
                counts.warn(
                    "annotations whose code is no ICD-10-CM code, left out",
                    f"{file}: ROW_ID {note.id}: {show_code(annotation.code)} is no ICD-10-CM code and is left out",
                )
                continue
            descriptions.setdefault(code, codebook.description(code) or annotation.description)
            evidence.setdefault(code, {})[start, end] = Evidence(text[start:end], start, end)
    return CodedDocument(
        id,
        text,
        tuple(Assignment(code, descriptions[code], tuple(spans.values())) for code, spans in evidence.items()),
    )


def check_boundaries(documents: Sequence[CodedDocument], counts: Counts, file) -> None:
    """Count quotations with a boundary where no coder puts one, and warn above MAX_MISPLACED_SHARE. `file`: the texts'.

    Where cells were saved again with other newlines, every offset is off by the newlines before it.
    """
    total = misplaced = 0
    for document in documents:
        for quotation in (quotation for assignment in document.codes for quotation in assignment.evidence):
            total += 1
            misplaced += _is_misplaced(document.text, quotation)
    counts.numbers["quotations that begin or end inside a word or with white space"] = misplaced
    if misplaced > MAX_MISPLACED_SHARE * total:
        counts.warn(
            "texts that do not fit their offsets",
            f"{file}: {misplaced:,} of {total:,} quotations begin or end inside a word or with white space: the texts "
            "are not those that were annotated, perhaps saved again with other newlines; use NOTEEVENTS of MIMIC-III "
            "1.4 as published",
        )


def _is_misplaced(text: str, quotation: Evidence) -> bool:
    """Whether the quotation begins or ends inside a word or with white space."""
    if quotation.text != quotation.text.strip():
        return True
    boundaries = (quotation.start or 0, quotation.end or 0)
    return any(
        0 < offset < len(text) and text[offset - 1].isalnum() and text[offset].isalnum() for offset in boundaries
    )
