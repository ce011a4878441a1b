"""MDACE's chart files: the annotated notes of an admission, and how they become one document (Eq. 4).

MDACE (Cheng et al. 2023) is stand-off: a chart refers to characters of MIMIC-III's notes and has no text of its own
until MDACE's script inserts it. `note_id` is ROW_ID of NOTEEVENTS; offsets are half-open characters of TEXT.
Only ICD-10-CM is read (`code_system`); codes that this year's list lacks are kept, because they are gold. The
notes of an admission are joined in ascending id with a blank line between.

Read next: mdace.py, which finds the texts of a split.
"""

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

from minscl.data.corpora.counts import Counts
from minscl.data.icd import CodeBook
from minscl.data.record_checks import short_repr
from minscl.data.types import Assignment, CodedDocument, Evidence
from minscl.errors import InputError

NOTE_SEPARATOR = "\n\n"  # between the notes of an admission
REPOSITORY = "github.com/3mcloud/MDACE"


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


@contextlib.contextmanager
def _chart_errors(path: Path):
    """Turns any error from reading a file that is not a chart into an InputError that names it."""
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); fetch the whole of {REPOSITORY} and name its folder"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a chart of MDACE ({error!r}); fetch it again from {REPOSITORY}") from error


def read_chart(path: Path, counts: Counts, admission: int | None = None) -> tuple[list[AnnotatedNote], dict]:
    """(notes by id, the whole JSON object) of a chart file. `admission` None: the file's hadm_id. Raises InputError."""
    with _chart_errors(path):
        chart = json.loads(path.read_text(encoding="utf-8"))
        number = int(chart["hadm_id"]) if admission is None else admission
        notes = [_parse_note(path, number, note, counts) for note in chart["notes"]]
    return sorted(notes, key=lambda note: note.id), chart


def _parse_note(path: Path, admission: int, note: dict, counts: Counts) -> AnnotatedNote:
    annotations = []
    for item in note["annotations"]:
        counts.numbers[f"annotations in {item['code_system']}"] += 1
        if item["code_system"] != "ICD-10-CM":
            continue
        begin, end = item["begin"], item["end"]
        if not (type(begin) is type(end) is int and 0 <= begin < end):
            raise InputError(
                f"{path}: note {note['note_id']}, code {item['code']}: offsets {short_repr(begin)}:{short_repr(end)} "
                "are no span; fetch the file again"
            )
        annotations.append(Annotation(begin, end, item["code"], item["description"]))
    annotations.sort(key=lambda annotation: (annotation.begin, annotation.end))
    return AnnotatedNote(admission, int(note["note_id"]), note["category"].strip(), tuple(annotations))


def read_charts(path, codebook: CodeBook) -> list[CodedDocument]:
    """MDACE's own JSON (a chart, or a folder of charts) as documents, one per admission, its hadm_id as id.

    Every note needs its `text`, which MDACE's script inserts. Raises InputError for a note without it, an annotation
    that does not fit it, and two charts of one admission.
    """
    files = sorted(Path(path).glob("*.json")) if Path(path).is_dir() else [Path(path)]
    if not files:
        raise InputError(f"{path}: contains no .json file; name a folder of MDACE's charts")
    documents: list[CodedDocument] = []
    file_of: dict[str, Path] = {}
    counts = Counts()
    for file in files:
        notes, chart = read_chart(file, counts)
        with _chart_errors(file):
            texts = _chart_texts(file, chart["notes"])
        document = build_document(str(int(chart["hadm_id"])), notes, texts, codebook, counts, file)
        first = file_of.setdefault(document.id, file)
        if first != file:
            raise InputError(
                f"{file}: hadm_id {document.id} is also {first}'s; an admission has one chart: keep one of the two"
            )
        documents.append(document)
    return documents


def _chart_texts(file: Path, notes: list[dict]) -> dict[int, str]:
    """Note id → text; raises InputError unless every note has its text and every annotation matches it."""
    for note in notes:
        if not isinstance(note.get("text"), str):
            raise InputError(
                f"{file}: note {note['note_id']} has no text; insert it with MDACE's script, or make documents: "
                "python -m minscl.expand documents mdace"
            )
        for item in note["annotations"]:
            piece = note["text"][item["begin"] : item["end"]]
            if item["end"] > len(note["text"]) or item.get("covered_text", piece) != piece:
                raise InputError(
                    f"{file}: note {note['note_id']}, code {item['code']}: characters {item['begin']}:{item['end']} "
                    f"are {short_repr(piece)}, not {short_repr(item.get('covered_text'))}; "
                    "the text is not the annotated one"
                )
    return {int(note["note_id"]): note["text"] for note in notes}


def build_document(
    id: str, notes: list[AnnotatedNote], texts: dict[int, str], codebook: CodeBook, counts: Counts, file
) -> CodedDocument:
    """One document of `notes`: texts joined, each offset moved by the length of what precedes its note.

    `texts`: note id → text. An annotation beyond its text's end is left out with a warning that names `file`.
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
                    f"{file}: ROW_ID {note.id}: annotation {annotation.begin}:{annotation.end} of {annotation.code} "
                    f"lies beyond the text's {length} characters and is left out; use NOTEEVENTS of MIMIC-III 1.4 as "
                    "published",
                )
                continue
            start, end = offset + annotation.begin, offset + annotation.end
            cut = _inside_word(text, start) or _inside_word(text, end)
            counts.numbers["annotations that begin or end inside a word"] += cut
            code = codebook.normalise(annotation.code) or annotation.code
            descriptions.setdefault(code, codebook.description(code) or annotation.description)
            evidence.setdefault(code, {})[start, end] = Evidence(text[start:end], start, end)
    return CodedDocument(
        id,
        text,
        tuple(Assignment(code, descriptions[code], tuple(spans.values())) for code, spans in evidence.items()),
    )


def _inside_word(text: str, offset: int) -> bool:
    """Whether `offset` divides a word; many such offsets mean that the text is not the annotated one."""
    return 0 < offset < len(text) and text[offset - 1].isalnum() and text[offset].isalnum()
