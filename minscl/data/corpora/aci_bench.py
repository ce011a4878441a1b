"""ACI-Bench: its clinical notes, and the notes with the codes of Yuan et al. (2025).

ACI-Bench is published without codes. Those of Yuan et al. are a separate download; convert them to a CSV file with two
columns, `id,code`, one code per row. Only the notes are read, not the dialogues.

Read next: ../types.py.
"""

from dataclasses import dataclass

from minscl.data.corpora.counts import Counts, document_without_evidence
from minscl.data.corpora.csv_rows import read_rows
from minscl.data.icd import CodeBook
from minscl.data.jsonl import read_jsonl
from minscl.data.record_checks import checked_record, show_code, show_id
from minscl.data.types import CodedDocument, Note
from minscl.errors import InputError


@dataclass(frozen=True)
class AciNote:
    """A line of ACI-Bench as JSON Lines."""

    id: str
    note: str

    @classmethod
    def from_dict(cls, record) -> "AciNote":
        """The note in `record`; raises InputError."""
        fields = checked_record(record, cls, {"id": str, "note": str}, {"dataset": str})
        return cls(fields["id"], fields["note"])


def aci_notes(path) -> list[Note]:
    """The notes of an ACI-Bench file: its own .csv (encounter_id, note) or JSON Lines with `id`, `note`, `dataset`.

    Raises InputError for a file that cannot be read and for a repeated id.
    """
    if not str(path).lower().endswith((".csv", ".csv.gz")):
        return [Note(record.id, record.note) for record in read_jsonl(path, AciNote)]
    notes: dict[str, Note] = {}
    for line, (id, text) in read_rows(path, ("encounter_id", "note")):
        if id in notes:
            raise InputError(f"{path}: line {line}: encounter_id {show_id(id)} appears twice; keep one of the rows")
        notes[id] = Note(id, text)
    return list(notes.values())


def aci_documents(notes, codes_path, codebook: CodeBook, counts: Counts) -> list[CodedDocument]:
    """The `notes` that have codes in `codes_path` (CSV: id, code), in order, without evidence; the rest is counted.

    Raises InputError for codes that are no ICD-10-CM codes; a code of an unknown note is a warning.
    """
    ids = {note.id for note in notes}
    codes_by_id: dict[str, dict[str, None]] = {}
    refused: list[tuple[int, str]] = []  # (line, code)
    for line, (id, text) in read_rows(codes_path, ("id", "code")):
        code = codebook.normalise(text)
        if code is None:
            refused.append((line, text))
        elif id in ids:
            codes_by_id.setdefault(id, {})[code] = None
        else:
            counts.warn(
                "codes of notes that are not in the file, left out",
                f"{codes_path}: line {line}: no note has the id {show_id(id)}; its code is left out",
            )
    if refused:
        line, text = refused[0]
        raise InputError(
            f"{codes_path}: line {line}: {show_code(text)} is not an ICD-10-CM code ({len(refused):,} rows have none); "
            "give one code per row, such as E11.65"
        )
    counts.numbers["notes without codes, left out"] += len(ids - codes_by_id.keys())
    return [
        document_without_evidence(note.id, note.text, tuple(codes_by_id[note.id]), codebook, counts)
        for note in notes
        if note.id in codes_by_id
    ]
