"""Reads an edition of ICD-10-CM out of the archives that CDC and CMS publish, and checks that its files agree.

The files are recognised by their content: the root element of the XML, the columns of the text. Names differ from year
to year and are only asked where the content does not tell: which edition a file is of, which index an untitled one is.

    tables.zip: Table and Index/icd10cm_tabular_2027.xml → Tabular List, required
    codes.zip: Code Descriptions/icd10cm_order_2027.txt  → order file: codes and headings; or the codes file instead

Read next: archives.py, which opens them; folder.py, which writes the edition; changes.py, what is new.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from minscl.data.icd.official.archives import REMEDY, ArchiveReader, Member
from minscl.data.icd.official.changes import are_different, code_names
from minscl.data.icd.official.order_file import (
    AddendaRow,
    CodeRow,
    code_list_kind,
    read_addenda,
    read_codes_file,
    read_order_file,
)
from minscl.data.icd.tabular import parse_tabular
from minscl.data.icd.xml_text import element_text, read_xml
from minscl.errors import InputError

TITLES = {  # role → what messages call it; those in editions.ROLES become files of the edition
    "tabular": "Tabular List",
    "order": "order file",
    "codes": "codes file",
    "addenda": "order addenda",
    "index": "Alphabetic Index",
    "neoplasm": "Table of Neoplasms",
    "drug": "Table of Drugs and Chemicals",
    "external-cause": "External Cause Index",
}
_ROOT = re.compile(rb"<(?:!DOCTYPE\s+)?ICD10CM\.(tabular|index)\b", re.IGNORECASE)
_INDEX_KINDS = (  # in an index's title, the heading of its first column, or the file's name
    ("external-cause", re.compile(r"external|eindex", re.IGNORECASE)),
    ("neoplasm", re.compile(r"neoplasm", re.IGNORECASE)),
    ("drug", re.compile(r"drug|substance|chemical", re.IGNORECASE)),
    ("index", re.compile(r"index", re.IGNORECASE)),
)
MAX_SEVENTH = 36  # values of a 7th character; one definition multiplies the codes below it
SHOWN_CODES = 10  # in an error


@dataclass(frozen=True)
class OfficialFile:
    """A file of an edition: what it is, where it was, its content."""

    role: str
    place: str
    names: tuple[str, ...]  # as Member.names
    content: bytes

    @property
    def sha256(self) -> str:
        """Of the content, in hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()


@dataclass
class OfficialFiles:
    """What the archives have: `files` by role, the digests of all that was read, and what was not used."""

    files: dict[str, OfficialFile] = field(default_factory=dict)
    digests: list[tuple[str, str, str]] = field(default_factory=list)  # (SHA-256, place, what it is), in read order
    not_used: list[str] = field(default_factory=list)  # places

    def add(self, file: OfficialFile) -> None:
        """Take `file`, unless the same content has been taken. Raises InputError for another file of its role."""
        earlier = self.files.setdefault(file.role, file)
        if earlier.content != file.content:
            raise InputError(
                f"{earlier.place} and {file.place}: two different files of the {TITLES[file.role]}; "
                "name the archives of one edition"
            )
        self.digests.append((file.sha256, file.place, TITLES[file.role]))

    def __getitem__(self, role: str) -> OfficialFile:
        return self.files[role]

    def __contains__(self, role: str) -> bool:
        return role in self.files


def read_official(paths: Iterable[str]) -> OfficialFiles:
    """The files of one edition in the archives and loose files `paths`, in any order.

    Raises InputError for an archive or XML file that cannot be trusted, for two different files of one role, and where
    the Tabular List, or both the order file and the codes file, are missing.
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
    for roles, remedy in (
        (("tabular",), "name the table and index archive, too"),
        (("order", "codes"), "name the archive of code descriptions, too"),
    ):
        if not any(role in result for role in roles):
            raise InputError(f"{', '.join(paths)}: no {' or '.join(TITLES[role] for role in roles)} in it; {remedy}")
    return result


def recognise(member: Member) -> OfficialFile | None:
    """`member` with its role, by its content; None for anything that is no file of an edition. Raises InputError.

    Addenda as XML have the form of what they change, so those are passed over by their name.
    """
    root = _ROOT.search(member.head)
    if root and "addend" not in member.names[-1].lower():
        content = member.read()
        role = "tabular" if root[1].lower() == b"tabular" else _index_kind(content, member)
        return OfficialFile(role, member.place, member.names, content) if role else None
    role = "" if root or b"\0" in member.head else code_list_kind(member.head)
    return OfficialFile(role, member.place, member.names, member.read()) if role else None


def _index_kind(content: bytes, member: Member) -> str:
    """Which index the XML `content` is, by its title, its first column, or else its name; "" if none tells."""
    root = read_xml(content, member.place)
    column = root.find("indexHeading/head")
    for text in (element_text(root.find("title")), element_text(column), member.names[-1]):
        for role, words in _INDEX_KINDS:
            if words.search(text):
                return role
    return ""


@dataclass(frozen=True)
class CheckedCodes:
    """The codes of an edition whose files agree."""

    rows: list[CodeRow]  # codes and headings, in the official order
    tabular: dict  # as parse_tabular returns it
    version: str  # of the Tabular List, as "2027"
    counts: list[tuple[str, int]]  # for people


def check_official(files: OfficialFiles) -> CheckedCodes:
    """The codes and headings that the Tabular List, the order file and the codes file have alike.

    Billable codes must be the same set in all of them, headings in the first two; a description that differs by more
    than accents is counted. Raises InputError that names the codes on which two files differ.
    """
    tabular_file, (tabular, version) = files["tabular"], _parse_tabular(files["tabular"])
    nodes, billable = tabular["nodes"], set(tabular["billable"])
    headings = code_names(tabular) - billable
    counts = [("Tabular List: billable codes", len(billable)), ("Tabular List: headings", len(headings))]
    if "codes" in files:
        rows = read_codes_file(files["codes"].content, files["codes"].place)
        _require_same("billable codes", {row.code for row in rows}, files["codes"], billable, tabular_file)
        counts.append(("codes file: billable codes", len(rows)))
    if "order" in files:
        rows = read_order_file(files["order"].content, files["order"].place)
        billable_rows = {row.code for row in rows if row.is_billable}
        heading_rows = {row.code for row in rows if not row.is_billable}
        _require_same("billable codes", billable_rows, files["order"], billable, tabular_file)
        _require_same("headings", heading_rows, files["order"], headings, tabular_file)
        counts += [("order file: billable codes", len(billable_rows)), ("order file: headings", len(heading_rows))]
    else:  # the headings are the Tabular List's
        descriptions = {row.code: row.description for row in rows}
        names = [name for name in nodes if name in descriptions or name in headings]
        rows = [CodeRow(name, name in billable, descriptions.get(name, nodes[name][0])) for name in names]
    differing = sum(are_different(row.description, nodes[row.code][0]) for row in rows)
    counts.append(("descriptions that differ from the Tabular List's", differing))
    return CheckedCodes(rows, tabular, version, counts)


def misfits(addenda: bytes, rows: list[CodeRow]) -> list[AddendaRow]:
    """The rows of the order addenda that do not fit the order file: added but not in it, or deleted but still in it."""
    pairs = {(row.code, row.is_billable) for row in rows}
    return [row for row in read_addenda(addenda) if ((row.code, row.is_billable) in pairs) == (row.action == "Delete")]


def _parse_tabular(file: OfficialFile) -> tuple[dict, str]:
    """(the Tabular List in `file` as parse_tabular returns it, its <version>). Raises InputError."""
    root = read_xml(file.content, file.place)
    if any(len(definition.findall("extension")) > MAX_SEVENTH for definition in root.iter("sevenChrDef")):
        raise InputError(f"{file.place}: more than {MAX_SEVENTH} values of one 7th character; {REMEDY}")
    return parse_tabular(root), element_text(root.find("version"))


def _require_same(
    kind: str, codes: set[str], file: OfficialFile, tabular: set[str], tabular_file: OfficialFile
) -> None:
    """Raises InputError that names the `kind` codes which only one of the two files has."""
    differences = []
    for difference, only in ((codes - tabular, file), (tabular - codes, tabular_file)):
        if difference:
            shown = ", ".join(sorted(difference)[:SHOWN_CODES])
            shown += f", ... ({len(difference):,} in all)" if len(difference) > SHOWN_CODES else ""
            differences.append(f"{kind} only in the {TITLES[only.role]}: {shown}")
    if differences:
        raise InputError(
            f"{file.place} and {tabular_file.place} disagree: {'; '.join(differences)}; "
            "name the archives of one edition"
        )
