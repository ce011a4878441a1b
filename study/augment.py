"""Augmentation of coded documents: excerpts, two of them together, other line breaks, other findings in the same text.

A few hundred annotated documents are read many times. An excerpt shows that any sentence may stand alone; one after
another, that it may stand anywhere; replaced line breaks, that layout means nothing; and a replaced finding, that the
words around it do not determine the code: the phrase of a span pair takes the place of an annotated phrase, and its
code the place of the annotated code. The last one brings codes of the Alphabetic Index into real text.

Every function takes a document whose evidence is the text at its offsets, and returns another one.

Read next: stream.py.
"""

import dataclasses
import random
import re
from collections.abc import Callable

from minscl.data.types import Assignment, CodedDocument, Evidence, Pair

SENTENCE_END = re.compile(r"(?<=[.!?:;])\s+(?=\S)|\n+")


def evidence_spans(document: CodedDocument) -> list[tuple[int, int, str]]:
    """(start, end, code) of all evidence, in the document's order; quotations that are not located are left out."""
    return [
        (evidence.start, evidence.end, assignment.code)
        for assignment in document.codes
        for evidence in assignment.evidence
        if evidence.start is not None and evidence.end is not None
    ]


def mentions(document: CodedDocument) -> list[tuple[int, int, tuple[str, ...]]]:
    """(start, end, codes) of each annotated span, in order; spans that overlap an earlier one are left out."""
    codes_at: dict[tuple[int, int], list[str]] = {}
    for start, end, code in evidence_spans(document):
        codes_at.setdefault((start, end), []).append(code)
    result: list[tuple[int, int, tuple[str, ...]]] = []
    for (start, end), codes in sorted(codes_at.items()):
        if not result or start >= result[-1][1]:
            result.append((start, end, tuple(dict.fromkeys(codes))))
    return result


def excerpt(document: CodedDocument, sentences: int, rng: random.Random) -> CodedDocument:
    """`sentences` consecutive sentences; no annotated span is cut, and codes without evidence in them are left out."""
    spans = {(start, end) for start, end, _ in evidence_spans(document)}
    ends = [match.end() for match in SENTENCE_END.finditer(document.text) if match.end() < len(document.text)]
    bounds = [0, *(place for place in ends if not any(start < place < end for start, end in spans))]
    bounds.append(len(document.text))
    if len(bounds) - 1 <= sentences:
        return document
    first = rng.randrange(len(bounds) - sentences)
    return part(document, bounds[first], bounds[first + sentences])


def part(document: CodedDocument, start: int, end: int) -> CodedDocument:
    """The text from `start` to `end` with the codes that have evidence in it."""
    codes = []
    for assignment in document.codes:
        inside = tuple(
            dataclasses.replace(evidence, start=evidence.start - start, end=evidence.end - start)
            for evidence in assignment.evidence
            if evidence.start is not None
            and evidence.end is not None
            and start <= evidence.start <= evidence.end <= end
        )
        if inside:
            codes.append(dataclasses.replace(assignment, evidence=inside))
    return dataclasses.replace(document, text=document.text[start:end], codes=tuple(codes))


def join_documents(first: CodedDocument, second: CodedDocument) -> CodedDocument:
    """`second` after `first`, on a new line; a code of both has the evidence of both."""
    offset = len(first.text) + 1
    codes = {assignment.code: assignment for assignment in first.codes}
    for assignment in second.codes:
        moved = tuple(
            dataclasses.replace(evidence, start=evidence.start + offset, end=evidence.end + offset)
            for evidence in assignment.evidence
            if evidence.start is not None and evidence.end is not None
        )
        known = codes.get(assignment.code)
        codes[assignment.code] = dataclasses.replace(assignment, evidence=(known.evidence if known else ()) + moved)
    return dataclasses.replace(first, text=f"{first.text}\n{second.text}", codes=tuple(codes.values()))


def join_lines(document: CodedDocument, share: float, rng: random.Random) -> CodedDocument:
    """Line breaks replaced by spaces with probability `share`; offsets stay the same."""
    text = "".join(" " if char == "\n" and rng.random() < share else char for char in document.text)
    codes = tuple(
        dataclasses.replace(
            assignment,
            evidence=tuple(
                dataclasses.replace(evidence, text=text[evidence.start : evidence.end])
                for evidence in assignment.evidence
            ),
        )
        for assignment in document.codes
    )
    return dataclasses.replace(document, text=text, codes=codes)


def replace_findings(
    document: CodedDocument,
    share: float,
    draw: Callable[[], Pair],
    description: Callable[[str], str | None],
    rng: random.Random,
) -> CodedDocument:
    """Each annotated span replaced with probability `share` by the phrase of `draw()`, with that pair's code.

    Spans that overlap a replaced one go with it; all others keep their codes.
    """
    edits = []  # (start, end, phrase, code), in order, without overlap
    for start, end, _ in mentions(document):
        if rng.random() < share:
            pair = draw()
            edits.append((start, end, with_case_of(document.text[start:end], pair.evidence), pair.code))
    if not edits:
        return document
    spans = [
        (start, end, code)
        for start, end, code in evidence_spans(document)
        if not any(start < edit_end and edit_start < end for edit_start, edit_end, _, _ in edits)
    ]
    text = document.text
    for start, end, phrase, code in reversed(edits):
        grown = len(phrase) - (end - start)
        text = text[:start] + phrase + text[end:]
        spans = [(a + grown, b + grown, item) if a >= end else (a, b, item) for a, b, item in spans]
        spans.append((start, start + len(phrase), code))
    evidence_of: dict[str, list[Evidence]] = {}
    for start, end, code in sorted(spans):
        evidence_of.setdefault(code, []).append(Evidence(text[start:end], start, end))
    codes = tuple(Assignment(code, description(code) or "", tuple(items)) for code, items in evidence_of.items())
    return dataclasses.replace(document, text=text, codes=codes)


def with_case_of(text: str, phrase: str) -> str:
    """`phrase` with a capital first letter where `text` has one, and without where not; abbreviations stay."""
    if text[:1].isupper() and not text[:2].isupper():
        return phrase[:1].upper() + phrase[1:]
    if phrase[:1].isupper() and phrase[1:2].islower():
        return phrase[:1].lower() + phrase[1:]
    return phrase
