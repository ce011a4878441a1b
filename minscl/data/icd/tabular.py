"""Parses the Tabular List's XML: chapter → section → category → code, with 7th characters expanded.

A test checks these rules against the bundled list of billable codes:
- a 7th-character definition applies to every leaf at or below it, and the nearest definition wins;
- a leaf is padded with X to six characters before the 7th character;
- S06 leaves whose 6th character is 7 or 8 take neither D nor S, which the file says only in prose.

Read next: codebook.py, which caches the result and answers questions about it.
"""

import re
from xml.etree.ElementTree import Element

from minscl.data.icd.xml_text import element_text

NOTE_KINDS = (
    "includes",
    "inclusionTerm",
    "excludes1",
    "excludes2",
    "useAdditionalCode",
    "codeFirst",
    "codeAlso",
    "notes",
)


def parse_tabular(root: Element) -> dict:
    """The Tabular List with the root element `root`, as an object that JSON can hold:

        {"nodes": {name: [description, parent]}, "billable": [codes, sorted], "notes": {name: {kind: [texts]}}}

    A node is a chapter ("1".."22"), a section ("section A00-A09"), or a code or heading, including those with a
    7th character. `parent` is the name of the node above, None for a chapter. Note kinds are NOTE_KINDS.
    """
    parsed: dict = {"nodes": {}, "billable": [], "notes": {}}
    for chapter in root.iter("chapter"):
        chapter_name = element_text(chapter.find("name"))
        _add_node(parsed, chapter_name, chapter, None)
        for section in chapter.iter("section"):
            section_name = f"section {section.get('id')}"
            _add_node(parsed, section_name, section, chapter_name)
            for diag in section.findall("diag"):
                _add_subtree(parsed, diag, section_name, [])
    parsed["billable"].sort()
    return parsed


def _add_node(parsed: dict, name: str, element: Element, parent: str | None) -> None:
    description = element_text(element.find("desc"))
    if parent is None or " " in name:  # a chapter or section repeats its range of categories: "... (A00-B99)"
        description = re.sub(r"\s*\([A-Z0-9]{3}-[A-Z0-9]{3}\)$", "", description)
    parsed["nodes"][name] = [description, parent]
    notes = {}
    for kind in NOTE_KINDS:
        texts = [element_text(note) for block in element.findall(kind) for note in block.findall("note")]
        if any(texts):
            notes[kind] = [text for text in texts if text]
    if notes:
        parsed["notes"][name] = notes


def _add_subtree(parsed: dict, diag: Element, parent: str, seventh: list[tuple[str, str]]) -> None:
    """Add `diag` and everything below it. `seventh`: (7th character, meaning) pairs defined above."""
    code = element_text(diag.find("name"))
    _add_node(parsed, code, diag, parent)
    definition = diag.find("sevenChrDef")
    if definition is not None:
        seventh = [
            (extension.get("char", ""), element_text(extension)) for extension in definition.findall("extension")
        ]
    children = diag.findall("diag")
    for child in children:
        _add_subtree(parsed, child, code, seventh)
    if children:
        return
    if not seventh:
        parsed["billable"].append(code)
    for character, meaning in seventh:
        bare = code.replace(".", "")
        if bare.startswith("S06") and bare[5:6] in ("7", "8") and character in "DS":
            continue
        padded = bare.ljust(6, "X") + character
        full_code = f"{padded[:3]}.{padded[3:]}"
        parsed["nodes"][full_code] = [f"{element_text(diag.find('desc'))}, {meaning}", code]
        parsed["billable"].append(full_code)
