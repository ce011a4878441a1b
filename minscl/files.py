"""The file layer: whole reads, atomic replacement and locks, with one line for whatever goes wrong.

Every OSError becomes an InputError that names the path and a remedy. Only regular files are read and written: a pipe
that nobody writes would hang, and renaming over a device would replace it. What is written here may hold patients' text
or what was learned from it, so new files are private (0600); a file that exists keeps its mode. A kill can leave a
temporary file; the next run that writes in that folder removes it.

Of minscl, this module imports errors.py, disk.py and temporary.py only. Read next: folders.py, append_file.py;
settings.py, typed reading of JSON settings.
"""

import codecs
import contextlib
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

from minscl import disk
from minscl.disk import PRIVATE, PathLike
from minscl.errors import InputError
from minscl.temporary import open_temporary, try_lock

MAX_READ_BYTES = 2**30  # of a file that is read whole
MAX_NAME_BYTES = 255  # of one part of a path, on every common file system
BUFFER_BYTES = 2**20  # of a file that is written
Kind = Literal["missing", "file", "folder", "other"]


class InUse(InputError):
    """Another run has locked the file or folder."""


def path_kind(path: PathLike) -> Kind:
    """What `path` is, behind symlinks; "other" is a pipe, a device or a socket.

    Raises InputError where that cannot be told: a folder that may not be entered, a name that is too long.
    """
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise InputError(f"{path}: cannot be reached ({_reason(error)}); name another path") from error
    return "file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else "other"


def same_file(path: PathLike, other: PathLike) -> bool:
    """Whether both name one file or folder, behind links; it need not exist."""
    try:
        return os.path.samefile(path, other)
    except (OSError, ValueError):  # one of the two does not exist
        return os.path.realpath(path) == os.path.realpath(other)


@contextlib.contextmanager
def read_errors(path: PathLike, remedy: str) -> Iterator[None]:
    """Turns an OSError of reading into an InputError with `remedy`."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({_reason(error)}); {remedy}") from error


def list_folder(path: PathLike) -> list[Path]:
    """The paths in a folder, sorted by name. Raises InputError."""
    with read_errors(path, "name a folder that can be read"):
        return sorted(Path(path).iterdir())


def require_file(path: PathLike, remedy: str) -> Path:
    """`path` if it is a regular file, behind symlinks. Raises InputError with `remedy` otherwise."""
    kind = path_kind(path)
    if kind != "file":
        fault = {"missing": "no such file", "folder": "a folder, not a file", "other": "a pipe or device, not a file"}
        raise InputError(f"{path}: {fault[kind]}; {remedy}")
    return Path(path)


def read_bytes(path: PathLike, remedy: str = "name a file that can be read", limit: int = MAX_READ_BYTES) -> bytes:
    """The content of a regular file of at most `limit` bytes. Raises InputError with `remedy` otherwise."""
    require_file(path, remedy)
    with read_errors(path, remedy), open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size > limit:
            raise InputError(f"{path}: larger than {limit / 1e6:,.0f} MB; {remedy}")
        return file.read()


def read_text(path: PathLike, remedy: str = "name a UTF-8 text file", limit: int = MAX_READ_BYTES) -> str:
    """The text of a UTF-8 file without its signature (byte-order mark), newlines as they are.

    Raises InputError with `remedy` for what read_bytes refuses, and where the file is not UTF-8.
    """
    content = read_bytes(path, remedy, limit)
    try:
        return content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        encoding = "latin1" if not is_utf16 else "utf-32" if content.startswith(codecs.BOM_UTF32_LE) else "utf-16"
        raise InputError(
            f"{path}: byte {error.start} is not UTF-8; convert it, for example: iconv -f {encoding} -t utf-8"
        ) from error


def output_path(path: PathLike) -> Path:
    """The regular file that writing to `path` would create or replace: `path` itself, or what a symlink points to.

    Raises InputError for a folder, a pipe or a device, for a name that is too long, and where the folder of the file
    cannot be written. Nothing is created.
    """
    kind = path_kind(path)
    if kind in ("folder", "other"):
        raise InputError(f"{path}: {'a folder' if kind == 'folder' else 'a pipe or device'}; name a regular file")
    target = Path(os.path.realpath(path))
    folder = target.parent
    while path_kind(folder) == "missing":
        folder = folder.parent
    if path_kind(folder) != "folder" or not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{path}: cannot be written in {folder}; choose a folder that can be written")
    if kind == "file" and not os.access(target, os.W_OK):
        raise InputError(f"{path}: the file is read-only; make it writable or name another file")
    if any(len(os.fsencode(part)) > MAX_NAME_BYTES for part in target.parts):
        raise InputError(f"{path}: a name is longer than {MAX_NAME_BYTES} bytes; choose a shorter one")
    return target


@contextlib.contextmanager
def write_errors(
    path: PathLike, remedy: str = "free some space or choose a folder that can be written; the previous file is whole"
) -> Iterator[None]:
    """Turns an OSError of writing (no space, no permission, a stale folder) into an InputError with `remedy`."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({_reason(error)}); {remedy}") from error


@contextlib.contextmanager
def replace_file(path: PathLike, mode: Literal["w", "wb"] = "w", *, permissions: int = PRIVATE) -> Iterator[IO[Any]]:
    """Open a temporary file beside `path`; on success fsync it and rename it over `path`, behind symlinks.

    `mode` is "w" (UTF-8 text, newlines as written) or "wb"; `permissions` are those of a new file, an existing one
    keeps its own. On any exception the temporary file is removed and `path` stays as it was. Raises InputError for what
    output_path refuses and where writing fails.
    """
    with replace_by_name(path, permissions) as (descriptor, _), open_writer(os.dup(descriptor), mode) as file:
        yield file


@contextlib.contextmanager
def replace_by_name(path: PathLike, permissions: int = PRIVATE) -> Iterator[tuple[int, Path]]:
    """The same for other software, which opens files by their name: yields (descriptor, path) of the temporary file."""
    target = output_path(path)
    with write_errors(path):
        make_folders(target.parent)
        descriptor, temporary = open_temporary(target.parent, disk.open_new)
        try:
            yield descriptor, temporary
            _copy_mode(target, temporary, permissions)
            disk.fsync(descriptor)
            disk.rename(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                disk.unlink(temporary)
            raise
        finally:
            os.close(descriptor)
    with write_errors(path, "it is whole, but a power failure could bring back the previous one; check the disk"):
        disk.fsync_folder(target.parent)


class _RawFile(io.RawIOBase):
    """An open file that is written by disk.write; closing it closes the descriptor."""

    def __init__(self, descriptor: int):
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def write(self, content) -> int:
        return disk.write(self._descriptor, content)

    def close(self) -> None:
        if not self.closed:
            super().close()
            os.close(self._descriptor)


def open_writer(descriptor: int, mode: Literal["w", "wb"]) -> IO[Any]:
    """A file object on an open file, as replace_file yields it; closing it closes the descriptor."""
    buffered = io.BufferedWriter(_RawFile(descriptor), BUFFER_BYTES)
    return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding="utf-8", newline="")


def _copy_mode(target: Path, temporary: Path, permissions: int) -> None:
    """Give `temporary` the mode and owner of `target`, or `permissions` where there is no `target`."""
    try:
        status = os.stat(target)
    except FileNotFoundError:
        disk.set_mode(temporary, permissions)
        return
    with contextlib.suppress(OSError):  # only root may give a file to another user
        disk.set_owner(temporary, status.st_uid, status.st_gid)
    disk.set_mode(temporary, stat.S_IMODE(status.st_mode))


def make_folders(path: PathLike, permissions: int = 0o777) -> None:
    """Create a folder, and those above it, where they are missing; each is on the disk on return. Raises OSError."""
    missing, folder = [], Path(path)
    while path_kind(folder) == "missing":
        missing.append(folder)
        folder = folder.parent
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another run has just made it
            disk.make_folder(folder, permissions)
        disk.fsync_folder(folder.parent)


def remove_file(path: PathLike) -> None:
    """Remove a file, if it is there. Raises InputError."""
    with write_errors(path, "remove it by hand"), contextlib.suppress(FileNotFoundError):
        disk.unlink(path)


@contextlib.contextmanager
def lock_folder(path: PathLike) -> Iterator[Path]:
    """Create the folder `path` where it is missing and lock it against other runs. Raises InputError."""
    if path_kind(path) in ("file", "other"):
        raise InputError(f"{path}: not a folder; name a folder")
    with write_errors(path, "name a folder that can be written"):
        make_folders(path)
        descriptor = os.open(path, os.O_RDONLY)
    try:
        lock(descriptor, path)
        yield Path(path)
    finally:
        os.close(descriptor)


def lock(descriptor: int, path: PathLike) -> None:
    """Lock an open file or folder until it is closed; file systems without locks are used without. Raises InUse."""
    if try_lock(descriptor) is False:
        raise InUse(f"{path}: another run is writing it; wait for that run or name another path")


def _reason(error: OSError | ValueError) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)
