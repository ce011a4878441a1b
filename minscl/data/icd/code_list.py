"""An edition's table of all codes, put into the tree of the Tabular List.

    code <tab> billable (0 or 1) <tab> description

The table decides which codes there are, which are billable, and what they are called; the Tabular List gives chapters,
sections and notes. A code stands below the longest listed code that it begins with, which for every code of the Tabular
List is where the List has it. So a code that is newer than the Tabular List's file has its place, too, and inherits the
notes of its category.

Read next: codebook.py.
"""

import re
from bisect import bisect_right
from collections.abc import Container

from minscl.errors import UNPRINTABLE, InputError

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
        if UNPRINTABLE.search(description):
            raise InputError(f"{name}:{number}: control characters in the description of {code}; {remedy}")
        if code in rows:
            raise InputError(f"{name}:{number}: {code} occurs twice; {remedy}")
        rows[code] = (code, billable == "1", description)
    return list(rows.values())


def place_codes(rows: list[tuple[str, bool, str]], tabular: dict, name: str = "the list of codes") -> dict:
    """`rows`, in any order, in the tree of `tabular`, which is what parse_tabular returns; the result has its form.

    `name` is what messages call the file of the rows.

    A category that the Tabular List lacks stands in the section of the category before it by name. Codes are in the
    List's order; one that it lacks comes after the code before it by name. Raises InputError for one without a place.
    """
    old_nodes = tabular["nodes"]
    descriptions = {code: description for code, _, description in rows}
    categories = sorted(node for node in old_nodes if _CODE.fullmatch(node) and len(node) == 3)
    children: dict[str, list[str]] = {}  # node → codes below it, sorted
    for code in sorted(descriptions):
        parent = _longest_prefix(code, descriptions)
        if not parent and len(code) == 3:
            before = bisect_right(categories, code)
            parent = old_nodes[categories[before - 1]][1] if before else ""
        if not parent:
            raise InputError(f"{name}: {code} has no category there or in the Tabular List; make the edition again")
        children.setdefault(parent, []).append(code)
    positions = {node: position for position, node in enumerate(old_nodes)}
    nodes: dict[str, list] = {}
    for node, (description, above) in old_nodes.items():
        if node.isdigit() or " " in node:  # a chapter or section
            nodes[node] = [description, above]
            _add_below(node, nodes, children, descriptions, positions)
    lost = descriptions.keys() - nodes.keys()
    if lost:
        raise InputError(f"{name}: {min(lost)} is in no section of the Tabular List; make the edition again")
    notes = {node: notes for node, notes in tabular["notes"].items() if node in nodes}
    return {"nodes": nodes, "billable": sorted(code for code, billable, _ in rows if billable), "notes": notes}


def _add_below(node: str, nodes: dict, children: dict, descriptions: dict, positions: dict[str, int]) -> None:
    """Add to `nodes` all codes below `node`, each before those below it; `positions` are the List's."""
    order, position = {}, -1
    for code in children.get(node, ()):
        position = positions.get(code, position)
        order[code] = (position, code not in positions)
    for code in sorted(order, key=lambda code: (order[code], code)):
        nodes[code] = [descriptions[code], node]
        _add_below(code, nodes, children, descriptions, positions)


def _longest_prefix(code: str, codes: Container[str]) -> str:
    """The longest of `codes` that `code` begins with, other than itself; "" if there is none."""
    for length in range(len(code) - 1, 2, -1):
        prefix = code[:length].rstrip(".")
        if prefix in codes:
            return prefix
    return ""
