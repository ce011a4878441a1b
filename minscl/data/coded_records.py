"""Coded documents and span pairs out of a user's files, their codes read as `evaluate` reads them.

Training and data expansion read every such file here, so "e1165", "E1165" and "E11.65" are one code everywhere. A code
of another system (ICD-9-CM, ICD-10-PCS) or no code at all ("kidney") would be trained as it stands, so it is refused;
the message counts all of a file. A well-formed code that the Tabular List lacks is kept: older gold has retired codes.

Read next: icd/codebook.py, CodeBook.normalise; samples.py, which makes training samples of the records.
"""

import codecs
from collections.abc import Callable, Iterable, Iterator
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
    _check_codes(path, _codes_of(documents), codebook.normalise)
    return [_in_canonical_form(document, codebook) for document in documents]


def read_pairs(path, codebook: CodeBook, *, listed: bool = False) -> list[Pair]:
    """The span pairs of the JSONL file `path`, codes in canonical form.

    `listed`: whether the Tabular List must have each code or heading, as a training sample needs its description.
    Raises InputError as read_documents does.
    """
    pairs = read_jsonl(path, Pair)
    _check_codes(path, _codes_of(pairs), codebook.normalise)
    pairs = [_in_canonical_form(pair, codebook) for pair in pairs]
    if listed:
        _check_listed(path, pairs, codebook)
    return pairs


def read_documents_and_pairs(path, codebook: CodeBook) -> tuple[list[CodedDocument], list[Pair]]:
    """The coded documents and the span pairs of one JSONL file, which may mix them: a pair is a record without `text`.

    Codes are in canonical form; raises InputError as read_documents and, with `listed`, read_pairs do.
    """
    records = read_jsonl(path, _DocumentOrPair)
    _check_codes(path, _codes_of(records), codebook.normalise)
    records = [_in_canonical_form(record, codebook) for record in records]
    _check_listed(path, records, codebook)
    documents = [record for record in records if isinstance(record, CodedDocument)]
    return documents, [record for record in records if isinstance(record, Pair)]


class _DocumentOrPair:
    """What read_jsonl makes of a line of either kind."""

    @staticmethod
    def from_dict(record) -> CodedDocument | Pair:
        is_pair = isinstance(record, dict) and "evidence" in record and "text" not in record
        return Pair.from_dict(record) if is_pair else CodedDocument.from_dict(record)


def _codes_of(records: Iterable[CodedDocument | Pair]) -> Iterator[tuple[int, str, str]]:
    """(index of the record, key, code) of every code."""
    for number, record in enumerate(records):
        if isinstance(record, Pair):
            yield number, "code", record.code
        else:
            for position, assignment in enumerate(record.codes):
                yield number, f"codes[{position}]", assignment.code


def _in_canonical_form(record, codebook: CodeBook):
    """A document or a pair with its codes normalised."""
    if isinstance(record, Pair):
        return replace(record, code=codebook.normalise(record.code) or "")
    codes = (replace(assignment, code=codebook.normalise(assignment.code) or "") for assignment in record.codes)
    return replace(record, codes=tuple(codes))


def _check_listed(path, records: Iterable[CodedDocument | Pair], codebook: CodeBook) -> None:
    """Raises InputError for the code of a pair that the Tabular List lacks; documents may have such codes."""
    _check_codes(
        path,
        ((number, "code", record.code) for number, record in enumerate(records) if isinstance(record, Pair)),
        codebook.description,
        f"in ICD-10-CM edition {codebook.edition.name}",
        f"correct the code, drop the pair or set {VARIABLE} to the edition that has it",
    )


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
