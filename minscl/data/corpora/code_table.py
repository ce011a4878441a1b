"""Tables of codes: one row for each code of a note, or for each quotation that supports it.

    D2N001<TAB>E11.65                                 two cells; a header line `id<TAB>code` may stand above
    id,code[,evidence[,start,end]]                    CSV with a header, in any order; other columns are ignored
    Document ID,ICD10,Description                     Yuan et al. (2025): code_train.csv, code_valid.csv, code_test.csv
    Document ID,ICD10,Diagnosis,Start,End             MedCodER (Baksi et al. 2025): diagnosis.csv
    Document ID,ICD-10-cm code,Coordinate,Supporting Evidence Text,Start,End     MedCodER: supporting_evidence.csv

The columns of the last three are as public code reads them (sha-manav/codeloop, codeloop/ingest/labels.py, commit
83a6861); the files themselves were not at hand.

Read next: aci_bench.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from minscl.data.corpora.csv_rows import all_rows, column_names, parse_whole_number
from minscl.errors import InputError

REMEDY = "correct the row, or fetch a published table again"
# What a row says → the columns that say it, as column_names gives them.
COLUMNS = {
    "id": ("id", "document id", "encounter_id"),
    "code": ("code", "icd10", "icd-10-cm code"),
    "evidence": ("evidence", "diagnosis", "supporting evidence text"),
    "start": ("start",),
    "end": ("end",),
}


@dataclass(frozen=True)
class CodeRow:
    """A row of a table of codes. `evidence` is None where the table has no such column or the cell is blank."""

    line: int
    id: str
    code: str
    evidence: str | None = None
    start: int | None = None
    end: int | None = None


def read_code_table(path) -> Iterator[CodeRow]:
    """The rows of the table `path`, in order, cells as they are; codes are not checked.

    Without the columns id and code, a first row of two cells is a code itself. Raises InputError for any other first
    row, and for a row that is longer or shorter than the first.
    """
    width, positions = 0, {"id": 0, "code": 1}
    for line, cells in all_rows(path, "name a table of codes, .tsv or .csv", REMEDY):
        if not width:
            width, header = len(cells), _positions(column_names(cells))
            if {"id", "code"} <= header.keys():
                positions = header
                continue
            if width != 2:
                raise InputError(
                    f"{path}: line {line}: {width} cells and no columns id and code; give a row of two cells, id and "
                    "code, for each code, or name the columns so"
                )
        if len(cells) != width:
            raise InputError(f"{path}: line {line}: {len(cells)} cells where the first row has {width}; {REMEDY}")
        values = {name: cells[position].strip() for name, position in positions.items()}
        yield CodeRow(
            line,
            values["id"],
            values["code"],
            values.get("evidence") or None,
            parse_whole_number(values.get("start")),
            parse_whole_number(values.get("end")),
        )


def _positions(names: list[str]) -> dict[str, int]:
    """What a row says → the position of the column that says it; of several, the first that COLUMNS has."""
    named = {meaning: [name for name in columns if name in names] for meaning, columns in COLUMNS.items()}
    return {meaning: names.index(columns[0]) for meaning, columns in named.items() if columns}
