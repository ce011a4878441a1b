"""Phrases: how else the corpus translates one, which parts of one still name the finding, and where its noun ends.

Read next: carry.py, which decides with them what is carried over.
"""

import re
from collections import Counter, defaultdict

from study.codiesp_en.corpus import Annotation
from study.codiesp_en.lexicon import Neighbours
from study.codiesp_en.projection import Pair, Projection
from study.codiesp_en.words import ENGLISH_VERBS, fold, is_content, root, words

Span = tuple[int, int]

COMMON = 0.1  # share of a phrase's translations, and
TWICE = 2  # their number, from which a translation is looked for where the alignment fails
RECURRING = 3
RECURRING_SHARE = 0.25
PREMODIFIER = 0.7  # share of occurrences before a content word from which a word is not the end of a noun phrase
ATTACHED = 0.6
SAME_CATEGORY = 0.2  # share of a phrase's annotations: "dolor" alone is R52, and hardly ever N48
MOSTLY_SAME = 0.5  # the same, where other words stand beside the phrase
LONGEST_COMPLETION = 3  # words
OTHER = 0.4  # strength from which a word belongs to something outside the annotation


def phrase_key(text: str) -> str:
    """The words of a phrase, without case, accents and punctuation."""
    return " ".join(fold(word.text) for word in words(text))


def content_roots(text: str, function_words: frozenset[str]) -> frozenset[str]:
    """The roots of a phrase's content words; of all its words if it has no content word."""
    found = words(text)
    content = [word for word in found if is_content(word, text, function_words)]
    return frozenset(root(word.text) for word in content or found)


class Categories:
    """The three-character categories with which phrases were annotated, each phrase a set of roots."""

    def __init__(self, function_words: frozenset[str]):
        self.function_words = function_words
        self.counts: dict[frozenset[str], Counter] = defaultdict(Counter)
        self.phrases: dict[str, set[frozenset[str]]] = defaultdict(set)

    def add(self, phrase: str, code: str) -> None:
        """Notes one annotation."""
        roots = content_roots(phrase, self.function_words)
        self.counts[roots][code[:3]] += 1
        self.phrases[code[:3]].add(roots)

    def share(self, roots: frozenset[str], code: str) -> float:
        """The share of the annotations of exactly these words that have a code of the category of `code`."""
        counts = self.counts.get(roots, Counter())
        return counts[code[:3]] / max(counts.total(), 1)

    def include(self, roots: frozenset[str], code: str, times: int) -> bool:
        """Whether the words include a phrase that has, at least so many times and mostly, the category of `code`."""
        return any(
            phrase <= roots and self.counts[phrase][code[:3]] >= times and self.share(phrase, code) >= MOSTLY_SAME
            for phrase in self.phrases[code[:3]]
        )


class Translations:
    """The English phrases that each Spanish phrase was projected onto, and how often."""

    def __init__(self):
        self.whole: dict[str, Counter] = defaultdict(Counter)  # all of the Spanish phrase aligned
        self.all: dict[str, Counter] = defaultdict(Counter)

    def add(self, spanish: str, english: str, *, whole: bool) -> None:
        """Counts one translation."""
        key = phrase_key(spanish)
        self.all[key][english.lower()] += 1
        if whole:
            self.whole[key][english.lower()] += 1

    def common(self, spanish: str) -> list[str]:
        """The common translations, most frequent first; alphabetic among equals."""
        counts = self.whole.get(phrase_key(spanish), Counter())
        total = counts.total()
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return [phrase for phrase, count in ranked if count >= TWICE and count >= COMMON * total]

    def recurs(self, spanish: str, english: str) -> bool:
        """Whether so many other annotations become the same English phrase that chance is out of the question."""
        counts = self.all.get(phrase_key(spanish), Counter())
        count = counts[english.lower()]
        return count >= RECURRING and count >= RECURRING_SHARE * counts.total()

    def find(self, pair: Pair, annotation: Annotation) -> Span | None:
        """Characters of the first common translation that occurs in the English passage, nearest the place expected."""
        return find_first(self.common(annotation.phrase), pair, annotation)

    def containing(self, pair: Pair, annotation: Annotation, span: Span) -> Span:
        """The longest common translation that stands in the passage around `span`; `span` where there is none."""
        phrases = [phrase for phrase in self.common(annotation.phrase) if len(phrase) > span[1] - span[0]]
        around = [place for phrase in phrases for place in occurrences(phrase, pair)]
        around = [place for place in around if place[0] <= span[0] and span[1] <= place[1]]
        return max(around, key=lambda place: place[1] - place[0], default=span)


class CodeNames:
    """The English phrases that are evidence of one code more often than of all others."""

    def __init__(self):
        self.codes: dict[str, Counter] = defaultdict(Counter)
        self.names: dict[str, set[str]] = defaultdict(set)

    def add(self, english: str, code: str) -> None:
        """Notes one carried annotation."""
        self.codes[english.lower()][code] += 1
        self.names[code].add(english.lower())

    def find(self, pair: Pair, annotation: Annotation) -> Span | None:
        """Characters of the most frequent such phrase of the annotation's code that occurs in the English passage."""
        code = annotation.code
        counts = {phrase: self.codes[phrase][code] for phrase in self.names[code]}
        certain = [
            phrase
            for phrase, count in counts.items()
            if count >= TWICE and count >= MOSTLY_SAME * self.codes[phrase].total()
        ]
        return find_first(sorted(certain, key=lambda phrase: (-counts[phrase], phrase)), pair, annotation)


def find_first(phrases: list[str], pair: Pair, annotation: Annotation) -> Span | None:
    """Characters of the first of `phrases` that occurs in the English passage, nearest the place expected."""
    start, end = pair.english[0].start, pair.english[-1].end
    first, last = pair.spanish[0].start, pair.spanish[-1].end
    expected = start + (annotation.parts[0][0] - first) / max(last - first, 1) * (end - start)
    for phrase in phrases:
        places = occurrences(phrase, pair)
        if places and not is_privative(phrase, annotation):
            return min(places, key=lambda place: abs(place[0] - expected))
    return None


def is_privative(phrase: str, annotation: Annotation) -> bool:
    """Whether a word says that something is absent: "painless" for the "doloroso" of "no doloroso"."""
    if {"no", "sin"} & set(annotation.phrase.lower().split()):
        return False
    return any(word.endswith("less") or word.startswith("non-") for word in phrase.lower().split())


def occurrences(phrase: str, pair: Pair) -> list[Span]:
    """Characters of each place of a phrase, in lower case and as whole words, in the English passage."""
    start, end = pair.english[0].start, pair.english[-1].end
    passage = pair.case.english[start:end].lower()
    return [(start + match.start(), start + match.end()) for match in re.finditer(rf"\b{re.escape(phrase)}\b", passage)]


def complete(pair: Pair, projection: Projection, outside: list[float], neighbours: Neighbours) -> tuple[int, int]:
    """First and last word, extended over words that the window cuts off its noun phrase.

    To the right while the last word is one that stands before nouns ("conjunctival" before "hyperemia"), to the left
    where the word before is part of a fixed pair ("basal" before "cell"). Never over punctuation or a function word.
    Where the noun belongs to something else, a last word that a function word joins is cut off ("with supranasal").
    """
    first, last = projection.first, projection.last
    text = [word.text.lower() for word in pair.english]
    while last - projection.last < LONGEST_COMPLETION and not ends_noun_phrase(pair, last, neighbours):
        if outside[last + 1] > OTHER and neighbours.attached(text[last], text[last + 1]) < ATTACHED:  # "lymph nodes"
            break
        last += 1
    if not ends_noun_phrase(pair, last, neighbours):
        last = projection.last
        if last - first >= 2 and not pair.english_content[last - 1]:
            last -= 2
            while last > first and not pair.english_content[last]:
                last -= 1
    while first > 0 and joined(pair, first) and neighbours.attached(text[first - 1], text[first]) >= ATTACHED:
        first -= 1
    return first, last


def ends_noun_phrase(pair: Pair, j: int, neighbours: Neighbours) -> bool:
    """Whether a noun phrase may end with English word j: nothing follows, or it seldom stands before a noun."""
    return not joined(pair, j + 1) or neighbours.premodifier(pair.english[j].text.lower()) < PREMODIFIER


def joined(pair: Pair, j: int) -> bool:
    """Whether English word j, no verb, is a content word after another with nothing but a space or hyphen between."""
    if not 0 < j < len(pair.english) or pair.english[j].text.lower() in ENGLISH_VERBS:
        return False
    return pair.gap(j) in (" ", "-") and pair.english_content[j] and pair.english_content[j - 1]
