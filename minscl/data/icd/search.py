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
from minscl.data.icd.default_codes import billable_below, default_below
from minscl.data.icd.index_entries import IndexEntry, collection_paused, read_entries
from minscl.data.icd.search_words import (
    FUNCTION_WORDS,
    LIGHT,
    WordNumbers,
    Words,
    compared_words,
    description_words,
    singular,
    split_words,
    term_words,
)

_CODE = re.compile(r"[A-Z][0-9][0-9A-Z]{0,5}")  # the beginning of a code, without the dot
_MAX_WORDS = 40  # of a query; a paste is longer
_MAX_SCORED = 1500  # entries scored in a query; they are in order of weight, so the best come first
_MAX_OF_COMPLETION = 60  # entries looked at for each word that completes a query of one
_MAX_PARTIAL = 30_000  # entries visited for queries of which no entry has all words
_MIN_RECALL = 0.5  # of entries that lack words of the query
_MAX_BELOW = 200  # billable codes below a heading that are compared with the rest of a query
_FEW = 5  # hits with all words, below which those that lack words are looked for too
_SYNONYM, _MODIFIER = 0.9, 0.3  # what "auricular" of "atrial or auricular", and a modifier in parentheses, count
_MODIFIER_RECALL = 0.9  # of a word that is only in parentheses: "vomiting" of "Nausea (without vomiting)"
_BILLABLE, _INDEX, _NO_CODE, _SECTION = 0.06, 0.03, -0.25, -0.1  # additions to the score
_LIGHT_WEIGHT = 0.1  # of LIGHT words; others weigh about 2 to 12

Source = IndexEntry | str | tuple[str, str]  # a line of the Index, a node with its description, (node, inclusion term)


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
        written = list(dict.fromkeys(split_words(query)[:_MAX_WORDS]))
        scores = self._word_scores(written, query[-1:].isspace(), limit) if written and len(hits) < limit else {}
        for rank, score in sorted(scores.items(), key=lambda item: (-item[1], item[0])):
            if len(hits) >= limit:
                break
            hit = self._hit(self._sources[self._order[rank]], score)
            code = "" if not hit.code or hit.billable or hit.code in hits else self._billable_below(hit, rank, written)
            if code and code not in hits:
                hits[code] = self._code_hit(code, hit.where, score)
            if not code or self._book.parent(code) != hit.code or len(code) < 8:  # else only the 7th character differs
                hits.setdefault(hit.code or hit.where, hit)
        return list(hits.values())[:limit]

    def _build(self, index: list[IndexEntry]) -> None:
        """Number the words of all entries, weigh them, and list for each word the entries that have it.

        Flat arrays: a tuple for each entry would take ten times the memory.
        """
        words = self._words = Words()
        self._sources: list[Source] = []
        self._tokens = array("I")  # word numbers of all entries, each entry's three kinds one after another
        self._starts = array("I", [0])  # of each kind of each entry, three an entry
        for entry in index:
            self._add_entry(entry, *term_words(words, entry.term))
        for node in self._book.nodes:
            self._add_entry(node, *description_words(words, self._book.description(node) or ""))
            for text in self._book.inclusion_terms(node):
                self._add_entry((node, text), *description_words(words, text))
        words.freeze()
        self._book.children("")  # has the book list its children now, not in the first search
        self._codes = sorted(node for node in self._book.nodes if _CODE.match(node))
        self._weights = self._weigh()
        sums = [0.0, *itertools.accumulate(map(self._weights.__getitem__, self._tokens))]
        self._entry_weights = array("f", (sums[b] - sums[a] for a, b in zip(self._starts[::3], self._starts[1::3])))
        self._additions = array("f", map(self._addition, self._sources))
        keys = [weight - addition for weight, addition in zip(self._entry_weights, self._additions)]
        self._order = array("I", sorted(range(len(keys)), key=keys.__getitem__))  # the lightest entries first
        self._postings = [array("I") for _ in self._weights]  # word → ranks in _order, ascending
        add = [posting.append for posting in self._postings]
        for rank, entry in enumerate(self._order):
            for word in self._words_of(entry):
                add[word](rank)

    def _add_entry(self, source: Source, essential: WordNumbers, synonyms: WordNumbers, modifiers: WordNumbers) -> None:
        """Append an entry to the arrays. A word counts once, as the first kind that it is."""
        self._sources.append(source)
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

    def _weigh(self) -> list[float]:
        """The weight of each word: the logarithm of the share of entries that have it, negated."""
        occurrences = Counter(self._tokens)
        light = {self._words.numbers.get(singular(word)) for word in LIGHT}
        return [
            _LIGHT_WEIGHT if word in light else math.log(len(self._sources) / occurrences[word])
            for word in range(len(occurrences))
        ]

    def _addition(self, source: Source) -> float:
        """What is added to an entry's score."""
        if isinstance(source, IndexEntry):
            if not source.code:
                return _NO_CODE
            return _INDEX + _BILLABLE * self._book.is_billable(source.code)
        node = source if isinstance(source, str) else source[0]
        is_code = node[0].isalpha() and " " not in node
        return _BILLABLE * self._book.is_billable(node) if is_code else _SECTION

    def _words_of(self, entry: int) -> array:
        return self._tokens[self._starts[3 * entry] : self._starts[3 * entry + 3]]

    def _hit(self, source: Source, score: float) -> Hit:
        if isinstance(source, IndexEntry):
            code, where = source.code, source.where
        else:
            code, where = (source, "description") if isinstance(source, str) else (source[0], f"inclusion term: {source[1]}")
        return self._code_hit(code, where, score)

    def _code_hit(self, code: str, where: str, score: float) -> Hit:
        return Hit(code, self._book.description(code) or "", self._book.is_billable(code), where, round(score, 4))

    def _code_hits(self, query: str, limit: int) -> list[Hit]:
        """The codes that begin with `query`, if it begins a code, in the List's order."""
        bare = "".join(query.split()).upper().replace(".", "")
        if not _CODE.fullmatch(bare):
            return []
        beginning = bare if len(bare) < 4 else f"{bare[:3]}.{bare[3:]}"
        first = bisect.bisect_left(self._codes, beginning)
        codes = itertools.takewhile(lambda code: code.startswith(beginning), self._codes[first : first + limit])
        return [self._code_hit(code, "code", len(beginning) / len(code)) for code in codes]

    def _billable_below(self, hit: Hit, rank: int, written: list[str]) -> str:
        """The billable code below a heading that the rest of the query names: words that the entry at `rank` lacks.

        "left" makes "Cellulitis > leg" L03.116. Without a rest, default_below; "" if there is no such code.
        """
        has = {self._words.names[word] for word in self._words_of(self._order[rank])}
        rest = {word for word in map(singular, written) if word in self._words.numbers and word not in has}
        if rest <= LIGHT:
            return default_below(self._book, hit.code)
        context = compared_words(hit.where)  # also of the term that it refers to: "see Cellulitis, lower limb"
        best, most = "", -1.0
        for code in itertools.islice(billable_below(self._book, hit.code), _MAX_BELOW):
            words = compared_words(self._book.description(code) or "")
            common = len(words & context) - len(words) / 100
            if rest <= words and common > most:
                best, most = code, common
        return best

    def _word_scores(self, written: list[str], is_complete: bool, limit: int) -> dict[int, float]:
        """Rank in _order → score, for the entries worth showing. `written`: the folded words of the query.

        First the entries with all words as written; where these are fewer than `limit`, those where the last word is
        the beginning of one, unless it `is_complete`; where these are few, those that lack words.
        """
        numbers = [self._words.numbers.get(singular(word), -1) for word in written]
        known = {number: self._weights[number] for number in numbers if number >= 0}
        unknown = math.log(len(self._sources))  # the weight of a word that no entry has
        total = sum(known.values()) + unknown * numbers.count(-1)
        scores: dict[int, float] = {}
        function = {self._words.numbers.get(word) for word in FUNCTION_WORDS}
        if -1 not in numbers:
            self._add_scores(scores, self._with_all(known.keys() - function or known), known, {}, total)
        if len(scores) < limit and not is_complete and -1 not in numbers[:-1]:
            before = {number: self._weights[number] for number in numbers[:-1]}
            parts = self._words.completions(written[-1])
            completions = {word: part * self._weights[word] for word, part in parts.items() if word not in before}
            others = before.keys() - function
            ranks = self._with_completion(self._with_all(others) if others else None, completions)
            self._add_scores(scores, ranks, before, completions, sum(before.values()))
        if len(scores) < _FEW and len(numbers) > 1 and known:
            self._add_scores(scores, self._with_some(known), known, {}, total)
        return scores

    def _add_scores(
        self,
        scores: dict[int, float],
        ranks: Iterable[int],
        query: Mapping[int, float],
        completions: Mapping[int, float],
        total: float,
    ) -> None:
        """Score the entries at `ranks` by the words of `query` and the best one of `completions` (word → weight).

        `total`: the weight of all words of the query, for the recall.
        """
        for rank in itertools.islice(ranks, _MAX_SCORED):
            if rank in scores:
                continue
            entry = self._order[rank]
            starts = self._starts[3 * entry : 3 * entry + 4]
            named = matched = completed = 0.0
            for start, end, factor in zip(starts, starts[1:], (1.0, _SYNONYM, _MODIFIER)):
                for word in self._tokens[start:end]:
                    if word in query:
                        named += factor * query[word]
                        matched += (1.0 if factor > _MODIFIER else _MODIFIER_RECALL) * query[word]
                    elif word in completions:
                        completed = max(completed, factor * completions[word])
            precision = min(1.0, (named + completed) / max(self._entry_weights[entry], _LIGHT_WEIGHT))
            recall = min(1.0, matched / total) if total else 1.0
            if recall >= _MIN_RECALL and precision > 0:
                scores[rank] = 2 * precision * recall**2 / (precision + recall) + self._additions[entry]

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
        least = heapq.nlargest(_MAX_SCORED // 4, weights.values())[-1]
        return sorted(entry for entry, weight in weights.items() if weight >= least)[: _MAX_SCORED // 4]
