"""The billable codes below a heading, and the one that is assigned where the note says no more.

Read next: search.py.
"""

import re
from collections.abc import Iterator

from minscl.data.icd.codebook import CodeBook


def billable_below(book: CodeBook, code: str) -> Iterator[str]:
    """The billable codes at or below a node, in the List's order."""
    if book.is_billable(code):
        yield code
    for child in book.children(code):
        yield from billable_below(book, child)


def seventh_characters(book: CodeBook, code: str) -> list[tuple[str, str, str]]:
    """(7th character, its meaning, the full code) for a node whose children differ in it; [] for any other.

    The meaning is what the child's description adds to that of `code`.
    """
    children = book.children(code)
    beginning = code.replace(".", "").ljust(6, "X")
    if not children or any(child.replace(".", "")[:-1] != beginning for child in children):
        return []
    prefix = f"{book.description(code)}, "
    return [(child[-1], (book.description(child) or "").removeprefix(prefix), child) for child in children]


def default_below(book: CodeBook, code: str) -> str:
    """The billable code that a heading stands for where the note says no more; "" if the List does not tell.

    Step by step: an only child; the child that the List calls unspecified ("of unspecified femur", but not "with
    unspecified complications", which says more); the 7th character of the initial encounter or of what is unspecified.
    """
    while code and not book.is_billable(code):
        seventh = seventh_characters(book, code)
        if seventh:
            defaults = [full for _, meaning, full in seventh if "initial" in meaning or "unspecified" in meaning]
        else:
            defaults = [child for child in book.children(code) if _adds_only_unspecified(book, code, child)]
        children = book.children(code)
        code = (
            children[0] if len(children) == 1 else defaults[0] if len(defaults) == 1 or (seventh and defaults) else ""
        )
    return code


def _adds_only_unspecified(book: CodeBook, code: str, child: str) -> bool:
    """Whether the child's description says "unspecified" more often than its parent's, and "with" no more often."""
    texts = ((book.description(node) or "").lower().replace("whether with", "whether") for node in (code, child))
    above, below = (re.findall(r"\w+", text) for text in texts)
    return below.count("unspecified") > above.count("unspecified") and below.count("with") <= above.count("with")
