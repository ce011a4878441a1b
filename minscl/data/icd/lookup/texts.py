"""Texts as sets of weighted words: what they are, which words they have, and in which texts a word is.

Rare words weigh more (inverse document frequency).

Read next: word_index.py, which ranks the texts.
"""

import bisect
import itertools
import math
import re
from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Generic, TypeVar

from minscl.data.icd.lookup.words import FUNCTION_WORDS, LIGHT, TextWords, Words, singular

Source = TypeVar("Source")
Concept = dict[int, float]  # words that a word of the query stands for → how well, 0..1
_RELATED = 0.8  # how well "uterine" stands for "uterus"
_MISSPELT, _MIN_MISSPELT = 0.7, 5  # how well "asthma" stands for "astma", and letters that such a word has
LIGHT_WEIGHT = 0.1  # of words.LIGHT; other words weigh about 2 to 12


class Texts(Generic[Source]):
    """Texts by their words. `add` all of them, then `freeze`. `Source`: what a text is, the caller's.

    A *rank* is a text's number in order of its weight, the lightest first. Flat arrays hold the words: a tuple for each
    text would take ten times the memory.
    """

    def __init__(self) -> None:
        self.words = Words()
        self._sources: list[Source] = []
        self._added = array("f")  # each text's addition to its score
        self._tokens = array("I")  # word numbers of all texts, each text's three kinds one after another
        self._starts = array("I", [0])  # of each kind of each text, three a text

    def add(self, source: Source, addition: float, text: TextWords) -> None:
        """Add a text. A word counts once, as the first kind that it is."""
        self._sources.append(source)
        self._added.append(addition)
        essential, synonyms, modifiers = text
        distinct = dict.fromkeys(essential)
        self._tokens.extend(distinct)
        end = len(self._tokens)
        if not synonyms and not modifiers:
            self._starts.extend((end, end, end))
            return
        self._starts.append(end)
        for others in (synonyms, modifiers):
            for word in others:
                if word not in distinct:
                    distinct[word] = None
                    self._tokens.append(word)
            self._starts.append(len(self._tokens))

    def freeze(self) -> None:
        """Weigh the words and list for each the texts that have it. To be called once, after the last `add`."""
        self.words.freeze()
        occurrences = Counter(self._tokens)
        light, function = (
            {self.words.numbers.get(singular(word), -1) for word in words} for words in (LIGHT, FUNCTION_WORDS)
        )
        self._light, self._function_words = light, function
        letters = [ord(name[0]) % 128 for name in self.words.names]
        self._initials = bytes(map(letters.__getitem__, self._tokens))
        self._weights = [
            LIGHT_WEIGHT if word in light else math.log(len(self._sources) / occurrences[word])
            for word in range(len(occurrences))
        ]
        sums = [0.0, *itertools.accumulate(map(self._weights.__getitem__, self._tokens))]
        essential = zip(self._starts[:-1:3], self._starts[1::3], strict=True)
        self._text_weights = array("f", (sums[end] - sums[start] for start, end in essential))
        keys = [weight - added for weight, added in zip(self._text_weights, self._added, strict=True)]
        self._order = array("I", sorted(range(len(keys)), key=keys.__getitem__))  # rank → text
        self._postings = [array("I") for _ in self._weights]  # word → ranks, ascending
        appends = [posting.append for posting in self._postings]
        for rank, text in enumerate(self._order):
            for word in self._tokens[self._starts[3 * text] : self._starts[3 * text + 3]]:
                appends[word](rank)

    def source(self, rank: int) -> Source:
        """What the text at `rank` is."""
        return self._sources[self._order[rank]]

    def sources_with(self, word: str, number: int) -> list[Source]:
        """What the first texts with a word, in its compared form, are."""
        return [self.source(rank) for rank in self._postings[self.words.numbers[word]][:number]]

    def text_at(self, rank: int) -> int:
        """The number of the text at `rank`: how many were added before it."""
        return self._order[rank]

    def kinds_of(self, text: int) -> tuple[array, array, array]:
        """The essential words, synonyms and modifiers of a text."""
        starts = self._starts[3 * text : 3 * text + 4]
        first, second, third = (self._tokens[start:end] for start, end in zip(starts, starts[1:], strict=False))
        return first, second, third

    def words_of(self, text: int) -> set[int]:
        """All words of a text."""
        return set(self._tokens[self._starts[3 * text] : self._starts[3 * text + 3]])

    def concepts(self, written: Sequence[str]) -> list[Concept]:
        """What the folded words of a query stand for, each once: words of the index → how well; {} for an unknown."""
        concepts: list[Concept] = []
        for word in written:
            number = self.words.numbers.get(singular(word), -1)
            concept = dict.fromkeys(self.words.related(word), _RELATED)
            if number >= 0:
                concept[number] = 1.0
            if not concept and len(word) >= _MIN_MISSPELT and not self.words.completions(word):
                concept = dict.fromkeys(self.words.corrections(word), _MISSPELT)
            if not concept or all(concept.keys() != other.keys() for other in concepts):
                concepts.append(concept)
        return concepts

    def phrases(self, initials: str) -> Counter[tuple[str, ...]]:
        """The phrases of essential words with these initials, between light words or a text's ends → how many."""
        phrases: Counter[tuple[str, ...]] = Counter()
        for match in re.finditer(re.escape(initials.encode()), self._initials):
            start, end = match.span()
            kind = bisect.bisect_right(self._starts, start) - 1
            first, last = self._starts[kind], self._starts[kind + 1]
            words = self._tokens[start:end]
            if kind % 3 or end > last or not self._light.isdisjoint(words):
                continue
            if (start == first or self._tokens[start - 1] in self._light) and (
                end == last or self._tokens[end] in self._light
            ):
                phrases[tuple(self.words.names[word] for word in words)] += 1
        return phrases
