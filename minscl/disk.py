"""The operations that change the disk, one function each: minscl writes, renames and removes nothing but through them.

Each makes one system call, raises OSError, and repairs nothing: that is for files.py, folders.py and append_file.py,
through which everything else writes. Tests replace these functions to let each call of a run fail in turn
(tests/fault_points.py), and refuse other ways to write (tests/test_disk.py).

Read next: files.py.
"""

import ctypes
import errno
import os
from pathlib import Path

PRIVATE = 0o600  # permissions of new files: they may hold patients' text, or what was learned from it
PathLike = str | Path
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux's renameat2
_NO_FOLDER_FSYNC = (errno.EINVAL, errno.ENOTSUP)  # from file systems that write folders at once, such as CIFS


def open_new(path: PathLike, permissions: int = PRIVATE) -> int:
    """Create a file that must not exist; returns a descriptor to write it."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, permissions)


def open_append(path: PathLike, permissions: int = PRIVATE) -> int:
    """Open a file to write at its end, and to read; it is created where it does not exist."""
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, permissions)


def write(descriptor: int, content: bytes | memoryview) -> int:
    """Write the beginning of `content`; returns how many bytes, at least one."""
    return os.write(descriptor, content)


def truncate(descriptor: int, size: int) -> None:
    """Cut an open file after `size` bytes."""
    os.ftruncate(descriptor, size)


def fsync(descriptor: int) -> None:
    """Return once the content of an open file is on the disk."""
    os.fsync(descriptor)


def fsync_folder(path: PathLike) -> None:
    """Return once the entries of a folder are on the disk: files created, renamed and removed in it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_FSYNC:
            raise
    finally:
        os.close(descriptor)


def rename(path: PathLike, target: PathLike) -> None:
    """Give a file or folder the name `target`; a file or an empty folder of that name is replaced at once."""
    os.replace(path, target)


def exchange(path: PathLike, target: PathLike) -> None:
    """Exchange the names of two folders at once. OSError with ENOSYS where the system cannot."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError) as error:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from error
    if renameat2(_AT_FDCWD, os.fsencode(path), _AT_FDCWD, os.fsencode(target), _RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def make_folder(path: PathLike, permissions: int = 0o777) -> None:
    """Create a folder that must not exist, in one that does."""
    os.mkdir(path, permissions)


def remove_folder(path: PathLike) -> None:
    """Remove an empty folder."""
    os.rmdir(path)


def unlink(path: PathLike) -> None:
    """Remove a file."""
    os.unlink(path)


def set_mode(path: PathLike, mode: int) -> None:
    """Set the permissions of a file or folder."""
    os.chmod(path, mode)


def set_owner(path: PathLike, user: int, group: int) -> None:
    """Give a file or folder to another user."""
    os.chown(path, user, group)
