"""Reads the XML files of ICD-10-CM without their traps: no document type, so no entities.

Read next: tabular.py and alphabetic_index.py, which walk the elements.
"""

import re
import xml.etree.ElementTree as ElementTree
from xml.etree.ElementTree import Element

from minscl.errors import InputError

MAX_DEPTH = 50  # of elements; the Index has 13


def read_xml(content: bytes, name: str) -> Element:
    """The root element of the XML `content`; `name` is what messages call it.

    Raises InputError for XML that is not well-formed or not UTF-8, for a document type declaration, whose entities may
    expand without end or name other files (the official files have none), and for elements nested more than MAX_DEPTH
    deep, which recursive readers could not walk.
    """
    remedy = "fetch the file again"
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: byte {error.start} is not UTF-8; {remedy}") from error
    if re.search(r"<!\s*(DOCTYPE|ENTITY)", text, re.IGNORECASE):
        raise InputError(f"{name}: declares a document type or entities, as no official file does; {remedy}")
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, LookupError, ValueError, RecursionError) as error:
        raise InputError(f"{name}: not well-formed XML ({error}); {remedy}") from error
    level, depth = [root], 0
    while level:
        level, depth = [child for element in level for child in element], depth + 1
        if depth > MAX_DEPTH:
            raise InputError(f"{name}: elements nested more than {MAX_DEPTH} deep; {remedy}")
    return root


def element_text(element: Element | None) -> str:
    """All text inside `element`, runs of white space as one space; "" for None."""
    return "" if element is None else " ".join("".join(element.itertext()).split())
