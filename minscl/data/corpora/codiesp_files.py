"""CodiEsp's files, out of the folder or archive in which they came. Nothing is unpacked to disk.

    train/text_files/ID.txt   train/text_files_en/ID.txt   train/trainX.tsv   train/trainD.tsv

and so for dev, test and background, in a folder, a ZIP archive (Zenodo's) or a .tar.gz archive, perhaps within other
folders (`final_dataset_v4_to_publish/`); or in codiesp_train.tar.gz and so on in a folder. Members are read by name
alone, up to limits far above what is published, so that an archive that grows without end costs little.

Read next: codiesp.py.
"""

import contextlib
import gzip
import io
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from minscl.errors import InputError, printable
from minscl.files import list_folder, path_kind, read_bytes, require_file

MAX_MEMBER_BYTES = 10_000_000  # of one file; the largest, trainX.tsv, has 0.7 million
MAX_TOTAL_BYTES = 200_000_000  # read of a split, and unpacked of a .tar.gz; the background texts have 15 million
MAX_ARCHIVE_BYTES = 100_000_000  # of an archive on disk; the published ZIP has under 10 million
MAX_NESTING = 3  # folders around that of a split
FETCH_REMEDY = "fetch CodiEsp's gold standard v4 again (zenodo.org/records/3837305)"
NAME_REMEDY = (
    "name the folder or ZIP archive with train/, dev/, test/ and background/ in it (zenodo.org/records/3837305)"
)
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, struct.error)
_APPLE_DOUBLE = "._"  # begins the name of a file that macOS adds to an archive beside each member


@dataclass(frozen=True)
class SplitFile:
    """A file of a split. `place` names it in messages."""

    place: str
    content: bytes

    def text(self) -> str:
        """The content as text, without a UTF-8 signature, newlines as they are. Raises InputError."""
        try:
            return self.content.decode("utf-8").removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            raise InputError(f"{self.place}: byte {error.start} is not UTF-8; {FETCH_REMEDY}") from error


Member = tuple[str, str, Callable[[], bytes]]  # its path, with forward slashes; its place for messages; reads it


def split_files(path, split: str, names: Sequence[str]) -> dict[str, SplitFile]:
    """The files of `split` under `path`, by their path in the folder of the split ("trainX.tsv", "text_files/ID.txt").

    `names`: which files are read, and of which folders the .txt files. {} where there are none. Raises InputError for
    what cannot be read, and where two folders are the split's.
    """
    files: dict[str, SplitFile] = {}
    roots: dict[str, None] = {}
    total = 0
    wanted = "|".join(map(re.escape, names))
    shape = re.compile(rf"(?P<root>(?:[^/]+/){{0,{MAX_NESTING}}}){split}/(?P<name>(?:{wanted})(?:/[^/]+\.txt)?)")
    for member_path, place, read in _members(path, split):
        match = shape.fullmatch(member_path)
        if not match or PurePosixPath(member_path).name.startswith(_APPLE_DOUBLE):
            continue
        roots[match["root"]] = None
        if len(roots) > 1:
            first, second = (f"{root}{split}/" for root in roots)
            raise InputError(f"{path}: has {printable(first)} and {printable(second)}; name the folder of one of them")
        if match["name"] in files:
            raise InputError(f"{place}: is in the archive twice; {FETCH_REMEDY}")
        content = read()
        total += len(content)
        if total > MAX_TOTAL_BYTES:
            raise InputError(f"{path}: {split} has more than {MAX_TOTAL_BYTES / 1e6:,.0f} MB; {FETCH_REMEDY}")
        files[match["name"]] = SplitFile(place, content)
    return files


def _members(path, split: str) -> Iterator[Member]:
    """The files under `path` that may be of `split`; `read` must be called before the next is asked for."""
    kind = path_kind(path)
    if kind == "folder":
        members = list(_folder_members(Path(path), split))
        archive = Path(path, f"codiesp_{split}.tar.gz")
        yield from members or (_tar_members(archive) if path_kind(archive) == "file" else [])
        return
    require_file(path, NAME_REMEDY)
    if str(path).lower().endswith(".zip") or zipfile.is_zipfile(path):
        yield from _zip_members(path)
    elif str(path).lower().endswith((".tar.gz", ".tgz")):
        yield from _tar_members(path)
    else:
        raise InputError(f"{path}: neither a folder nor a ZIP or .tar.gz archive; {NAME_REMEDY}")


def _folder_members(folder: Path, split: str) -> Iterator[Member]:
    """The files in every folder called `split`, up to MAX_NESTING folders down, and in the folders therein."""
    for root in _split_folders(folder, split, MAX_NESTING):
        for child in list_folder(root):
            for file in list_folder(child) if path_kind(child) == "folder" else [child]:
                yield file.relative_to(folder).as_posix(), str(file), _file_reader(file)


def _split_folders(folder: Path, split: str, depth: int) -> Iterator[Path]:
    for child in list_folder(folder):
        if child.name.startswith(".") or path_kind(child) != "folder":
            continue
        if child.name == split:
            yield child
        elif depth:
            yield from _split_folders(child, split, depth - 1)


def _file_reader(file: Path) -> Callable[[], bytes]:
    return lambda: read_bytes(file, FETCH_REMEDY, MAX_MEMBER_BYTES)


def _zip_members(path) -> Iterator[Member]:
    with _archive_errors(path):
        content = io.BytesIO(read_bytes(path, NAME_REMEDY, MAX_ARCHIVE_BYTES))
        archive = zipfile.ZipFile(content)
    for info in archive.infolist():
        name = info.filename.replace("\\", "/")
        if not name.endswith("/"):  # ZipInfo.is_dir raises IndexError for an empty name
            yield name, f"{path}: {printable(name)}", _zip_reader(archive, info, f"{path}: {printable(name)}")


def _zip_reader(archive: zipfile.ZipFile, info: zipfile.ZipInfo, place: str) -> Callable[[], bytes]:
    def read() -> bytes:
        with _archive_errors(place):
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise NotImplementedError(f"compression method {info.compress_type}")
            with archive.open(info) as file:
                return _checked_size(file.read(MAX_MEMBER_BYTES + 1), place)

    return read


def _tar_members(path) -> Iterator[Member]:
    packed = read_bytes(path, NAME_REMEDY, MAX_ARCHIVE_BYTES)
    with _archive_errors(path):
        content = gzip.GzipFile(fileobj=io.BytesIO(packed)).read(MAX_TOTAL_BYTES + 1)
        if len(content) > MAX_TOTAL_BYTES:
            raise InputError(f"{path}: more than {MAX_TOTAL_BYTES / 1e6:,.0f} MB when unpacked; {FETCH_REMEDY}")
        archive = tarfile.open(fileobj=io.BytesIO(content), mode="r:")  # noqa: SIM115 (nothing to close: it is memory)
        infos = [info for info in archive.getmembers() if info.isreg()]
    for info in infos:
        name = info.name.removeprefix("./")
        yield name, f"{path}: {printable(name)}", _tar_reader(archive, info, f"{path}: {printable(name)}")


def _tar_reader(archive: tarfile.TarFile, info: tarfile.TarInfo, place: str) -> Callable[[], bytes]:
    def read() -> bytes:
        with _archive_errors(place):
            file = archive.extractfile(info)
            return _checked_size(file.read(MAX_MEMBER_BYTES + 1) if file else b"", place)

    return read


def _checked_size(content: bytes, place: str) -> bytes:
    if len(content) > MAX_MEMBER_BYTES:
        raise InputError(
            f"{place}: larger than {MAX_MEMBER_BYTES / 1e6:,.0f} MB, as no file of CodiEsp; {FETCH_REMEDY}"
        )
    return content


@contextlib.contextmanager
def _archive_errors(place) -> Iterator[None]:
    """Turns whatever zipfile, tarfile and gzip raise for a damaged or unusual archive into an InputError."""
    try:
        yield
    except InputError:
        raise
    except (NotImplementedError, RuntimeError, OverflowError) as error:  # RuntimeError: an encrypted member
        raise InputError(f"{place}: an archive of an unusual kind ({printable(str(error))}); {FETCH_REMEDY}") from error
    except (*_DAMAGED, EOFError, OSError, ValueError, LookupError) as error:
        reason = printable(str(error)) or "it ends too early"
        raise InputError(f"{place}: a damaged or cut-off archive ({reason}); {FETCH_REMEDY}") from error
