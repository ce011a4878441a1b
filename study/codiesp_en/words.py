"""Words with their offsets, and stems under which a Spanish word meets its English cognate.

Read next: sentences.py.
"""

import re
import unicodedata
from functools import cache
from typing import NamedTuple

WORD = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+")

# Spelling that differs between cognates: leucocitos and leukocytes, fístula and fistula, hipertrofia and hypertrophy.
SPELLINGS = (
    ("ph", "f"), ("th", "t"), ("rh", "r"), ("ch", "c"), ("qu", "c"), ("k", "c"), ("y", "i"), ("ae", "e"), ("oe", "e"),
    ("z", "c"), ("j", "i"), ("h", ""),
)  # fmt: skip
STEM = 6  # letters


def _word_set(text: str) -> frozenset[str]:
    return frozenset(text.split())


SPANISH_FUNCTION_WORDS = _word_set(
    "a al ante bajo con cual cuyo de del desde donde durante e el ella en entre es era esta este estos estas fue "
    "ha había haber hasta la las le lo los más mas mediante muy ni o para pero por presenta presentaba que se "
    "según ser si sobre su sus también tras u un una uno unas unos y ya"
)
ENGLISH_FUNCTION_WORDS = _word_set(
    "a also an and any are as at be been being both but by did do for from had has have he her his in into is it "
    "its of on or she some that the their them there these they this those to was were which who whose with "
    "within would since due during until after before when while"
)
# After a noun these begin something else: "ptosis affecting the left eye", "the confusional state developed".
ENGLISH_VERBS = _word_set(
    "affecting appeared appears associated began caused causing compatible developed disappeared extending found "
    "identified improved involving located observed occupying performed persisted presented presenting revealed "
    "showed suggestive treated"
)


class Word(NamedTuple):
    """A word or number; `start` and `end` are half-open characters of the text it is from."""

    text: str
    start: int
    end: int


def words(text: str, start: int = 0, end: int | None = None) -> list[Word]:
    """The words of `text[start:end]`, with offsets into `text`; punctuation is left out."""
    matches = WORD.finditer(text, start, len(text) if end is None else end)
    return [Word(match.group(), match.start(), match.end()) for match in matches]


def fold(text: str) -> str:
    """Lower case without accents."""
    decomposed = unicodedata.normalize("NFKD", text.lower())
    return "".join(character for character in decomposed if not unicodedata.combining(character))


@cache
def spelling(word: str) -> str:
    """`word` in a spelling that cognates share: "leucocitos" gives "leucocitos", "leukocytes" gives "leucocites"."""
    word = fold(word)
    if word[0].isdigit():
        return word.replace(",", ".")  # Spanish decimals have a comma
    for old, new in SPELLINGS:
        word = word.replace(old, new)
    if re.match("es[bcdfglmnpqrt]", word):
        word = word[1:]  # estenosis, stenosis
    return re.sub(r"(.)\1", r"\1", word) or "h"


def stem(word: str) -> str:
    """The first letters of the shared spelling; a number whole."""
    word = spelling(word)
    return word if word[0].isdigit() else word[:STEM]


@cache
def root(word: str) -> str:
    """The stem without endings of number and gender: masa, masas, mass, masses are `mas`. Acronyms stay whole."""
    if word.isupper() and len(word) > 1:
        return word
    word = spelling(word)
    return word if word[0].isdigit() else re.sub(r"(?<=\w{3})(?:es|as|os|[aeos])$", "", word)[:STEM]


@cache
def cognates(spanish: str, english: str) -> bool:
    """Whether the words are the same number, or share most of their letters from the beginning on."""
    first, second = spelling(spanish), spelling(english)
    if first == second:
        return True
    if first[0].isdigit() or second[0].isdigit():
        return False
    shared = next(
        (k for k, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1]),
        min(len(first), len(second)),
    )
    return shared >= 4 and shared >= 0.55 * max(len(first), len(second))


def is_content(word: Word, text: str, function_words: frozenset[str]) -> bool:
    """Whether `word` carries meaning; the initial in "E. coli" does, though "e" is a conjunction in Spanish."""
    if word.text.lower() not in function_words:
        return True
    return len(word.text) == 1 and word.text.isupper() and text[word.end : word.end + 1] == "."
