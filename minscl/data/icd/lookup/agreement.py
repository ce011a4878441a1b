"""How well a code's own description agrees with a query, once a line of the Index or the List has led to the code.

A line has few words, so lines that fit a query equally well may lead to codes that say the opposite of it, or more. The
guidelines and the List tell which of these a note without further words means:
    history of a disease     personal, not family history (I.C.21.c.4)
    an injury                the initial encounter, neither subsequent nor a sequela (I.C.19.a)
    a vehicle                a traffic accident (note at V00-V99)
    with or without          without, where the note does not tell

Read next: search.py.
"""

from collections.abc import Sequence

from minscl.data.icd.lookup.texts import Concept
from minscl.data.icd.lookup.word_index import Fit, WordIndex, fit_score
from minscl.data.icd.lookup.words import LIGHT, singular

# Words of a description that make it say what a query without them does not mean → what this costs.
_SPECIAL = {
    "family": 0.4,
    "sequela": 0.1,
    "subsequent": 0.1,
    "history": 0.1,
    "nontraffic": 0.05,
    "newborn": 0.08,
    "neonatal": 0.08,
    "pregnancy": 0.08,
    "childbirth": 0.08,
    "puerperium": 0.08,
}
_OPPOSITE = {"left": "right", "right": "left", "open": "closed", "lower": "upper", "upper": "lower"}
_CONTRADICTION = 0.4
_DESCRIPTION = 0.1  # added where the description has the query's words and no others
# What a word counts that only the description has: of the code that the line leads to, of one below that was chosen so.
_SUPPLIED, _CHOSEN = 0.4, 0.95
_SPECIFIED = 0.15  # what "specified NEC" in a line costs
_OTHER = 0.03  # what a description that begins with "other" costs


class Agreement:
    """A query, `written` as distinct folded words, compared with descriptions: texts of `index`."""

    def __init__(self, index: WordIndex, written: Sequence[str]):
        numbers = index.words.numbers
        self._index = index
        self._concepts = index.concepts(written)
        self._query: Concept = {word: part for concept in self._concepts for word, part in concept.items()}
        self._light = {numbers.get(singular(word), -1) for word in LIGHT}
        self._special = {numbers[word]: cost for word, cost in _SPECIAL.items() if word in numbers}
        self._opposite = {numbers[word]: numbers[other] for word, other in _OPPOSITE.items() if word in numbers}
        self._other = numbers.get("other", -1)
        self._specified = numbers.get("specified", -1)
        self._without = numbers.get("without", -1)

    def score(self, fit: Fit, description: int, is_billable: bool, is_chosen: bool = False) -> float:
        """The score of a line that leads to the code with this description, or to a heading above it (`is_chosen`)."""
        essential, synonyms, modifiers = self._index.kinds_of(description)
        words = {*essential, *synonyms}
        supplied = sum(share for place, share in fit.lacking if not words.isdisjoint(self._concepts[place]))
        recall = min(1.0, fit.recall + (_CHOSEN if is_chosen else _SUPPLIED) * supplied)
        cost = sum(cost for word, cost in self._special.items() if word in words and word not in self._query)
        line = self._index.words_of(self._index.text_at(fit.rank))
        if self._specified in line - self._query.keys():
            cost += _SPECIFIED
        if essential and essential[0] == self._other and self._other not in self._query:
            cost += _OTHER
        for word, other in self._opposite.items():
            if word in words and other not in words and other in self._query and word not in self._query:
                cost += _CONTRADICTION
        if self._without in modifiers and self._without not in self._query:
            denied = set(modifiers) - words - self._light
            cost += _CONTRADICTION * (not denied.isdisjoint(self._query))
        naming = {*essential} - self._light
        asked = [concept for concept in self._concepts if not concept.keys() <= self._light]
        named = sum(word in self._query for word in naming)
        agreement = 2 * named / (len(naming) + len(asked)) if naming and asked and is_billable else 0.0
        return fit_score(fit.precision, recall) + fit.added + _DESCRIPTION * agreement - cost

    def rest(self, fit: Fit) -> list[Concept]:
        """The words of the query that the line lacks, those that say nothing ("unspecified") apart."""
        lacking = [self._concepts[place] for place, _ in fit.lacking]
        return [concept for concept in lacking if concept and not concept.keys() <= self._light]

    def fit_below(self, rest: Sequence[Concept], context: set[int], description: int) -> tuple[int, int]:
        """(how many words of `rest` a description has, minus the number of its words that nothing asks for)."""
        words = self._index.words_of(description)
        extra = words - self._light - context - self._query.keys()
        return sum(not words.isdisjoint(concept) for concept in rest), -len(extra)
