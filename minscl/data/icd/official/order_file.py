"""The code lists of CMS and CDC as plain text: the order file, its addenda, and the codes file.

Fixed-width rows, in ASCII (accents dropped) in every edition seen:

    00002 A000    1 Cholera due to Vibrio cholerae 01, biovar cholerae           Cholera due to Vibrio cholerae 01, ...
    order, code padded to 7, billable, short description padded to 60, long description
    Add:         1 C7831   Secondary malignant neoplasm of larynx                Secondary malignant neoplasm of larynx
    action padded to 13, billable, code padded to 7, the two descriptions
    A000    Cholera due to Vibrio cholerae 01, biovar cholerae
    code padded to 7, long description: billable codes only

Read next: check.py, which compares them with the Tabular List.
"""

import codecs
import re
from typing import NamedTuple

from minscl.data.icd.xml_text import xml_codec
from minscl.errors import UNPRINTABLE, InputError

SHORT_WIDTH = 60  # characters of a short description
_CODE = r"([A-Z][0-9A-Z]{2,6})"  # without the dot
_ORDER_ROW = re.compile(rf"\d{{5}} {_CODE} +([01]) (\S.*)")
_ADDENDA_ROW = re.compile(rf"(Add|Delete|Revise from|Revise to): +([01]) {_CODE} +(\S.*)")
_CODES_ROW = re.compile(rf"{_CODE} +(\S.*)")
_LIKE_CODE = r"[A-Za-z]\d[0-9A-Za-z]\S{0,5}"  # a code of ICD-10-PCS, at the start of its lists, begins with a digit
_LIKE_ORDER_ROW = re.compile(rf"\s*\d{{1,6}}\s+{_LIKE_CODE}\s(.*)")
_LIKE_CODES_ROW = re.compile(rf"\s*{_LIKE_CODE}\s(.*)")
_PROSE = re.compile(r"[A-Za-z]{3}")  # in a description, but not in a table of codes and flags


class CodeRow(NamedTuple):
    """A code or heading with its dot, whether it is billable, and its long description."""

    code: str
    is_billable: bool
    description: str


class AddendaRow(NamedTuple):
    """A change from the previous edition; `action` is "Add", "Delete", "Revise from" or "Revise to"."""

    action: str
    code: str
    is_billable: bool


def code_list_kind(head: bytes) -> str:
    """What the file that begins with `head` is: "order", "addenda", "codes", or "" for anything else.

    An order file or codes file is one of which most lines have its columns, be they damaged.
    """
    lines = [line for line in _lines(head) if line]
    if not lines:
        return ""
    if _ADDENDA_ROW.fullmatch(lines[0]):  # those may end with their counts soon after
        return "addenda"
    for kind, likeness in (("order", _LIKE_ORDER_ROW), ("codes", _LIKE_CODES_ROW)):
        rows = [row for row in map(likeness.fullmatch, lines) if row and _PROSE.search(row[1])]
        if len(rows) > len(lines) / 2:
            return kind
    return ""


def read_order_file(content: bytes, name: str) -> list[CodeRow]:
    """The rows of an order file, in its order; `name` is what messages call it.

    Raises InputError that names the first line that is not as it should be, or whose code has occurred before.
    """
    return _read_rows(content, name, _ORDER_ROW)


def read_codes_file(content: bytes, name: str) -> list[CodeRow]:
    """The rows of a codes file, all billable. Raises InputError as read_order_file does."""
    return _read_rows(content, name, _CODES_ROW)


def read_addenda(content: bytes) -> list[AddendaRow]:
    """The rows of order addenda; the counts at the end of the file are passed over."""
    rows = map(_ADDENDA_ROW.fullmatch, _lines(content))
    return [AddendaRow(row[1], add_dot(row[3]), row[2] == "1") for row in rows if row]


def add_dot(code: str) -> str:
    """A code with its dot: "A000" → "A00.0", "A00" → "A00"."""
    return f"{code[:3]}.{code[3:]}" if len(code) > 3 else code


def _read_rows(content: bytes, name: str, layout: re.Pattern) -> list[CodeRow]:
    rows: dict[str, CodeRow] = {}
    remedy = "fetch the file again from CDC or CMS"
    for number, line in enumerate(_lines(content), 1):
        if not line:
            continue
        match = layout.fullmatch(line)
        description = match and (_long_description(match[3]) if layout is _ORDER_ROW else match[2])
        if not match or not description:
            expected = "an order number, a code, 0 or 1, and two descriptions"
            expected = expected if layout is _ORDER_ROW else "a code and a description"
            raise InputError(f"{name}:{number}: not {expected} in columns; {remedy}")
        code = add_dot(match[1])
        if "\ufffd" in line or UNPRINTABLE.search(line.replace("\t", " ")):
            raise InputError(f"{name}:{number}: control characters, or bytes of no letter, beside {code}; {remedy}")
        if code in rows:
            raise InputError(f"{name}:{number}: {code} occurs twice; {remedy}")
        is_billable = layout is _CODES_ROW or match[2] == "1"
        rows[code] = CodeRow(code, is_billable, " ".join(description.split()))
    return list(rows.values())


def _long_description(descriptions: str) -> str:
    """The part after the padded short description; "" where there is none.

    The width counts characters, or bytes of UTF-8 where letters with accents make a difference.
    """
    if descriptions[SHORT_WIDTH : SHORT_WIDTH + 1] == " ":
        return descriptions[SHORT_WIDTH + 1 :].strip()
    encoded = descriptions.encode()
    if encoded[SHORT_WIDTH : SHORT_WIDTH + 1] == b" ":
        return encoded[SHORT_WIDTH + 1 :].decode(errors="replace").strip()
    return ""


def _lines(content: bytes) -> list[str]:
    """The lines, which end as on any system, without white space at their ends. Bytes of no letter become U+FFFD.

    The text is UTF-16 where the first bytes tell; else each line is UTF-8 or Windows' Latin 1.
    """
    codec = xml_codec(content)
    if not codec.startswith("utf-16"):
        codec = {0: "utf-16-be", 1: "utf-16-le"}.get(content[:2].find(0), "")
    if codec:
        text = content.decode(codec, errors="replace").removeprefix("\ufeff")
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    else:
        lines = [_decode_line(line) for line in content.removeprefix(codecs.BOM_UTF8).splitlines()]
    return [line.rstrip("\x1a \t") for line in lines]


def _decode_line(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("cp1252", errors="replace")
