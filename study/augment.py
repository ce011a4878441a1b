"""Augmentation of coded documents: excerpts, other line breaks, and other findings in the same text.

A few hundred annotated documents are read many times. An excerpt shows that any sentence may stand alone; replaced line
breaks, that layout means nothing; and a replaced finding, that the words around it do not determine the code: the
phrase of a span pair takes the place of an annotated phrase, and its code the place of the annotated code. The last
one brings codes of the Alphabetic Index into real text.

Read next: stream.py.
"""

import dataclasses
import random
import re

from minscl.data.types import Assignment, CodedDocument, Evidence, Pair

SENTENCE_END = re.compile(r"(?<=[.!?:;])\s+(?=\S)|\n+")


def mentions(document: CodedDocument) -> list[tuple[int, int, tuple[str, ...]]]:
    """(start, end, codes) of each annotated span, in order; spans that overlap an earlier one are left out."""
    codes_at: dict[tuple[int, int], list[str]] = {}
    for assignment in document.codes:
        for evidence in assignment.evidence:
            if evidence.start is not None and evidence.end is not None:
                codes_at.setdefault((evidence.start, evidence.end), []).append(assignment.code)
    result: list[tuple[int, int, tuple[str, ...]]] = []
    for (start, end), codes in sorted(codes_at.items()):
        if not result or start >= result[-1][1]:
            result.append((start, end, tuple(dict.fromkeys(codes))))
    return result


def rebuild(document: CodedDocument, pieces: list[tuple[str, tuple[str, ...]]], description) -> CodedDocument:
    """A document of `pieces`, (text, codes that it is evidence for); `description(code)` names them."""
    text, evidence_of = "", {}
    for piece, codes in pieces:
        for code in codes:
            evidence_of.setdefault(code, []).append(Evidence(piece, len(text), len(text) + len(piece)))
        text += piece
    codes = tuple(Assignment(code, description(code) or "", tuple(found)) for code, found in evidence_of.items())
    return dataclasses.replace(document, text=text, codes=codes)


def split(document: CodedDocument) -> list[tuple[str, tuple[str, ...]]]:
    """The text as pieces, (text, codes): annotated spans and what lies between them."""
    pieces, end = [], 0
    for start, stop, codes in mentions(document):
        pieces += [(document.text[end:start], ()), (document.text[start:stop], codes)]
        end = stop
    return [*pieces, (document.text[end:], ())]


def excerpt(document: CodedDocument, sentences: int, rng: random.Random) -> CodedDocument:
    """`sentences` consecutive sentences; no annotated span is cut, and codes without evidence in them are left out."""
    spans = [(start, end) for start, end, _ in mentions(document)]
    ends = [m.end() for m in SENTENCE_END.finditer(document.text) if not any(a < m.end() < b for a, b in spans)]
    bounds = [0, *ends, len(document.text)]
    if len(bounds) - 1 <= sentences:
        return document
    first = rng.randrange(len(bounds) - sentences)
    start, stop = bounds[first], bounds[first + sentences]
    codes = []
    for assignment in document.codes:
        inside = tuple(
            Evidence(e.text, e.start - start, e.end - start)
            for e in assignment.evidence
            if e.start is not None and start <= e.start and e.end <= stop
        )
        if inside:
            codes.append(dataclasses.replace(assignment, evidence=inside))
    return dataclasses.replace(document, text=document.text[start:stop], codes=tuple(codes))


def join_lines(document: CodedDocument, share: float, rng: random.Random) -> CodedDocument:
    """Line breaks replaced by spaces with probability `share`; offsets stay valid."""
    text = "".join(" " if char == "\n" and rng.random() < share else char for char in document.text)
    return dataclasses.replace(document, text=text)


def replace_findings(document: CodedDocument, share: float, draw, description, rng: random.Random) -> CodedDocument:
    """Each annotated span replaced with probability `share` by the phrase of `draw() -> Pair`, with that pair's code."""
    pieces = []
    for text, codes in split(document):
        if codes and rng.random() < share:
            pair: Pair = draw()
            phrase = pair.evidence
            if text[:1].isupper() and not text[:2].isupper():
                phrase = phrase[:1].upper() + phrase[1:]
            elif phrase[:1].isupper() and phrase[1:2].islower():
                phrase = phrase[:1].lower() + phrase[1:]
            pieces.append((phrase, (pair.code,)))
        else:
            pieces.append((text, codes))
    return rebuild(document, pieces, description)
