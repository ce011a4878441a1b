"""A file that grows by whole pieces, each on the disk before the next: logs of long jobs, and metrics.jsonl.

Read next: data/answer_log.py; training/metrics_log.py.
"""

import contextlib
import os
from pathlib import Path

from minscl import disk
from minscl.disk import PRIVATE, PathLike
from minscl.errors import InputError
from minscl.files import InUse, lock, make_folders, output_path, path_kind, write_errors
from minscl.temporary import is_at


class AppendFile:
    """A file to which whole pieces are appended: each is on the disk, or not in the file. Locked against other runs.

    Opening changes nothing but creates an absent file; it is removed again if nothing was appended. Raises InputError
    for what output_path refuses, where writing fails, and where another run has the file open.
    """

    def __init__(self, path: PathLike, permissions: int = PRIVATE):
        self.path = Path(path)
        self._target = output_path(path)
        self._created = path_kind(self._target) == "missing"
        self._entry_missing = self._created  # the folder's entry for the file is not on the disk yet
        self._cut_at: int | None = None  # where a piece begins that could neither be written nor taken back
        with write_errors(path):
            make_folders(self._target.parent)
            self._descriptor = disk.open_append(self._target, permissions)
        try:
            lock(self._descriptor, path)
            if not is_at(self._descriptor, self._target):  # a run that wrote nothing has removed it before the lock
                raise InUse(f"{path}: another run had it open; start again")
        except InputError:
            os.close(self._descriptor)
            raise

    def size(self) -> int:
        """Bytes in the file."""
        return os.fstat(self._descriptor).st_size

    def append(self, content: bytes) -> None:
        """Write `content` at the end and return once it is on the disk; on failure the file is as it was before."""
        size = self.size() if self._cut_at is None else self._cut_at
        with write_errors(self.path, "free some space and start again; what was written before is whole"):
            try:
                if self._cut_at is not None:
                    disk.truncate(self._descriptor, size)
                self._cut_at = size
                remaining = memoryview(content)
                while remaining:
                    remaining = remaining[disk.write(self._descriptor, remaining) :]
                disk.fsync(self._descriptor)
                if self._entry_missing:
                    disk.fsync_folder(self._target.parent)
                    self._entry_missing = False
                self._cut_at = None
            except OSError:
                with contextlib.suppress(OSError):
                    disk.truncate(self._descriptor, size)
                    self._cut_at = None
                raise

    def truncate(self, size: int) -> None:
        """Cut the file after `size` bytes."""
        with write_errors(self.path):
            disk.truncate(self._descriptor, size)

    def close(self) -> None:
        """Close the file and release the lock."""
        with contextlib.suppress(OSError):
            if self._created and self.size() == 0:
                disk.unlink(self._target)
        os.close(self._descriptor)
