"""lookup: evidence phrases of training data found word for word in the note, longest first. It needs no model.

    coded documents with evidence (Eq. 4), span pairs (Eq. 5) → PhraseTable → matches in a note → codes with evidence

A baseline that this field's papers leave out: what the span data alone are worth, before anything is learned from them.
Of unseen codes it finds only those of span pairs.

A phrase is a sequence of words and punctuation marks, white space and case aside; it matches from word boundary to word
boundary. A note is read from left to right: where phrases begin, the longest is matched, and the next match begins
after it. Each match is evidence of the phrase's codes.

A phrase of the training documents is kept if at least `min_share` of its occurrences in their texts are annotated as
evidence; one inside a longer annotated span ("fever" in "fever of unknown origin") counts neither for nor against it.
Its codes are the one that most of its annotations carry, and those that more than half of these carry too. A code's
score is the share of the phrase's occurrences that carry it.

Read next: lookup_notes.py, from files to coded notes.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from minscl.data.icd import CodeBook
from minscl.data.types import Assignment, CodedDocument, Evidence, Note, Pair

LOOKUP = "lookup"
MIN_SHARE = 0.4
_TOKEN = re.compile(r"(?:\w[\u0300-\u036f]*)+|[^\w\s]")  # a word with its accents, or a punctuation mark
Phrase = tuple[str, ...]
Range = tuple[int, int]  # half-open words
Lengths = Mapping[str, Sequence[int]]
Scores = dict[str, float]  # code → share of the phrase's occurrences that carry it


class Words(NamedTuple):
    """A text's words and punctuation marks: what is compared, and the half-open characters where each stands."""

    keys: list[str]
    places: list[tuple[int, int]]

    def place(self, first: int, last: int) -> tuple[int, int]:
        """The half-open characters of the words `first` to `last`, both included."""
        return self.places[first][0], self.places[last][1]


class Match(NamedTuple):
    """A phrase in a note, at half-open characters, and its codes with their scores."""

    start: int
    end: int
    scores: Scores


class PhraseTable:
    """Phrases with their codes, for longest-match look-up."""

    def __init__(self, scores: Mapping[Phrase, Scores]):
        """`scores`: phrase, as tokenize(text).keys → code → score, 0 to 1."""
        self._scores = scores
        self._lengths = phrase_lengths(scores)

    def __len__(self) -> int:
        return len(self._scores)

    @classmethod
    def build(
        cls, documents: Iterable[CodedDocument], pairs: Iterable[Pair] = (), min_share: float = MIN_SHARE
    ) -> "PhraseTable":
        """The phrases of the located evidence of `documents`, and those of `pairs` that `documents` do not have.

        A phrase of `pairs` that the documents' texts have is judged by its annotations there, so it is left out unless
        it is one of theirs; any other has its most frequent code, by Pair.count, with its share as the score.
        """
        texts = [(words, annotated_ranges(words, item)) for item in documents for words in [tokenize(item.text)]]
        scores = document_phrases(texts, min_share)
        counts: defaultdict[Phrase, Counter[str]] = defaultdict(Counter)
        for pair in pairs:
            if phrase := tuple(tokenize(pair.evidence).keys):
                counts[phrase][pair.code] += pair.count
        lengths = phrase_lengths(counts)
        known = {
            tuple(words.keys[first:last])
            for words, _ in texts
            for first, last in occurrences(words.keys, counts, lengths)
        }
        for phrase, codes in counts.items():
            if phrase not in known:
                code = min(codes, key=lambda code: (-codes[code], code))
                scores[phrase] = {code: codes[code] / codes.total()}
        return cls(scores)

    def matches(self, text: str) -> list[Match]:
        """The longest phrases in `text`, from left to right, without overlap."""
        words = tokenize(text)
        return [
            Match(*words.place(first, last - 1), self._scores[tuple(words.keys[first:last])])
            for first, last in longest_matches(words.keys, self._scores, self._lengths)
        ]

    def code(self, note: Note, codebook: CodeBook) -> CodedDocument:
        """The coded document of `note`: codes in order of first evidence, each with all its matches.

        A code's score is the highest of its phrases'.
        """
        evidence: defaultdict[str, list[Evidence]] = defaultdict(list)
        scores: Scores = {}
        for match in self.matches(note.text):
            quotation = Evidence(note.text[match.start : match.end], match.start, match.end, grounded=True)
            for code, score in match.scores.items():
                evidence[code].append(quotation)
                scores[code] = max(score, scores.get(code, 0.0))
        codes = tuple(
            Assignment(code, codebook.description(code) or "", tuple(quotations), scores[code])
            for code, quotations in evidence.items()
        )
        return CodedDocument(note.id, note.text, codes, warnings=())


def tokenize(text: str) -> Words:
    """The words and punctuation marks of `text`, without case; a letter and its accent are one character."""
    words = Words([], [])
    for match in _TOKEN.finditer(text):
        key = match[0].lower()
        words.keys.append(key if key.isascii() else unicodedata.normalize("NFC", key))
        words.places.append(match.span())
    return words


def phrase_lengths(phrases: Iterable[Phrase]) -> Lengths:
    """First word → numbers of words of the phrases that begin with it, longest first."""
    lengths: defaultdict[str, set[int]] = defaultdict(set)
    for phrase in phrases:
        lengths[phrase[0]].add(len(phrase))
    return {word: sorted(numbers, reverse=True) for word, numbers in lengths.items()}


def occurrences(keys: list[str], phrases: Container[Phrase], lengths: Lengths) -> Iterator[Range]:
    """Where a text has one of `phrases`; of those that begin at one word, the longest first."""
    for first, key in enumerate(keys):
        for length in lengths.get(key, ()):
            if first + length <= len(keys) and tuple(keys[first : first + length]) in phrases:
                yield first, first + length


def longest_matches(keys: list[str], phrases: Container[Phrase], lengths: Lengths) -> Iterator[Range]:
    """The occurrences that are left when, from left to right, the longest is taken and the next begins after it."""
    reached = 0
    for first, last in occurrences(keys, phrases, lengths):
        if first >= reached:
            yield first, last
            reached = last


def annotated_ranges(words: Words, document: CodedDocument) -> dict[Range, set[str]]:
    """Where evidence of `document` is, as ranges of its `words`, and the codes that cite it.

    Evidence that is not located, is blank, or begins or ends inside a word, is no phrase and left out.
    """
    first_at = {start: number for number, (start, _) in enumerate(words.places)}
    last_at = {end: number for number, (_, end) in enumerate(words.places, 1)}
    ranges: defaultdict[Range, set[str]] = defaultdict(set)
    for assignment in document.codes:
        for quotation in assignment.evidence:
            if quotation.start is None or quotation.end is None:
                continue
            text = document.text[quotation.start : quotation.end]
            first = first_at.get(quotation.end - len(text.lstrip()))
            last = last_at.get(quotation.start + len(text.rstrip()))
            if first is not None and last is not None and first < last:
                ranges[first, last].add(assignment.code)
    return ranges


def document_phrases(texts: Sequence[tuple[Words, dict[Range, set[str]]]], min_share: float) -> dict[Phrase, Scores]:
    """The annotated phrases of texts that are kept, with their codes and scores."""
    phrases = {tuple(words.keys[first:last]) for words, ranges in texts for first, last in ranges}
    lengths = phrase_lengths(phrases)
    total: Counter[Phrase] = Counter()
    annotations: defaultdict[Phrase, Counter[frozenset[str]]] = defaultdict(Counter)  # codes of one and the same span
    for words, ranges in texts:
        ends = dict.fromkeys(range(len(words.keys)), 0)  # first word → end of the annotated span that reaches farthest
        for first, last in ranges:
            ends[first] = max(ends[first], last)
        reach = list(accumulate(ends.values(), max))  # the same of all spans that begin at this word or before it
        for first, last in occurrences(words.keys, phrases, lengths):
            phrase = tuple(words.keys[first:last])
            if (first, last) in ranges:
                annotations[phrase][frozenset(ranges[first, last])] += 1
            elif last <= reach[first]:
                continue
            total[phrase] += 1
    return {
        phrase: {code: count / total[phrase] for code, count in main_codes(code_sets).items()}
        for phrase, code_sets in annotations.items()
        if code_sets.total() >= min_share * total[phrase]
    }


def main_codes(code_sets: Counter[frozenset[str]]) -> dict[str, int]:
    """The code in most of `code_sets`, the first of the alphabet where several are, and those in more than half of its
    sets; each with the number of its sets."""
    counts = Counter(code for codes, count in code_sets.items() for code in sorted(codes) for _ in range(count))
    main = min(counts, key=lambda code: (-counts[code], code))
    beside = Counter(
        code for codes, count in code_sets.items() if main in codes for code in codes for _ in range(count)
    )
    return {code: counts[code] for code in sorted(beside) if 2 * beside[code] > counts[main]}
