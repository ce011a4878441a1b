"""An edition's table of all codes, put into the tree of the Tabular List.

    code <tab> billable (0 or 1) <tab> description

The table decides which codes there are, which are billable, and what they are called; the Tabular List gives chapters,
sections and notes. A code stands below the longest listed code that it begins with, which for every code of the Tabular
List is where the List has it. So a code that is newer than the Tabular List's file has its place, too, and inherits the
notes of its category.

Read next: codebook.py.
"""

import re

from minscl.errors import InputError

HEADER = "code\tbillable\tdescription"
_CODE = re.compile(r"[A-Z][0-9A-Z]{2}(\.[0-9A-Z]{1,4})?")


def read_code_list(content: bytes, name: str) -> list[tuple[str, bool, str]]:
    """(code, billable, description) of every line, in order; `name` is what messages call the file.

    Raises InputError where the content is not UTF-8, and for the first line that is not as it should be.
    """
    remedy = "make the edition again (expand official)"
    try:
        header, *lines = content.decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: byte {error.start} is not UTF-8; {remedy}") from error
    if header != HEADER:
        raise InputError(f"{name}:1: not the heading {' '.join(HEADER.split())}, tab-separated; {remedy}")
    rows: dict[str, tuple[str, bool, str]] = {}
    for number, line in enumerate(lines, 2):
        code, billable, description = (*line.split("\t"), "", "", "")[:3]
        if line.count("\t") != 2 or not _CODE.fullmatch(code) or billable not in ("0", "1") or not description.strip():
            raise InputError(f"{name}:{number}: not a code with its dot, 0 or 1, and a description; {remedy}")
        if code in rows:
            raise InputError(f"{name}:{number}: {code} occurs twice; {remedy}")
        rows[code] = (code, billable == "1", description)
    return list(rows.values())


def place_codes(rows: list[tuple[str, bool, str]], tabular: dict, name: str = "the list of codes") -> dict:
    """`rows` in the tree of `tabular`, which is what parse_tabular returns; the result has the same form.

    `name` is what messages call the file of the rows.

    A category that the Tabular List lacks stands in the section of the category before it. Raises InputError for a code
    without a category.
    """
    old_nodes = tabular["nodes"]
    codes = {code for code, _, _ in rows}
    in_section: dict[str, list[tuple[str, str, str]]] = {}  # section → (code, description, parent)
    section = ""
    for code, _, description in rows:
        if len(code) == 3:
            section = old_nodes[code][1] if code in old_nodes else section
        parent = section if len(code) == 3 else _longest_prefix(code, codes)
        if not parent:
            raise InputError(f"{name}: {code} has no category there or in the Tabular List; make the edition again")
        in_section.setdefault(section, []).append((code, description, parent))
    nodes = {}
    for node, (description, above) in old_nodes.items():
        if node.isdigit() or " " in node:  # a chapter or section
            nodes[node] = [description, above]
            nodes |= {code: [text, parent] for code, text, parent in in_section.get(node, ())}
    notes = {node: notes for node, notes in tabular["notes"].items() if node in nodes}
    return {"nodes": nodes, "billable": sorted(code for code, billable, _ in rows if billable), "notes": notes}


def _longest_prefix(code: str, codes: set[str]) -> str:
    """The longest of `codes` that `code` begins with, other than itself; "" if there is none."""
    for length in range(len(code) - 1, 2, -1):
        prefix = code[:length].rstrip(".")
        if prefix in codes:
            return prefix
    return ""
