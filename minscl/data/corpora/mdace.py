"""MDACE and MIMIC-III → coded documents with evidence (Eq. 4).

MDACE's annotations (mdace_charts.py) are joined with MIMIC-III's texts by ROW_ID. One document is an admission, or a
note. The shipped splits are used.

The two annotation sets leak: MDACE's Profee charts are Inpatient charts too, and the two splits disagree. Inpatient's
takes precedence: a Profee split with charts that Inpatient has in another split is refused, unless `leak` says to drop
or keep them. So Profee and Inpatient files may be combined in training and testing.

deviates: the paper states neither unit nor note categories. The defaults, admissions and discharge summaries, give 181
training documents, which fits its "less than 200".

Read next: mdace_charts.py; mimic_iv.py, a corpus with codes and no evidence.
"""

from collections import Counter
from pathlib import Path

from minscl.data.corpora.counts import SPLITS, Counts
from minscl.data.corpora.csv_rows import read_rows, whole_number
from minscl.data.corpora.mdace_charts import (
    FETCH_REMEDY,
    AnnotatedNote,
    build_document,
    check_boundaries,
    read_chart,
)
from minscl.data.icd import CodeBook
from minscl.data.record_checks import show_id
from minscl.data.types import CodedDocument
from minscl.errors import InputError
from minscl.files import read_text

SETS = {"inpatient": "Inpatient", "profee": "Profee"}  # annotation set → its folder
CATEGORIES = {  # choice → note categories of NOTEEVENTS, None for all
    "discharge": {"Discharge summary"},
    "codeable": {"Discharge summary", "Radiology", "Physician"},
    "all": None,
}
LEAKS = ("refuse", "drop", "keep")


def read_mdace(
    folder,
    noteevents,
    codebook: CodeBook,
    *,
    set: str = "inpatient",
    split: str = "train",
    unit: str = "admission",
    categories: str = "discharge",
    leak: str = "refuse",
) -> tuple[list[CodedDocument], Counts]:
    """The documents of one split, and what was counted.

    `folder`: a clone of MDACE's repository; `noteevents`: MIMIC-III's NOTEEVENTS.csv or .csv.gz; `set`, `split`,
    `categories` and `leak`: of SETS, SPLITS, CATEGORIES and LEAKS; `unit`: "admission" or "note". Raises InputError for
    a file that is missing, damaged or of another version, and for a leak that `leak` refuses.
    """
    counts, categories_read = Counts(), CATEGORIES[categories]
    notes = read_annotations(folder, set, split, leak, counts)
    chosen = [note for note in notes if categories_read is None or note.category in categories_read]
    without = {note.admission for note in notes} - {note.admission for note in chosen}
    counts.numbers["notes annotated"] += len(notes)
    counts.numbers["  of the chosen categories"] += len(chosen)
    counts.numbers["admissions without such a note"] += len(without)
    texts = note_texts(noteevents, chosen, counts)
    return group_documents(chosen, texts, unit, codebook, counts, noteevents), counts


def read_annotations(folder, set: str, split: str, leak: str, counts: Counts) -> list[AnnotatedNote]:
    """The annotated notes of one split, by admission in the split's order, then by note id."""
    admissions = _split_admissions(folder, set, split, leak, counts)
    counts.numbers["admissions in the split"] = len(admissions)
    notes: list[AnnotatedNote] = []
    for admission in admissions:
        path = Path(folder, "data", SETS[set], "ICD-10", "1.0", f"{admission}-ICD-10.json")
        notes += read_chart(path, counts, admission)[0]
    return notes


def _split_admissions(folder, set: str, split: str, leak: str, counts: Counts) -> list[int]:
    """The admissions of a split; those of Profee that Inpatient has in another split are treated as `leak` says."""
    admissions = _read_split(folder, set, split)
    if set != "profee":
        return admissions
    inpatient_split = {
        admission: other for other in SPLITS if other != split for admission in _read_split(folder, "inpatient", other)
    }
    shared = [admission for admission in admissions if admission in inpatient_split]
    if not shared:
        return admissions
    if leak == "keep":
        counts.numbers["admissions that Inpatient has in another split, kept"] += len(shared)
        return admissions
    if leak == "drop":
        counts.numbers["admissions that Inpatient has in another split, dropped"] += len(shared)
        return [admission for admission in admissions if admission not in inpatient_split]
    where = Counter(inpatient_split[admission] for admission in shared)
    raise InputError(
        f"{folder}: {len(shared)} of {len(admissions)} Profee {split} admissions are in another of Inpatient's splits "
        f"({', '.join(f'{number} in {other}' for other, number in where.items())}; the first is {shared[0]}), so "
        "training on one set and testing on the other would leak; give --leak drop to leave them out, or --leak keep "
        "where Inpatient is not used at all"
    )


def _read_split(folder, set: str, split: str) -> list[int]:
    path = Path(folder, "splits", SETS[set], f"MDace-ev-{split}.csv")
    lines = read_text(path, FETCH_REMEDY).split()
    return [whole_number(path, number, "HADM_ID", line) for number, line in enumerate(lines, 1)]


def note_texts(path, notes: list[AnnotatedNote], counts: Counts) -> dict[int, str]:
    """Note id → text out of NOTEEVENTS.csv or .csv.gz; stops when all are found, warns of those missing.

    Raises InputError for a note that appears twice or belongs to another admission, and where no note is found.
    """
    admissions = {note.id: note.admission for note in notes}
    texts: dict[int, str] = {}
    if not admissions:
        return texts
    for line, (row_id, hadm_id, text) in read_rows(path, ("ROW_ID", "HADM_ID", "TEXT")):
        id = whole_number(path, line, "ROW_ID", row_id)
        if id not in admissions:
            continue
        if id in texts:
            raise InputError(
                f"{path}: line {line}: ROW_ID {id} appears twice; use NOTEEVENTS of MIMIC-III 1.4 as published"
            )
        if hadm_id.strip() and hadm_id.strip() != str(admissions[id]):
            raise InputError(
                f"{path}: line {line}, ROW_ID {id}: HADM_ID is {show_id(hadm_id)} where MDACE has {admissions[id]}; "
                "use NOTEEVENTS of MIMIC-III 1.4"
            )
        texts[id] = text
        if len(texts) == len(admissions):
            break
    for id in admissions.keys() - texts.keys():
        counts.warn(
            "notes that are not in the file",
            f"{path}: no row with ROW_ID {id} (admission {admissions[id]}); its annotations are left out",
        )
    if not texts:
        raise InputError(
            f"{path}: contains none of the {len(admissions)} notes, such as ROW_ID {min(admissions)}; "
            "name NOTEEVENTS.csv(.gz) of MIMIC-III 1.4"
        )
    return texts


def group_documents(
    notes: list[AnnotatedNote], texts: dict[int, str], unit: str, codebook: CodeBook, counts: Counts, file
) -> list[CodedDocument]:
    """Documents of the notes whose text is in `texts`: one per admission, or (`unit` "note") per note with a code.

    `file` is what warnings name as the source of the texts.
    """
    groups: dict[str, list[AnnotatedNote]] = {}
    for note in notes:
        if note.id in texts and (unit == "admission" or note.annotations):
            id = str(note.admission) if unit == "admission" else f"{note.admission}-{note.id}"
            groups.setdefault(id, []).append(note)
    documents = [build_document(id, group, texts, codebook, counts, file) for id, group in groups.items()]
    check_boundaries(documents, counts, file)
    assignments = [assignment for document in documents for assignment in document.codes]
    distinct = {assignment.code for assignment in assignments}
    not_billable = sum(not codebook.is_billable(code) for code in distinct)
    counts.numbers["documents written"] += len(documents)
    counts.numbers["  notes in them"] += sum(map(len, groups.values()))
    counts.numbers["  codes"] += len(assignments)
    counts.numbers["  evidence spans"] += sum(len(assignment.evidence) for assignment in assignments)
    counts.numbers["  distinct codes"] += len(distinct)
    counts.numbers["  distinct codes that are not billable today, kept"] += not_billable
    return documents
