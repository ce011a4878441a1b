"""The spans of evidence that scores compare, and the counts that they make of them.

    coded document → spans of each ICD-10-CM code, joined and trimmed where that is asked for → MatchCounts

Read next: overlap.py.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from minscl.data.types import CodedDocument, Evidence
from minscl.score.codes import read_code

PUNCTUATION = re.compile(r"[\s!-/:-@\[-`{-~]*")  # ASCII punctuation and white space
TRIMMED = "-.,/ \n\t"  # stripped at both ends of a span, with ")" at the start and "(" at the end


class Span(NamedTuple):
    """A quotation with its code. `start` and `end` (half-open characters) are None where it is not in the document."""

    start: int | None
    end: int | None
    text: str
    code: str


class MatchCounts(NamedTuple):
    """How many spans (or keys) of each side there are, and how many of them match the other side."""

    gold_matched: int
    gold: int
    predicted_matched: int
    predicted: int


def spans_of(document: CodedDocument, *, merge: bool = False, trim: bool = False) -> list[Span]:
    """The evidence of each ICD-10-CM code, code by code, the code in canonical form.

    `merge`: spans of a code with nothing but ASCII punctuation or white space between them become one. `trim`: strip
    punctuation off both ends; an empty rest stays a span.
    deviates: MDACE merges within a note. A document that is a whole admission does not record where its notes begin, so
    a span that ends a note and one of the same code that begins the next are merged.
    """
    evidence_of: dict[str, list[Evidence]] = {}
    for assignment in document.codes:
        kind, code = read_code(assignment.code)
        if kind == "cm":
            evidence_of.setdefault(code, []).extend(assignment.evidence)
    spans: list[Span] = []
    for code, evidence in evidence_of.items():
        offsets = sorted(
            (quotation.start, quotation.end)
            for quotation in evidence
            if quotation.start is not None and quotation.end is not None
        )
        if merge:
            offsets = _merged(offsets, document.text)
        code_spans = [Span(start, end, document.text[start:end], code) for start, end in offsets]
        code_spans += [Span(None, None, quotation.text, code) for quotation in evidence if quotation.start is None]
        spans += map(_trimmed, code_spans) if trim else code_spans
    return spans


def _merged(offsets: Sequence[tuple[int, int]], text: str) -> list[tuple[int, int]]:
    """Sorted `offsets` with those that overlap, or have only punctuation between them, joined."""
    merged: list[tuple[int, int]] = []
    for start, end in offsets:
        if merged and (start <= merged[-1][1] or PUNCTUATION.fullmatch(text, merged[-1][1], start)):
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def _trimmed(span: Span) -> Span:
    rest = span.text.lstrip(TRIMMED + ")")
    text = rest.rstrip(TRIMMED + "(")
    if span.start is None:
        return Span(None, None, text, span.code)
    start = span.start + len(span.text) - len(rest)
    return Span(start, start + len(text), text, span.code)
