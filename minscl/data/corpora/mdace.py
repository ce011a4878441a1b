"""MDACE and MIMIC-III → coded documents with evidence (Eq. 4).

MDACE (Cheng et al. 2023) is stand-off: it marks characters of MIMIC-III's notes and holds none of their text. `note_id` is ROW_ID of
NOTEEVENTS, offsets are half-open characters of TEXT as it stands. ICD-10-CM alone is read, by `code_system`; codes that this year's
list does not have are kept, for they are gold. One document is one admission, its notes in ascending id, a blank line between; or one
note. The shipped splits are used.

The two sets leak: MDACE's Profee charts are Inpatient charts too, and the splits disagree. Inpatient's splits rule: a Profee split
with charts that Inpatient has in another split is refused, unless these are dropped or asked for, so that Profee and
Inpatient files may be trained and tested on in any combination.

deviates: the paper states neither unit nor note categories. The defaults, admissions and discharge summaries, give 181 training documents,
which fits its "less than 200".

Read next: labels.py, corpora with codes and no evidence.
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from minscl.data.corpora.csv_rows import read_rows, whole_number
from minscl.data.icd import CodeBook
from minscl.data.record_checks import short_repr
from minscl.data.types import Assignment, CodedDocument, Evidence
from minscl.errors import InputError

SETS = {"inpatient": "Inpatient", "profee": "Profee"}
SPLITS = ("train", "val", "test")
CATEGORIES = {
    "discharge": {"Discharge summary"},
    "codeable": {"Discharge summary", "Radiology", "Physician"},
    "all": None,
}
LEAKS = ("refuse", "drop", "keep")
BETWEEN = "\n\n"  # the notes of one admission
WARNINGS = 10  # of a kind, printed in full; all are counted


@dataclass
class Counts:
    """What was read, by name, and what a person should know of it."""

    numbers: Counter = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)

    def warn(self, kind: str, line: str) -> None:
        """Count one of `kind`; the first few are kept in words."""
        self.numbers[kind] += 1
        if self.numbers[kind] <= WARNINGS:
            self.warnings.append(line + (" (more of these are only counted)" if self.numbers[kind] == WARNINGS else ""))


@dataclass(frozen=True)
class Span:
    """An MDACE annotation: characters `begin` to `end`, end excluded, of its note."""

    begin: int
    end: int
    code: str
    description: str


@dataclass(frozen=True)
class AnnotatedNote:
    """A note of MDACE with its ICD-10-CM spans, in order of begin and end; no text."""

    admission: int
    id: int
    category: str
    spans: tuple[Span, ...]


def mdace(
    folder,
    noteevents,
    codebook: CodeBook,
    *,
    set="inpatient",
    split="train",
    unit="admission",
    categories="discharge",
    leak="refuse",
):
    """(documents, counts) of one split. `folder`: a clone of github.com/3mcloud/MDACE; `noteevents`: MIMIC-III's NOTEEVENTS.csv or .csv.gz."""
    counts, wanted = Counts(), CATEGORIES[categories]
    notes = read_mdace(folder, set, split, leak, counts)
    chosen = [note for note in notes if wanted is None or note.category in wanted]
    counts.numbers.update(
        {
            "notes annotated": len(notes),
            "  of the chosen categories": len(chosen),
            "admissions without such a note": len(
                {note.admission for note in notes} - {note.admission for note in chosen}
            ),
        }
    )
    return mdace_documents(chosen, note_texts(noteevents, chosen, counts), unit, codebook, counts, noteevents), counts


def read_mdace(folder, set: str, split: str, leak: str, counts: Counts) -> list[AnnotatedNote]:
    """The annotated notes of one split, by admission in the split's order, then by note id."""
    found = []
    admissions = _split_admissions(folder, set, split, leak, counts)
    counts.numbers["admissions in the split"] = len(admissions)
    for admission in admissions:
        path = Path(folder, "data", SETS[set], "ICD-10", "1.0", f"{admission}-ICD-10.json")
        try:
            chart = json.loads(path.read_text(encoding="utf-8"))
            notes = sorted((_note(path, admission, note, counts) for note in chart["notes"]), key=lambda note: note.id)
        except OSError as error:
            raise InputError(
                f"{path}: cannot be read ({error.strerror}); fetch the whole of github.com/3mcloud/MDACE and name its folder"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{path}: not a chart of MDACE ({error!r}); fetch it again from github.com/3mcloud/MDACE"
            ) from error
        found += notes
    return found


def read_charts(path, codebook: CodeBook) -> list[CodedDocument]:
    """Documents of MDACE's own JSON, a chart or a folder of charts, one an admission: with the `text` of each note, which MDACE's script puts in."""
    files, documents, counts = sorted(Path(path).glob("*.json")) if Path(path).is_dir() else [Path(path)], [], Counts()
    charts: dict[str, Path] = {}
    if not files:
        raise InputError(f"{path}: no .json file in there; name a folder of MDACE's charts")
    for file in files:
        try:
            chart = json.loads(file.read_text(encoding="utf-8"))
            notes = sorted(
                (_note(file, int(chart["hadm_id"]), note, counts) for note in chart["notes"]), key=lambda note: note.id
            )
            texts = {int(note["note_id"]): note.get("text") for note in chart["notes"]}
            _check_texts(file, chart["notes"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{file}: not a chart of MDACE ({error!r}); fetch it again from github.com/3mcloud/MDACE"
            ) from error
        documents.append(
            _document(str(notes[0].admission) if notes else str(chart["hadm_id"]), notes, texts, codebook, counts, file)
        )
        first = charts.setdefault(documents[-1].id, file)
        if first != file:
            raise InputError(
                f"{file}: hadm_id {documents[-1].id} is also {first}'s; a chart is an admission: keep one of the two"
            )
    return documents


def _check_texts(file: Path, notes) -> None:
    """Every note has its text, and every annotation its piece of it."""
    for note in notes:
        if not isinstance(note.get("text"), str):
            raise InputError(
                f"{file}: note {note['note_id']} has no text; put it in with MDACE's script, or make documents: python -m minscl.expand documents mdace"
            )
        for one in note["annotations"]:
            piece = note["text"][one["begin"] : one["end"]]
            if one["end"] > len(note["text"]) or one.get("covered_text", piece) != piece:
                raise InputError(
                    f"{file}: note {note['note_id']}, code {one['code']}: characters {one['begin']}:{one['end']} are {short_repr(piece)}, "
                    f"not {short_repr(one.get('covered_text'))}; the text is not the annotated one"
                )


def _note(path: Path, admission: int, note: dict, counts: Counts) -> AnnotatedNote:
    spans = []
    for one in note["annotations"]:
        counts.numbers[f"annotations in {one['code_system']}"] += 1
        if one["code_system"] != "ICD-10-CM":
            continue
        begin, end = one["begin"], one["end"]
        if not (type(begin) is type(end) is int and 0 <= begin < end):
            raise InputError(
                f"{path}: note {note['note_id']}, code {one['code']}: offsets {short_repr(begin)}:{short_repr(end)} are no span; fetch the file again"
            )
        spans.append(Span(begin, end, one["code"], one["description"]))
    return AnnotatedNote(
        admission,
        int(note["note_id"]),
        note["category"].strip(),
        tuple(sorted(spans, key=lambda span: (span.begin, span.end))),
    )


def _split_admissions(folder, set: str, split: str, leak: str, counts: Counts) -> list[int]:
    """The admissions of a split, those of Profee that Inpatient has in another split handled as `leak` says."""
    admissions = _read_split(folder, set, split)
    if set != "profee":
        return admissions
    held = {
        admission: other for other in SPLITS if other != split for admission in _read_split(folder, "inpatient", other)
    }
    shared = [admission for admission in admissions if admission in held]
    if not shared:
        return admissions
    if leak == "keep":
        counts.numbers["admissions that Inpatient has in another split, kept"] += len(shared)
        return admissions
    if leak == "drop":
        counts.numbers["admissions that Inpatient has in another split, dropped"] += len(shared)
        return [admission for admission in admissions if admission not in held]
    where = ", ".join(f"{number} in {other}" for other, number in Counter(held[one] for one in shared).items())
    raise InputError(
        f"{folder}: {len(shared)} of {len(admissions)} Profee {split} admissions stand elsewhere in Inpatient's splits ({where}; the first is "
        f"{shared[0]}), so training on one set and testing on the other would leak; give --leak drop to leave them out, or --leak keep "
        "where Inpatient is used for nothing"
    )


def _read_split(folder, set: str, split: str) -> list[int]:
    path = Path(folder, "splits", SETS[set], f"MDace-ev-{split}.csv")
    try:
        lines = path.read_text(encoding="utf-8").split()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); fetch github.com/3mcloud/MDACE and name its folder"
        ) from error
    return [whole_number(path, number, "HADM_ID", line) for number, line in enumerate(lines, 1)]


def note_texts(path, notes, counts: Counts) -> dict[int, str]:
    """The texts of `notes` by id, out of NOTEEVENTS.csv or .csv.gz; stops reading when all are found. Absent ones are warned of."""
    admissions = {note.id: note.admission for note in notes}
    found: dict[int, str] = {}
    for line, (row_id, admission, text) in read_rows(path, ("ROW_ID", "HADM_ID", "TEXT")):
        id = whole_number(path, line, "ROW_ID", row_id)
        if id not in admissions:
            continue
        if id in found:
            raise InputError(
                f"{path}: line {line}: ROW_ID {id} comes twice; use NOTEEVENTS of MIMIC-III 1.4 as published"
            )
        if admission.strip() and admission.strip() != str(admissions[id]):
            raise InputError(
                f"{path}: line {line}, ROW_ID {id}: HADM_ID is {short_repr(admission)} where MDACE has {admissions[id]}; use NOTEEVENTS of MIMIC-III 1.4"
            )
        found[id] = text
        if len(found) == len(admissions):
            break
    for id in admissions.keys() - found.keys() if len(found) < len(admissions) else ():
        counts.warn(
            "notes that are not in the file",
            f"{path}: no row with ROW_ID {id} (admission {admissions[id]}); its annotations are left out",
        )
    if admissions and not found:
        raise InputError(
            f"{path}: holds none of the {len(admissions)} notes, as ROW_ID {min(admissions)}; name NOTEEVENTS.csv(.gz) of MIMIC-III 1.4"
        )
    return found


def mdace_documents(
    notes, texts: dict[int, str], unit: str, codebook: CodeBook, counts: Counts, file="NOTEEVENTS"
) -> list[CodedDocument]:
    """Documents of the notes whose text is there: one an admission, or (`unit` "note") one a note that has a code. `file` is for messages."""
    groups: dict[str, list[AnnotatedNote]] = {}
    for note in notes:
        if note.id in texts and (unit == "admission" or note.spans):
            groups.setdefault(str(note.admission) if unit == "admission" else f"{note.admission}-{note.id}", []).append(
                note
            )
    documents = [_document(id, group, texts, codebook, counts, file) for id, group in groups.items()]
    codes = [one for document in documents for one in document.codes]
    distinct = {one.code for one in codes}
    counts.numbers.update(
        {
            "documents written": len(documents),
            "  notes in them": sum(map(len, groups.values())),
            "  codes": len(codes),
            "  evidence spans": sum(len(one.evidence) for one in codes),
            "  distinct codes": len(distinct),
            "  distinct codes that are not billable today, kept": sum(
                not codebook.is_billable(one) for one in distinct
            ),
        }
    )
    return documents


def _document(id: str, notes: list[AnnotatedNote], texts, codebook: CodeBook, counts: Counts, file) -> CodedDocument:
    """One document: the texts joined, every offset moved by what stands before its note and checked against the text."""
    text, found, words = "", {}, {}
    for note in notes:
        text += BETWEEN if text else ""
        offset, length = len(text), len(texts[note.id])
        text += texts[note.id]
        for span in note.spans:
            if span.end > length:
                counts.warn(
                    "annotations beyond their note's end, left out",
                    f"{file}: ROW_ID {note.id}: annotation {span.begin}:{span.end} of {span.code} lies "
                    f"beyond the text's {length} characters and is left out; use NOTEEVENTS of MIMIC-III 1.4 untouched",
                )
                continue
            start, end = offset + span.begin, offset + span.end
            counts.numbers["annotations that begin or end inside a word"] += _cuts(text, start) or _cuts(text, end)
            code = codebook.normalise(span.code) or span.code
            words.setdefault(code, codebook.description(code) or span.description)
            found.setdefault(code, {})[start, end] = Evidence(text[start:end], start, end)
    return CodedDocument(
        id, text, tuple(Assignment(code, words[code], tuple(places.values())) for code, places in found.items())
    )


def _cuts(text: str, place: int) -> bool:
    """Whether a word goes on across `place`: many of these mean that the text is not the annotated one."""
    return 0 < place < len(text) and text[place - 1].isalnum() and text[place].isalnum()
