"""Reads the XML files of ICD-10-CM without their traps: no document type, so no entities.

Read next: tabular.py and alphabetic_index.py, which walk the elements.
"""

import codecs
import re
import xml.etree.ElementTree as ElementTree
from xml.etree.ElementTree import Element

from minscl.errors import InputError

MAX_DEPTH = 50  # of elements; the Index has 13
MAX_BYTES = 50_000_000  # the largest file, the Tabular List, has 10 million
MAX_MARKS = 2_000_000  # of "<" and of "=", for elements and attributes take memory; the Index has 500,000
REMEDY = "fetch the file again"
_DECLARATION = re.compile(rb"""\s*<\?xml\s[^>]*?encoding\s*=\s*["']([\w.:-]{1,40})["']""")
_CODECS = {  # by the name that an XML declaration gives
    "utf-8": "utf-8-sig",
    "utf8": "utf-8-sig",
    "us-ascii": "utf-8-sig",
    "utf-16": "utf-16",
    "utf-16le": "utf-16-le",
    "utf-16be": "utf-16-be",
    "iso-8859-1": "cp1252",  # which adds curly quotes where ISO-8859-1 has control characters, as in HTML's standard
    "latin1": "cp1252",
    "windows-1252": "cp1252",
    "cp1252": "cp1252",
}


def read_xml(content: bytes, name: str) -> Element:
    """The root element of the XML `content`; `name` is what messages call it.

    Raises InputError for XML that is not well-formed or in an encoding unknown here, for a document type declaration,
    whose entities may expand without end or name other files (the official files have none), for more elements or
    attributes than any official file has, and for elements nested more than MAX_DEPTH deep, which recursive readers
    could not walk.
    """
    if len(content) > MAX_BYTES or max(content.count(mark) for mark in (b"<", b"=")) > MAX_MARKS:
        raise InputError(f"{name}: more text, elements or attributes than any official file has; {REMEDY}")
    codec = xml_codec(content)
    if not codec:
        declared = _DECLARATION.match(content)
        shown = declared[1].decode() if declared else ""
        raise InputError(f"{name}: unknown encoding {shown}; convert the file to UTF-8, or {REMEDY}")
    try:
        text = content.decode(codec).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        standard = "UTF-8" if codec == "utf-8-sig" else error.encoding
        raise InputError(f"{name}: byte {error.start} is not {standard}; {REMEDY}") from error
    if re.search(r"<!\s*(DOCTYPE|ENTITY)", text, re.IGNORECASE):
        raise InputError(f"{name}: declares a document type or entities, as no official file does; {REMEDY}")
    try:
        root = ElementTree.fromstring(text)  # the text: what has been searched is what is parsed
    except (ElementTree.ParseError, LookupError, ValueError, RecursionError) as error:
        raise InputError(f"{name}: not well-formed XML ({error}); {REMEDY}") from error
    if root.tag.startswith("{"):  # a namespace, which the official files do without
        for element in root.iter():
            element.tag = element.tag.rpartition("}")[2]
    level, depth = [root], 0
    while level:
        level, depth = [child for element in level for child in element], depth + 1
        if depth > MAX_DEPTH:
            raise InputError(f"{name}: elements nested more than {MAX_DEPTH} deep; {REMEDY}")
    return root


def xml_codec(content: bytes) -> str:
    """The name of the Python codec for the XML `content`, by its byte-order mark, its first bytes or its declaration.

    "" where it declares an encoding that is not in _CODECS. UTF-8 where nothing tells, as the standard has it.
    """
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if content[:4] in (b"<\0?\0", b"\0<\0?"):
        return "utf-16-le" if content[0] else "utf-16-be"
    declared = _DECLARATION.match(content)
    return _CODECS.get(declared[1].decode().lower(), "") if declared else "utf-8-sig"


def element_text(element: Element | None) -> str:
    """All text inside `element`, runs of white space as one space; "" for None."""
    return "" if element is None else " ".join("".join(element.itertext()).split())
