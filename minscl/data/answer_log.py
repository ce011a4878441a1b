"""Append-only record files of long jobs: an interrupted job reads its answers back and continues.

A record counts once its line is on the disk (fsync). A kill or a lost machine can leave only the last line incomplete;
that line is cut off before the next one is written, and its question is asked again. A file that is anything else than
such a log is refused untouched.

Read next: jsonl.py, for files that are written in one go.
"""

import codecs
import dataclasses
import json
import os
from collections.abc import Iterable
from pathlib import Path

from minscl.append_file import AppendFile
from minscl.data.jsonl import decode_line, read_jsonl
from minscl.errors import InputError
from minscl.files import require_file


class AnswerLog:
    """A log open for appending, to be used as a context manager. `records` holds what earlier runs wrote, in order.

    `cls` is the record class, with `from_dict` and `to_dict`. Opening changes nothing. Raises InputError where `path`
    cannot be written, is locked by another run, or has anything but such records.
    """

    def __init__(self, path: str | Path, cls: type):
        self.path = Path(path)
        self._file = AppendFile(path)
        try:
            whole, self._missing_newline = _whole_size(self.path, cls)
            self.records = read_jsonl(self.path, cls, size=whole)
        except BaseException:
            self._file.close()
            raise
        self._incomplete_from = whole if whole < self._file.size() else None

    def append(self, records: Iterable) -> None:
        """Write `records`, one a line, and return once they are on the disk. Raises InputError on failure."""
        lines = b"".join(json.dumps(record.to_dict(), ensure_ascii=False).encode() + b"\n" for record in records)
        self.cut_incomplete()
        self._file.append(b"\n" * self._missing_newline + lines)
        self._missing_newline = False

    def cut_incomplete(self) -> bool:
        """Cut off an incomplete last line now, not only before the next is written; returns whether there was one."""
        if self._incomplete_from is None:
            return False
        self._file.truncate(self._incomplete_from)
        self._incomplete_from = None
        return True

    def __enter__(self) -> "AnswerLog":
        return self

    def __exit__(self, *_) -> None:
        self._file.close()


def read_log(path: str | Path, cls: type) -> list:
    """The records of a log that another process may be writing; an incomplete last line is left out.

    Raises InputError as AnswerLog does, but for the lock.
    """
    whole, _ = _whole_size(Path(path), cls)
    return read_jsonl(path, cls, size=whole)


def _whole_size(path: Path, cls: type) -> tuple[int, bool]:
    """(bytes up to the end of the last whole record, whether that record lacks its newline).

    Raises InputError where what follows the last newline is neither a record nor the beginning of one.
    """
    start, last = _last_line(path)
    if not last.removeprefix(codecs.BOM_UTF8).strip():
        return start + len(last), False
    try:
        value = decode_line(last.removeprefix(codecs.BOM_UTF8))
    except InputError as error:
        expected = f'{{"{dataclasses.fields(cls)[0].name}": '.encode()  # as json.dumps writes a record's first key
        if last.startswith(expected) or (start and expected.startswith(last)):  # a lone "{" may begin anything
            return start, False
        raise InputError(f"{path}: not a file of {cls.__name__} records; name another file") from error
    try:
        cls.from_dict(value)  # type: ignore[attr-defined]
    except InputError as error:
        raise InputError(f"{path}: last line: {error}") from error
    return start + len(last), True


def _last_line(path: Path) -> tuple[int, bytes]:
    """(offset, content) of what follows the file's last newline, searched backwards in blocks."""
    with open(require_file(path, "name a regular file"), "rb") as reader:
        size = position = reader.seek(0, os.SEEK_END)
        while position:
            length = min(position, 2**16)
            position -= length
            reader.seek(position)
            newline = reader.read(length).rfind(b"\n")
            if newline >= 0:
                position += newline + 1
                break
        reader.seek(position)
        return position, reader.read(size - position)
