"""Coded documents as what a head is trained on: a note's tokens and the rows of its codes. Evidence is not read.

Read next: train.py.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from minscl.data.coded_records import read_documents
from minscl.data.icd import CodeBook
from minscl.data.record_checks import show_id
from minscl.data.samples import MAX_TOKEN_CHARACTERS
from minscl.data.types import CodedDocument
from minscl.errors import InputError
from minscl.model import Tokenizer


@dataclass(frozen=True)
class LabelledNote:
    """A note's token ids, and the rows of its codes among the labels, ascending. `name` is for messages."""

    input_ids: tuple[int, ...]
    labels: tuple[int, ...]
    name: str

    def __len__(self) -> int:
        return len(self.input_ids)


def label_list(documents: Iterable[CodedDocument]) -> tuple[str, ...]:
    """The codes of `documents`, sorted. A head can assign no other code."""
    return tuple(sorted({item.code for document in documents for item in document.codes}))


def read_coded_notes(path: str, codebook: CodeBook, flag: str) -> list[CodedDocument]:
    """The coded documents of a JSONL file, codes in canonical form.

    Raises InputError as coded_records.read_documents does, for a blank note, and for a file without any code.
    """
    documents = read_documents(path, codebook)
    for number, document in enumerate(documents, 1):
        if not document.text.strip():
            raise InputError(f"{path}: record {number}, {show_id(document.id)}: the note is blank; drop the line")
    if not any(document.codes for document in documents):
        raise InputError(f"{flag} {path}: no document has a code; give coded documents")
    return documents


def encode_notes(
    documents: Sequence[CodedDocument], labels: Sequence[str], tokenizer: Tokenizer, max_length: int
) -> tuple[list[LabelledNote], list[str]]:
    """(the notes of at most `max_length` tokens, a line for each longer one). Raises InputError where none is left."""
    rows = {code: row for row, code in enumerate(labels)}
    notes, skipped = [], []
    for document in documents:
        name, remedy = show_id(document.id), f"more than --max-length {max_length:,}"
        if len(document.text) > MAX_TOKEN_CHARACTERS * max_length:
            skipped.append(f"document {name} has {len(document.text):,} characters, {remedy}")
            continue
        ids = tuple(tokenizer.encode(document.text))
        if len(ids) > max_length:
            skipped.append(f"document {name} has {len(ids):,} tokens, {remedy}")
            continue
        notes.append(LabelledNote(ids, tuple(sorted({rows[item.code] for item in document.codes})), name))
    if not notes:
        raise InputError(f"no document is left to train on ({len(skipped)} too long); raise --max-length {max_length}")
    return notes, skipped
