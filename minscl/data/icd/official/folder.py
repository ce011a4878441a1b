"""Writes the folder of an edition, which `--edition DIR` and MINSCL_EDITION read: all of it or nothing.

An edition folder that exists is replaced when the new one is complete (folders.py).

Read next: editions.py, which reads it.
"""

import datetime
import gzip
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from minscl.data.icd.code_list import HEADER
from minscl.data.icd.editions import EDITION_FILE, ROLES, Edition, read_edition
from minscl.data.icd.official.files import OfficialFiles
from minscl.data.icd.official.order_file import CodeRow
from minscl.data.icd.official.recognise import TITLES
from minscl.disk import PRIVATE
from minscl.errors import InputError
from minscl.files import list_folder, output_path, path_kind, read_bytes, write_errors
from minscl.folders import new_file, replace_folder

_COMPRESSION = 6  # gzip level: 9 takes three times as long for 2% less
_FILE_NAMES = {"external-cause": "eindex"}  # the official names' words where they are not the roles'
File = tuple[str, str, bytes]  # name, what it is, packed content


def official_files(files: OfficialFiles, rows: list[CodeRow], name: str, bundled: Edition) -> dict[str, File]:
    """The files of edition `name` by role: `rows` as a table, the official XML unchanged, all as gzip without a time.

    An index or table that `files` lack is the bundled edition's; so are the corrections of the bundled Index.
    """
    source = files["order"] if "order" in files else files["codes"]
    table = "".join(f"{row.code}\t{row.is_billable:d}\t{row.description}\n" for row in rows)
    contents = {"codes": (source, f"{HEADER}\n{table}".encode())}
    contents |= {role: (files[role], files[role].content) for role in ROLES if role != "codes" and role in files}
    result = {}
    for role, (file, content) in contents.items():
        suffix = "tsv.gz" if role == "codes" else "xml.gz"
        about = f"{TITLES[file.role]}: {': '.join(file.names[1:])}, SHA-256 {file.sha256}"
        packed = gzip.compress(content, _COMPRESSION, mtime=0)
        result[role] = (f"icd10cm_{_FILE_NAMES.get(role, role)}_{name}.{suffix}", about, packed)
    for role in missing_roles(files, bundled):
        entry = bundled.file(role)
        result[role] = (entry.path.name, f"bundled: {entry.about}", read_bytes(entry.path))
    return result


def missing_roles(files: OfficialFiles, bundled: Edition) -> list[str]:
    """The roles of files that the archives lack and the bundled edition has."""
    corrects_official = "index" in files  # the corrections are of the bundled Index
    return [
        role
        for role in ROLES
        if role not in ("codes", "tabular") and role not in files and bundled.has(role)
        if not (role == "index-corrections" and corrects_official)
    ]


def write_edition(
    out: str, name: str, dates: tuple[datetime.date, datetime.date], about: str, files: Mapping[str, File]
) -> Edition:
    """Write edition `name` with `files` by role into the folder `out`; returns it as read back.

    Raises InputError for what edition_target refuses, and where writing fails: `out` is then as it was.
    """
    target = edition_target(out)
    description = {
        "edition": name,
        "first_date": str(dates[0]),
        "last_date": str(dates[1]),
        "about": about,
        "files": {
            role: {"file": file, "about": about, "sha256": hashlib.sha256(packed).hexdigest()}
            for role, (file, about, packed) in files.items()
        },
    }
    contents = {file: packed for file, _, packed in files.values()}
    contents[EDITION_FILE] = (json.dumps(description, indent=2, ensure_ascii=False) + "\n").encode()
    mode = stat.S_IMODE(os.stat(target / EDITION_FILE).st_mode) if (target / EDITION_FILE).exists() else PRIVATE
    remedy = "free some space or choose a folder that can be written; what was there is whole"
    with write_errors(out, remedy), replace_folder(target) as temporary:
        for file, content in contents.items():
            with new_file(temporary / file, "wb", mode) as handle:
                handle.write(content)
        read_edition(temporary)
    return read_edition(target)


def edition_target(out: str) -> Path:
    """The folder that writing to `out` creates or replaces, behind symlinks.

    Raises InputError for a file, for a place that cannot be written, and for a folder with anything in it that is no
    part of an edition: replacing the folder would lose it.
    """
    target = Path(os.path.realpath(out))
    kind = path_kind(target)
    if kind == "missing":
        return output_path(target)
    if kind != "folder":
        raise InputError(f"{out}: not a folder; name a new folder")
    present = {path.name for path in list_folder(target)}
    known = {file.path.name for _, file in read_edition(target).files} if EDITION_FILE in present else set()
    others = sorted(present - known - {EDITION_FILE})
    if others:
        raise InputError(f"{out}: holds {others[0]}, no file of an edition, which would be lost; name a new folder")
    return target
