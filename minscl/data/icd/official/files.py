"""Finds the files of an edition of ICD-10-CM in the archives that CDC and CMS publish.

    tables.zip: Table and Index/icd10cm_tabular_2027.xml → Tabular List, required
    codes.zip: Code Descriptions/icd10cm_order_2027.txt  → order file: codes and headings; or the codes file instead

Read next: archives.py, which opens them; recognise.py, which tells what a file is; check.py, which compares the lists;
folder.py, which writes the edition.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from minscl.data.icd.official.archives import ArchiveReader
from minscl.data.icd.official.recognise import TITLES, OfficialFile, recognise
from minscl.errors import InputError

LISTS = ("order", "codes")  # roles of which there may be several candidates, until check.py chooses


@dataclass
class OfficialFiles:
    """What the archives have: `files` by role, the digests of all that was read, and what was not used."""

    files: dict[str, OfficialFile] = field(default_factory=dict)
    candidates: dict[str, list[OfficialFile]] = field(default_factory=dict)  # role in LISTS → different files of it
    digests: list[tuple[str, str, str]] = field(default_factory=list)  # (SHA-256, place, what it is), in read order
    not_used: list[str] = field(default_factory=list)  # places

    def add(self, file: OfficialFile) -> None:
        """Take `file`, unless the same content has been taken. Raises InputError for another file of its role."""
        self.digests.append((file.sha256, file.place, TITLES[file.role]))
        if file.role in LISTS:
            candidates = self.candidates.setdefault(file.role, [])
            if all(file.content != candidate.content for candidate in candidates):
                candidates.append(file)
            return
        earlier = self.files.setdefault(file.role, file)
        if earlier.content != file.content:
            raise two_files([earlier, file])

    def __getitem__(self, role: str) -> OfficialFile:
        return self.files[role]

    def __contains__(self, role: str) -> bool:
        return role in self.files


def two_files(files: list[OfficialFile]) -> InputError:
    """The error about files of one role of which none can be preferred."""
    places = " and ".join(file.place for file in files)
    return InputError(
        f"{places}: {len(files)} different files of the {TITLES[files[0].role]}; name the archives of one edition"
    )


def read_official(paths: Iterable[str]) -> OfficialFiles:
    """The files of one edition in the archives and loose files `paths`, in any order.

    Raises InputError for an archive or XML file that cannot be trusted, for two different XML files of one role, and
    where the Tabular List, or both the order file and the codes file, are missing.
    """
    paths, reader, result = list(paths), ArchiveReader(), OfficialFiles()
    for path in dict.fromkeys(paths):
        for member in reader.walk(path):
            if member.is_archive:
                result.digests.append((hashlib.sha256(member.read()).hexdigest(), member.place, "archive"))
                continue
            file = recognise(member)
            if file:
                result.add(file)
            else:
                result.not_used.append(member.place)
    for present, roles, remedy in (
        (result.files, ("tabular",), "name the table and index archive, too"),
        (result.candidates, LISTS, "name the archive of code descriptions, too"),
    ):
        if not any(role in present for role in roles):
            raise InputError(f"{', '.join(paths)}: no {' or '.join(TITLES[role] for role in roles)} in it; {remedy}")
    return result
