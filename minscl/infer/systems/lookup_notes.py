"""`generate --system lookup`: its flags, what makes its codes (CodedDocument.coded_with), and the notes it codes.

Read next: lookup.py, the table of phrases.
"""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from minscl.data.coded_records import read_documents, read_pairs
from minscl.data.icd import CodeBook
from minscl.data.notes import Skip, code_each_note
from minscl.data.resuming import code_set_settings
from minscl.data.types import CodedDocument, Note
from minscl.errors import InputError
from minscl.files import read_bytes
from minscl.infer.answer import filter_by_score
from minscl.infer.systems.lookup import LOOKUP, MIN_SHARE, PhraseTable

FLAGS = ("--documents", "--spans")
VERIFIER_FLAGS = ("--model", "--adapter", "--weights")  # of the model that --verify asks
MODEL_FLAGS = (*VERIFIER_FLAGS, "--evidence", "--grounded", "--free", "--no-calibration", "--compile")


def check_lookup_flags(system: str, flags: Collection[str]) -> None:
    """Raises InputError where `flags`, those that the user gave, do not go with `system`."""
    sources = [name for name in FLAGS if name in flags]
    if system != LOOKUP and sources:
        raise InputError(f"{sources[0]}: only --system {LOOKUP} reads it; leave it out, or give --system {LOOKUP}")
    if system == LOOKUP and not sources:
        raise InputError(
            f"--system {LOOKUP}: needs training data to look phrases up; give --documents FILE, coded documents with "
            "evidence, or --spans FILE, span pairs"
        )
    asks_model = VERIFIER_FLAGS if "--verify" in flags else ()
    for name in MODEL_FLAGS:
        if system == LOOKUP and name in flags and name not in asks_model:
            raise InputError(f"--system {LOOKUP} {name}: no model is used; leave {name} out")


def lookup_settings(documents: str, spans: Sequence[str], min_score: float, codebook: CodeBook) -> dict[str, str]:
    """What determines the codes, as generate_config.settings_of says it for a model: files by name and digest.

    Raises InputError for a file that cannot be read.
    """
    settings = {"system": LOOKUP, "min_score": str(min_score), "min_share": str(MIN_SHARE)}
    for name, paths in (("documents", [documents] if documents else []), ("spans", spans)):
        settings[name] = ", ".join(f"{Path(path).name} {_digest(path)}" for path in paths) or "none"
    return settings | code_set_settings(codebook)


def _digest(path: str) -> str:
    """The first 16 hex digits of a file's SHA-256."""
    return hashlib.sha256(read_bytes(path, "name a JSON Lines file")).hexdigest()[:16]


def read_table(documents: str, spans: Sequence[str], codebook: CodeBook) -> PhraseTable:
    """The phrases of a file of coded documents ("": none) and of files of span pairs.

    Raises InputError for what is no such file, and where nothing can be looked up.
    """
    coded = read_documents(documents, codebook) if documents else []
    table = PhraseTable.build(coded, (pair for path in spans for pair in read_pairs(path, codebook)))
    if not table:
        raise InputError(
            f"{', '.join([documents] * bool(documents) + list(spans))}: no phrase to look up; give documents with "
            "located evidence, or span pairs"
        )
    return table


def look_up_notes(
    table: PhraseTable, notes: Sequence[Note], codebook: CodeBook, min_score: float = 0.0, skip: Skip | None = None
) -> Iterator[CodedDocument]:
    """The coded document of each note, checked against `codebook`; `min_score` and `skip` as for coder.code_notes."""
    return code_each_note(notes, lambda note: filter_by_score(table.code(note, codebook), min_score), codebook, skip)
