"""Append-only record files of long jobs: an interrupted job reads its answers back and continues.

A record counts once its line is on the disk (fsync). A kill can leave only the last line incomplete; the next start
cuts that line off, and its question is asked again.

Read next: jsonl.py, for files that are written in one go.
"""

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from minscl.data.jsonl import read_jsonl
from minscl.errors import InputError

with contextlib.suppress(ImportError):  # Windows has no flock, so two runs writing the same file go unnoticed there
    import fcntl


class AnswerLog:
    """A log open for appending, to be used as a context manager. `records` holds what earlier runs wrote, in order.

    `cls` is the record class, with `from_dict` and `to_dict`. Raises InputError where `path` cannot be written, is
    locked by another run, or has a complete line that is not such a record.
    """

    def __init__(self, path, cls):
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.handle = open(self.path, "ab")  # noqa: SIM115 (closed by __exit__)
        except OSError as error:
            raise InputError(f"{path}: cannot write ({error.strerror}); choose a folder that can be written") from error
        self._lock()
        _cut_incomplete_line(self.path, self.handle)
        self.records = read_jsonl(self.path, cls)

    def append(self, records: Iterable) -> None:
        """Write `records`, one a line, and return once they are on the disk. Raises InputError on failure."""
        lines = b"".join(json.dumps(record.to_dict(), ensure_ascii=False).encode() + b"\n" for record in records)
        try:
            self.handle.write(lines)
            self.handle.flush()
            os.fsync(self.handle.fileno())
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot write ({error.strerror}); free some space and start again; complete lines remain"
            ) from error

    def _lock(self) -> None:
        try:
            fcntl.flock(self.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except NameError:  # no fcntl on this platform
            pass
        except OSError as error:
            raise InputError(
                f"{self.path}: another run is writing it; wait for that run or name another file"
            ) from error

    def __enter__(self) -> "AnswerLog":
        return self

    def __exit__(self, *_) -> None:
        self.handle.close()


def _cut_incomplete_line(path: Path, handle: BinaryIO) -> None:
    """Truncate the file after its last line feed, searching backwards in blocks."""
    with open(path, "rb") as reader:
        size = position = reader.seek(0, os.SEEK_END)
        while position:
            length = min(position, 2**16)
            position -= length
            reader.seek(position)
            newline = reader.read(length).rfind(b"\n")
            if newline >= 0:
                position += newline + 1
                break
    if position < size:
        handle.truncate(position)
