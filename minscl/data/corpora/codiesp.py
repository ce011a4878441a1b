"""CodiEsp: Spanish case reports with codes and evidence at character offsets (Eq. 4), and their texts alone.

Miranda-Escalada et al. (CLEF eHealth 2020), CC BY 4.0, gold standard v4: professional coders, CIE-10-ES 2018, the
Spanish edition of ICD-10-CM. `trainX.tsv` is the gold: a row is case, DIAGNOSTICO or PROCEDIMIENTO, code, quotation and
its offsets in the Spanish text, "start end" or, where it is discontinuous, "start end;start end". `trainD.tsv` has the
same pairs of case and diagnosis code (all 11,158 in the three splits of v4); a warning tells where it has others.

Codes are upper-cased and never repaired: those that this edition does not have, or has as a heading, stay. A
discontinuous quotation becomes the smallest span that covers its parts. Procedures are left out.

Read next: codiesp_english.py, the same cases in English; codiesp_files.py, folders and archives.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from minscl.data.corpora.codiesp_files import FETCH_REMEDY, NAME_REMEDY, SplitFile, split_files
from minscl.data.corpora.counts import Counts
from minscl.data.icd import CodeBook
from minscl.data.record_checks import show_code, show_id
from minscl.data.types import Assignment, CodedDocument, Evidence, Note
from minscl.errors import InputError, is_text

CODED_SPLITS = ("train", "dev", "test")
SPLITS = (*CODED_SPLITS, "background")
TEXT_FOLDERS = {"es": "text_files", "en": "text_files_en"}  # language → folder of its texts
MAX_MISFITS = 10  # quotations of a split that are not the text at their offsets; v4 has 2, 1 and 1
_PROCEDURES, _DIAGNOSES = "procedure annotations, left out", "diagnosis annotations"
_DISCONTINUOUS = "  discontinuous, as the smallest span with all parts"
_POSITION = re.compile(r"\d{1,9} \d{1,9}(?:;\d{1,9} \d{1,9})*")


@dataclass(frozen=True)
class Annotation:
    """A diagnosis, in a line of the file `place`: code, quotation and half-open `parts` of the text in characters."""

    place: str
    line: int
    code: str
    quotation: str
    parts: tuple[tuple[int, int], ...]

    def span(self) -> tuple[int, int]:
        """The smallest span that covers the parts, but for empty ones."""
        parts = [part for part in self.parts if part[0] < part[1]] or self.parts
        return min(start for start, _ in parts), max(end for _, end in parts)


def codiesp_notes(path, split: str, language: str) -> list[Note]:
    """The texts of a split in `language` (of TEXT_FOLDERS), by id; newlines as they are.

    `path`: a folder or archive (codiesp_files.py). Raises InputError where there are none or one cannot be read.
    """
    return _notes(split_files(path, split, [TEXT_FOLDERS[language]]), path, split, language)


def read_codiesp(
    path, split: str, language: str, codebook: CodeBook, counts: Counts
) -> tuple[list[Note], dict[str, list[Annotation]]]:
    """(the texts in `language`, case → its diagnosis annotations in the file's order) of a split with codes.

    Raises InputError for what cannot be read, a row that is none or belongs to no text, and where no row has a code.
    """
    names = [TEXT_FOLDERS[language], f"{split}X.tsv", f"{split}D.tsv"]
    files = split_files(path, split, names)
    notes = _notes(files, path, split, language)
    if names[1] not in files:
        raise InputError(f"{path}: {split} has texts but no {names[1]}, the codes with their evidence; {FETCH_REMEDY}")
    annotations: dict[str, list[Annotation]] = {note.id: [] for note in notes}
    counts.numbers.update(dict.fromkeys((_DIAGNOSES, _DISCONTINUOUS, _PROCEDURES), 0))  # printed in this order
    for line, cells in _rows(files[names[1]], 5):
        _add_annotation(files[names[1]].place, line, cells, annotations, codebook, counts)
    if names[2] in files:
        _compare_pairs(files[names[2]], annotations, codebook, counts)
    if not any(annotations.values()):
        raise InputError(f"{files[names[1]].place}: contains no diagnosis code; {FETCH_REMEDY}")
    for note in notes:
        if not annotations[note.id]:
            counts.numbers["cases without a diagnosis code"] += 1
    return notes, annotations


def codiesp_documents(path, split: str, codebook: CodeBook, counts: Counts) -> list[CodedDocument]:
    """The Spanish documents of a split, their codes with evidence as annotated, in order of first evidence.

    A quotation that is not the text at its offsets is a warning; more than MAX_MISFITS, and other texts were annotated:
    InputError, as for what read_codiesp refuses.
    """
    notes, annotations = read_codiesp(path, split, "es", codebook, counts)
    documents, misfits = [], 0
    for note in notes:
        evidence: dict[str, dict[tuple[int, int], Evidence]] = {}
        for annotation in sorted(annotations[note.id], key=Annotation.span):
            misfits += _is_misfit(annotation, note.text, counts)
            start, end = annotation.span()
            evidence.setdefault(annotation.code, {})[start, end] = Evidence(note.text[start:end], start, end)
        codes = [
            Assignment(code, codebook.description(code) or "", tuple(spans.values()))
            for code, spans in evidence.items()
        ]
        documents.append(CodedDocument(note.id, note.text, tuple(codes)))
    if misfits > MAX_MISFITS:
        raise InputError(
            f"{path}: {misfits:,} quotations of {split} are not the text at their offsets; other texts were annotated, "
            f"perhaps with other newlines; {FETCH_REMEDY}"
        )
    count_documents(documents, codebook, counts)
    return documents


def count_documents(documents: Iterable[CodedDocument], codebook: CodeBook, counts: Counts) -> None:
    """Add the documents that are written to `counts`, and how their codes stand in this edition."""
    edition = f"in edition {codebook.edition.name}"
    numbers, distinct = counts.numbers, set()
    for document in documents:
        numbers["documents written"] += 1
        for assignment in document.codes:
            is_billable = codebook.is_billable(assignment.code)
            is_listed = codebook.description(assignment.code) is not None
            distinct.add(assignment.code)
            numbers["  codes"] += 1
            numbers[f"    billable {edition}"] += is_billable
            numbers[f"    headings {edition}, kept"] += is_listed and not is_billable
            numbers[f"    not {edition}, kept"] += not is_listed
            numbers["  evidence spans"] += len(assignment.evidence)
    numbers["  distinct codes"] = len(distinct)


def _notes(files: dict[str, SplitFile], path, split: str, language: str) -> list[Note]:
    notes = []
    for name, file in sorted(files.items()):
        folder, _, base = name.partition("/")
        if folder != TEXT_FOLDERS[language] or not base:
            continue
        id, text = base.removesuffix(".txt"), file.text()
        if not is_text(id):
            raise InputError(
                f"{path}: a name in {split}/{folder} is not UTF-8, and an id is made of it; {FETCH_REMEDY}"
            )
        if not text.strip():
            raise InputError(f"{file.place}: the text is empty; {FETCH_REMEDY}")
        notes.append(Note(id, text))
    if not notes:
        raise InputError(f"{path}: no text in {split}/{TEXT_FOLDERS[language]}; {NAME_REMEDY}")
    return notes


def _rows(file: SplitFile, width: int) -> list[tuple[int, list[str]]]:
    """(line, cells) of a file of tab-separated rows without header or quoting. Raises InputError."""
    rows = []
    for line, row in enumerate(file.text().split("\n"), 1):
        cells = row.removesuffix("\r").split("\t")
        if len(cells) != width and row.strip():
            raise InputError(f"{file.place}: line {line}: {len(cells)} cells, not {width}; {FETCH_REMEDY}")
        if row.strip():
            rows.append((line, cells))
    return rows


def _add_annotation(
    place: str,
    line: int,
    cells: list[str],
    annotations: dict[str, list[Annotation]],
    codebook: CodeBook,
    counts: Counts,
) -> None:
    """Add the row to the `annotations` of its case; a procedure is only counted. Raises InputError."""
    id, label, code_text, quotation, position = cells
    fault = ""
    code = codebook.normalise(code_text)
    if label not in ("DIAGNOSTICO", "PROCEDIMIENTO"):
        fault = f"label {show_id(label)} is neither DIAGNOSTICO nor PROCEDIMIENTO"
    elif id not in annotations:
        fault = f"there is no text of case {show_id(id)}"
    elif label == "DIAGNOSTICO" and code is None:
        fault = f"{show_code(code_text)} is not an ICD-10-CM code"
    elif not _POSITION.fullmatch(position):
        fault = 'the last cell is not "start end" or "start end;start end"'
    if fault:
        raise InputError(f"{place}: line {line}: {fault}; {FETCH_REMEDY}")
    if label == "PROCEDIMIENTO" or code is None:
        counts.numbers[_PROCEDURES] += 1
        return
    parts = tuple((int(start), int(end)) for start, end in (part.split() for part in position.split(";")))
    counts.numbers[_DIAGNOSES] += 1
    counts.numbers[_DISCONTINUOUS] += len(parts) > 1
    annotations[id].append(Annotation(place, line, code, quotation, parts))


def _is_misfit(annotation: Annotation, text: str, counts: Counts) -> bool:
    """Whether the quotation is not the text at its offsets, which is a warning.

    Raises InputError where the text has no such offsets.
    """
    where = f"{annotation.place}: line {annotation.line}, code {annotation.code}"
    start, end = annotation.span()
    if any(first > last for first, last in annotation.parts) or start == end or end > len(text):
        raise InputError(f"{where}: its offsets are no span of the text's {len(text):,} characters; {FETCH_REMEDY}")
    pieces = [text[first:last] for first, last in annotation.parts]
    if " ".join(pieces) == annotation.quotation:
        return False
    kind = "discontinuous" if len(pieces) > 1 else "continuous"
    counts.warn(
        f"  {kind}, not the text at their offsets, kept as annotated",
        f"{where}: the text at {start}:{end} is not the quotation; the offsets are kept as annotated",
    )
    return True


def _compare_pairs(
    file: SplitFile, annotations: dict[str, list[Annotation]], codebook: CodeBook, counts: Counts
) -> None:
    """Warn where `file`, trainD.tsv, lacks pairs of case and code that trainX.tsv has.

    Raises InputError where it has others: trainX.tsv, the gold, is cut off then.
    """
    pairs = {(id, codebook.normalise(code) or code) for _, (id, code) in _rows(file, 2)}
    gold = {(id, annotation.code) for id, rows in annotations.items() for annotation in rows}
    if missing := len(pairs - gold):
        raise InputError(
            f"{file.place}: {missing:,} of its {len(pairs):,} pairs of case and code are not in the file with "
            f"evidence, which is incomplete; {FETCH_REMEDY}"
        )
    if pairs != gold:
        counts.warn(
            "files of codes that disagree",
            f"{file.place}: lacks {len(gold - pairs):,} of the {len(gold):,} pairs of case and code that the file with "
            "evidence has; the file with evidence is the gold",
        )
