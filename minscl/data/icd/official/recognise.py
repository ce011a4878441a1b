"""Tells what a file of CDC's or CMS's archives is: by its content, and by its name where the content is damaged.

XML tells by its root element, text by the columns of most of its lines, so that a line that is not as it should be does
not turn an order file into a file of another kind: it is reported by those that read the file. Names differ from year
to year. They are asked where the content does not tell (which index an untitled one is), and for what has the columns
of a codes file but is another list: codes exempt from POA reporting, new codes by table, procedures.

Read next: files.py.
"""

import hashlib
import re
from dataclasses import dataclass

from minscl.data.icd.official.archives import REMEDY, Member
from minscl.data.icd.official.order_file import code_list_kind
from minscl.data.icd.xml_text import element_text, read_xml, xml_codec
from minscl.errors import InputError

TITLES = {  # role → what messages call it; those in editions.ROLES are files of an edition
    "tabular": "Tabular List",
    "order": "order file",
    "codes": "codes file",
    "addenda": "order addenda",
    "index": "Alphabetic Index",
    "neoplasm": "Table of Neoplasms",
    "drug": "Table of Drugs and Chemicals",
    "external-cause": "External Cause Index",
    "index-corrections": "corrections of the bundled Index",
}
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_ROOT = re.compile(r"<(?:!\s*DOCTYPE\s+)?(?:[\w.-]+:)?([A-Za-z_][\w.-]*)", re.IGNORECASE)  # a DOCTYPE names it, too
_INDEX_KINDS = (  # in an index's title, the heading of its first column, or the file's name
    ("external-cause", re.compile(r"external|eindex", re.IGNORECASE)),
    ("neoplasm", re.compile(r"neoplasm", re.IGNORECASE)),
    ("drug", re.compile(r"drug|substance|chemical", re.IGNORECASE)),
    ("index", re.compile(r"index", re.IGNORECASE)),
)
_XML_NAME = re.compile(r"icd.?10.*(tabular|index|neoplasm|drug).*\.xml", re.IGNORECASE)
_OTHER_LIST = re.compile(r"addend|poa|exempt|table.?\d|(?<![a-z])gems?(?![a-z])|conver|pcs|drg|read.?me", re.IGNORECASE)
_LIST_NAMES = (  # an order file's name may speak of codes, too
    ("order", re.compile(r"order", re.IGNORECASE)),
    ("codes", re.compile(r"(?<![a-z])codes?(?![a-z])", re.IGNORECASE)),
)
_OFFICIAL_NAME = re.compile(  # icd10cm_order_2027.txt, icd10cm-codes-April-2026.txt
    r"icd.?10.{0,3}[^a-z](?:order|codes)(?:[^a-z]|(?:file|fy|january|april|july|october)(?![a-z]))*\.txt", re.IGNORECASE
)


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

    @property
    def is_named(self) -> bool:
        """Whether the name of an order file or codes file says which of them it is."""
        return named_list(self.names[-1]) == self.role


def named_list(name: str) -> str:
    """Which list of codes a file is by its name: "order", "codes", "other", or "" where the name does not tell."""
    if _OTHER_LIST.search(name):
        return "other"
    return next((kind for kind, words in _LIST_NAMES if words.search(name)), "")


def recognise(member: Member) -> OfficialFile | None:
    """`member` with its role; None for anything that is no file of an edition.

    Raises InputError for XML that is named as a file of an edition and is something else, and for an index that does
    not tell which it is.
    """
    name = member.names[-1]
    if root := _root_name(member):
        role = _xml_role(root, member)
    else:
        role = code_list_kind(member.head)
        if named_list(name) == "other":  # addenda are recognised by their rows alone
            role = role if role == "addenda" else ""
        elif not role and _OFFICIAL_NAME.fullmatch(name):
            role = named_list(name)  # whoever reads it says what is wrong with it
    if not role and _XML_NAME.fullmatch(name) and "addend" not in name.lower():
        raise InputError(
            f"{member.place}: its root element is neither ICD10CM.tabular nor ICD10CM.index, as its name says; {REMEDY}"
        )
    return OfficialFile(role, member.place, member.names, member.read()) if role else None


def _root_name(member: Member) -> str:
    """The name of the root element of XML; "" for anything else."""
    codec = xml_codec(member.head) or "latin-1"  # an unknown encoding: most have letters where ASCII has them
    text = member.head.decode(codec, errors="replace").lstrip("\ufeff \t\r\n")
    if not text.startswith("<"):
        return ""
    match = _ROOT.search(_COMMENT.sub("", text)) or _ROOT.search(
        _COMMENT.sub("", member.read().decode(codec, errors="replace"))
    )
    return match[1].lower() if match else ""


def _xml_role(root: str, member: Member) -> str:
    """The role of XML with that root element; "" for other XML, and for addenda, which have the form of what they
    change."""
    name = member.names[-1]
    if "addend" in name.lower():
        return ""
    if root == "icd10cm.tabular":
        return "tabular"
    if root == "icd10cm.index":
        return _index_kind(member.read(), member)
    return ""


def _index_kind(content: bytes, member: Member) -> str:
    """Which index the XML `content` is, by its title, its first column, or else its name. Raises InputError."""
    root = read_xml(content, member.place)
    if root.find(".//mainTerm") is None:
        raise InputError(f"{member.place}: an index without a term; {REMEDY}")
    column = root.find("indexHeading/head")
    for text in (element_text(root.find("title")), element_text(column), member.names[-1]):
        for role, words in _INDEX_KINDS:
            if words.search(text):
                return role
    raise InputError(
        f"{member.place}: neither title, first column nor name tells which index it is; "
        "give it its name again, as icd10cm_index_2027.xml"
    )
