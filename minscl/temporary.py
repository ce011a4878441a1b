"""Temporary files and folders beside what they will replace: locked while a run writes them, removed after a kill.

A lock ends with the process that holds it, however it ends, so a temporary file that nobody has locked is a killed
run's. Where locks are not supported (Windows, some network file systems), none is removed.

Of minscl, this module imports disk.py only. Read next: files.py, folders.py, which write with it.
"""

import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from minscl import disk

with contextlib.suppress(ImportError):  # Windows has no flock: two runs that write one file go unnoticed there
    import fcntl

NAMES = ".minscl-*.tmp"


def open_temporary(folder: Path, create: Callable[[Path], int]) -> tuple[int, Path]:
    """(descriptor, path) of what `create(path)` makes in `folder` and opens, locked while it is open.

    What killed runs have left in `folder` is removed. Raises OSError.
    """
    with contextlib.suppress(OSError):  # a folder that may not be listed
        for path in folder.glob(NAMES):
            _remove_abandoned(path)
    while True:
        path = folder / NAMES.replace("*", secrets.token_hex(8))
        descriptor = create(path)
        if try_lock(descriptor) is not False and is_at(descriptor, path):
            return descriptor, path
        os.close(descriptor)  # before it was locked, another run has taken it for one that a killed run had left


def _remove_abandoned(path: Path) -> None:
    """Remove a temporary file or folder that no run has open; where locks are not supported, none is removed."""
    with contextlib.suppress(OSError):  # another run has just removed it
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            if try_lock(descriptor) and is_at(descriptor, path):
                remove_tree(path) if path.is_dir() else disk.unlink(path)
        finally:
            os.close(descriptor)


def remove_tree(path: Path) -> None:
    """Remove a folder with all that is in it; links are removed, not followed. Raises OSError."""
    for entry in list(os.scandir(path)):
        if entry.is_dir(follow_symlinks=False):
            remove_tree(Path(entry.path))
        else:
            disk.unlink(entry.path)
    disk.remove_folder(path)


def is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file or folder still has the name `path`."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def try_lock(descriptor: int) -> bool | None:
    """Whether an open file or folder is now locked, until it is closed; None: the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except (NameError, OSError):
        return None
