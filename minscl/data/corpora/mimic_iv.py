"""Corpora with codes and no evidence: MIMIC-IV's discharge summaries, and ACI-Bench with the codes of Yuan et al. (2025).

MIMIC-IV: `discharge` joined with `diagnoses_icd` by hadm_id, ICD-10 alone, no rare code dropped. All admissions of a patient fall in one
split, drawn from a hash of subject_id: the same in every run and for any part of the file. MIMIC-III's and MIMIC-IV's patients may
coincide, and no id tells.

deviates: the splits have the shares of Edin et al. (2023), 89,099 / 13,378 / 19,802 admissions, and are not theirs; the paper names none.

ACI-Bench has no codes of its own. Those of Yuan et al. are a separate download; bring them to two columns, `id,code`, one code a row.

Read next: types.py.
"""

import hashlib
import sys
from dataclasses import dataclass

from minscl.data.corpora.csv_rows import read_rows, whole_number
from minscl.data.corpora.mdace import SPLITS, Counts
from minscl.data.icd import CodeBook
from minscl.data.jsonl import read_jsonl
from minscl.data.record_checks import checked_record, short_repr
from minscl.data.types import Assignment, CodedDocument, Note
from minscl.errors import InputError

SHARES = dict(zip(SPLITS, (0.73, 0.11, 0.16), strict=True))  # of patients


def split_of(subject: int) -> str:
    """The split of a patient."""
    draw = int.from_bytes(hashlib.sha256(f"subject {subject}".encode()).digest()[:8], "big") / 2**64
    for name, share in SHARES.items():
        if draw < share:
            return name
        draw -= share
    return SPLITS[-1]


def mimic_iv_documents(discharge, diagnoses, split: str, codebook: CodeBook, counts: Counts):
    """Yields the documents of one split in the file's order; holds the codes of all admissions, and one note at a time."""
    codes = _admission_codes(diagnoses, codebook, counts)
    seen: set[int] = set()
    for line, (note_id, subject, admission, text) in read_rows(discharge, ("note_id", "subject_id", "hadm_id", "text")):
        counts.numbers["notes read"] += 1
        if split_of(whole_number(discharge, line, "subject_id", subject)) != split:
            counts.numbers["of other splits"] += 1
        elif not admission.strip():
            counts.numbers["without an admission, left out"] += 1
        elif (id := whole_number(discharge, line, "hadm_id", admission)) not in codes:
            counts.numbers["without ICD-10-CM codes, left out"] += 1
        elif not text.strip():
            counts.warn(
                "without text, left out", f"{discharge}: line {line}: note {note_id} has no text and is left out"
            )
        elif id in seen:
            counts.warn(
                "a second note of an admission, left out",
                f"{discharge}: line {line}: note {note_id}: admission {id} has had its note and is left out",
            )
        else:
            seen.add(id)
            yield labelled(str(id), text, codes[id], codebook, counts)


def _admission_codes(path, codebook: CodeBook, counts: Counts) -> dict[int, tuple[str, ...]]:
    """hadm_id → its ICD-10-CM codes in the file's order, each once."""
    found: dict[int, dict[str, None]] = {}
    for line, (admission, code, version) in read_rows(path, ("hadm_id", "icd_code", "icd_version")):
        if version.strip() != "10":
            counts.numbers["diagnoses that are not ICD-10, left out"] += 1
            continue
        bare = code.strip()
        known = codebook.normalise(f"{bare[:3]}.{bare[3:]}")  # dotted: a diagnosis is never PCS
        if known is None:
            counts.warn(
                "diagnoses that are no ICD-10-CM code, left out",
                f"{path}: line {line}, hadm_id {admission}: {short_repr(code)} is no ICD-10-CM code and is left out",
            )
            continue
        found.setdefault(whole_number(path, line, "hadm_id", admission), {})[sys.intern(known)] = None
    return {admission: tuple(codes) for admission, codes in found.items()}


def labelled(id: str, text: str, codes, codebook: CodeBook, counts: Counts) -> CodedDocument:
    """A document with `codes` and no evidence; counted."""
    counts.numbers["documents written"] += 1
    counts.numbers["  codes"] += len(codes)
    counts.numbers["  codes that are not billable today, kept"] += sum(not codebook.is_billable(code) for code in codes)
    return CodedDocument(id, text, tuple(Assignment(code, codebook.description(code) or "") for code in codes))


@dataclass(frozen=True)
class AciNote:
    """A line of ACI-Bench as JSON: the note is the input, not the dialogue."""

    id: str
    note: str

    @classmethod
    def from_dict(cls, record) -> "AciNote":
        kept = checked_record(record, cls, {"id": str, "note": str}, {"dataset": str})
        return cls(kept["id"], kept["note"])


def aci_notes(path) -> list[Note]:
    """The notes of an ACI-Bench file: its own .csv (encounter_id, note) or JSON Lines with `id`, `note` and `dataset`."""
    if not str(path).endswith((".csv", ".csv.gz")):
        return [Note(one.id, one.note) for one in read_jsonl(path, AciNote)]
    found: dict[str, Note] = {}
    for line, (id, text) in read_rows(path, ("encounter_id", "note")):
        if id in found:
            raise InputError(f"{path}: line {line}: encounter_id {short_repr(id)} comes twice; keep one of the rows")
        found[id] = Note(id, text)
    return list(found.values())


def aci_documents(notes, codes_path, codebook: CodeBook, counts: Counts) -> list[CodedDocument]:
    """The notes that have codes in `codes_path` (CSV: id, code), in order; the rest are counted."""
    ids = {note.id for note in notes}
    codes: dict[str, dict[str, None]] = {}
    for line, (id, code) in read_rows(codes_path, ("id", "code")):
        known = codebook.normalise(code)
        if known is None:
            raise InputError(
                f"{codes_path}: line {line}, id {short_repr(id)}: code {short_repr(code)} is no ICD-10-CM code; give one code a row, as E11.65"
            )
        if id in ids:
            codes.setdefault(id, {})[known] = None
        else:
            counts.warn(
                "codes of notes that are not in the file, left out",
                f"{codes_path}: line {line}: no note has the id {short_repr(id)}; its code is left out",
            )
    counts.numbers["notes without codes, left out"] += len(ids - codes.keys())
    return [labelled(note.id, note.text, tuple(codes[note.id]), codebook, counts) for note in notes if note.id in codes]
