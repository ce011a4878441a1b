"""MIMIC-IV: discharge summaries with their billed codes and no evidence, from which silver spans are mined (Eq. 7).

`discharge` is joined with `diagnoses_icd` by hadm_id; only ICD-10 codes, and no rare code is dropped. All admissions
of a patient belong to the same split, which a hash of subject_id decides: the same in every run and for any part of
the file. MIMIC-III and MIMIC-IV may share patients, and their ids cannot be matched.

deviates: the splits have the shares of Edin et al. (2023), 89,099 / 13,378 / 19,802 admissions, but are not theirs; the
paper names no splits.

Read next: ../spans/silver.py.
"""

import hashlib
import sys
from collections.abc import Iterator

from minscl.data.corpora.counts import SPLITS, Counts, document_without_evidence
from minscl.data.corpora.csv_rows import read_rows, whole_number
from minscl.data.icd import CodeBook
from minscl.data.record_checks import show_code, show_id
from minscl.data.types import CodedDocument

SHARES = dict(zip(SPLITS, (0.73, 0.11, 0.16), strict=True))  # of patients


def split_of(subject: int) -> str:
    """The split of the patient with subject_id `subject`."""
    draw = int.from_bytes(hashlib.sha256(f"subject {subject}".encode()).digest()[:8], "big") / 2**64
    for name, share in SHARES.items():
        if draw < share:
            return name
        draw -= share
    return SPLITS[-1]


def mimic_iv_documents(discharge, diagnoses, split: str, codebook: CodeBook, counts: Counts) -> Iterator[CodedDocument]:
    """Yields the documents of one split in the file's order; memory holds all admissions' codes and a single note.

    `discharge` and `diagnoses`: paths of discharge.csv(.gz) and diagnoses_icd.csv(.gz). The id is the hadm_id. What is
    left out goes into `counts`. Raises InputError for a damaged file.
    """
    codes = _admission_codes(diagnoses, codebook, counts)
    seen: set[int] = set()
    for line, (note_id, subject, hadm_id, text) in read_rows(discharge, ("note_id", "subject_id", "hadm_id", "text")):
        counts.numbers["notes read"] += 1
        if split_of(whole_number(discharge, line, "subject_id", subject)) != split:
            counts.numbers["of other splits"] += 1
        elif not hadm_id.strip():
            counts.numbers["without an admission, left out"] += 1
        elif (admission := whole_number(discharge, line, "hadm_id", hadm_id)) not in codes:
            counts.numbers["without ICD-10-CM codes, left out"] += 1
        elif not text.strip():
            counts.warn(
                "without text, left out", f"{discharge}: line {line}: note {show_id(note_id)} has no text, left out"
            )
        elif admission in seen:
            counts.warn(
                "a second note of an admission, left out",
                f"{discharge}: line {line}: note {show_id(note_id)} is the second of admission {admission}, left out",
            )
        else:
            seen.add(admission)
            yield document_without_evidence(str(admission), text, codes[admission], codebook, counts)


def _admission_codes(path, codebook: CodeBook, counts: Counts) -> dict[int, tuple[str, ...]]:
    """hadm_id → its ICD-10-CM codes in the file's order, without repetition."""
    codes: dict[int, dict[str, None]] = {}
    for line, (hadm_id, text, version) in read_rows(path, ("hadm_id", "icd_code", "icd_version")):
        if version.strip() != "10":
            counts.numbers["diagnoses that are not ICD-10, left out"] += 1
            continue
        bare = text.strip()
        code = codebook.normalise(f"{bare[:3]}.{bare[3:]}")  # dotted: a diagnosis is never PCS
        if code is None:
            counts.warn(
                "diagnoses that are no ICD-10-CM code, left out",
                f"{path}: line {line}, hadm_id {show_id(hadm_id)}: {show_code(bare)} is no ICD-10-CM code, left out",
            )
            continue
        codes.setdefault(whole_number(path, line, "hadm_id", hadm_id), {})[sys.intern(code)] = None
    return {admission: tuple(distinct) for admission, distinct in codes.items()}
