"""Locates a quotation in a note: half-open character offsets, or None. A quotation is never repaired.

Search order: the exact text, then the text ignoring case and white space. Within each, a match at word boundaries is
preferred ("AF" is not located inside "AFEBRILE" if it also occurs as a word), and places already used by another
quotation of the same document come last.

Read next: ../infer/coder.py, which locates the model's quotations; spans/silver.py, which locates an LLM's.
"""

import re
from collections.abc import Collection


def locate(text: str, quotation: str, used: Collection[tuple[int, int]] = frozenset()) -> tuple[int, int] | None:
    """(start, end) where `text[start:end]` equals `quotation` up to case and white space; None if it does not occur.

    `used` holds the (start, end) places of other quotations; one of these is returned only if there is no other place.
    """
    words = quotation.split()
    if not words:
        return None
    exact = re.escape(quotation.strip())
    folded = r"\s+".join(re.escape(word) for word in words)
    first_used = None
    for pattern, flags in ((exact, 0), (folded, re.IGNORECASE)):
        for bounded in (rf"(?<!\w){pattern}(?!\w)", pattern):
            for match in re.finditer(bounded, text, flags):
                if match.span() not in used:
                    return match.span()
                first_used = first_used or match.span()
    return first_used


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    """1-based line and column of a character offset, as editors count them."""
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1
