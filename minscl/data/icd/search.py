"""Search in the Alphabetic Index, its tables and the Tabular List, by words or by code, ranked as a coder reads.

    search = Search(CodeBook.load())  # seconds; then milliseconds a query
    for hit in search.search("heart fail"):
        print(hit.code, hit.description, hit.where)

Words may come in any order, in any case, with or without accents, in the singular or the plural; the last one may be
unfinished. Every entry (an Index line with the path above it, a description, an inclusion term) is a set of words,
each with a weight: rare words weigh more (inverse document frequency). An entry's score is the harmonic mean of
    precision  how much of the entry the query names: "heart failure" names all of "Failure, failed > heart (acute)"
    recall     how much of the query the entry has
plus small additions for billable codes and lines of the Index. Words that a code takes where the note says no more
("unspecified", "initial encounter", "closed") weigh next to nothing, so a term alone finds its default code.

Read next: search_words.py, how words are compared; lookup.py, a code in context.
"""

import bisect
import heapq
import itertools
import math
import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from minscl.data.icd.codebook import CodeBook
from minscl.data.icd.index_entries import IndexEntry, collection_paused, read_entries
from minscl.data.icd.search_words import LIGHT, WordNumbers, Words, description_words, singular, split_words, term_words

_CODE = re.compile(r"[A-Z][0-9][0-9A-Z]{0,5}")  # the beginning of a code, without the dot
_MAX_WORDS = 40  # of a query; a paste is longer
_MAX_SCORED = 1500  # entries scored in a query; they are in order of weight, so the best come first
_MAX_OF_COMPLETION = 60  # entries looked at for each word that completes a query of one
_MAX_PARTIAL = 60_000  # entries visited for queries of which no entry has all words
_MIN_RECALL = 0.5  # of entries that lack words of the query
_SYNONYM, _MODIFIER = 0.9, 0.3  # what "auricular" of "atrial or auricular", and a modifier in parentheses, count
_BILLABLE, _INDEX, _NO_CODE, _SECTION = 0.06, 0.03, -0.1, -0.1  # additions to the score
_LIGHT_WEIGHT = 0.1  # of LIGHT words; others weigh about 2 to 12

Source = IndexEntry | tuple[str, str]  # a line of the Index, or (node, its inclusion term or "" for its description)


@dataclass(frozen=True)
class Hit:
    """A code, and the best place that leads to it."""

    code: str  # of the Tabular List, also a heading, section or chapter; "" for a reference to no single code
    description: str  # "" if code is
    billable: bool
    where: str  # "index: Failure, failed > heart", "inclusion term: ...", "description", "code"
    score: float  # 1 and more: the query is the entry


class Search:
    """Search in one edition. `entries`: read_entries(codebook), if the caller has them already."""

    def __init__(self, codebook: CodeBook, entries: list[IndexEntry] | None = None):
        self._book = codebook
        with collection_paused():
            self._build(read_entries(codebook) if entries is None else entries)

    def search(self, query: str, limit: int = 20) -> list[Hit]:
        """The best `limit` hits, best first, one for each code (or reference without one); [] if nothing matches.

        A query that begins a code ("e11", "E11.6") gives the codes that begin so, in the List's order, then words.
        The last word may be unfinished, unless white space follows. Where no entry has all words, the nearest ones.
        Equal queries give equal results.
        """
        hits = {hit.code: hit for hit in self._code_hits(query, limit)}
        scores = self._word_scores(query, limit) if len(hits) < limit else {}
        for entry, score in sorted(scores.items(), key=lambda item: (-item[1], item[0])):
            if len(hits) >= limit:
                break
            hit = self._hit(entry, score)
            hits.setdefault(hit.code or hit.where, hit)
        return list(hits.values())

    def _build(self, index: list[IndexEntry]) -> None:
        """Number the words of all entries, weigh them, and list for each word the entries that have it.

        Entries are numbered in order of weight, so that those with the fewest words besides a query's come first.
        Flat arrays: small objects would take ten times the memory.
        """
        self._words = Words()
        sources, kinds = [], []
        for source, words in self._entries(index):
            sources.append(source)
            essential, synonyms, modifiers = map(dict.fromkeys, words)
            kinds.append(
                (
                    tuple(essential),
                    tuple(word for word in synonyms if word not in essential),
                    tuple(word for word in modifiers if word not in essential and word not in synonyms),
                )
            )
        occurrences = Counter(itertools.chain.from_iterable(itertools.chain.from_iterable(kinds)))
        light = {self._words.numbers[word] for word in map(singular, LIGHT) if word in self._words.numbers}
        self._weights = [
            _LIGHT_WEIGHT if word in light else math.log(len(sources) / occurrences[word])
            for word in range(len(occurrences))
        ]
        weights = [sum(map(self._weights.__getitem__, essential)) for essential, _, _ in kinds]
        additions = list(map(self._addition, sources))
        keys = [weight - addition for weight, addition in zip(weights, additions, strict=True)]
        order = sorted(range(len(sources)), key=keys.__getitem__)
        self._sources = [sources[entry] for entry in order]  # an Index line, or (node, its inclusion term or "")
        self._entry_weights = array("f", map(weights.__getitem__, order))
        self._additions = array("f", map(additions.__getitem__, order))
        self._tokens, self._starts = array("I"), array("I", [0])  # words of all entries, the three kinds one by one
        self._postings = [array("I") for _ in self._weights]  # word → its entries, ascending
        for number, entry in enumerate(order):
            for kind in kinds[entry]:
                self._tokens.extend(kind)
                self._starts.append(len(self._tokens))
                for word in kind:
                    self._postings[word].append(number)
        self._words.freeze()
        self._bare_codes = sorted((node.replace(".", ""), node) for node in self._book.nodes if _CODE.match(node))

    def _entries(self, index: list[IndexEntry]) -> Iterator[tuple[Source, tuple[WordNumbers, ...]]]:
        """(source, words of each kind) of all entries: the Index, descriptions, inclusion terms."""
        for entry in index:
            yield entry, term_words(self._words, entry.term)
        for node in self._book.nodes:
            yield (node, ""), description_words(self._words, self._book.description(node) or "")
            for text in self._book.inclusion_terms(node):
                yield (node, text), description_words(self._words, text)

    def _addition(self, source: Source) -> float:
        """What is added to an entry's score."""
        code = source[0] if isinstance(source, tuple) else source.code
        if not code:
            return _NO_CODE
        is_code = code[0].isalpha() and " " not in code
        addition = 0.0 if is_code else _SECTION
        addition += _BILLABLE if self._book.is_billable(code) else 0.0
        return addition + (0.0 if isinstance(source, tuple) else _INDEX)

    def _hit(self, entry: int, score: float) -> Hit:
        source = self._sources[entry]
        if isinstance(source, IndexEntry):
            code, where = source.code, source.where
        else:
            code, where = source[0], f"inclusion term: {source[1]}" if source[1] else "description"
        return self._code_hit(code, where, score)

    def _code_hit(self, code: str, where: str, score: float) -> Hit:
        return Hit(code, self._book.description(code) or "", self._book.is_billable(code), where, round(score, 4))

    def _code_hits(self, query: str, limit: int) -> list[Hit]:
        """The codes that begin with `query`, if it begins a code, in the List's order."""
        beginning = "".join(query.split()).upper().replace(".", "")
        if not _CODE.fullmatch(beginning):
            return []
        first = bisect.bisect_left(self._bare_codes, (beginning, ""))
        codes = itertools.takewhile(lambda item: item[0].startswith(beginning), self._bare_codes[first : first + limit])
        return [self._code_hit(code, "code", len(beginning) / len(bare)) for bare, code in codes]

    def _word_scores(self, query: str, limit: int) -> dict[int, float]:
        """Entry → score, for the entries worth ranking.

        First the entries with all words as written, then those where the last word is the beginning of one, then those
        that lack words: each only if the ones before are fewer than `limit`.
        """
        written = list(dict.fromkeys(split_words(query)[:_MAX_WORDS]))
        numbers = [self._words.numbers.get(singular(word), -1) for word in written]
        known = {number: self._weights[number] for number in numbers if number >= 0}
        unknown = math.log(len(self._sources))  # the weight of a word that no entry has
        total = sum(known.values()) + unknown * numbers.count(-1)
        scores: dict[int, float] = {}
        if not written:
            return scores
        if -1 not in numbers:
            self._add_scores(scores, self._with_all(known), known, {}, total)
        if len(scores) < limit and query[-1:].strip():
            *before, last = written
            completions = {word: part * self._weights[word] for word, part in self._words.completions(last).items()}
            words = {self._words.numbers.get(singular(word), -1) for word in before}
            if -1 not in words and completions:
                others = {word: self._weights[word] for word in words}
                entries = self._with_completion(self._with_all(others) if others else None, completions)
                self._add_scores(scores, entries, others, completions, sum(others.values()))
        if len(scores) < limit and len(known) > 1:
            self._add_scores(scores, self._with_some(known), known, {}, total)
        return scores

    def _add_scores(
        self,
        scores: dict[int, float],
        entries: Iterable[int],
        query: Mapping[int, float],
        completions: Mapping[int, float],
        total: float,
    ) -> None:
        """Score `entries` by the words of `query` and the best one of `completions` (word → weight).

        `total`: the weight of all words of the query, for the recall.
        """
        for entry in itertools.islice(entries, _MAX_SCORED):
            if entry in scores:
                continue
            starts = self._starts[3 * entry : 3 * entry + 4]
            named = matched = completed = 0.0
            for start, end, factor in zip(starts, starts[1:], (1.0, _SYNONYM, _MODIFIER)):
                for word in self._tokens[start:end]:
                    if word in query:
                        named += factor * query[word]
                        matched += query[word]
                    elif word in completions:
                        completed = max(completed, factor * completions[word])
            precision = min(1.0, (named + completed) / max(self._entry_weights[entry], _LIGHT_WEIGHT))
            recall = min(1.0, matched / total) if total else 1.0
            if recall >= _MIN_RECALL and precision > 0:
                scores[entry] = 2 * precision * recall / (precision + recall) + self._additions[entry]

    def _with_all(self, words: Iterable[int]) -> Sequence[int]:
        """The entries with all `words`, ascending."""
        shortest, *others = sorted((self._postings[word] for word in words), key=len)
        if not others:
            return shortest
        entries = set(shortest)
        for posting in others:
            if len(entries) * 16 < len(posting):
                entries = {entry for entry in entries if posting[bisect.bisect_left(posting, entry, hi=len(posting) - 1)] == entry}
            else:
                entries.intersection_update(posting)
        return sorted(entries)

    def _with_completion(self, entries: Sequence[int] | None, completions: Iterable[int]) -> Sequence[int]:
        """Those of `entries` (None: the lightest of all) that have a word of `completions`, ascending."""
        if entries is None:
            lightest = (self._postings[word][:_MAX_OF_COMPLETION] for word in completions)
            return sorted(set(itertools.chain.from_iterable(lightest)))
        among = set(entries)
        return sorted(set().union(*(among.intersection(self._postings[word]) for word in completions)))

    def _with_some(self, words: Mapping[int, float]) -> list[int]:
        """The entries with the greatest weight of `words` (word → weight), as far as the rarer ones tell."""
        weights: dict[int, float] = defaultdict(float)
        visits = _MAX_PARTIAL
        for word in sorted(words, key=lambda word: (len(self._postings[word]), word)):
            posting = self._postings[word][:visits]
            visits -= len(posting)
            for entry in posting:
                weights[entry] += words[word]
        least = heapq.nlargest(_MAX_SCORED // 3, weights.values())[-1]
        return sorted(entry for entry, weight in weights.items() if weight >= least)
