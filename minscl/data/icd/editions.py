"""The editions of ICD-10-CM: which files make up the code set, and for which dates of service it is valid.

An edition is a JSON file that names its files by role, bundled (resources/edition_2027.json) or in a folder of the
user's (edition.json), which `expand official` writes from the official archives:

    {"edition": "2027", "first_date": "2026-10-01", "last_date": "2027-09-30", "about": "FY2027, …",
     "files": {"codes": {"file": "icd10cm_codes_2027.tsv.gz", "about": "…", "sha256": "…"}, "tabular": {…}, …}}

`codes` is a table of all codes and headings: code, whether it is billable (0 or 1), description. Where an edition has
none, the Tabular List's own codes and descriptions count.

Read next: codebook.py, the look-ups in an edition.
"""

import datetime
import functools
import gzip
import hashlib
import io
import os
import re
import zlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from minscl.errors import InputError, describe_value
from minscl.files import path_kind, read_bytes
from minscl.settings import read_settings

BUNDLED = ("2026", "2027")  # in order of their dates
DEFAULT = "2027"
VARIABLE = "MINSCL_EDITION"  # environment variable: the edition where none is named
EDITION_FILE = "edition.json"  # in a folder
ROLES = ("codes", "tabular", "index", "index-corrections", "neoplasm", "drug", "external-cause")
MAX_BYTES = 200_000_000  # of a file, decompressed: the largest, the Tabular List, has 10 million


@dataclass(frozen=True)
class EditionFile:
    """A gzip file of an edition: its path, what it is (for people), and its digest."""

    path: Path
    about: str
    sha256: str


@dataclass(frozen=True)
class Edition:
    """A code set. `first_date` and `last_date` are dates of service. Two editions with the same files are equal."""

    name: str
    first_date: datetime.date
    last_date: datetime.date
    about: str
    files: tuple[tuple[str, EditionFile], ...]  # (role, file), in the order of ROLES
    is_bundled: bool = True

    @property
    def label(self) -> str:
        """For people: "ICD-10-CM edition 2027 (dates of service 2026-10-01 to 2027-09-30)"."""
        return f"ICD-10-CM edition {self.name} (dates of service {self.first_date} to {self.last_date})"

    @property
    def id(self) -> str:
        """What documents name: "2027" of a bundled edition, with the digest of its files for a folder."""
        return self.name if self.is_bundled else f"{self.name}-{self.digest}"

    @property
    def digest(self) -> str:
        """16 hexadecimal digits of the digest of all files."""
        joined = "".join(f"{role} {file.sha256}\n" for role, file in self.files)
        return hashlib.sha256(joined.encode()).hexdigest()[:16]

    def file(self, role: str) -> EditionFile:
        """The file with that role. Raises InputError where the edition has none."""
        for name, file in self.files:
            if name == role:
                return file
        raise InputError(f"edition {self.name}: has no file of the {role}; make the edition again with all archives")

    def has(self, role: str) -> bool:
        """Whether the edition has a file with that role."""
        return any(name == role for name, _ in self.files)

    def read(self, role: str) -> bytes:
        """The decompressed content of the file with that role.

        Raises InputError for a missing or damaged file, and for one whose digest is not that of edition.json.
        """
        file = self.file(role)
        remedy = "make the edition again (expand official)"
        packed = read_bytes(file.path, remedy)
        if hashlib.sha256(packed).hexdigest() != file.sha256:
            raise InputError(f"{file.path}: not the file that edition {self.name} was made of (SHA-256); {remedy}")
        try:
            with gzip.open(io.BytesIO(packed)) as unpacked:
                content = unpacked.read(MAX_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{file.path}: not a gzip file ({error}); {remedy}") from error
        if len(content) > MAX_BYTES:
            raise InputError(f"{file.path}: larger than {MAX_BYTES / 1e6:,.0f} MB when decompressed; {remedy}")
        return content


def find_edition(edition: str | os.PathLike | None = None, date: datetime.date | None = None) -> Edition:
    """The edition called `edition`, a bundled name or a folder; where none is named, MINSCL_EDITION's or the default.

    With `date`, a date of service: the edition in force on that day as far as the named one and the older bundled ones
    tell. Raises InputError for an unknown name or folder, and for a date that lies after the named edition.
    """
    named = read_edition(edition or os.environ.get(VARIABLE) or DEFAULT)
    if date is None or named.first_date <= date <= named.last_date:
        return named
    if date > named.last_date:
        later = [name for name in BUNDLED if date <= read_edition(name).last_date]
        remedy = f"use --edition {later[0]}" if later else "name a later edition (expand official)"
        raise InputError(f"date {date}: edition {named.name} ends on {named.last_date}; {remedy}")
    older = [bundled for bundled in map(read_edition, BUNDLED) if bundled.first_date < named.first_date]
    return next((bundled for bundled in reversed(older) if bundled.first_date <= date), older[0] if older else named)


def read_edition(edition: str | os.PathLike) -> Edition:
    """The edition with that bundled name, or in that folder. Raises InputError."""
    if edition in BUNDLED:
        return _read_bundled(str(edition))
    folder = Path(edition)
    if path_kind(folder) != "folder":
        raise InputError(
            f"edition {printable_name(edition)}: neither {', '.join(BUNDLED)} nor a folder; "
            "name one of them, or a folder that expand official wrote"
        )
    return _read_description(folder / EDITION_FILE, False)


@functools.cache
def _read_bundled(name: str) -> Edition:
    folder = Path(str(resources.files("minscl.data.icd") / "resources"))
    return _read_description(folder / f"edition_{name}.json", True)


def printable_name(edition: str | os.PathLike) -> str:
    """The name as messages show it."""
    return str(edition) if len(str(edition)) <= 200 else describe_value(str(edition))


def _read_description(path: Path, is_bundled: bool) -> Edition:
    """The edition that the JSON file `path` describes, its files beside it. Raises InputError."""
    settings = read_settings(path, "name a folder that expand official wrote")
    files = settings.section("files")
    entries = []
    for role in ROLES:
        if role not in files:
            continue
        entry = files.section(role)
        name = entry.string("file")
        if Path(name).name != name:
            raise entry.error("file", "the name of a file in the same folder")
        entries.append((role, EditionFile(path.parent / name, entry.string("about"), entry.string("sha256"))))
    if not any(role == "tabular" for role, _ in entries):
        raise files.error("tabular", "the Tabular List")
    first_date, last_date = (read_date(settings.string(key), f"{path}: {key}") for key in ("first_date", "last_date"))
    if last_date < first_date:
        raise settings.error("last_date", f"a day after first_date, {first_date}")
    name = settings.string("edition")
    if not re.fullmatch(r"[\w.-]{1,40}", name):
        raise settings.error("edition", "a name of at most 40 letters, digits, dots and hyphens")
    return Edition(name, first_date, last_date, settings.string("about"), tuple(entries), is_bundled)


def read_date(text: str, name: str) -> datetime.date:
    """The date in `text`, as 2026-10-01; `name` is what messages call it. Raises InputError."""
    try:
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            raise ValueError("ISO 8601 has other forms too, such as weeks")
        return datetime.date.fromisoformat(text)
    except ValueError as error:
        shown = text if len(text) <= 20 else describe_value(text)
        raise InputError(f"{name} {shown}: no such date; write it as 2026-10-01") from error
