"""Search in the Alphabetic Index, its tables and the Tabular List, by words or by code, ranked as a coder reads.

    search = Search(CodeBook.load())  # seconds; then milliseconds a query
    for hit in search.search("heart fail"):
        print(hit.code, hit.description, hit.where)

Words may come in any order, in any case, with or without accents, in the singular or the plural; the last one may be
unfinished. Searched are the lines of the Index with the titles above them, descriptions, and inclusion terms.
word_index.py ranks them; words that a code takes where the note says no more ("unspecified", "initial encounter",
"closed") weigh next to nothing, so a term alone finds its default code.

Read next: word_index.py, the ranking; words.py, how words are compared; page.py, a code in context.
"""

import bisect
import itertools
import re
from dataclasses import dataclass

from minscl.data.icd.codebook import CodeBook
from minscl.data.icd.lookup.default_codes import billable_below, default_below, seventh_characters
from minscl.data.icd.lookup.entries import IndexEntry, collection_paused, read_entries
from minscl.data.icd.lookup.word_index import WordIndex
from minscl.data.icd.lookup.words import LIGHT, compared_words, description_words, singular, split_words, term_words

_CODE = re.compile(r"[A-Z][0-9][0-9A-Z]{0,5}")  # the beginning of a code, without the dot
_MAX_WORDS = 40  # of a query; a paste is longer
_MAX_BELOW = 200  # billable codes below a heading that are compared with the rest of a query
# Additions to the score. A manifestation is never coded alone, so no term means it by default.
_BILLABLE, _INDEX, _NO_CODE, _SECTION, _MANIFESTATION = 0.06, 0.03, -0.25, -0.1, -0.1

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
        self._index: WordIndex[Source] = WordIndex()
        with collection_paused():
            self._fill(read_entries(codebook) if entries is None else entries)
        self._codes = sorted(node for node in codebook.nodes if _CODE.match(node))
        codebook.children("")  # has the book list its children now, not in the first search

    def search(self, query: str, limit: int = 20) -> list[Hit]:
        """The best `limit` hits, best first, one for each code (or reference without one); [] if nothing matches.

        A query that begins a code ("e11", "E11.6") gives the codes that begin so, in the List's order, then words.
        The last word may be unfinished, unless white space follows. Where no entry has all words, the nearest ones.
        A billable code stands before the heading through which it was found. Equal queries give equal results.
        """
        hits = {hit.code: hit for hit in self._code_hits(query, limit)}
        written = list(dict.fromkeys(split_words(query)[:_MAX_WORDS]))
        ranked = self._index.ranked(written, query[-1:].isspace(), limit) if len(hits) < limit else []
        for rank, score in ranked:
            if len(hits) >= limit:
                break
            source = self._index.source(rank)
            hit = self._hit(source, score)
            if not hit.code or hit.billable or hit.code in hits:
                hits.setdefault(hit.code or hit.where, hit)
                continue
            code = self._billable_below(source, hit, rank, written)
            if code:
                hits.setdefault(code, self._code_hit(code, hit.where, score))
            if not code or self._book.parent(code) != hit.code or not seventh_characters(self._book, hit.code):
                hits.setdefault(hit.code, hit)
        return list(hits.values())[:limit]

    def _fill(self, entries: list[IndexEntry]) -> None:
        index = self._index
        for entry in entries:
            index.add(entry, self._addition(entry), term_words(index.words, entry.term))
        for node in self._book.nodes:
            description = self._book.description(node) or ""
            index.add(node, self._addition(node), description_words(index.words, description))
            for text in self._book.inclusion_terms(node):
                index.add((node, text), self._addition(node), description_words(index.words, text))
        index.freeze()

    def _addition(self, source: IndexEntry | str) -> float:
        """What is added to the score of a line of the Index or a node."""
        if isinstance(source, str):
            if not source[0].isalpha() or " " in source:
                return _SECTION
            is_manifestation = "in diseases classified elsewhere" in (self._book.description(source) or "")
            return _BILLABLE * self._book.is_billable(source) + _MANIFESTATION * is_manifestation
        return _INDEX + _BILLABLE * self._book.is_billable(source.code) if source.code else _NO_CODE

    def _hit(self, source: Source, score: float) -> Hit:
        if isinstance(source, IndexEntry):
            return self._code_hit(source.code, source.where, score)
        if isinstance(source, str):
            return self._code_hit(source, "description", score)
        return self._code_hit(source[0], f"inclusion term: {source[1]}", score)

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

    def _billable_below(self, source: Source, hit: Hit, rank: int, written: list[str]) -> str:
        """The billable code below a heading that the rest of the query names: words that the entry at `rank` lacks.

        "left" makes "Cellulitis > leg" L03.116. Without a rest, default_below; "" if there is no such code. No default
        where the Index prints the heading as a whole code: it has been divided since, and the term may name any part.
        """
        rest = {word for word in map(singular, written) if word in self._index.words.numbers}
        rest -= self._index.words_at(rank)
        if rest <= LIGHT:
            is_whole = isinstance(source, IndexEntry) and source.printed == source.code
            is_divided = is_whole and not seventh_characters(self._book, hit.code)
            return "" if is_divided else default_below(self._book, hit.code)
        context = compared_words(hit.where)  # also of the term that it refers to: "see Cellulitis, lower limb"
        best, most = "", -1.0
        for code in itertools.islice(billable_below(self._book, hit.code), _MAX_BELOW):
            words = compared_words(self._book.description(code) or "")
            common = len(words & context) - len(words) / 100
            if rest <= words and common > most:
                best, most = code, common
        return best
