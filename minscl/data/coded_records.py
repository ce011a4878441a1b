"""Coded documents and span pairs out of a user's files, their codes read as `evaluate` reads them.

Training and data expansion read every such file here, so "e1165", "E1165" and "E11.65" are one code everywhere. A code
of another system (ICD-9-CM, ICD-10-PCS) or no code at all ("kidney") would be trained as it stands, so it is refused;
the message counts all of a file. A well-formed code that the Tabular List lacks is kept: older gold has retired codes.

Read next: icd/codebook.py, CodeBook.normalise; samples.py, which makes training samples of the records.
"""

import codecs
from collections.abc import Callable, Iterable
from dataclasses import replace

from minscl.data.icd import CodeBook
from minscl.data.icd.editions import VARIABLE
from minscl.data.jsonl import read_jsonl
from minscl.data.record_checks import show_code
from minscl.data.types import CodedDocument, Pair
from minscl.errors import InputError


def read_documents(path, codebook: CodeBook) -> list[CodedDocument]:
    """The coded documents of the JSONL file `path`, codes in canonical form.

    Raises InputError as read_jsonl does, and for codes that are no ICD-10-CM codes: how many, and the first's line.
    """
    documents = read_jsonl(path, CodedDocument)
    codes = (
        (record, f"codes[{position}]", assignment.code)
        for record, document in enumerate(documents)
        for position, assignment in enumerate(document.codes)
    )
    _check_codes(path, codes, codebook.normalise)
    return [
        replace(
            document,
            codes=tuple(
                replace(assignment, code=codebook.normalise(assignment.code) or "") for assignment in document.codes
            ),
        )
        for document in documents
    ]


def read_pairs(path, codebook: CodeBook, *, listed: bool = False) -> list[Pair]:
    """The span pairs of the JSONL file `path`, codes in canonical form.

    `listed`: whether the Tabular List must have each code or heading, as a training sample needs its description.
    Raises InputError as read_documents does.
    """
    pairs = read_jsonl(path, Pair)
    _check_codes(path, ((record, "code", pair.code) for record, pair in enumerate(pairs)), codebook.normalise)
    pairs = [replace(pair, code=codebook.normalise(pair.code) or "") for pair in pairs]
    if listed:
        _check_codes(
            path,
            ((record, "code", pair.code) for record, pair in enumerate(pairs)),
            codebook.description,
            f"in ICD-10-CM edition {codebook.edition.name}",
            f"correct the code, drop the pair or set {VARIABLE} to the edition that has it",
        )
    return pairs


def _check_codes(
    path,
    codes: Iterable[tuple[int, str, str]],
    accepted: Callable[[str], str | None],
    what: str = "an ICD-10-CM code",
    remedy: str = "give codes such as E11.65 and leave out those of other systems",
) -> None:
    """Raises InputError with the number of `codes` for which `accepted` gives None, and the line of the first.

    `codes`: (index of the record, key, code).
    """
    refused = [(record, key, code) for record, key, code in codes if not accepted(code)]
    if not refused:
        return
    record, key, code = refused[0]
    line = _line_of_record(path, record)
    others = f"; {len(refused):,} codes of the file are not" if len(refused) > 1 else ""
    raise InputError(f"{path}:{line}: {key} is {show_code(code)}, not {what}{others}; {remedy}")


def _line_of_record(path, record: int) -> int:
    """The line of the record with that index; blank lines are no records."""
    with open(path, "rb") as file:
        return [number for number, line in enumerate(file, 1) if line.removeprefix(codecs.BOM_UTF8).strip()][record]
