"""What a rule says of some codes, with the Tabular List's own sentence. Read next: checking.py."""

import re
from dataclasses import asdict, dataclass

from minscl.data.icd.codebook import CodeBook

INVALID = "Invalid"
EXCLUDES1 = "Excludes1"
EXCLUDES1_SIDES = "Excludes1 (different sides)"  # informational: right and left are likely unrelated
EXCLUDES2 = "Excludes2"
CODE_FIRST = "Code first"
USE_ADDITIONAL = "Use additional code"
CODE_ALSO = "Code also"
UNSPECIFIED = "Unspecified"
NOT_ALONE = "Not alone"
ENCOUNTERS = "Encounters"
RULES = (
    INVALID,
    EXCLUDES1,
    CODE_FIRST,
    UNSPECIFIED,
    ENCOUNTERS,
    NOT_ALONE,
    USE_ADDITIONAL,
    CODE_ALSO,
    EXCLUDES1_SIDES,
    EXCLUDES2,
)


_INFECTION = re.compile(
    r"infect|sepsis|septic|abscess|pneumonia|influenza|covid|\w+itis\b|gangren|empyema|necrotizing|perforat",
    re.IGNORECASE,
)
_SIDES = re.compile(r"\b(right|left|fetus \d|other fetus)\b")


@dataclass(frozen=True)
class Finding:
    """`codes` in the document's order; `sentence` is a note of the List, word for word, and `where` the node that it
    stands at ("category I50", "section I30-I5A", "chapter 9"), both "" where the rule is no note. `remedy` says what
    is wrong and what to do.

    `informational`: nothing is wrong as it stands. `wide`: the note stands at a section or chapter, so it speaks of
    very many codes. `other_sentences`: notes that say the same of the same codes, each once.
    """

    rule: str
    codes: tuple[str, ...]
    remedy: str
    sentence: str = ""
    where: str = ""
    informational: bool = False
    wide: bool = False
    other_sentences: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One line that begins with the rule's name."""
        *others, last = self.codes
        codes = f"{', '.join(others)} and {last}" if others else last
        quotation = f" “{self.sentence}” at {self.where};" if self.sentence else ""
        return f"{self.rule}: {codes}:{quotation} {self.remedy}"

    def to_dict(self) -> dict:
        """The fields as JSON holds them."""
        return asdict(self) | {"codes": list(self.codes), "other_sentences": list(self.other_sentences)}


def place_name(node: str, book: CodeBook) -> str:
    """What a coder calls `node`: "chapter 9", "section I30-I5A", "category I50", "subcategory I50.2", "code I50.21"."""
    if node.isdigit():
        return f"chapter {node}"
    if " " in node:
        return node  # "section I30-I5A"
    return f"{'category' if len(node) == 3 else 'subcategory' if book.children(node) else 'code'} {node}"


def on_different_sides(first: str, second: str, book: CodeBook) -> bool:
    """Whether the descriptions put two codes on different sides of the body, or give them to different fetuses."""
    sides = []
    for code in (first, second):
        text = (book.description(code) or "").lower().replace("bilateral", "right left")
        sides.append(set(_SIDES.findall(text)))
    return bool(sides[0] and sides[1] and sides[0].isdisjoint(sides[1]))


def is_infection(code: str, book: CodeBook) -> bool:
    """Whether `code` may name an infection: one of chapter 1, or one whose description, or its category's, says so."""
    titles = f"{book.description(code) or ''} {book.description(book.category(code)) or ''}"
    return book.chapter(book.category(code)) == "1" or bool(_INFECTION.search(titles))


def is_wide(node: str) -> bool:
    """Whether `node` is a chapter or a section."""
    return node.isdigit() or " " in node
