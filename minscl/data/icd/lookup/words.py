"""The words of a line of the Alphabetic Index or of a description, as search compares them.

Words are compared in lower case, without accents and possessives, in the singular: "Crohn's" and "crohns" are "crohn",
"metastases" and "metastasis" are one word. Each word is of one of three kinds:
    essential  a title's words: "Failure", "heart"
    synonyms   forms and alternatives of these: "failed" of "Failure, failed", "auricular" of "atrial or auricular"
    modifiers  what is in parentheses: "(acute)"

Read next: search.py.
"""

import bisect
import functools
import re
import string
import unicodedata

from minscl.data.icd.alphabetic_index import Term

FUNCTION_WORDS = frozenset(
    ("an", "and", "as", "at", "by", "for", "from", "in", "is", "nec", "nos", "of", "on", "or", "the", "to", "with")
)
# Words for what a code says where the note says no more. By the guidelines a fracture not said to be open is coded as
# closed, one not said to be nondisplaced as displaced (I.C.19.c); care of an injury begins with the initial encounter.
LIGHT = FUNCTION_WORDS | {"unspecified", "initial", "encounter", "closed", "displaced", "part", "site"}
_PARENTHESES = re.compile(r"\(([^()]*)\)")
_WORD = re.compile(r"[^\W_]+")
_WITHOUT = re.compile(r"\bwithout (?:loss of )?[^,]*?(?= of | in | on |,|$)")
_CONNECTIVE = re.compile(r"(with|in|due to|following|complicating|by|from|of|on|to)\b")
# British spellings, and Roman numerals of types and stages, in their compared form.
_BRITISH = re.compile(r"(?<=..)our$|(?<!^)[ao]e(?=.)|^[ao]e")
_NUMERALS = {"ii": "2", "iii": "3", "iv": "4"}
_ENDINGS = re.compile(r"(?<=....)(?:ation|ing|ine|ous|ed|al|ar|ic|um|us|is|a|e)$")
_HYPHENATED = re.compile(r"\w+(?:-\w+)+")
_POSSESSIVE = re.compile(r"['’]s?\b")
# Column of a table → (its essential words, synonyms): what the Index calls the column where it refers to the table.
# "Cancer, see also Neoplasm, by site, malignant"; "Metastasis, cancerous, to specified site, see Neoplasm, secondary";
# "Tumor, see also Neoplasm, unspecified behavior"; "Overdose, see Table of Drugs and Chemicals, by drug, poisoning".
_COLUMNS = {
    "Malignant Primary": ("malignant", "primary cancer carcinoma adenocarcinoma"),
    "Malignant Secondary": ("secondary", "metastasis metastatic"),
    "Ca in situ": ("situ", "carcinoma ca in"),
    "Benign": ("benign", "tumor"),
    "Uncertain Behavior": ("uncertain", "behavior tumor"),
    "Unspecified Behavior": ("unspecified", "behavior tumor"),
    "Poisoning Accidental (unintentional)": ("", "poisoning overdose accidental unintentional"),
    "Poisoning Intentional self-harm": ("", "poisoning overdose intentional self-harm"),
    "Poisoning Assault": ("", "poisoning overdose assault"),
    "Poisoning Undetermined": ("", "poisoning overdose undetermined"),
}

WordNumbers = tuple[int, ...]
TextWords = tuple[WordNumbers, WordNumbers, WordNumbers]  # essential, synonyms, modifiers; a word may be of several


class Words:
    """The vocabulary: each word, in its compared form, has a number."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}  # compared form → number
        self.names: list[str] = []  # number → compared form
        self._written: dict[str, int] = {}  # folded word as written → number
        self._sorted: list[str] = []
        self._of_text: dict[str, WordNumbers] = {"": ()}  # titles and parts of descriptions repeat: read once
        self._of_stem: dict[str, list[int]] = {}
        self._of_title: dict[str, tuple[WordNumbers, WordNumbers]] = {}

    def of(self, text: str) -> WordNumbers:
        """The numbers of the words of `text`, in order; new words are added."""
        numbers = self._of_text.get(text)
        if numbers is None:
            numbers = self._of_text[text] = tuple(map(self._number, split_words(text)))
        return numbers

    def of_title(self, title: str) -> tuple[WordNumbers, WordNumbers]:
        """(the essential words of a title, its synonyms).

        What follows a comma is another form where it begins alike ("Failure, failed"), else it says more ("Fracture,
        pathological").
        """
        numbers = self._of_title.get(title)
        if numbers is None:
            essential: WordNumbers = ()
            synonyms: WordNumbers = ()
            first, *others = [title] if _CONNECTIVE.match(title) else title.split(", ")
            for part in [first, *others]:
                name, *alternatives = [part] if _CONNECTIVE.match(part) else part.split(" or ")
                is_synonym = part is not first and (alternatives or name[:3].lower() == first[:3].lower())
                if is_synonym:
                    synonyms += self.of(name)
                else:
                    essential += self.of(name)
                for alternative in alternatives:
                    synonyms += self.of(alternative)
            numbers = self._of_title[title] = essential, synonyms + self.joined(title)
        return numbers

    def joined(self, text: str) -> WordNumbers:
        """The hyphenated words of `text` as one word each: "Pre-eclampsia" is also "preeclampsia"."""
        return self.of(" ".join(_HYPHENATED.findall(text)).replace("-", "")) if "-" in text else ()

    def freeze(self) -> None:
        """No more words will be added: sort them for `completions`, and forget the texts."""
        for word, number in self.numbers.items():
            if len(word) > 4:
                self._of_stem.setdefault(stem(word), []).append(number)
        self._of_text.clear()
        self._of_title.clear()
        self.names = list(self.numbers)
        self._sorted = sorted({*self._written, *self.numbers})

    def related(self, word: str) -> list[int]:
        """The numbers of the words that share the stem of a folded word: "uterine" of "uterus"."""
        compared = singular(word)
        return self._of_stem.get(stem(compared), []) if len(compared) > 4 else []

    def completions(self, beginning: str) -> dict[int, float]:
        """Word number → how much of the word (0..1) `beginning`, a folded word, is; for all words that begin so."""
        completions: dict[int, float] = {}
        for spelling in {beginning, _BRITISH.sub(_american, beginning)}:
            for index in range(bisect.bisect_left(self._sorted, spelling), len(self._sorted)):
                word = self._sorted[index]
                if not word.startswith(spelling):
                    break
                number = self._written.get(word, self.numbers.get(word, -1))
                completions[number] = max(completions.get(number, 0.0), len(spelling) / len(word))
        return completions

    def corrections(self, word: str) -> list[int]:
        """The numbers of the words that differ from a folded word by one letter, or by two that changed places."""
        parts = [(word[:place], word[place:]) for place in range(len(word) + 1)]
        edits = {first + second[1:] for first, second in parts if second}
        edits |= {first + second[1] + second[0] + second[2:] for first, second in parts if len(second) > 1}
        for letter in string.ascii_lowercase:
            edits |= {first + letter + second[1:] for first, second in parts if second}
            edits |= {first + letter + second for first, second in parts}
        return sorted({self._written[edit] for edit in edits & self._written.keys()})

    def _number(self, word: str) -> int:
        number = self._written.get(word)
        if number is None:
            number = self._written[word] = self.numbers.setdefault(singular(word), len(self.numbers))
        return number


def fold(text: str) -> str:
    """Lower case, without accents."""
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))


def split_words(text: str) -> list[str]:
    """The folded words of `text` without possessives. A hyphen separates words."""
    return _WORD.findall(_POSSESSIVE.sub("", fold(text)))


def compared_words(text: str) -> set[str]:
    """The compared forms of the words of `text`."""
    return set(map(singular, split_words(text)))


@functools.cache
def singular(word: str) -> str:
    """The compared form of a folded word: one for singular and plural, British and American; not always English."""
    return _BRITISH.sub(_american, _singular(word)) if len(word) > 4 else _NUMERALS.get(word, _singular(word))


def stem(word: str) -> str:
    """What a compared form has in common with its adjective or participle: "uter" of "uterus", "uterine"; else ""."""
    return _ENDINGS.sub("", word)


def _american(spelling: re.Match) -> str:
    return "or" if spelling[0] == "our" else "e"


def _singular(word: str) -> str:
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("sses", "ches", "shes", "xes")):
        return word[:-2]
    if word.endswith("is"):  # stenosis and stenoses
        return word[:-2] + "e" if word.endswith("sis") else word
    return word[:-1]


def term_words(words: Words, term: Term) -> TextWords:
    """The words of a term with the titles above it."""
    essential: WordNumbers = ()
    synonyms: WordNumbers = ()
    modifiers: WordNumbers = ()
    path = term.path
    if term.column:
        essential, synonyms = map(words.of, _COLUMNS.get(term.column, ("", term.column)))
        if essential:  # a neoplasm: the main term is "Neoplasm, neoplastic"
            synonyms += words.of(path[0])
            path = path[1:]
    for title in path:
        first, others = words.of_title(title)
        essential += first
        synonyms += others
    for text in term.modifiers:
        modifiers += words.of(text)
    return essential, synonyms, modifiers


def description_words(words: Words, text: str) -> TextWords:
    """The words of a description or inclusion term."""
    modifiers: WordNumbers = ()
    if "(" in text:
        for parenthesis in _PARENTHESES.findall(text):
            modifiers += words.of(parenthesis)
        text = _PARENTHESES.sub("", text)
    if "without" in text:  # the default where the note does not say: as if in parentheses
        for without in _WITHOUT.findall(text):
            modifiers += words.of(without)
        text = _WITHOUT.sub("", text)
    essential: WordNumbers = ()
    for part in text.split(", "):  # "initial encounter": parts repeat, and are split once
        essential += words.of(part)
    synonyms = words.joined(text)
    is_cancer = "alignant neoplasm" in text and "econdary" not in text  # by the Index, as in _COLUMNS
    return essential, synonyms + words.of("cancer carcinoma adenocarcinoma") if is_cancer else synonyms, modifiers
