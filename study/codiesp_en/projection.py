"""One annotated phrase, carried from a Spanish sentence to the English sentence aligned with it.

Every English word says how strongly it translates a word inside the annotation and how strongly one outside it. The
span is the window with the greatest sum of inside less outside, like a maximum subarray, that crosses no clause end.

Read next: phrases.py, which completes the noun phrase and knows how else a phrase is translated.
"""

import re
from dataclasses import dataclass, field
from functools import cached_property

from study.codiesp_en.corpus import Annotation, Case
from study.codiesp_en.lexicon import Lexicon
from study.codiesp_en.words import (
    ENGLISH_FUNCTION_WORDS,
    SPANISH_FUNCTION_WORDS,
    Word,
    is_content,
    words,
)

SUPPORTED = 0.17  # strength from which a word counts as translated
UNKNOWN_LINK = 0.2  # what is left of a link between words that are hardly ever linked elsewhere
WELL_KNOWN = 0.15  # probability from which a link counts fully
GUESS = 0.15  # probability from which words that are not linked may still be translations
GUESSED = 0.6  # strength of a word that is not linked, at probability 1
UNEXPLAINED = 0.25  # cost of a content word that translates nothing
PUNCTUATION = 0.3  # cost of a comma or bracket inside
FUNCTION_WORD = 0.02

CLAUSE_END = re.compile(r"[.;:!?](\s|$)|\n|\)\s*\(")


@dataclass
class Pair:
    """A Spanish passage, the English passage that translates it, and the links between their words."""

    case: Case
    spanish: list[Word]
    english: list[Word]
    links: dict[tuple[int, int], float] = field(default_factory=dict)

    @cached_property
    def spanish_content(self) -> list[bool]:
        return [is_content(word, self.case.spanish, SPANISH_FUNCTION_WORDS) for word in self.spanish]

    @cached_property
    def english_content(self) -> list[bool]:
        return [is_content(word, self.case.english, ENGLISH_FUNCTION_WORDS) for word in self.english]

    def gap(self, j: int) -> str:
        """The English characters between word j - 1 and word j."""
        return self.case.english[self.english[j - 1].end : self.english[j].start] if 0 < j < len(self.english) else "\n"

    @cached_property
    def clause_ends(self) -> list[bool]:
        """Whether a clause ends between English word j - 1 and word j."""
        initials = [len(word.text) == 1 and word.text.isupper() for word in self.english]  # "E. coli"
        return [
            j == 0 or bool(CLAUSE_END.search(self.gap(j)) and not initials[j - 1]) for j in range(len(self.english))
        ]


@dataclass(frozen=True)
class Projection:
    """English words first..last (inclusive) of a pair.

    `covered` are the annotation's content words that they translate; `confidence` is the mean strength with which, or
    that of the first, a Spanish phrase's head, if it is less.
    """

    first: int
    last: int
    covered: frozenset[int]
    confidence: float


def annotated_words(pair: Pair, annotation: Annotation) -> list[int]:
    """The Spanish words that the annotation covers, content words only where it has any."""
    inside = [
        i
        for i, word in enumerate(pair.spanish)
        if any(word.start < end and start < word.end for start, end in annotation.parts)
    ]
    return [i for i in inside if pair.spanish_content[i]] or inside


def link_strength(pair: Pair, lexicon: Lexicon, i: int, j: int) -> float:
    """The votes for the link of Spanish word i and English word j, less where the words are hardly linked elsewhere."""
    probability = lexicon.probability(pair.spanish[i].text, pair.english[j].text)
    return pair.links[i, j] * (UNKNOWN_LINK + (1 - UNKNOWN_LINK) * min(1.0, probability / WELL_KNOWN))


def strengths(pair: Pair, lexicon: Lexicon, inside: list[int]) -> tuple[list[dict[int, float]], list[float]]:
    """Of each English word: how sure it is that it translates each annotated word, 0..1, and any other Spanish word.

    A word that no good link takes may also translate an annotated word that it is not linked with: a cognate, or the
    word's usual translation.
    """
    within: list[dict[int, float]] = [{} for _ in pair.english]
    outside = [0.0] * len(pair.english)
    taken: dict[int, float] = {}
    for i, j in pair.links:
        value = link_strength(pair, lexicon, i, j)
        if i in inside:
            within[j][i] = value
            taken[i] = max(taken.get(i, 0.0), value)
        elif pair.spanish_content[i]:
            outside[j] = max(outside[j], value)
    for i in inside:
        if not pair.spanish_content[i]:
            continue
        for j in range(len(pair.english)):
            if pair.english_content[j] and i not in within[j]:
                probability = lexicon.probability(pair.spanish[i].text, pair.english[j].text)
                free = 1 - max(taken.get(i, 0.0), outside[j])
                if probability >= GUESS and free > 0:
                    within[j][i] = GUESSED * probability * free
    return within, outside


def gains(pair: Pair, within, outside) -> list[float]:
    """What each English word adds to a window."""
    values = []
    for j, content in enumerate(pair.english_content):
        inside = max(within[j].values(), default=0.0)
        if inside >= SUPPORTED and inside >= outside[j] and (content or inside > 0.9):
            values.append(inside if content else FUNCTION_WORD)
        elif not content:
            values.append(-FUNCTION_WORD)
        else:
            values.append(-max(UNEXPLAINED, 0.7 * outside[j]))
    return values


def best_window(values: list[float], pair: Pair) -> tuple[int, int] | None:
    """The window (first, last) with the greatest sum, shortest first; None where no word has a gain."""
    best, window = 0.0, None
    for first, value in enumerate(values):
        if value <= 0:
            continue
        total = 0.0
        for last in range(first, len(values)):
            if last > first:
                if pair.clause_ends[last]:
                    break
                total -= PUNCTUATION * any(mark in pair.gap(last) for mark in ",()")
            total += values[last]
            if total > best + 1e-9:
                best, window = total, (first, last)
    return window


def measure(pair: Pair, inside, within, first: int, last: int) -> Projection:
    """The projection onto first..last, with the annotated words that it translates."""
    best = {i: max(within[j].get(i, 0.0) for j in range(first, last + 1)) for i in inside}
    covered = frozenset(i for i, value in best.items() if value >= SUPPORTED)
    mean = sum(best[i] for i in covered) / max(len(covered), 1)
    return Projection(first, last, covered, min(mean, best[inside[0]]) if inside[0] in covered else mean)


def make_pair(case: Case, spanish: tuple[int, int], english: tuple[int, int]) -> Pair:
    """The pair of two passages, given by their characters; links are added when all pairs are known."""
    return Pair(case, words(case.spanish, *spanish), words(case.english, *english))
