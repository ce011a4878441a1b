"""From a phrase of a note to billable codes that it may mean: BM25 over the Alphabetic Index and the Tabular List.

    score(q, d) = Σ over words w of q:  idf(w) · tf(w, d) / (tf(w, d) + k1 · (1 - b + b · |d| / mean |d|))
    idf(w) = ln(1 + (N - df(w) + 0.5) / (df(w) + 0.5))

(Robertson and Zaragoza 2009 in Lucene's form, without the constant factor k1 + 1; the defaults are bm25s's.) A text d
is a line of the Index with the titles above it, a description of the Tabular List, or an inclusion term. A code's score
is that of its best text. A heading stands for the billable code below it that says no more; without one it is left out.

Written out here because a core command needs it: bm25s and rank-bm25 would each be one more dependency, for forty
lines, and leave the order of equal scores to numpy's partition. A test compares the scores with bm25s's.

Left out are nonessential modifiers (in parentheses in the Index), the Table of Drugs, and descriptions that differ in
the 7th character alone.

Read next: clh.py, which lets the LLM choose among these codes; data/icd/lookup/search.py, the coder's search, which
ranks the same texts by its own rules.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from minscl import __version__
from minscl.collection import collection_paused
from minscl.data.icd import CodeBook
from minscl.data.icd.cache import cache_folder, read_cache, write_cache
from minscl.data.icd.lookup.abbreviations import Abbreviations
from minscl.data.icd.lookup.default_codes import default_below
from minscl.data.icd.lookup.entries import IndexEntry, read_entries
from minscl.data.icd.lookup.words import FUNCTION_WORDS, singular, split_words

K1, B = 1.5, 0.75
DRUGS = "drug table"  # the Table of Drugs: a drug that a note names is seldom a poisoning
LONGEST_CODE = 8  # characters, the 7th character included
MAX_TEXTS = 1000  # best texts whose codes are looked at


class BM25:
    """BM25 over texts, each a list of words."""

    def __init__(self, texts: Iterable[Sequence[str]], k1: float = K1, b: float = B):
        postings: dict[str, list[tuple[int, int]]] = {}  # word → (number of the text, times in it)
        lengths = []
        for number, words in enumerate(texts):
            lengths.append(len(words))
            for word, count in Counter(words).items():
                postings.setdefault(word, []).append((number, count))
        total = len(lengths)
        norm = k1 * (1 - b + b * np.array(lengths) / max(1.0, sum(lengths) / max(1, total)))
        self.size = total
        self.postings: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # word → (numbers of texts, what it adds to each)
        for word, pairs in postings.items():
            numbers, counts = np.array(pairs).T
            idf = math.log(1 + (total - len(pairs) + 0.5) / (len(pairs) + 0.5))
            self.postings[word] = numbers, idf * counts / (counts + norm[numbers])

    def scores(self, query: Iterable[str]) -> np.ndarray:
        """The score of each text, float64 (number of texts,); a word that is twice in `query` counts twice."""
        scores = np.zeros(self.size)
        for word in query:
            if word in self.postings:
                numbers, added = self.postings[word]
                scores[numbers] += added
        return scores

    def best(self, query: Iterable[str], limit: int) -> list[tuple[int, float]]:
        """(number, score) of the `limit` best texts with a word of `query`, best first; of equals the first."""
        scores = self.scores(query)
        numbers = np.flatnonzero(scores)
        order = numbers[np.lexsort((numbers, -scores[numbers]))][:limit]
        return [(int(number), float(scores[number])) for number in order]


class Retriever:
    """The billable codes of an edition, by words of a note; built in seconds.

    `entries`: read_entries(codebook), if the caller has them already; without them, the words of all texts come from
    the user's cache folder, where they are after the first time.
    """

    def __init__(self, codebook: CodeBook, entries: list[IndexEntry] | None = None):
        self.codebook = codebook
        self.abbreviations = Abbreviations()
        for _, text in descriptions(codebook):
            self.abbreviations.learn(text)
        with collection_paused():
            # number of a text → the node that it leads to; its words
            self.nodes, texts = load_texts(codebook) if entries is None else indexed_texts(codebook, entries)
            self.index = BM25(text.split() for text in texts)
        self._billable: dict[str, str] = {}

    def codes(self, phrase: str, limit: int) -> list[str]:
        """At most `limit` distinct billable codes for `phrase`, best first; [] if no text shares a word with it."""
        codes: dict[str, None] = {}
        for number, _ in self.index.best(self.query(phrase), MAX_TEXTS):
            if code := self._code(self.nodes[number]):
                codes[code] = None
                if len(codes) == limit:
                    break
        return list(codes)

    def query(self, phrase: str) -> list[str]:
        """The distinct words of `phrase`, and what the abbreviations that the books print stand for."""
        words = split_words(phrase)
        expanded = [part for word in words for part in self.abbreviations.expand(word, Counter())]
        return list(dict.fromkeys(word for item in (*words, *expanded) for word in words_of(item)))

    def _code(self, node: str) -> str:
        """The billable code that `node` stands for; "" if there is none."""
        if node not in self._billable:
            self._billable[node] = default_below(self.codebook, node)
        return self._billable[node]


def load_texts(codebook: CodeBook) -> tuple[list[str], list[str]]:
    """`indexed_texts` from the cache folder, where it is after the first time; another version of minscl reads anew."""
    folder = cache_folder()
    path = folder / f"retrieval-{__version__}-{codebook.edition.digest}.json" if folder else None
    match read_cache(path) if path else None:
        case [[_, *_] as nodes, [_, *_] as texts] if len(nodes) == len(texts):
            return nodes, texts
    nodes, texts = indexed_texts(codebook, read_entries(codebook))
    if path:
        write_cache(path, [nodes, texts])
    return nodes, texts


def indexed_texts(codebook: CodeBook, entries: Iterable[IndexEntry]) -> tuple[list[str], list[str]]:
    """(the node that each text leads to, its words with spaces between): lines of the Index, then the Tabular List."""
    lines = [
        (entry.code, " ".join((*entry.term.path, entry.term.column)))
        for entry in entries
        if entry.code and entry.term.book != DRUGS
    ]
    lines += descriptions(codebook)
    return [node for node, _ in lines], [" ".join(words_of(text)) for _, text in lines]


def descriptions(codebook: CodeBook) -> Iterator[tuple[str, str]]:
    """(node, text): descriptions and inclusion terms, but for chapters, sections and what only a 7th character tells
    apart."""
    for node in codebook.nodes:
        is_wide = node.isdigit() or " " in node  # a chapter or a section
        if is_wide or len(node) == LONGEST_CODE and len(codebook.children(codebook.parent(node) or "")) > 1:
            continue
        for text in (codebook.description(node) or "", *codebook.inclusion_terms(node)):
            yield node, text


def words_of(text: str) -> list[str]:
    """The words of `text` as they are compared: folded, in the singular, without function words."""
    return [singular(word) for word in split_words(text) if word not in FUNCTION_WORDS]
