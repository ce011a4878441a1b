"""What a code belongs to: its kind, its chapter; seen or unseen in training, and which spans cover an unseen one (Figure 4).

    documents trained on → seen codes; all other codes are unseen → covered by span pairs or not; of which source, in two views

A group is scored by leaving the codes outside it out on both sides: a made-up code is a false positive among the unseen. The groups by source
hold unseen codes of the test's gold alone. Shares are of gold's codes, for what is unseen by its spans of gold's unseen codes.

Read next: metrics.py, which scores; evidence.py.
"""

import functools
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, field

from minscl.data.icd import CodeBook

_PCS = re.compile(r"[0-9BCDFGHX][0-9A-HJ-NP-Z]{6}")
FIRST = ("gold", "silver", "synthetic", "synthetic-template")  # precedence of a code's source


@functools.cache
def read_code(text: str) -> tuple[str, str]:
    """(kind, code): "cm" with the canonical code, or "pcs" or "malformed". A well-formed code that the List lacks is kept as it is."""
    code = CodeBook.load().normalise(text)
    if code:
        return "cm", code
    bare = re.sub(r"\s", "", unicodedata.normalize("NFKC", text)).upper()  # a dot stays: PCS has none
    return ("pcs" if _PCS.fullmatch(bare) else "malformed"), ""


def cm_codes(texts) -> frozenset[str]:
    """The ICD-10-CM codes among `texts`, normalised; others are left out."""
    return frozenset(code for kind, code in map(read_code, texts) if kind == "cm")


@functools.cache
def chapter_of(code: str) -> str:
    """The official chapter range that the category lies in, compared as text; "?" outside all."""
    return next((number for number, first, last in chapter_ranges() if first <= code[:3] <= last), "?")


@functools.cache
def chapter_ranges() -> tuple[tuple[str, str, str], ...]:
    """(number, first category, last category) of each chapter, from its sections."""
    book, found = CodeBook.load(), []
    for number in range(1, 23):
        sections = [name.removeprefix("section ").split("-") for name in book.children(str(number))]
        ends = sorted(end for section in sections for end in (section[0], section[-1]))
        found.append((str(number), ends[0], ends[-1]))
    return tuple(found)


@dataclass(frozen=True)
class Group:
    """Codes that are scored by themselves: `codes`, or with `others` all but these. `about`: share and number of gold's codes, and of span pairs."""

    codes: frozenset[str]
    about: dict[str, float] = field(default_factory=dict)
    others: bool = False

    def __contains__(self, code: str) -> bool:
        return (code in self.codes) != self.others


def code_groups(gold, train, pairs=None) -> dict[str, Group]:
    """Groups by name. `train`: the documents that were trained on; `pairs`: the span pairs, where given. A source that covers nothing is left out."""
    actual, seen = (cm_codes(code.code for one in documents for code in one.codes) for documents in (gold, train))
    unseen = actual - seen

    def about(codes, among) -> dict[str, float]:
        return {"share": len(codes) / max(1, len(among)), "codes": len(codes)}

    groups = {
        "seen": Group(seen, about(actual & seen, actual)),
        "unseen": Group(seen, about(unseen, actual), others=True),
    }
    if pairs is None:
        return groups
    covered = cm_codes(pair.code for pair in pairs) - seen
    groups["unseen, covered"] = Group(covered, about(unseen & covered, unseen))
    groups["unseen, uncovered"] = Group(seen | covered, about(unseen - covered, unseen), others=True)
    number = Counter((code, pair.source) for pair in pairs if (code := read_code(pair.code)[1]) in unseen)
    for name, codes, spans in _sources(unseen, number):
        if codes:
            groups[name] = Group(
                codes, about(codes, unseen) | {"span_share": spans / max(1, number.total()), "spans": spans}
            )
    return groups


def _sources(codes, number: Counter):
    """(name, codes, span pairs) of both views; `number`: (code, source) → pairs.

    `any`: a code counts under every source it has, with that source's pairs; `first`: under the first in FIRST alone, with all its pairs.
    """
    for source in FIRST:
        having = frozenset(code for code in codes if number[code, source])
        yield f"unseen, any {source}", having, sum(number[code, source] for code in having)
    first = {code: next((source for source in FIRST if number[code, source]), "none") for code in codes}
    for source in (*FIRST, "none"):
        having = frozenset(code for code in codes if first[code] == source)
        yield f"unseen, first {source}", having, sum(number[code, other] for code in having for other in FIRST)
