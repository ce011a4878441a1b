"""Assertion status of evidence: affirmed, denied, someone else's, hypothetical or historical.

In the manner of ConText (Harkema et al. 2009) and NegEx (Chapman et al. 2001): cues (assertion_cues.py) open scopes
before or after them, which a contrast, a new clause or the end of the sentence closes; headings and list heads
(assertion_layout.py) give their status to what they stand over. It informs; it drops no code.

Decisions:
- Several statuses: the one that speaks most against a code counts: denied, family, hypothetical, historical, affirmed.
- Uncertain diagnoses ("possible", "suspected", "consistent with") are hypothetical, with "if …" and "rule out": in
  outpatients none of them is coded (ICD-10-CM guidelines, IV.H). "Unlikely" is denied, as in NegEx.
- A section of past history is not historical by itself, as chronic conditions stand there. "History of" is
  (guidelines, I.C.21.c.4), unless the evidence names a chronic condition; so are "status post", "in the past" and
  "resolved".
- A relative who tells ("mother reports a fever") has nothing; one who "had" it, "mother: …", "in her mother" has.
- A cue that begins or ends the evidence governs it ("[denies chest pain]"); one in its middle does not
  ("[diabetes without complications]"). A finding that contains a negation ("never smoker") is affirmed.

deviates: the paper has no such step.

Read next: assertion_cues.py.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

from minscl.data.assertion_cues import (
    AFFIRMED,
    AFTER,
    AGO,
    BEFORE,
    CHRONIC,
    DENIED,
    FAMILY,
    FILLERS,
    HISTORICAL,
    HISTORY_OF,
    HYPOTHETICAL,
    NEGATIVE_FINDING,
    ONSET,
    WORD_CLASSES,
)
from minscl.data.assertion_layout import Sentence, sentences
from minscl.data.assertion_scopes import FoundCue, cues_in, scopes_after, scopes_before

STATUSES = (DENIED, FAMILY, HYPOTHETICAL, HISTORICAL, AFFIRMED)  # the one that counts, if there are several, first

# A word, with its hyphens and apostrophes, or one other character.
_TOKEN = re.compile(r"[^\W_]+(?:['’‐‑-][^\W_]+)*|[^\w\s]|_+")
_IRREGULAR = {"ca": "can", "wo": "will"}  # can't, won't
_CHRONIC = re.compile(rf"\b(?:{'|'.join(CHRONIC)})\b", re.IGNORECASE)


def assertion(text: str, start: int, end: int) -> str:
    """The status of the evidence `text[start:end]` in its note, one of STATUSES."""
    return assertions(text, [(start, end)])[0]


def assertions(text: str, places: Iterable[tuple[int, int]]) -> list[str]:
    """The status of each evidence `text[start:end]` in its note: one of STATUSES.

    The note is divided into sentences once, and a sentence analysed once, however much evidence it has.
    """
    layout = sentences(text)
    starts = [sentence.start for sentence in layout]
    analysed: dict[int, _Analysis] = {}

    def analyse(index: int) -> _Analysis:
        if index not in analysed:
            head = layout[index].head
            analysed[index] = _Analysis(text, layout[index], () if head is None else analyse(head).open_at_end)
        return analysed[index]

    result = []
    for start, end in places:
        index = bisect_right(starts, start) - 1
        if index < len(starts) - 1 and layout[max(index, 0)].end <= start or index < 0:
            index += 1  # evidence that begins with the white space before a sentence
        result.append(analyse(index).status(start, end) if layout else AFFIRMED)
    return result


class _Analysis:
    """A sentence's words, cues and scopes."""

    def __init__(self, text: str, sentence: Sentence, inherited: Sequence[str]):
        self.text, self.sentence = text, sentence
        self.words, self.starts, self.ends = _tokenize(text, sentence)
        self.cues = [_in_context(self.words, found) for found in cues_in(self.words)]
        self.before, self.open_at_end = scopes_before(self.words, self.cues, inherited)

    @cached_property
    def after(self) -> list[frozenset[str]]:
        return scopes_after(self.words, self.cues)

    @cached_property
    def cue_starts(self) -> list[int]:
        return [found.start for found in self.cues]

    def status(self, start: int, end: int) -> str:
        """The status of `text[start:end]`, which begins in this sentence."""
        first = min(bisect_right(self.ends, start), len(self.words) - 1)
        last = max(first, bisect_left(self.starts, end) - 1)
        effects = {self.sentence.section, *self.before[first], *self.after[last], *self._inside(first, last)}
        if HISTORY_OF in effects and not _CHRONIC.search(self.text[start:end]):
            effects.add(HISTORICAL)
        return next((status for status in STATUSES if status in effects), AFFIRMED)

    def _inside(self, first: int, last: int) -> Iterator[str]:
        """What the cues that begin and end the words `first` to `last` say, and a negation that the words are part of."""
        index = max(0, bisect_right(self.cue_starts, first) - 1)
        word = first
        for found in self.cues[index:]:
            cue = found.cue
            if found.start < first < found.end and cue.effect == NEGATIVE_FINDING:
                yield DENIED
            if found.start < first:
                continue
            if any(filler not in FILLERS for filler in self.words[word : found.start]) or found.end > last:
                break
            if cue.place != BEFORE or cue.effect == NEGATIVE_FINDING:
                break
            yield cue.effect
            word = found.end
        index = bisect_right(self.cue_starts, last) - 1
        if index >= 0:
            found = self.cues[index]
            is_at_end = all(word in ".,;:)" for word in self.words[found.end : last + 1])
            if first < found.start and found.end <= last + 1 and is_at_end and found.cue.place == AFTER:
                yield found.cue.effect


def _tokenize(text: str, sentence: Sentence) -> tuple[list[str], list[int], list[int]]:
    """The words of a sentence in lower case, marks included, and where each starts and ends in the note."""
    words: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for match in _TOKEN.finditer(text, sentence.start, sentence.end):
        start, end = match.span()
        word = match[0].lower().replace("’", "'")
        if word in ("-", "?") and text[end : end + 1].isalpha() and not text[start - 1 : start].strip("( "):
            word += "x"
        parts = [word]
        if word.endswith("n't"):
            parts = [_IRREGULAR.get(word[:-3], word[:-3]), "not"]
        elif word == "cannot":
            parts = ["can", "not"]
        elif word.endswith("'s"):
            parts = [word[:-2], "'s"]
        words += parts
        starts += [start] * len(parts)
        ends += [end] * len(parts)
    return words, starts, ends


def _in_context(words: Sequence[str], found: FoundCue) -> FoundCue:
    """`found`, without effect where the words before it forbid.

    "Five years ago" is the past, unless they say that the finding began then; a bare "not" needs "is" or "was".
    """
    if found.cue.effect == AGO:
        began = any(word in ONSET for word in words[max(0, found.start - 12) : found.start])
        return found.with_effect("" if began else HISTORICAL)
    if words[found.start : found.end] == ["not"] and words[max(0, found.start - 1)] not in WORD_CLASSES["BE"]:
        return found.with_effect("")
    return found
