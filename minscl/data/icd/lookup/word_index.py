"""An inverted index: texts as sets of weighted words, ranked by how well they fit the words of a query.

A text's score is the harmonic mean (F1) of
    precision  how much of the text the query names: "heart failure" names all of "Failure, failed > heart (acute)"
    recall     how much of the query the text has
times the recall once more, as a text that lacks words of the query is a poor hit, plus a small addition of the text's
own. Rare words weigh more (inverse document frequency).

Read next: search.py, which puts the Alphabetic Index and the Tabular List into it.
"""

import bisect
import heapq
import itertools
import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Generic, TypeVar

from minscl.data.icd.lookup.words import FUNCTION_WORDS, LIGHT, TextWords, Words, singular

Source = TypeVar("Source")

_MAX_SCORED = 1000  # texts scored in a query; they are in order of weight, so the best come first
_MAX_OF_COMPLETION = 60  # texts looked at for each word that completes a query of one
_MAX_VISITED = 20_000  # texts looked at for a query of which few have all words
_MAX_PARTIAL = 300  # of which those with most of the query are scored
_MIN_RECALL = 0.5  # of texts that lack words of the query
_FEW = 5  # texts with all words; where there are fewer, those that lack words are looked for too
# What a word counts for the precision, the recall, and the precision where the query has only its beginning, by kind:
# essential; synonym, as "auricular" of "atrial or auricular"; modifier, as "vomiting" of "Nausea (without vomiting)".
_KINDS = ((1.0, 1.0, 1.0), (0.95, 1.0, 0.5), (0.3, 0.9, 0.3))
_LIGHT_WEIGHT = 0.1  # of words.LIGHT; other words weigh about 2 to 12


class WordIndex(Generic[Source]):
    """Texts by their words. `add` all of them, `freeze`, then `ranked`. `Source`: what a text is, the caller's.

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
        self._function_words = function
        self._weights = [
            _LIGHT_WEIGHT if word in light else math.log(len(self._sources) / occurrences[word])
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

    def words_at(self, rank: int) -> set[str]:
        """The words of the text at `rank`, in their compared form."""
        text = self._order[rank]
        return {self.words.names[word] for word in self._tokens[self._starts[3 * text] : self._starts[3 * text + 3]]}

    def ranked(self, written: Sequence[str], is_complete: bool, limit: int) -> list[tuple[int, float]]:
        """(rank, score) of the texts that fit `written`, distinct folded words; best first, often more than `limit`.

        First the texts with all words as written, function words apart; where these are fewer than `limit`, those with
        a word that the last one begins, unless it `is_complete`; where these are few, those that lack words.
        """
        numbers = [self.words.numbers.get(singular(word), -1) for word in written]
        known = {number: self._weights[number] for number in numbers if number >= 0}
        scores: dict[int, float] = {}
        if known and -1 not in numbers:
            ranks = self._with_all(known.keys() - self._function_words or known)
            self._add_scores(scores, ranks, known, {}, math.fsum(known.values()))
        if numbers and len(scores) < limit and not is_complete and -1 not in numbers[:-1]:
            before = {number: self._weights[number] for number in numbers[:-1]}
            parts = self.words.completions(written[-1])
            completions = {word: part * self._weights[word] for word, part in parts.items() if word not in before}
            required = before.keys() - self._function_words
            ranks = self._with_completion(self._with_all(required) if required else None, completions)
            self._add_scores(scores, ranks, before, completions, math.fsum(before.values()))
        if len(scores) < _FEW and len(numbers) > 1 and known:
            unknown = math.log(len(self._sources))  # the weight of a word that no text has
            total = math.fsum(known.values()) + unknown * numbers.count(-1)
            self._add_scores(scores, self._with_some(known), known, {}, total)
        return sorted(scores.items(), key=lambda item: (-item[1], item[0]))

    def _add_scores(
        self,
        scores: dict[int, float],
        ranks: Iterable[int],
        query: Mapping[int, float],
        completions: Mapping[int, float],
        total: float,
    ) -> None:
        """Score the texts at `ranks` by the words of `query` and the best one of `completions` (word → weight).

        `total`: the weight of all words of the query, for the recall.
        """
        for rank in itertools.islice(ranks, _MAX_SCORED):
            if rank in scores:
                continue
            text = self._order[rank]
            starts = self._starts[3 * text : 3 * text + 4]
            named = matched = completed = 0.0
            for start, end, (naming, matching, completing) in zip(starts, starts[1:], _KINDS, strict=False):
                for word in self._tokens[start:end]:
                    if word in query:
                        named += naming * query[word]
                        matched += matching * query[word]
                    elif word in completions:
                        completed = max(completed, completing * completions[word])
            precision = min(1.0, (named + completed) / max(self._text_weights[text], _LIGHT_WEIGHT))
            recall = min(1.0, matched / total) if total else 1.0
            if recall >= _MIN_RECALL and precision > 0:
                score = 2 * precision * recall**2 / (precision + recall) + self._added[text]
                scores[rank] = round(score, 5)  # sums of the same numbers in another order are equal

    def _with_all(self, words: Iterable[int]) -> Sequence[int]:
        """The ranks of the texts with all `words`, ascending."""
        shortest, *others = sorted((self._postings[word] for word in words), key=len)
        if not others:
            return shortest
        ranks = set(shortest)
        for posting in others:
            if 16 * len(ranks) < len(posting):
                ranks = {rank for rank in ranks if _contains(posting, rank)}
            else:
                ranks.intersection_update(posting)
        return sorted(ranks)

    def _with_completion(self, ranks: Sequence[int] | None, completions: Iterable[int]) -> Sequence[int]:
        """Those of `ranks` (None: the lightest of all) whose text has a word of `completions`, ascending."""
        if ranks is None:
            lightest = (self._postings[word][:_MAX_OF_COMPLETION] for word in completions)
            return sorted(set(itertools.chain.from_iterable(lightest)))
        among = set(ranks)
        return sorted(set().union(*(among.intersection(self._postings[word]) for word in completions)))

    def _with_some(self, words: Mapping[int, float]) -> Sequence[int]:
        """The ranks of the texts with most of `words` (word → weight), as far as the rarer words tell."""
        weights: dict[int, float] = defaultdict(float)
        visits = _MAX_VISITED
        for word in sorted(words, key=lambda word: (len(self._postings[word]), word)):
            posting = self._postings[word][:visits]
            visits -= len(posting)
            for rank in posting:
                weights[rank] += words[word]
        least = heapq.nlargest(_MAX_PARTIAL, weights.values())[-1]
        above = sorted(rank for rank, weight in weights.items() if weight > least)
        equal = sorted(rank for rank, weight in weights.items() if weight == least)
        return [*above, *equal[: _MAX_PARTIAL - len(above)]]


def _contains(ascending: array, number: int) -> bool:
    index = bisect.bisect_left(ascending, number)
    return index < len(ascending) and ascending[index] == number
