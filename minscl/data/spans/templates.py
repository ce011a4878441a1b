"""Phrases for a code by rule: what synthetic.py has without an LLM.

    nearest code's "fracture of right hand", "… right wrist" → "… left wrist"  →  "fracture of left hand"

Read next: synthetic.py, which chooses among them.
"""

import difflib
import functools
import re
from collections.abc import Iterator

from minscl.data.icd import CodeBook


def template_phrases(code: str, nearest: str, evidence: list[str], codebook: CodeBook) -> Iterator[str]:
    """Phrases for `code`, best first: the neighbour's, reworded; the description, simplified, plain, with the code."""
    description, nearest_description = codebook.description(code) or "", codebook.description(nearest) or ""
    for phrase in evidence:
        reworded = reword(phrase, nearest_description, description)
        if reworded:
            yield reworded
    yield simplify_description(description)
    yield description
    yield f"{description} ({code})"


def reword(phrase: str, before: str, after: str) -> str | None:
    """`phrase` with the edits from the description `before` to `after`; None unless each edit fits at one place only.

    "fracture of right hand" with "Fracture of right wrist" → "Fracture of left wrist" is "fracture of left hand".
    """
    edits = _replacements(before, after)
    if edits is None:
        return None
    words = phrase.split()
    folded = [word.lower() for word in words]
    for old, new in edits:
        places = [at for at in range(len(folded) - len(old) + 1) if folded[at : at + len(old)] == old]
        if len(places) != 1:
            return None
        [at] = places
        words[at : at + len(old)], folded[at : at + len(old)] = new, new
    return " ".join(words) if folded != [word.lower() for word in phrase.split()] else None


@functools.lru_cache(maxsize=1)  # asked for each phrase of a neighbour in turn
def _replacements(before: str, after: str) -> list[tuple[list[str], list[str]]] | None:
    """(words, words that replace them) that make the description `after` of `before`; None if words come or go."""
    old, new = before.lower().split(), after.lower().split()
    edits = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    if any(kind not in ("equal", "replace") for kind, *_ in edits):
        return None
    return [(old[a:b], new[c:d]) for kind, a, b, c, d in edits if kind == "replace"]


def simplify_description(description: str) -> str:
    """A description without what notes do not say: "unspecified", NEC, NOS, brackets, the capital at its beginning."""
    text = re.sub(r"\s*\([^)]*\)|\s*\[[^\]]*\]", "", description)
    text = re.sub(r"\b(unspecified|not elsewhere classified|NEC|NOS)\b", "", text, flags=re.IGNORECASE)
    text = re.sub(r"\s*,(\s*,)*", ",", " ".join(text.split())).strip(" ,")
    first = text.split(" ")[0]
    return text[0].lower() + text[1:] if first[1:].islower() and text else text
