"""Folders that appear whole or not at all.

A folder is written beside its place and takes it in one step. Where another is in that place, the two exchange their
names, which Linux does at once; elsewhere the earlier one is set aside first, and a run that is killed between leaves
it so: the next that writes the folder puts it back.

Read next: training/checkpoint.py and data/icd/official/folder.py, which write with it.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

from minscl import disk
from minscl.disk import PRIVATE
from minscl.files import make_folders, open_writer, path_kind
from minscl.temporary import open_temporary, remove_tree

_CANNOT_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)  # no such call, or not in this file system


@contextlib.contextmanager
def replace_folder(target: Path) -> Iterator[Path]:
    """Yield a new folder beside `target`, which on success takes its place and name: private, or of its mode.

    What is written in it must be on the disk (new_file). On any exception it is removed, and `target` is as
    it was. Raises OSError where the folder cannot be created or put in place.
    """
    make_folders(target.parent)
    aside = target.with_name(f".minscl-{target.name[:100]}.previous")
    if path_kind(aside) == "folder":  # a run was killed in _set_aside
        if path_kind(target) == "missing":
            disk.rename(aside, target)
        else:
            remove_tree(aside)
    descriptor, temporary = open_temporary(target.parent, _open_folder)
    try:
        yield temporary
        if path_kind(target) == "folder":
            disk.set_mode(temporary, stat.S_IMODE(os.stat(target).st_mode))
        disk.fsync_folder(temporary)
        if path_kind(target) == "folder":
            _exchange(temporary, target, aside)
        else:
            disk.rename(temporary, target)
            disk.fsync_folder(target.parent)
    finally:  # the new folder on an exception, the earlier one after an exchange
        with contextlib.suppress(OSError):
            remove_tree(temporary)
        os.close(descriptor)


@contextlib.contextmanager
def new_file(path: Path, mode: Literal["w", "wb"] = "w", permissions: int = PRIVATE) -> Iterator[IO[Any]]:
    """A new file in the folder of replace_folder, on the disk on return; `mode` as for replace_file. Raises OSError."""
    descriptor = disk.open_new(path)
    with open_writer(descriptor, mode) as file:
        yield file
        file.flush()
        disk.set_mode(path, permissions)
        disk.fsync(descriptor)


def _open_folder(path: Path) -> int:
    disk.make_folder(path, 0o700)
    return os.open(path, os.O_RDONLY)


def _exchange(temporary: Path, target: Path, aside: Path) -> None:
    """Exchange the folders `temporary` and `target`; on an exception both are as they were."""
    try:
        disk.exchange(temporary, target)
    except OSError as error:
        if error.errno not in _CANNOT_EXCHANGE:
            raise
        _set_aside(temporary, target, aside)
        return
    try:
        disk.fsync_folder(target.parent)
    except OSError:
        disk.exchange(temporary, target)
        raise


def _set_aside(temporary: Path, target: Path, aside: Path) -> None:
    """As _exchange, where names cannot be exchanged; the earlier folder is then removed.

    Between the first two steps there is no `target`.
    """
    disk.rename(target, aside)
    try:
        disk.rename(temporary, target)
        disk.fsync_folder(target.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            if path_kind(target) != "missing":
                disk.rename(target, temporary)
            disk.rename(aside, target)
        raise
    with contextlib.suppress(OSError):
        remove_tree(aside)
