"""JSON Lines files of the records in types.py: UTF-8, one record per line, atomic writes. Also reads text notes.

Every error names file:line, the value and the remedy. Only blank lines are skipped.

Read next: prompts.py, which turns documents and pairs into text.
"""

import codecs
import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from minscl.data.record_checks import MAX_CHARACTERS, show_key
from minscl.data.sample_types import Sample, TextSample
from minscl.errors import InputError
from minscl.files import read_errors, replace_file, require_file
from minscl.files import read_text as read_whole_text

MAX_NOTE_BYTES = MAX_CHARACTERS  # no note is as long; a larger file was named by mistake


def read_jsonl(path, cls, size: int | None = None) -> list:
    """All records of the file `path`, in order, as instances of `cls` (a class with `from_dict`).

    `size`: only the lines in the first `size` bytes.

    Raises InputError naming file:line for a line that is not such a record and for a repeated id, and naming the file
    where it cannot be read.
    """
    records = []
    line_of_id: dict[str, int] = {}
    for number, record in _parse_lines(path, cls.from_dict, size):
        if hasattr(record, "id"):
            first = line_of_id.setdefault(record.id, number)
            if first != number:
                raise InputError(f"{path}:{number}: the id is also line {first}'s; give each record its own id")
        records.append(record)
    return records


def read_samples(path) -> list[TextSample | Sample]:
    """The samples of the file `path`: token ids where a line has `prompt_ids` or `target_ids`, otherwise text.

    `name` of each is file:line. Raises InputError as read_jsonl does.
    """

    def build(record) -> TextSample | Sample:
        has_ids = isinstance(record, dict) and ("prompt_ids" in record or "target_ids" in record)
        return Sample.from_dict(record) if has_ids else TextSample.from_dict(record)

    return [dataclasses.replace(sample, name=f"{path}:{number}") for number, sample in _parse_lines(path, build)]


def write_jsonl(path, records: Iterable) -> int:
    """Write `records` (objects with `to_dict`) to `path` atomically and return their number.

    Raises InputError where the folder cannot be written or the disk is full; `path` is then unchanged.
    """
    count = 0
    with replace_file(path) as handle:
        for record in records:
            handle.write(json.dumps(record.to_dict(), ensure_ascii=False) + "\n")
            count += 1
    return count


def _parse_lines(path, build: Callable, size: int | None = None) -> Iterator[tuple]:
    """(line number, build(decoded JSON)) of each line that is not blank.

    Only a line feed ends a line: JSON text may contain U+2028 and the other separators that str.splitlines breaks at.
    """
    remedy = "name a JSON Lines file"
    with read_errors(path, remedy), open(require_file(path, remedy), "rb") as handle:
        position = 0
        for number, line in enumerate(handle, 1):
            position += len(line)
            if size is not None and position > size:
                return
            content = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if content.strip():
                try:
                    yield number, build(decode_line(content))
                except InputError as error:
                    raise InputError(f"{path}:{number}: {error}") from error


def decode_line(line: bytes):
    """The JSON value of one line; raises InputError where it is not UTF-8 or not JSON, or repeats a key."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"byte {line[error.start]:#04x} at column {error.start + 1} is not UTF-8; convert the file to UTF-8"
        ) from error
    try:
        return json.loads(text, object_pairs_hook=_reject_duplicate_keys)
    except InputError:
        raise
    except json.JSONDecodeError as error:
        raise InputError(f"not JSON ({error.msg}, column {error.colno}); write one object per line") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; nested too deeply
        raise InputError("not JSON that can be used; write one object per line") from error


def _reject_duplicate_keys(items: list[tuple]) -> dict:
    """The object of `items`. json.loads alone would silently keep the last value of a repeated key."""
    record = dict(items)
    if len(record) != len(items):
        keys = [key for key, _ in items]
        repeated = next(key for key in record if keys.count(key) > 1)
        raise InputError(f"key {show_key(repeated)} appears twice; keep one")
    return record


def read_text(path: Path) -> str:
    """The text of the note file `path`: without a UTF-8 signature, its newlines unchanged so that offsets hold.

    Raises InputError where it cannot be read, is larger than MAX_NOTE_BYTES, is not UTF-8 text, or is empty.
    """
    text = read_whole_text(path, "name a text file of one note, or a notes JSONL", MAX_NOTE_BYTES)
    if "\0" in text:
        raise InputError(f"{path}: contains a zero byte, so it is not a text file; save the note as plain UTF-8 text")
    if not text.strip():
        raise InputError(f"{path}: the note is empty; give a file with text")
    return text
