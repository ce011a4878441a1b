"""Files that long jobs append to, a record a line, and find again when they are started a second time.

A record counts once its line is whole on the disk (fsync). A kill can tear the last line alone; it is cut off on the next start, and its
record is made again.

Read next: jsonl.py, for files that are written at once.
"""

import contextlib
import json
import os
from pathlib import Path

from minscl.data.jsonl import read_jsonl
from minscl.errors import InputError

with contextlib.suppress(ImportError):  # Windows has no flock: there, starting a job twice at once is not noticed
    import fcntl


class AnswerLog:
    """`records`: what earlier runs left in `path`, as `cls` (with from_dict and to_dict), in order. Use as a context manager."""

    def __init__(self, path, cls):
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.handle = open(self.path, "ab")
        except OSError as error:
            raise InputError(f"{path}: cannot write ({error.strerror}); choose a folder that can be written") from error
        self._lock()
        _cut_torn_line(self.path, self.handle)
        self.records = read_jsonl(self.path, cls)

    def append(self, records) -> None:
        """Write the lines of `records` and wait until the disk has them."""
        lines = b"".join(json.dumps(one.to_dict(), ensure_ascii=False).encode() + b"\n" for one in records)
        try:
            self.handle.write(lines)
            self.handle.flush()
            os.fsync(self.handle.fileno())
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot write ({error.strerror}); make room and start again: whole lines are kept"
            ) from error

    def _lock(self) -> None:
        try:
            fcntl.flock(self.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except NameError:
            pass
        except OSError as error:
            raise InputError(
                f"{self.path}: another run is writing it; wait for that one or name another file"
            ) from error

    def __enter__(self) -> "AnswerLog":
        return self

    def __exit__(self, *_) -> None:
        self.handle.close()


def _cut_torn_line(path: Path, handle) -> None:
    """Drop what follows the last line feed."""
    with open(path, "rb") as read:
        end = place = read.seek(0, os.SEEK_END)
        while place:
            step = min(place, 2**16)
            place -= step
            read.seek(place)
            found = read.read(step).rfind(b"\n")
            if found >= 0:
                place += found + 1
                break
    if place < end:
        handle.truncate(place)
