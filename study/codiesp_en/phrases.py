"""Phrases: how else the corpus translates one, which parts of one still name the finding, and where its noun ends.

Read next: carry.py, which decides with them what is carried over.
"""

import re
from collections import Counter, defaultdict

from study.codiesp_en.corpus import Annotation
from study.codiesp_en.lexicon import Neighbours
from study.codiesp_en.projection import Pair, Projection
from study.codiesp_en.words import SPANISH_FUNCTION_WORDS, fold, is_content, stem, words

COMMON = 0.1  # share of a phrase's translations, and
TWICE = 2  # their number, from which a translation is looked for where the alignment fails
PREMODIFIER = 0.7  # share of occurrences before a content word from which a word is not the end of a noun phrase
ATTACHED = 0.6
LONGEST_COMPLETION = 3  # words
OTHER = 0.4  # strength from which a word belongs to something outside the annotation


def phrase_key(text: str) -> str:
    """The words of a phrase, without case, accents and punctuation."""
    return " ".join(fold(word.text) for word in words(text))


def content_stems(text: str) -> frozenset[str]:
    """The stems of a Spanish phrase's content words; of all its words if it has no content word."""
    found = words(text)
    content = [word for word in found if is_content(word, text, SPANISH_FUNCTION_WORDS)]
    return frozenset(stem(word.text) for word in content or found)


class Categories:
    """Which three-character categories a set of Spanish stems is annotated with, anywhere in the corpus."""

    def __init__(self, annotations: list[Annotation]):
        self.known: dict[frozenset[str], set[str]] = defaultdict(set)
        for annotation in annotations:
            self.known[content_stems(annotation.phrase)].add(annotation.code[:3])

    def named_by(self, stems: frozenset[str], code: str) -> bool:
        """Whether these words alone were annotated with a code of the same category as `code`."""
        return code[:3] in self.known.get(stems, ())


class Translations:
    """The English phrases that each Spanish phrase was projected onto, and how often."""

    def __init__(self):
        self.counts: dict[str, Counter] = defaultdict(Counter)

    def add(self, spanish: str, english: str) -> None:
        """Counts one translation."""
        self.counts[phrase_key(spanish)][english.lower()] += 1

    def common(self, spanish: str) -> list[str]:
        """The common translations, most frequent first; alphabetic among equals."""
        counts = self.counts.get(phrase_key(spanish), Counter())
        total = counts.total()
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return [phrase for phrase, count in ranked if count >= TWICE and count >= COMMON * total]

    def find(self, pair: Pair, annotation: Annotation) -> tuple[int, int] | None:
        """Characters of the first common translation that occurs in the English passage, nearest the place expected."""
        start, end = pair.english[0].start, pair.english[-1].end
        first, last = pair.spanish[0].start, pair.spanish[-1].end
        expected = start + (annotation.parts[0][0] - first) / max(last - first, 1) * (end - start)
        passage = pair.case.english[start:end].lower()
        for phrase in self.common(annotation.phrase):
            places = [match.start() + start for match in re.finditer(rf"\b{re.escape(phrase)}\b", passage)]
            if places:
                place = min(places, key=lambda place: abs(place - expected))
                return place, place + len(phrase)
        return None


def complete(pair: Pair, projection: Projection, outside: list[float], neighbours: Neighbours) -> tuple[int, int]:
    """First and last word, extended over words that the window cuts off its noun phrase.

    To the right while the last word is one that stands before nouns ("conjunctival" before "hyperemia"), to the left
    where the word before is part of a fixed pair ("basal" before "cell"). Never over punctuation or a function word.
    """
    first, last = projection.first, projection.last
    text = [word.text.lower() for word in pair.english]
    while last + 1 < len(text) and last - projection.last < LONGEST_COMPLETION:
        if not joined(pair, last + 1) or neighbours.premodifier(text[last]) < PREMODIFIER or outside[last + 1] > OTHER:
            break
        last += 1
    if neighbours.premodifier(text[last]) >= PREMODIFIER:
        last = projection.last  # no noun reached
    while first > 0 and joined(pair, first) and neighbours.attached(text[first - 1], text[first]) >= ATTACHED:
        first -= 1
    return first, last


def joined(pair: Pair, j: int) -> bool:
    """Whether English word j is a content word that follows another with nothing but a space or hyphen between."""
    if not 0 < j < len(pair.english):
        return False
    return pair.gap(j) in (" ", "-") and pair.english_content[j] and pair.english_content[j - 1]
