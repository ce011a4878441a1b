"""A file that grows by whole pieces, each on the disk before the next: logs of long jobs, and metrics.jsonl.

Read next: data/answer_log.py; training/metrics_log.py.
"""

import contextlib
import os
from pathlib import Path

from minscl.errors import InputError
from minscl.files import PRIVATE, PathLike, lock, output_path, path_kind, write_errors


class AppendFile:
    """A file to which whole pieces are appended: each is on the disk, or not in the file. Locked against other runs.

    Opening changes nothing but creates an absent file; it is removed again if nothing was appended. Raises InputError
    for what output_path refuses, where writing fails, and where another run has the file open.
    """

    def __init__(self, path: PathLike, permissions: int = PRIVATE):
        self.path = Path(path)
        self._target = output_path(path)
        self._created = path_kind(self._target) == "missing"
        with write_errors(path):
            self._target.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self._target, os.O_RDWR | os.O_APPEND | os.O_CREAT, permissions)
        try:
            lock(self._descriptor, path)
        except InputError:
            os.close(self._descriptor)
            raise

    def size(self) -> int:
        """Bytes in the file."""
        return os.fstat(self._descriptor).st_size

    def append(self, content: bytes) -> None:
        """Write `content` at the end and return once it is on the disk; on failure the file is as it was before."""
        size = self.size()
        with write_errors(self.path, "free some space and start again; what was written before is whole"):
            try:
                remaining = memoryview(content)
                while remaining:
                    remaining = remaining[os.write(self._descriptor, remaining) :]
                os.fsync(self._descriptor)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._descriptor, size)
                raise

    def truncate(self, size: int) -> None:
        """Cut the file after `size` bytes."""
        with write_errors(self.path):
            os.ftruncate(self._descriptor, size)

    def close(self) -> None:
        """Close the file and release the lock."""
        with contextlib.suppress(OSError):
            if self._created and self.size() == 0:
                os.unlink(self._target)
        os.close(self._descriptor)
