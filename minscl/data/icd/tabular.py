"""Parsing of the Tabular List's XML: chapter → section → category → code, 7th characters expanded.

Shapes handled (checked against the bundled list of billable codes by a test): a 7th-character definition applies to every leaf at
or below it, the nearest one wins; a leaf is padded with X to six characters before the 7th; S06 leaves whose 6th character is 7 or 8
take no D and no S (said in prose only).

Read next: icd.py, which keeps the result.
"""

import re
import xml.etree.ElementTree as ElementTree

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


def words(element) -> str:
    """All text of an element, white space folded."""
    return " ".join("".join(element.itertext()).split())


def parse_tabular(handle) -> dict:
    """{"nodes": {name: [description, parent]}, "billable": [codes], "notes": {name: {kind: [lines]}}, "chapters": [names]}.

    Nodes are chapters ("1".."22"), sections (ids such as "A00-A09", kept as "section A00-A09"), and codes, headings and
    7th-character codes included; `parent` is None for a chapter.
    """
    found: dict = {"nodes": {}, "billable": [], "notes": {}, "chapters": []}
    root = ElementTree.parse(handle).getroot()
    for chapter in root.iter("chapter"):
        name = chapter.findtext("name").strip()
        found["chapters"].append(name)
        _keep(found, name, chapter, None)
        for section in chapter.iter("section"):
            id = f"section {section.get('id')}"
            _keep(found, id, section, name)
            for diag in section.findall("diag"):
                _walk(found, diag, id, [])
    found["billable"].sort()
    return found


def _keep(found: dict, name: str, element, parent: str | None) -> None:
    description = words(element.find("desc"))
    found["nodes"][name] = [
        re.sub(r"\s*\([A-Z0-9]{3}-[A-Z0-9]{3}\)$", "", description) if " " in name or parent is None else description,
        parent,
    ]
    notes = {
        kind: [words(note) for one in element.findall(kind) for note in one.findall("note") if words(note)]
        for kind in NOTE_KINDS
    }
    notes = {kind: lines for kind, lines in notes.items() if lines}
    if notes:
        found["notes"][name] = notes


def _walk(found: dict, diag, parent: str, seventh: list) -> None:
    code = diag.findtext("name").strip()
    _keep(found, code, diag, parent)
    definition = diag.find("sevenChrDef")
    if definition is not None:
        seventh = [(one.get("char"), words(one)) for one in definition.findall("extension")]
    children = diag.findall("diag")
    for child in children:
        _walk(found, child, code, seventh)
    if children:
        return
    if not seventh:
        found["billable"].append(code)
    for character, meaning in seventh:
        bare = code.replace(".", "")
        if bare.startswith("S06") and bare[5:6] in ("7", "8") and character in "DS":
            continue
        full = bare.ljust(6, "X") + character
        full = f"{full[:3]}.{full[3:]}"
        found["nodes"][full] = [f"{words(diag.find('desc'))}, {meaning}", code]
        found["billable"].append(full)
