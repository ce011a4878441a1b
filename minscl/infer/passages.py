"""Passages of a long note: cut between sentences, coded one by one, their answers joined to the note's.

A small model loses its way in a long answer, and one passage has a short one. Each passage is a note of its own to the
model; what is quoted in it keeps its place in the whole note, and a code found in several has the evidence of all.

Read next: ../data/chains.py, the answers as one text.
"""

import dataclasses
import re
from collections.abc import Iterable, Sequence

from minscl.data.chains import PASSAGE, join_answers
from minscl.data.types import Assignment, CodedDocument, Evidence, Note

SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=\S)|\n\s*")


def split_passages(text: str, tokenizer, passage: int) -> list[tuple[int, str]]:
    """(offset, text) of the passages, in order: whole sentences and lines of at most `passage` tokens together.

    A longer sentence is a passage alone. Without `passage` (0), and for a shorter text, there is one passage.
    """
    if not passage or len(tokenizer.encode(text)) <= passage:
        return [(0, text)]
    bounds = [0, *(match.end() for match in SENTENCE_END.finditer(text)), len(text)]
    first, length, passages = 0, 0, []
    for start, end in zip(bounds, bounds[1:], strict=False):
        tokens = len(tokenizer.encode(text[start:end]))
        if length and length + tokens > passage:
            passages.append((first, text[first:start]))
            first, length = start, 0
        length += tokens
    return [(offset, part) for offset, part in [*passages, (first, text[first:])] if part.strip()]


def join_passages(note: Note, coded: Sequence[tuple[int, CodedDocument]]) -> CodedDocument:
    """The document of a whole note from (offset, document) of its passages.

    A code's score is its highest, its evidence that of all passages; `output` holds all answers.
    """
    document = coded[0][1]
    if document.text == note.text:  # one passage, all of the note
        return document
    evidence: dict[str, dict[Evidence, None]] = {}
    best: dict[str, Assignment] = {}
    for offset, part in coded:
        for item in part.codes:
            evidence.setdefault(item.code, {}).update(dict.fromkeys(shifted(item.evidence, offset)))
            if item.code not in best or (item.score or 0) > (best[item.code].score or 0):
                best[item.code] = item
    codes = tuple(dataclasses.replace(best[code], evidence=tuple(items)) for code, items in evidence.items())
    parts = [part for _, part in coded]
    warnings = dict.fromkeys(warning for part in parts for warning in part.warnings or ())
    return dataclasses.replace(
        document,
        text=note.text,
        codes=codes,
        output=join_answers([part.output or "" for part in parts], PASSAGE),
        warnings=tuple(warnings),
        truncated=sum(part.truncated or 0 for part in parts) or None,
    )


def shifted(evidence: Iterable[Evidence], offset: int) -> list[Evidence]:
    """`evidence` with its places `offset` characters later; quotations that were not located stay."""
    return [
        item
        if item.start is None or item.end is None
        else dataclasses.replace(item, start=item.start + offset, end=item.end + offset)
        for item in evidence
    ]
