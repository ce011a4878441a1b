"""Walks ZIP archives, archives within archives too, without trusting them: nothing is written to disk.

Refused in one line: names that lead out of the archive, encrypted members, compression other than deflate, damaged or
cut-off archives, and archives that grow beyond every official one (zip bombs). The limits count the bytes that come
out, not what headers promise, and hold for all archives of a reader together.

Read next: recognise.py, which tells the files of an edition among the members.
"""

import contextlib
import io
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from minscl.errors import InputError, printable
from minscl.files import read_bytes

MAX_ARCHIVE_BYTES = 200_000_000  # of a file on disk; CMS's largest archive has 22 million
MAX_MEMBER_BYTES = 200_000_000  # decompressed; the largest member, the order file, has 15 million
MAX_TOTAL_BYTES = 500_000_000  # decompressed, of all members that are read
MAX_RATIO = 100  # decompressed to compressed bytes of a member; the order file's is 12
RATIO_FREE_BYTES = 1_000_000  # decompressed bytes below which the ratio does not matter
MAX_MEMBERS = 2_000  # of all archives together
MAX_DEPTH = 3  # archives within one another
MAX_NAME = 500  # characters of a member's path
HEAD_BYTES = 65_536  # of Member.head
REMEDY = "fetch it again from CDC or CMS"
_OFFICE_SUFFIXES = (".docx", ".xlsx", ".xlsm", ".pptx")  # ZIP archives, too, but documents to their users
_APPLE_DOUBLE = "._"  # begins the name of a file that macOS adds to an archive beside each member
_ENCRYPTED = 0x1  # bit of ZipInfo.flag_bits


@dataclass(frozen=True)
class Member:
    """A file on disk, or a member of an archive."""

    place: str  # for messages: "tables.zip: Table and Index/icd10cm_tabular_2027.xml"
    names: tuple[str, ...]  # its path: a folder on disk, a file there, folders and files in archives, its own name last
    head: bytes  # its first HEAD_BYTES
    is_archive: bool
    read: Callable[[], bytes]  # its whole content; call it before the walk goes on. Raises InputError


class ArchiveReader:
    """Reads any number of archives and loose files within one set of limits."""

    def __init__(self):
        self._bytes = 0
        self._members = 0

    def walk(self, path: str) -> Iterator[Member]:
        """The file `path` and, where it is a ZIP archive, its members at any depth, each archive before its members.

        Raises InputError for what this module refuses and for a path that is no file.
        """
        content = read_bytes(path, "name the archives as they were downloaded", MAX_ARCHIVE_BYTES)
        names = (Path(os.path.abspath(path)).parent.name, Path(path).name)
        is_archive = content.startswith(b"PK") or names[1].lower().endswith(".zip")
        yield Member(str(path), names, content[:HEAD_BYTES], is_archive, lambda: content)
        if is_archive:
            yield from self._walk_archive(content, str(path), names, 1)

    def _walk_archive(self, content: bytes, place: str, names: tuple[str, ...], depth: int) -> Iterator[Member]:
        """The members of the archive `content`, which is the `depth`th around them."""
        if depth > MAX_DEPTH:
            raise InputError(f"{place}: more than {MAX_DEPTH} archives within one another; {REMEDY}")
        # Each member has this signature in the directory: no more members than this, before anything is parsed.
        self._members += content.count(b"PK\x01\x02")
        if self._members > MAX_MEMBERS:
            raise InputError(f"{place}: more than {MAX_MEMBERS:,} members; {REMEDY}")
        with _zip_errors(place):
            archive = zipfile.ZipFile(io.BytesIO(content))
        for info in archive.infolist():
            name = _checked_name(info, place)
            if not name.endswith("/"):
                yield from self._walk_member(archive, info, f"{place}: {name}", (*names, *name.split("/")), depth)

    def _walk_member(
        self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, place: str, names: tuple[str, ...], depth: int
    ) -> Iterator[Member]:
        """The member `info`, then its members if it is an archive itself."""
        head = self._read(archive, info, place, HEAD_BYTES)
        suffix = Path(names[-1]).suffix.lower()
        is_archive = suffix == ".zip" or (head.startswith(b"PK\x03\x04") and suffix not in _OFFICE_SUFFIXES)
        if not is_archive or names[-1].startswith(_APPLE_DOUBLE):
            yield Member(place, names, head, False, lambda: self._read(archive, info, place))
            return
        content = self._read(archive, info, place)
        yield Member(place, names, head, True, lambda: content)
        yield from self._walk_archive(content, place, names, depth + 1)

    def _read(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, place: str, size: int | None = None) -> bytes:
        """The first `size` bytes of a member, or all of it with its check sum verified. Raises InputError."""
        content = bytearray()
        with _zip_errors(place), archive.open(info) as file:
            while size is None or len(content) < size:
                piece = file.read(HEAD_BYTES if size is None else size - len(content))
                if not piece:
                    break
                content += piece
                self._check_growth(len(piece), len(content), info.compress_size, place)
        return bytes(content)

    def _check_growth(self, new_bytes: int, member_bytes: int, compressed_bytes: int, place: str) -> None:
        """Count `new_bytes` more; `member_bytes` of this member so far. Raises InputError beyond the limits."""
        self._bytes += new_bytes
        for is_beyond, limit in (
            (member_bytes > MAX_MEMBER_BYTES, f"more than {MAX_MEMBER_BYTES / 1e6:,.0f} MB when decompressed"),
            (
                member_bytes > RATIO_FREE_BYTES and member_bytes > MAX_RATIO * compressed_bytes,
                f"more than {MAX_RATIO} times as large when decompressed",
            ),
            (self._bytes > MAX_TOTAL_BYTES, f"with it, more than {MAX_TOTAL_BYTES / 1e6:,.0f} MB are decompressed"),
        ):
            if is_beyond:
                raise InputError(f"{place}: {limit}, as in no official archive; {REMEDY}")


def _checked_name(info: zipfile.ZipInfo, place: str) -> str:
    """The path of a member, with forward slashes.

    Raises InputError for a path out of the archive, a name that would change what a terminal shows, a member that is
    encrypted, and a compression that cannot be read piece by piece within limits.
    """
    path = info.orig_filename.replace("\\", "/")
    if path.startswith("/") or re.match(r"[A-Za-z]:", path) or ".." in path.split("/"):
        raise InputError(f"{place}: member {printable(path[:200])} leads out of the archive; {REMEDY}")
    if printable(path) != path or len(path) > MAX_NAME:
        raise InputError(f"{place}: member {printable(path[:200])}: too long a name, or control characters; {REMEDY}")
    if info.flag_bits & _ENCRYPTED:
        raise InputError(f"{place}: {path}: encrypted, as no official file is; {REMEDY}")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InputError(
            f"{place}: {path}: compression method {info.compress_type}, neither stored nor deflated; "
            "unpack the archive and name the files in it"
        )
    return path


@contextlib.contextmanager
def _zip_errors(place: str) -> Iterator[None]:
    """Turns whatever zipfile raises for a damaged archive into an InputError."""
    try:
        yield
    except InputError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, struct.error, LookupError) as error:
        reason = str(error) or "it ends too early"
        raise InputError(f"{place}: a damaged or cut-off ZIP archive ({reason}); {REMEDY}") from error
    except (NotImplementedError, RuntimeError, OverflowError) as error:
        raise InputError(f"{place}: a ZIP archive of an unusual kind ({error}); {REMEDY}") from error
