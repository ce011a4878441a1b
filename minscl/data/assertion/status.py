"""Assertion status of evidence: affirmed, denied, someone else's, hypothetical or historical.

In the manner of ConText (Harkema et al. 2009) and NegEx (Chapman et al. 2001): cues (cues.py) open scopes
before or after them, which a contrast, a new clause or the end of the sentence closes; headings and list heads
(layout.py) give their status to what they stand over. It informs; it drops no code.

Decisions:
- Several statuses: the one that speaks most against a code counts: denied, family, hypothetical, historical, affirmed.
- Uncertain diagnoses ("possible", "suspected", "consistent with") are hypothetical, with "if …" and "rule out": in
  outpatients none of them is coded (ICD-10-CM guidelines, IV.H). "Unlikely" is denied, as in NegEx.
- A section of past history is not historical by itself, as chronic conditions stand there; one of past operations is.
  "History of" is (guidelines, I.C.21.c.4), unless the evidence names a chronic condition; so are "status post", "in the
  past" and "resolved".
- Where a scope's end is in doubt, the finding is affirmed: a denial ends at "for asthma" in "no visits for asthma", a
  section's status at an empty line or at anything like a heading, and never concerns "the patient has …".
- A relative who tells ("mother reports a fever") has nothing; one who "had" it, "mother: …", "in her mother" has. A
  child is the patient unless it is said whose child it is ("her son"); a mother is where her age, her pregnancies or
  such an adjective stands before her, or a delivery beside her, and no child or "her" (patients.py).
- "Not" denies no disease whose care is what fails: "not well-controlled asthma", "never treated hepatitis C".
- A cue that begins or ends the evidence governs it ("[denies chest pain]"); one in its middle does not
  ("[diabetes without complications]"). A finding that contains a negation ("never smoker") is affirmed.

deviates: the paper has no such step.

Read next: cues.py.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, lru_cache

from minscl.data.assertion.cues import (
    AFFIRMED,
    AFTER,
    DENIED,
    FAMILY,
    HISTORICAL,
    HISTORY_OF,
    HYPOTHETICAL,
    NEGATIVE_FINDING,
)
from minscl.data.assertion.layout import Sentence, sentences
from minscl.data.assertion.matching import cues_in, tokenize
from minscl.data.assertion.patients import is_obstetric_note
from minscl.data.assertion.scopes import scopes_before
from minscl.data.assertion.scopes_after import scopes_after
from minscl.data.assertion.words import CHRONIC, FILLERS, PROCESSES, word_set

STATUSES = (DENIED, FAMILY, HYPOTHETICAL, HISTORICAL, AFFIRMED)  # of several, the first counts

# Codes for what a note denies: observation for suspected conditions ruled out (Z03-Z05), screening (Z11-Z13), not
# immunised (Z28), negative pregnancy test (Z32), not carried out (Z53), no home, food or insurance (Z59), do not
# resuscitate (Z66), noncompliance (Z91), insufficient antenatal care (O09.3).
CODES_OF_DENIALS = ("Z03", "Z04", "Z05", "Z11", "Z12", "Z13", "Z28", "Z32", "Z53", "Z59", "Z66", "Z91", "O093")
# Codes for what is absent or cannot be done: menstruation (N91), bowel movement (K59.0), sleep (G47.0), hearing (H90,
# H91), feeling (R20), walking (R26), urine (R33, R34), speech (R47), expected development (R62), appetite (R63.0),
# breath (R06.81), organs at birth (Q) or later (Z89, Z90).
CODES_OF_ABSENCES = tuple(word_set("N91 K590 G470 H90 H91 R20 R26 R33 R34 R47 R62 R630 R0681 Q Z89 Z90"))
# Codes for what someone else has: contact (Z20), genetic counselling (Z31), family circumstances (Z63), family history
# (Z80-Z84), newborns of mothers with diabetes (P70), affected by maternal conditions (P00-P04) or drugs (P96, Q86).
CODES_OF_RELATIVES = tuple(word_set("Z20 Z31 Z63 Z80 Z81 Z82 Z83 Z84 P00 P01 P02 P03 P04 P70 P96 Q86"))


def assertion(text: str, start: int, end: int) -> str:
    """The status of the evidence `text[start:end]` in its note, one of STATUSES."""
    return assertions(text, [(start, end)])[0]


def assertions(text: str, places: Iterable[tuple[int, int]]) -> list[str]:
    """The status of each evidence `text[start:end]` in its note: one of STATUSES; the offsets are characters.

    The note is divided into sentences once, and a sentence is analysed once, however much evidence it has; the last
    note is remembered, for calls with the evidence of one code at a time.
    """
    note = _note(text)
    return [note.status(start, end) for start, end in places]


def speaks_against(code: str, statuses: Iterable[str]) -> str:
    """DENIED or FAMILY where all located evidence of `code`, of these `statuses`, is that; "" otherwise.

    Denied and family evidence together give DENIED. Codes for what is denied ("Z03.89 … ruled out") or someone else's
    ("Z80.3 Family history of …") rest on such evidence rightly, as do those for an absence (R34).
    """
    against = set(statuses)
    if not against or against - {DENIED, FAMILY}:
        return ""
    code = code.upper().replace(".", "")
    if DENIED in against and not code.startswith((*CODES_OF_DENIALS, *CODES_OF_ABSENCES)):
        return DENIED
    if FAMILY in against and not code.startswith(CODES_OF_RELATIVES):
        return FAMILY
    return ""


class _Note:
    """A note's sentences, analysed as evidence asks for them."""

    def __init__(self, text: str):
        self.text, self.is_obstetric = text, is_obstetric_note(text)
        self.sentences = sentences(text)
        self.ends = [sentence.end for sentence in self.sentences]
        self.analysed: dict[int, _Analysis] = {}

    def status(self, start: int, end: int) -> str:
        """The status of `text[start:end]`."""
        if not self.sentences:
            return AFFIRMED
        index = min(bisect_right(self.ends, start), len(self.sentences) - 1)  # the sentence that has it, or the next
        return self._analysis(index).status(start, end)

    def _analysis(self, index: int) -> "_Analysis":
        if index not in self.analysed:
            sentence = self.sentences[index]
            inherited = () if sentence.head is None else self._analysis(sentence.head).open_at_end
            self.analysed[index] = _Analysis(self.text, sentence, inherited, self.is_obstetric)
        return self.analysed[index]


_note = lru_cache(maxsize=1)(_Note)


class _Analysis:
    """A sentence's words, cues and scopes; `inherited` are the effects that its list's head leaves open."""

    def __init__(self, text: str, sentence: Sentence, inherited: Sequence[str], is_obstetric: bool):
        self.text, self.section = text, sentence.section
        self.tokens = tokenize(text, sentence.start, sentence.end, is_obstetric)
        self.cues = cues_in(self.tokens.words)
        self.cue_starts = [match.start for match in self.cues]
        self.effects_before, self.open_at_end = scopes_before(self.tokens.words, self.cues, inherited)

    @cached_property
    def effects_after(self) -> list[frozenset[str]]:
        return scopes_after(self.tokens.words, self.cues)

    def status(self, start: int, end: int) -> str:
        """The status of `text[start:end]`, which begins in this sentence."""
        tokens = self.tokens
        first = min(bisect_right(tokens.ends, start), len(tokens.words) - 1)
        last = max(first, bisect_left(tokens.starts, end) - 1)
        following = tokens.words[last + 1] if last + 1 < len(tokens.words) else ""
        effects = {self.section, *self.effects_before[first], *self.effects_after[last]}
        if following in PROCESSES:  # "no asthma attacks": the attacks are denied
            effects.discard(DENIED)
        effects.update(self._effects_at_start(first, last))
        effects.update(self._effects_at_end(first, last))
        is_chronic = CHRONIC.search(self.text, start, end) or tokens.words[max(0, first - 1)] == "chronic"
        if HISTORY_OF in effects and not is_chronic:
            effects.add(HISTORICAL)
        return next((status for status in STATUSES if status in effects), AFFIRMED)

    def _effects_at_start(self, first: int, last: int) -> Iterator[str]:
        """The effects of cues that begin the words `first` to `last`, or of a negative finding around them."""
        before = bisect_left(self.cue_starts, first) - 1
        if before >= 0 and self.cues[before].cue.effect == NEGATIVE_FINDING and first < self.cues[before].end:
            yield DENIED
        word = first
        for index in range(before + 1, len(self.cues)):
            match = self.cues[index]
            if match.end > last or any(between not in FILLERS for between in self.tokens.words[word : match.start]):
                break
            if match.cue.place == AFTER or match.cue.effect == NEGATIVE_FINDING:
                break
            yield match.cue.effect
            word = match.end

    def _effects_at_end(self, first: int, last: int) -> Iterator[str]:
        """The effect of a cue that ends the words `first` to `last`: "chest pain: denied"."""
        index = bisect_right(self.cue_starts, last) - 1
        if index >= 0:
            match = self.cues[index]
            is_last = match.end <= last + 1 and all(word in ".,;:)" for word in self.tokens.words[match.end : last + 1])
            if first < match.start and is_last and match.cue.place == AFTER:
                yield match.cue.effect
