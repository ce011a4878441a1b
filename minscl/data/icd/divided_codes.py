"""Re-resolves the terms of an Alphabetic Index that is older than the code set.

The bundled Index prints "Lipodystrophy, insulin E88.1". Since then E88.1 has been divided: it is a heading, and only
the codes below it are billable. One of them is chosen where the Tabular List determines it:

1. The term has exactly the words of a newer code's description elsewhere in the List: "Fasciitis, plantar" is no longer
   in M72.2, it is M67.A, "Plantar fasciitis".
2. The term names one code below: it has all the words that a description, an inclusion term or an Index term of that
   code adds to the heading ("insulin": E88.13), or a rare word that no other code below has ("Simons'": E88.11).
3. The term names none. Then an unspecified code below is right where there is no "other" one, or the term says no more
   than the heading; and an "other" one where none is unspecified: it may represent both (guidelines, section I.A.9).

Every other term is left out, with the reason.

Read next: alphabetic_index.py for the terms; ../spans/gold.py, which counts the outcomes.
"""

import functools
import re
from collections import Counter

from minscl.data.icd.alphabetic_index import Term
from minscl.data.icd.codebook import CodeBook

_STOP_WORDS = frozenset(
    ["a", "an", "and", "as", "at", "by", "classified", "code", "due", "elsewhere", "for", "from", "in", "nec", "nos"]
    + ["not", "of", "on", "or", "other", "specified", "the", "to", "unspecified", "with"]
)
_SIDE = re.compile(r"\b(right|left|bilateral|unspecified)\b", re.IGNORECASE)
_WORD = re.compile(r"[^\W_]+")
_OPTIONAL = re.compile(r"\([^)]*\)|\[[^\]]*\]")  # "Chronic (childhood) granulomatous disease"
_STEM = 6  # letters: "follicle" and "folliculorum" are one word
_MIN_LETTERS = 5  # of a word that is evidence by itself: not "type" or "eye"
_MAX_TERMS = 75  # a word that more terms of the Index have is no evidence by itself: "infestation", "surgery"


class DividedCodes:
    """Which codes of an Index have been divided since it was printed, and to which code below a term of it leads."""

    def __init__(self, terms: list[Term], codebook: CodeBook):
        """`terms`: those of the whole Index."""
        self.codebook = codebook
        self.terms_of: dict[str, list[Term]] = {}  # code as printed → its terms
        for term in terms:
            if term.default_code:
                self.terms_of.setdefault(term.default_code, []).append(term)
        printed = {code for code, users in self.terms_of.items() if not all(user.correction for user in users)}
        self._above_printed = {code[:length].rstrip(".") for code in printed for length in range(3, len(code))}
        self._printed = printed | self._above_printed
        numbers = Counter(stem for term in terms for stem in _stems(term.path[0]) | _stems(term.path[-1]))
        self.common_stems = {stem for stem, number in numbers.items() if number > _MAX_TERMS}
        self._is_divided: dict[str, bool] = {}
        self._codes_below: dict[str, _CodesBelow] = {}

    def is_divided(self, printed: str) -> bool:
        """Whether `printed`, a code as the Index prints it, was billable then and is a heading in the code book.

        It was, if an older bundled edition bills it; or if it is printed without a dash, the Index prints no code below
        it, and the codes below differ in more than the side, which the Index leaves to the List.
        """
        if printed not in self._is_divided:
            self._is_divided[printed] = self._find_is_divided(printed)
        return self._is_divided[printed]

    def _find_is_divided(self, code: str) -> bool:
        book = self.codebook
        if book.is_billable(code) or len(book.children(code)) < 2 or _lacks_7th_character(code, book):
            return False
        if book.when_valid(code).startswith("valid until"):
            return True
        return code in self.terms_of and code not in self._above_printed and not _differ_in_side(code, book)

    def resolve(self, code: str, text: str, modifiers: str = "") -> tuple[str, str]:
        """(code, how) for a term of the divided `code`: the code below, or elsewhere, to which it leads; or
        ("", the reason why there is none). The code may be a heading in its turn, which gold.billable_for resolves.

        `text`: the term's titles, or an inclusion term; `modifiers`: its own nonessential modifiers.
        """
        if code not in self._codes_below:
            self._codes_below[code] = _CodesBelow(code, self)
        return self._codes_below[code].find(text, modifiers)

    def elsewhere(self, text: str, heading: str) -> str:
        """The code outside `heading` whose description has exactly the words of `text`, two or more, and that the Index
        does not know: it is newer; "" if there is none.
        """
        codes = self._codes_of_words.get(_words(text), ())
        return next((code for code in codes if code not in self._printed and not code.startswith(heading)), "")

    @functools.cached_property
    def _codes_of_words(self) -> dict[frozenset[str], list[str]]:
        codes: dict[frozenset[str], list[str]] = {}
        for code in self.codebook.nodes:
            if not code[0].isalpha() or " " in code or len(code) > 7 or code in self._printed:
                continue
            description_words = _words.__wrapped__(self.codebook.description(code) or "")  # each is read once
            if len(description_words) > 1:
                codes.setdefault(description_words, []).append(code)
        return codes


class _CodesBelow:
    """A divided code, and what is known of each code directly below it."""

    def __init__(self, code: str, divided: DividedCodes):
        self._code, self._divided, self._book = code, divided, divided.codebook
        self._description = self._book.description(code) or ""
        self._words = _words(self._description)
        inclusion_terms = self._book.inclusion_terms(code)
        self._says_no_more = [self._words, *map(_words, inclusion_terms)]
        self._has_moved_terms = any(divided.elsewhere(text, code) for text in inclusion_terms)
        children = self._book.children(code)
        self._added: dict[str, set[frozenset[str]]] = {child: set() for child in children}  # words of a text, less own
        self._stems: dict[str, set[str]] = {child: set() for child in children}  # of all texts
        for child in children:
            self._learn_node(child, child)
        for printed in filter(lambda printed: printed.startswith(code), divided.terms_of):
            for child in filter(printed.startswith, children):
                for term in divided.terms_of[printed]:
                    self._learn(child, *term_texts(term))
        for term in divided.terms_of.get(code, ()):  # what these terms name serves the others
            children = self._named(*term_texts(term))
            if len(children) == 1:
                self._learn(children[0], *term_texts(term))

    def _learn_node(self, child: str, node: str) -> None:
        for text in (self._book.description(node) or "", *self._book.inclusion_terms(node)):
            self._learn(child, _OPTIONAL.sub(" ", text), text)
        for below in self._book.children(node):
            self._learn_node(child, below)

    def _learn(self, child: str, essential: str, more: str) -> None:
        self._added[child].add(_words(essential) - self._words)
        self._stems[child] |= _stems(f"{essential} {more}")

    def find(self, text: str, modifiers: str) -> tuple[str, str]:
        """As DividedCodes.resolve."""
        if code := self._divided.elsewhere(text, self._code):
            return code, "a description elsewhere"
        if children := self._named(text, modifiers):
            return (children[0], "names one code below") if len(children) == 1 else ("", "names several codes below")
        if self._has_moved_terms:
            return "", "the List has moved a part elsewhere"
        unspecified = self._unspecified_child()
        others = [child for child in self._added if self._is_other(child)]
        words = _words(text)
        says_no_more = words <= self._words or any(words >= own for own in self._says_no_more)
        if unspecified and (says_no_more or not others):
            return unspecified, "the unspecified code below"
        if len(others) == 1 and not unspecified:
            return others[0], "the other code below"
        return "", "other or unspecified" if unspecified else "several codes below"

    def _named(self, text: str, modifiers: str) -> list[str]:
        """The codes below that the term names. Its modifiers count where the text names none."""
        for words, stems in [(_words(every), _stems(every)) for every in (text, f"{text} {modifiers}")]:
            children = [child for child in self._added if any(added and added <= words for added in self._added[child])]
            if not children:
                rare = stems - self._divided.common_stems - _stems(self._description)
                holders = [[child for child in self._stems if stem in self._stems[child]] for stem in rare]
                children = [child for child in self._stems if [child] in holders]
            if children:
                return children
        return []

    def _unspecified_child(self) -> str:
        """The one code below that the List calls unspecified in most respects, and otherwise like the heading."""
        numbers = {
            child: self._count_unspecified(child)
            for child in self._added
            if _words(self._book.description(child) or "") >= self._words
        }
        most = max(numbers.values(), default=0)
        children = [child for child, number in numbers.items() if number == most]
        return children[0] if most > 0 and len(children) == 1 else ""

    def _count_unspecified(self, child: str) -> int:
        """How often the child's description says "unspecified" more than that of the heading."""
        descriptions = self._book.description(child) or "", self._description
        in_child, in_heading = (text.lower().count("unspecified") for text in descriptions)
        return in_child - in_heading

    def _is_other(self, child: str) -> bool:
        """Whether the List calls the child as the heading, but for words such as "other" and "not elsewhere"."""
        return _words(self._book.description(child) or "") == self._words and self._count_unspecified(child) <= 0


def term_texts(term: Term) -> tuple[str, str]:
    """(the term's titles, its own nonessential modifiers), each as one text."""
    return " ".join(term.path), " ".join(term.modifiers)


def _lacks_7th_character(code: str, book: CodeBook) -> bool:
    """Whether every billable code below needs a 7th character, which the code as printed lacked already then."""
    prefix = f"{book.description(code)}, "
    return all(
        len(child) == 8 and (book.description(child) or "").startswith(prefix)
        if book.is_billable(child)
        else _lacks_7th_character(child, book)
        for child in book.children(code)
    )


def _differ_in_side(code: str, book: CodeBook) -> bool:
    """Whether the codes below say nothing but the side: "right eye", "left eye", "unspecified hip"."""
    descriptions = [book.description(child) or "" for child in book.children(code)]
    own = _words(book.description(code) or "")
    additions = {_words(_SIDE.sub(" ", description)) - own for description in descriptions} - {frozenset()}
    return all(map(_SIDE.search, descriptions)) and len(additions) < 2


@functools.cache
def _words(text: str) -> frozenset[str]:
    """The words of `text` but for stop words: lower case, singular, without the possessive ending."""
    words = _WORD.findall(re.sub(r"['’]s?\b", "", text.lower()))
    return frozenset(_singular(word) for word in words if word not in _STOP_WORDS)


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > _MIN_LETTERS:
        return word[:-3] + "y"
    return word[:-1] if len(word) > 4 and word.endswith("s") and not word.endswith(("ss", "is", "us")) else word


def _stems(text: str) -> frozenset[str]:
    """The beginnings of the words of `text` that are long enough to be evidence."""
    return frozenset(word[:_STEM] for word in _words(text) if len(word) >= _MIN_LETTERS)
