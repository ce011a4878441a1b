"""Where in the note a quotation stands: half-open character offsets, or None. A quotation is never repaired.

Order of search (EVALUATION.md 3.1): the exact text, then the same without regard to case and white space; in each,
a place bounded by non-word characters is preferred ("AF" is not found inside "AFEBRILE" while it stands alone elsewhere),
and places already used by another quotation of the same document come last.

Read next: ../infer/coder.py, which uses it on answers; silver.py, on an LLM's quotations.
"""

import re


def locate(text: str, quotation: str, used=frozenset()) -> tuple[int, int] | None:
    """(start, end) with `text[start:end]` the quotation up to case and white space; None where it is not found.

    `used` holds (start, end) places that other quotations took; one of them is given only if no other is left.
    """
    words = quotation.split()
    if not words:
        return None
    exact = re.escape(quotation.strip())
    loose = r"\s+".join(re.escape(word) for word in words)
    again = None
    for pattern, flags in ((exact, 0), (loose, re.IGNORECASE)):
        for bounded in (rf"(?<!\w){pattern}(?!\w)", pattern):
            for match in re.finditer(bounded, text, flags):
                if match.span() not in used:
                    return match.span()
                again = again or match.span()
    return again


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    """1-based line and column of a character offset, as an editor shows them."""
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1
