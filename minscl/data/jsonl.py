"""JSON Lines files of the records in types.py: UTF-8, one record a line, anything else refused; written whole or not at all.

Every message names file:line, the value and the remedy. Nothing is skipped but blank lines.

Read next: prompts.py, which turns documents and pairs into text.
"""

import dataclasses
import json
from pathlib import Path

from minscl.data.types import Sample, TextSample, shown
from minscl.errors import InputError, replace_file


def read_jsonl(path, cls) -> list:
    """All records of `path` as `cls` (a class of types.py), in order.

    Raises InputError naming file:line for a line that is no such record and for an id that came before.
    """
    records, seen = [], {}
    for number, record in _records(path, cls.from_dict):
        if hasattr(record, "id"):
            first = seen.setdefault(record.id, number)
            if first != number:
                raise InputError(
                    f"{path}:{number}: id {shown(record.id)} is also line {first}'s; give each record its own id"
                )
        records.append(record)
    return records


def read_samples(path) -> list:
    """TextSamples (prompt, target) and Samples (prompt_ids, target_ids), told apart by their keys; `name` is file:line."""

    def build(record):
        tokens = isinstance(record, dict) and ("prompt_ids" in record or "target_ids" in record)
        return (Sample if tokens else TextSample).from_dict(record)

    return [dataclasses.replace(record, name=f"{path}:{number}") for number, record in _records(path, build)]


def write_jsonl(path, records) -> int:
    """Write `records` to `path`, atomically; gives how many there were. Raises InputError when the folder cannot be written."""
    count = 0
    with replace_file(path) as handle:
        for record in records:
            handle.write(json.dumps(record.to_dict(), ensure_ascii=False) + "\n")
            count += 1
    return count


def _records(path, build):
    """(line number, build(object)) of each line. Lines end with a line feed alone: JSON text may hold U+2028 and its like."""
    try:
        with open(path, "rb") as handle:
            for number, line in enumerate(handle, 1):
                if line.strip():
                    try:
                        yield number, build(_object(line))
                    except InputError as error:
                        raise InputError(f"{path}:{number}: {error}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot read ({error.strerror}); name a JSON Lines file") from error


def _object(line: bytes):
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"byte {line[error.start]:#04x} at column {error.start + 1} is not UTF-8; convert the file to UTF-8"
        ) from error
    try:
        return json.loads(text, object_pairs_hook=_unique_keys)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"{shown(text.strip())} is not JSON ({error}); write one object a line") from error


def _unique_keys(pairs) -> dict:
    """Of two values under one key JSON would silently keep the last."""
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(key for key in found if sum(key == other for other, _ in pairs) > 1)
        raise InputError(f"key {shown(twice)} comes twice; keep one")
    return found


def read_text(path: Path) -> str:
    """The note's text exactly as it stands in the file (newlines kept, so that offsets hold)."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); name a text file or a notes JSONL") from error
    if b"\0" in raw:
        raise InputError(f"{path}: holds a zero byte, so it is no text file; save the note as plain UTF-8 text")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: byte {error.start} is not UTF-8; convert it, for example: iconv -f latin1 -t utf-8"
        ) from error
    if not text.strip():
        raise InputError(f"{path}: the note is empty; give a file with text")
    return text
