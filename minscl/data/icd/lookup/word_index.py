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
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from minscl.data.icd.lookup.texts import LIGHT_WEIGHT, Concept, Source, Texts

_MAX_SCORED = 1000  # texts scored in a query; they are in order of weight, so the best come first
_MAX_OF_COMPLETION = 60  # texts looked at for each word that completes a query of one
_MAX_VISITED = 6_000  # texts looked at for a query of which few have all words
_MAX_PARTIAL = 300  # of which those with most of the query are scored
_MIN_RECALL = 0.5  # of texts that lack words of the query
_MIN_BEGINNING = 5  # letters of a beginning that is completed although the query is complete; "afib" is no beginning
_FEW = 5  # texts with all words; where there are fewer, those that lack words are looked for too
# What a word counts for the precision, the recall, and the precision where the query has only its beginning, by kind:
# essential; synonym, as "auricular" of "atrial or auricular"; modifier, as "vomiting" of "Nausea (without vomiting)".
_KINDS = ((1.0, 1.0, 1.0), (0.95, 1.0, 0.5), (0.3, 0.9, 0.3))


class Fit(NamedTuple):
    """How a text fits a query."""

    rank: int
    score: float  # fit_score + added
    precision: float
    recall: float
    added: float  # the text's own addition
    lacking: tuple[tuple[int, float], ...]  # (place in the query, share of its weight) of the words it lacks


class WordIndex(Texts[Source]):
    """Texts that are ranked by a query: `add` all of them, `freeze`, then `ranked`."""

    def ranked(self, written: Sequence[str], is_complete: bool, limit: int) -> list[Fit]:
        """The texts that fit `written`, distinct folded words; best first, often more than `limit`.

        First the texts with all words, function words apart; where these are fewer than `limit`, those with a word
        that the last one begins, if `is_complete` only for a word of five letters that no text has; where these are
        few, those that lack words.
        """
        concepts = self.concepts(written)
        fits: dict[int, Fit] = {}
        is_known = [bool(concept) for concept in concepts]
        if concepts and all(is_known):
            self._add_fits(fits, self._with_all(concepts), concepts, {})
        may_complete = not is_complete or (concepts and not is_known[-1] and len(written[-1]) >= _MIN_BEGINNING)
        if concepts and len(fits) < limit and may_complete and all(is_known[:-1]):
            before = concepts[:-1]
            parts = self.words.completions(written[-1])
            named = set().union(*before)
            completions = {word: part * self._weights[word] for word, part in parts.items() if word not in named}
            ranks = self._with_completion(self._with_all(before) if self._required(before) else None, completions)
            self._add_fits(fits, ranks, before, completions)
        if len(fits) < _FEW and len(concepts) > 1 and any(is_known):
            ranks = self._with_some(concepts)
            for least in (_MIN_RECALL, _MIN_RECALL / 2):
                self._add_fits(fits, ranks, concepts, {}, least)
                if fits:
                    break
        return sorted(fits.values(), key=lambda fit: (-fit.score, fit.rank))

    def _weight(self, concept: Concept) -> float:
        """The weight of a word of a query; the greatest of all for one that no text has."""
        if not concept:
            return math.log(len(self._sources))
        best = max(concept.values())
        return max(self._weights[word] for word, part in concept.items() if part == best)

    def _add_fits(
        self,
        fits: dict[int, Fit],
        ranks: Iterable[int],
        concepts: Sequence[Concept],
        completions: Mapping[int, float],
        least: float = _MIN_RECALL,
    ) -> None:
        """How the texts at `ranks` fit the words of the query and the best one of `completions` (word → weight)."""
        weights = [self._weight(concept) for concept in concepts]
        total = math.fsum(weights)
        query: dict[int, tuple[float, float, int]] = {}
        for place, concept in enumerate(concepts):
            for word, part in concept.items():
                if part > query.get(word, (0.0,))[0]:
                    query[word] = part, part * weights[place], place
        for rank in itertools.islice(ranks, _MAX_SCORED):
            if rank in fits:
                continue
            text = self._order[rank]
            starts = self._starts[3 * text : 3 * text + 4]
            completed = 0.0
            named, matched = [0.0] * len(concepts), [0.0] * len(concepts)
            for start, end, (naming, matching, completing) in zip(starts, starts[1:], _KINDS, strict=False):
                for word in self._tokens[start:end]:
                    if word in query:
                        part, weight, place = query[word]
                        named[place] = max(named[place], naming * part * self._weights[word])
                        matched[place] = max(matched[place], matching * weight)
                    elif word in completions:
                        completed = max(completed, completing * completions[word])
            precision = min(1.0, (math.fsum(named) + completed) / max(self._text_weights[text], LIGHT_WEIGHT))
            recall = min(1.0, math.fsum(matched) / total) if total else 1.0
            if recall >= least and precision > 0:
                lacking = tuple((place, weights[place] / total) for place, share in enumerate(matched) if not share)
                score = round(fit_score(precision, recall) + self._added[text], 5)  # sums in any order are equal
                fits[rank] = Fit(rank, score, precision, recall, self._added[text], lacking)

    def _required(self, concepts: Iterable[Concept]) -> list[Concept]:
        """Those that are no function words."""
        return [concept for concept in concepts if not concept.keys() <= self._function_words]

    def _with_all(self, concepts: Sequence[Concept]) -> Sequence[int]:
        """The ranks of the texts with a word of each concept, function words apart, ascending."""
        by_concept = [[self._postings[word] for word in concept] for concept in self._required(concepts) or concepts]
        shortest, *others = sorted(by_concept, key=lambda postings: sum(map(len, postings)))
        if not others and len(shortest) == 1:
            return shortest[0]
        ranks = set().union(*shortest)
        for postings in others:
            if 16 * len(ranks) < sum(map(len, postings)):
                ranks = {rank for rank in ranks if any(_contains(posting, rank) for posting in postings)}
            else:
                ranks = set().union(*(ranks.intersection(posting) for posting in postings))
        return sorted(ranks)

    def _with_completion(self, ranks: Sequence[int] | None, completions: Iterable[int]) -> Sequence[int]:
        """Those of `ranks` (None: the lightest of all) whose text has a word of `completions`, ascending."""
        if ranks is None:
            lightest = (self._postings[word][:_MAX_OF_COMPLETION] for word in completions)
            return sorted(set(itertools.chain.from_iterable(lightest)))
        among = set(ranks)
        return sorted(set().union(*(among.intersection(self._postings[word]) for word in completions)))

    def _with_some(self, concepts: Sequence[Concept]) -> Sequence[int]:
        """The ranks of the texts that fit best by the words that they share, as far as the rarer words tell."""
        found: dict[int, float] = defaultdict(float)
        visits = _MAX_VISITED
        weights = {word: part * self._weight(concept) for concept in concepts for word, part in concept.items()}
        for word in sorted(weights, key=lambda word: (len(self._postings[word]), word)):
            posting = self._postings[word][:visits]
            visits -= len(posting)
            for rank in posting:
                found[rank] += weights[word]
        total = math.fsum(map(self._weight, concepts))
        order, text_weights = self._order, self._text_weights
        scores = [  # fit_score's order: precision is shared / weight of the text, recall is shared / total
            (-shared * shared / (max(text_weights[order[rank]], shared) + total), rank)
            for rank, shared in found.items()
        ]
        return sorted(rank for _, rank in heapq.nsmallest(_MAX_PARTIAL, scores))


def fit_score(precision: float, recall: float) -> float:
    """The harmonic mean of both, times the recall once more."""
    return 2 * precision * recall**2 / (precision + recall)


def _contains(ascending: array, number: int) -> bool:
    index = bisect.bisect_left(ascending, number)
    return index < len(ascending) and ascending[index] == number
