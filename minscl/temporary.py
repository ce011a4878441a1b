"""Temporary files and folders beside what they will replace: locked while a run writes them, removed after a kill.

A lock ends with the process that holds it, however it ends, so a temporary file that nobody has locked is a killed
run's. Where locks are not supported (Windows, some network file systems), none is removed.

Of minscl, this module imports nothing. Read next: files.py, folders.py, which write with it.
"""

import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path

with contextlib.suppress(ImportError):  # Windows has no flock: two runs that write one file go unnoticed there
    import fcntl


def open_temporary(
    target: Path, create: Callable[[Path], int], remove: Callable[[Path], None]
) -> tuple[int, Path]:
    """(descriptor, path) of what `create(path)` makes beside `target` and opens, locked while it is open.

    What killed runs have left is removed by `remove(path)`: nobody has it locked. Raises OSError.
    """
    prefix = f".minscl-{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:8]}-"  # names may be as long as can be
    with contextlib.suppress(OSError):  # a folder that may not be listed
        for path in target.parent.iterdir():
            if path.name.startswith(prefix) and path.suffix == ".tmp":
                _remove_abandoned(path, remove)
    while True:
        path = target.parent / f"{prefix}{secrets.token_hex(4)}.tmp"
        descriptor = create(path)
        if try_lock(descriptor) is not False and is_at(descriptor, path):
            return descriptor, path
        os.close(descriptor)  # before it was locked, another run has taken it for one that a killed run had left


def _remove_abandoned(path: Path, remove: Callable[[Path], None]) -> None:
    """Remove a temporary file or folder that no run has open; where locks are not supported, none is removed."""
    with contextlib.suppress(OSError):  # another run has just removed it
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            if try_lock(descriptor) and is_at(descriptor, path):
                remove(path)
        finally:
            os.close(descriptor)


def is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file or folder still has the name `path`."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def try_lock(descriptor: int) -> bool | None:
    """Whether an open file or folder is locked now, until it is closed; None: the system or file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except (NameError, OSError):
        return None
