"""Search in the Alphabetic Index, its tables and the Tabular List, by words or by code, ranked as a coder reads.

    search = Search(CodeBook.load())  # seconds; then milliseconds a query
    for hit in search.search("heart fail"):
        print(hit.code, hit.description, hit.where)

Words may come in any order, in any case, with or without accents, in the singular or the plural; the last one may be
unfinished. Searched are the lines of the Index with the titles above them, descriptions, and inclusion terms.
word_index.py ranks them; words that a code takes where the note says no more ("unspecified", "initial encounter",
"closed") weigh next to nothing, so a term alone finds its default code.

Read next: word_index.py and agreement.py, the ranking; abbreviations.py; words.py, how words are compared; page.py, a
code in context.
"""

import bisect
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from minscl.collection import collection_paused
from minscl.data.icd.codebook import CodeBook
from minscl.data.icd.lookup.abbreviations import CLINICAL, INITIALS, Abbreviations
from minscl.data.icd.lookup.agreement import Agreement
from minscl.data.icd.lookup.default_codes import billable_below, default_below, seventh_characters
from minscl.data.icd.lookup.entries import IndexEntry, read_entries
from minscl.data.icd.lookup.word_index import Fit, WordIndex
from minscl.data.icd.lookup.words import compared_words, description_words, split_words, term_words

_CODE = re.compile(r"[A-Z][0-9][0-9A-Z]{0,5}")  # the beginning of a code, without the dot
_CODE_ALONE = re.compile(r"[A-Z][0-9][0-9A-Z](?:[.,][0-9A-Z]*-*|-+)")  # so nobody writes words
_MAX_WORDS = 40  # of a query; a paste is longer
_MAX_COMPARED = 120  # lines whose codes' descriptions are compared with the query
_MAX_HEADINGS = 40  # of these, headings whose codes are
_MAX_PRINTED = 5  # lines that are looked at for capitals
_MAX_BELOW = 200  # billable codes below a heading that are compared with the rest of a query
# Additions to the score. A manifestation is never coded alone, so no term means it by default.
_BILLABLE, _INDEX, _MAIN_TERM, _NO_CODE, _SECTION, _MANIFESTATION = 0.06, 0.03, 0.03, -0.25, -0.1, -0.1

Source = IndexEntry | str | tuple[str, str]  # a line of the Index, a node with its description, (node, inclusion term)


def _printed(source: Source) -> str:
    """The words of a line as printed; "" for a node."""
    return (
        " ".join(source.term.path) if isinstance(source, IndexEntry) else source[1] if isinstance(source, tuple) else ""
    )


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
        self._abbreviations = Abbreviations()
        self._texts: dict[str, int] = {}  # node → number of its description in the index
        with collection_paused():
            self._fill(read_entries(codebook) if entries is None else entries)
        self._codes = sorted(node for node in codebook.nodes if _CODE.match(node))
        codebook.children("")  # has the book list its children now, not in the first search

    def search(self, query: str, limit: int = 20) -> list[Hit]:
        """The best `limit` hits, best first, one for each code (or reference without one); [] if nothing matches.

        A query that begins a code ("e11", "E11.6-") gives the codes that begin so, in the List's order, then words. One
        that is written as a code gives nothing else, whether there is such a code or not ("I50.99", "I5099"), unless it
        has no dot and the books print it ("B12").
        The last word may be unfinished, unless white space follows. Where no entry has all words, the nearest ones.
        A billable code stands before the heading through which it was found. Equal queries give equal results.
        """
        hits = {hit.code: hit for hit in self._code_hits(query, limit)}
        written = list(dict.fromkeys(split_words(query)[:_MAX_WORDS]))
        if len(hits) < limit and not self._is_code_alone(query, written):
            ranked = [
                hit
                for words in dict.fromkeys([tuple(written), self._expanded(written)])
                for hit in self._ranked_hits(words, query[-1:].isspace() or words != tuple(written), limit)
            ]
            for hit in sorted(ranked, key=lambda hit: -hit.score):
                hits.setdefault(hit.code or hit.where, hit)
        return list(hits.values())[:limit]

    def _is_code_alone(self, query: str, written: Sequence[str]) -> bool:
        """Whether `query`, of the words `written`, is written as a code and cannot be words."""
        plain = "".join(query.split()).upper()
        if _CODE_ALONE.fullmatch(plain):
            return True
        known = any(word in self._index.words.numbers or word in CLINICAL for word in written)
        return len(plain) > 2 and bool(_CODE.fullmatch(plain)) and not known

    def _expanded(self, written: Sequence[str]) -> tuple[str, ...]:
        """The words of a query with what its abbreviations stand for in their place."""
        words: list[str] = []
        for word in written:
            may_be = len(word) in INITIALS and word.isascii() and word.isalpha()
            if may_be and word in self._index.words.numbers:
                may_be = self._is_capital(word)
            words += self._abbreviations.expand(word, self._index.phrases(word) if may_be else Counter()) or (word,)
        return tuple(dict.fromkeys(words))

    def _is_capital(self, word: str) -> bool:
        """Whether a text prints the word in capitals, as "Decompensated COPD"."""
        capitals = word.upper()
        return any(capitals in _printed(source) for source in self._index.sources_with(word, _MAX_PRINTED))

    def _ranked_hits(self, written: Sequence[str], is_complete: bool, limit: int) -> list[Hit]:
        """The hits of a search by words, best first; a code may be in several."""
        agreement = Agreement(self._index, written)
        hits: list[Hit] = []
        headings = 0
        for fit in self._index.ranked(written, is_complete, limit)[:_MAX_COMPARED]:
            source = self._index.source(fit.rank)
            node = source.code if isinstance(source, IndexEntry) else source if isinstance(source, str) else source[0]
            where = source.where if isinstance(source, IndexEntry) else "description"
            where = f"inclusion term: {source[1]}" if isinstance(source, tuple) else where
            if not node:
                hits.append(Hit("", "", False, where, fit.score))
                continue
            is_billable = self._book.is_billable(node)
            score = agreement.score(fit, self._texts[node], is_billable)
            if not is_billable and headings < _MAX_HEADINGS:
                headings += 1
                code = self._billable_below(source, node, fit, agreement)
                if code:
                    below = agreement.score(fit, self._texts[code], True, is_chosen=True)
                    hits.append(self._code_hit(code, where, below))
                    if self._book.parent(code) == node and seventh_characters(self._book, node):
                        continue
                    score = min(score, below)
            hits.append(self._code_hit(node, where, score))
        return sorted(hits, key=lambda hit: -hit.score)

    def _fill(self, entries: list[IndexEntry]) -> None:
        index = self._index
        for entry in entries:
            index.add(entry, self._addition(entry), term_words(index.words, entry.term))
        extra = len(entries)
        for node in self._book.nodes:
            description = self._book.description(node) or ""
            self._texts[node] = len(self._texts) + extra
            index.add(node, self._addition(node), description_words(index.words, description))
            self._abbreviations.learn(description)
            for text in self._book.inclusion_terms(node):
                extra += 1
                self._abbreviations.learn(text)
                index.add((node, text), self._addition(node), description_words(index.words, text))
        index.freeze()

    def _addition(self, source: IndexEntry | str) -> float:
        """What is added to the score of a line of the Index or a node."""
        if isinstance(source, str):
            if not source[0].isalpha() or " " in source:
                return _SECTION
            is_manifestation = "in diseases classified elsewhere" in (self._book.description(source) or "")
            return _BILLABLE * self._book.is_billable(source) + _MANIFESTATION * is_manifestation
        is_main_term = len(source.term.path) == 1 and source.term.book == "index"
        added = _INDEX + _MAIN_TERM * is_main_term + _BILLABLE * self._book.is_billable(source.code)
        return added if source.code else _NO_CODE

    def _code_hit(self, code: str, where: str, score: float) -> Hit:
        return Hit(code, self._book.description(code) or "", self._book.is_billable(code), where, round(score, 4))

    def _code_hits(self, query: str, limit: int) -> list[Hit]:
        """The codes that begin with `query`, if it begins a code, in the List's order."""
        bare = re.sub(r"[\s.,]", "", query).upper().rstrip("-")
        if not _CODE.fullmatch(bare):
            return []
        beginning = bare if len(bare) < 4 else f"{bare[:3]}.{bare[3:]}"
        first = bisect.bisect_left(self._codes, beginning)
        codes = itertools.takewhile(lambda code: code.startswith(beginning), self._codes[first : first + limit])
        return [self._code_hit(code, "code", len(beginning) / len(code)) for code in codes]

    def _billable_below(self, source: Source, node: str, fit: Fit, agreement: Agreement) -> str:
        """The billable code below a heading that the rest of the query names: words that the line lacks.

        "left" makes "Cellulitis > leg" L03.116. Without a rest, default_below; "" if there is no such code. No default
        where the Index prints the heading as a whole code: it has been divided since, and the term may name any part.
        """
        rest = agreement.rest(fit)
        context = self._index.words_of(self._index.text_at(fit.rank)) | self._index.words_of(self._texts[node])
        if isinstance(source, IndexEntry):  # also of the term that it refers to: "see Cellulitis, lower limb"
            numbers = self._index.words.numbers
            context |= {numbers[word] for word in compared_words(source.term.see) if word in numbers}
        best, most = "", (0, -_MAX_WORDS)
        if rest:
            for code in itertools.islice(billable_below(self._book, node), _MAX_BELOW):
                below = agreement.fit_below(rest, context, self._texts[code])
                if below > most and below[0]:
                    best, most = code, below
        if best:
            return best
        is_whole = isinstance(source, IndexEntry) and source.printed == source.code
        is_divided = is_whole and not seventh_characters(self._book, node)
        return "" if is_divided else default_below(self._book, node)
