"""ACI-Bench: its clinical notes, and the notes with the codes of Yuan et al. (2025) or of MedCodER (Baksi et al. 2025).

ACI-Bench is published without codes. Both code sets are separate downloads that may be used for research and not sold:
Yuan et al. CC BY-NC 4.0, MedCodER CC BY-NC-ND 4.0. MedCodER has evidence too, and its own copies of the notes with ids
of their own (text.csv), which must be named as the notes then. Only notes are read, not the dialogues.

Read next: code_table.py, the tables of codes; ../types.py.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from minscl.data.corpora.code_table import CodeRow, read_code_table
from minscl.data.corpora.counts import Counts, count_codes
from minscl.data.corpora.csv_rows import read_header, read_rows
from minscl.data.icd import CodeBook
from minscl.data.jsonl import read_jsonl
from minscl.data.locate import Place, locate
from minscl.data.record_checks import checked_record, show_code, show_id
from minscl.data.types import Assignment, CodedDocument, Evidence, Note
from minscl.errors import InputError

ACI_COLUMNS = ("encounter_id", "note")
MEDCODER_COLUMNS = ("Document ID", "medical_record_text")
PUBLISHED_ID = "document id"  # the id's column in the tables of Yuan et al. and of MedCodER, as read_header gives it


@dataclass(frozen=True)
class AciNote:
    """A line of ACI-Bench as JSON Lines."""

    id: str
    note: str

    @classmethod
    def from_dict(cls, record) -> "AciNote":
        """The note in `record`; raises InputError."""
        key = "text" if isinstance(record, dict) and "text" in record else "note"  # text: as `expand notes` writes it
        fields = checked_record(record, cls, {"id": str, key: str}, {"dataset": str})
        return cls(fields["id"], fields[key])


def aci_notes(path) -> list[Note]:
    """The notes of an ACI-Bench file: its own .csv (encounter_id, note), MedCodER's text.csv (Document ID,
    medical_record_text), or JSON Lines with `id` and `note` or `text`.

    Raises InputError for a file that cannot be read and for a repeated id.
    """
    if not str(path).lower().endswith((".csv", ".csv.gz")):
        return [Note(record.id, record.note) for record in read_jsonl(path, AciNote)]
    is_medcoder = MEDCODER_COLUMNS[1] in read_header(path)
    columns = MEDCODER_COLUMNS if is_medcoder else ACI_COLUMNS
    notes: dict[str, Note] = {}
    for line, (id, text) in read_rows(path, columns):
        if id in notes:
            raise InputError(f"{path}: line {line}: {columns[0]} {show_id(id)} appears twice; keep one of the rows")
        notes[id] = Note(id, text)
    return list(notes.values())


def aci_documents(notes, tables: Iterable, codebook: CodeBook, counts: Counts) -> list[CodedDocument]:
    """The `notes` that have codes in the `tables` (paths, see code_table.py), in order; the rest is counted.

    Quotations are located in the note; one that does not occur in it is left out with a warning, and its code stays.
    Raises InputError for a table without codes, for codes that are no ICD-10-CM codes (_checked_rows) and where no row
    belongs to a note; a code of an unknown note is a warning.
    """
    texts = {note.id: note.text for note in notes}
    codes_by_id: dict[str, dict[str, dict[Place, Evidence]]] = {}  # id → code → its evidence by place
    for path in tables:
        rows = _checked_rows(path, codebook, counts)
        if not rows:
            raise InputError(f"{path}: contains no row with a code; give one code per row, such as D2N001<TAB>E11.65")
        if not any(row.id in texts for row, _ in rows):
            raise InputError(
                f"{path}: line {rows[0][0].line}: no note has the id {show_id(rows[0][0].id)}, nor any other id of the "
                "file; name the notes with these ids (for MedCodER's codes, its text.csv) as --notes"
            )
        for row, code in rows:
            if row.id not in texts:
                counts.warn(
                    "codes of notes that are not in the file, left out",
                    f"{path}: line {row.line}: no note has the id {show_id(row.id)}; its code is left out",
                )
                continue
            evidence = codes_by_id.setdefault(row.id, {}).setdefault(code, {})
            if row.evidence is not None:
                _add_evidence(path, row, texts[row.id], evidence, counts)
    counts.numbers["notes without codes, left out"] += len(texts.keys() - codes_by_id.keys())
    documents = [
        CodedDocument(
            note.id,
            note.text,
            tuple(
                Assignment(code, codebook.description(code) or "", tuple(evidence.values()))
                for code, evidence in codes_by_id[note.id].items()
            ),
        )
        for note in notes
        if note.id in codes_by_id
    ]
    for document in documents:
        count_codes(document, codebook, counts)
    return documents


def _checked_rows(path, codebook: CodeBook, counts: Counts) -> list[tuple[CodeRow, str]]:
    """(row, its code in canonical form) of each row of a table.

    A code that is none is left out of a published table, which nobody need mend; another table is refused (InputError).
    """
    rows = [(row, codebook.normalise(row.code) or "") for row in read_code_table(path)]
    refused = [row for row, code in rows if not code]
    if refused and PUBLISHED_ID not in read_header(path):
        raise InputError(
            f"{path}: line {refused[0].line}: {show_code(refused[0].code)} is not an ICD-10-CM code "
            f"({len(refused):,} rows have none); give one code per row, such as E11.65"
        )
    for row in refused:
        counts.warn(
            "rows whose code is no ICD-10-CM code, left out",
            f"{path}: line {row.line}: {show_code(row.code)} is no ICD-10-CM code and is left out",
        )
    return [(row, code) for row, code in rows if code]


def _add_evidence(path, row: CodeRow, text: str, evidence: dict[Place, Evidence], counts: Counts) -> None:
    """Add the quotation of `row` to the `evidence` of its code: at its offsets if the note has it there."""
    quotation = row.evidence or ""
    place = None
    if row.start is not None and row.end is not None and text[row.start : row.end] == quotation:
        place = row.start, row.end
    place = place or locate(text, quotation, evidence)
    if place is None:
        counts.warn(
            "quotations that their note does not have, left out",
            f"{path}: line {row.line}: note {show_id(row.id)} does not have the quotation of {show_code(row.code)}; "
            "the code is kept without it",
        )
        return
    evidence[place] = Evidence(text[slice(*place)], *place)
