"""Parses the Alphabetic Index and its tables: XML → terms with their path, modifiers, code and `see` reference.

The printed entry
    Diabetes, diabetic (mellitus) (sugar) E11.9
      with
        amyotrophy E11.44
is a main term with two levels of subterms. The subterm "amyotrophy" has the path ("Diabetes, diabetic", "with",
"amyotrophy") and the default code E11.44. The words in parentheses are nonessential modifiers: they may or may not be
in the note and do not change the code.

Read next: index_phrases.py, which turns terms into phrases; ../spans/gold.py, which pairs the phrases with codes.
"""

import dataclasses
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from minscl.data.icd.editions import Edition
from minscl.data.icd.index_corrections import CORRECTION, Correction, apply_corrections, read_corrections
from minscl.data.icd.xml_text import element_text, read_xml
from minscl.errors import InputError

# An instruction printed after the title: "Fracture - see also Injury" → " - see also Injury".
_INSTRUCTION = re.compile(r"\s*-?\s*\b(omit code|code (to|by|as|first|also|both)\b.*|see also\b.*)$", re.IGNORECASE)
# A code printed after the title: "immunoglobulin G4-related D89.84" → " D89.84", group 1 "D89.84".
_CODE_AT_END = re.compile(r"\s*\b([A-Z]\d[0-9A-Z](?:\.[0-9A-Z]{1,4})?)-{0,4}$")
# A reference to one subcategory: "see subcategory T75.0". One to a category ("T71") or a range leaves the choice open.
_SUBCATEGORY = re.compile(r"[A-Z][0-9A-Z]{2}\.[0-9A-Z]{1,4}-?")
_MAX_REFERENCES = 5  # followed in a row by SeeReferences; a longer chain is a cycle


@dataclass(frozen=True)
class Term:
    """A main term or subterm of the Alphabetic Index, or a line of one of its tables."""

    path: tuple[str, ...]  # titles from the main term down to this one
    modifiers: tuple[str, ...] = ()  # nonessential modifiers
    code: str = ""  # as printed, with the dash of an incomplete code; "" if there is none
    see: str = ""  # the `see` reference, or the category or subcategory that it names; "" if there is none
    code_in_title: str = ""  # a code that is part of the title's text instead of the code column
    manifestation: str = ""  # the second code in square brackets, which is never listed alone: E85.4 [I43]
    book: str = "index"  # where it is printed: the Index or the name of a table
    column: str = ""  # of a table that has a code in each of several columns
    correction: str = ""  # "added", or what its code replaces: "instead of I42.0"; "" for a term as printed

    @property
    def default_code(self) -> str:
        """The code assigned to the term as printed; "" if there is none."""
        return self.code or self.code_in_title

    @property
    def is_fragment(self) -> bool:
        """Whether the rebuilt Index lost a word's end after a letter in brackets: "Cancer(o)" is "Cancer(o)phobia"."""
        title, first = self.path[-1], self.modifiers[0] if self.modifiers else ""
        return title.isalpha() and len(first) == 1 and first.islower() and first not in "aes"

    @property
    def origin(self) -> str:
        """Where the term is printed, for Pair.origin: "index: Abscess > brain"."""
        return f"{self.book}: {' > '.join(self.path)}" + (f" | {self.column}" if self.column else "")


def read_index(edition: Edition, role: str = "index", book: str = "index") -> list[Term]:
    """All terms of the edition's Index with that role, in print order, corrected where the edition has corrections.

    `book` is what `origin` calls it. Raises InputError for a damaged file, or a correction that does not fit.
    """
    root = _read_root(edition, role)
    if root.find(".//mainTerm") is None:
        raise InputError(f"{edition.file(role).path}: has no main term, so it is no index; make the edition again")
    if role == "index":
        apply_corrections(root, index_corrections(edition))
    return [
        Term(
            path,
            modifiers,
            element_text(element.find("code")),
            next((text for tag in ("see", "subcat", "seecat") if (text := element_text(element.find(tag)))), ""),
            code_in_title,
            element_text(element.find("manif")).strip("[]"),
            book,
            correction=element.get(CORRECTION, ""),
        )
        for element, path, modifiers, code_in_title in _walk_terms(root)
    ]


def index_corrections(edition: Edition) -> list[Correction]:
    """The corrections of the edition's Index; [] if it has none. Raises InputError."""
    if not edition.has("index-corrections"):
        return []
    return read_corrections(edition.read("index-corrections"), str(edition.file("index-corrections").path))


def read_table(edition: Edition, role: str, book: str) -> dict[str, list[Term]]:
    """Column heading → all terms of the edition's table with that role, each with its code in that column.

    For files that have their codes in numbered cells. A cell of dashes and a missing cell have no code.
    Raises InputError for a damaged file, and for a cell in a column without a heading.
    """
    root = _read_root(edition, role)
    headings = {head.get("col"): element_text(head) for head in root.iter("head")}
    numbers = sorted(number for number in headings if number is not None)[1:]  # the first column has the terms
    columns: dict[str, list[Term]] = {headings[number]: [] for number in numbers}
    for element, path, modifiers, _ in _walk_terms(root):
        cells = {cell.get("col"): element_text(cell).lstrip("-") for cell in element.findall("cell")}
        if not cells.keys() <= headings.keys():
            raise InputError(f"{edition.file(role).path}: a cell of {path[-1]} is in a column without a heading")
        code_in = {headings[number]: code for number, code in cells.items()}
        see = element_text(element.find("see"))
        for column, terms in columns.items():
            terms.append(Term(path, modifiers, code_in.get(column, ""), see, book=book, column=column))
    return columns


def _read_root(edition: Edition, role: str) -> Element:
    return read_xml(edition.read(role), str(edition.file(role).path))


def _walk_terms(root: Element) -> Iterator[tuple[Element, tuple[str, ...], tuple[str, ...], str]]:
    """(element, path, nonessential modifiers, code in the title) of every term, in print order."""

    def walk(element: Element, above: tuple[str, ...]):
        title, modifiers, code = _parse_title(element.find("title"))
        yield element, (*above, title), modifiers, code
        for subterm in element.findall("term"):
            yield from walk(subterm, (*above, title))

    for main_term in root.iter("mainTerm"):
        yield from walk(main_term, ())


def _parse_title(element: Element | None) -> tuple[str, tuple[str, ...], str]:
    """(the title without parentheses, the text of each pair of parentheses, a code at the title's end or "")."""
    if element is None:
        return "", (), ""
    plain, parentheses = [element.text or ""], []
    for child in element:
        if child.tag == "nemod":
            parentheses += re.findall(r"\(([^()]*)\)", "".join(child.itertext()))
        else:
            plain.append("".join(child.itertext()))
        plain.append(child.tail or "")
    title = _INSTRUCTION.sub("", " ".join(" ".join(plain).split()))
    code = _CODE_AT_END.search(title)
    if code:
        title = title[: code.start()]
    modifiers = (" ".join(text.split()) for text in parentheses)
    return title.strip(" ,-"), tuple(text for text in modifiers if text), code[1] if code else ""


class SeeReferences:
    """Resolves `see` references: finds the term that a path such as "Neoplasm, malignant, skin" names.

    A reference may use a part of a title: "Tuberculosis" for the printed "Tuberculosis, tubercular, tuberculous". Where
    several terms answer to a name, a title printed exactly so comes first, then a title's beginning, then any other
    part: "sinus" is not "piriform fossa or sinus", "Gangrene" is "Gangrene, gangrenous" and not "Fournier disease or
    gangrene".
    """

    def __init__(self, terms: list[Term]):
        self._subterms: dict[tuple[str, ...], dict[str, Term]] = {(): {}}  # folded path → folded title → term
        parts = [(term, re.split(r", | or ", term.path[-1])) for term in terms]
        for names in (
            [(term, term.path[-1]) for term in terms],
            [(term, first) for term, (first, *_) in parts],
            [(term, other) for term, (_, *others) in parts for other in others],
        ):
            for term, name in names:
                above = tuple(map(_folded_title, term.path[:-1]))
                self._subterms.setdefault(above, {}).setdefault(_folded_title(name), term)

    def resolve(self, term: Term) -> tuple[Term | None, str]:
        """(the term with a default code that `term` is or leads to, "") or (None, the reason why there is none)."""
        for _ in range(_MAX_REFERENCES):
            if term.default_code:
                return term, ""
            if not term.see:
                return None, "see: the term it leads to has no code of its own"
            if _SUBCATEGORY.fullmatch(term.see):
                return dataclasses.replace(term, code=term.see, see=""), ""
            target, reason = self._find(term.see)
            if target is None:
                return None, reason
            term = target
        return None, "see: more than five references in a row"

    def _find(self, see: str) -> tuple[Term | None, str]:
        if _folded_title(see) == "condition":
            return None, "see condition: names no term"
        if "by site" in see or "by type" in see:
            return None, "see ... by site: no single term"
        if see.startswith("Table of") or re.match(r"[A-Z]\d", see):
            return None, "see: a table, a category or a code range, not a term"
        parts = [part.strip() for part in see.split(",") if part.strip()]
        for length in range(len(parts), 0, -1):  # main terms contain commas themselves: try the longest first
            term = self._subterms[()].get(_folded_title(", ".join(parts[:length])))
            for part in parts[length:]:
                term = term and self._subterm(tuple(map(_folded_title, term.path)), _folded_title(part))
            if term:
                return term, ""
        return None, "see: no such term"

    def _subterm(self, path: tuple[str, ...], title: str) -> Term | None:
        """The subterm `title` below `path`, or below a connective that is a subterm of its own ("with", "due to")."""
        subterms = self._subterms.get(path, {})
        if title in subterms:
            return subterms[title]
        for connective in ("with", "due to", "in", "specified"):
            deeper = self._subterms.get((*path, connective), {})
            if connective in subterms and title in deeper:
                return deeper[title]
        return None


@functools.cache  # titles repeat: "with", "left", "specified NEC"
def _folded_title(title: str) -> str:
    """The form in which references and titles are compared: lower case, singular, without parentheses, NEC and NOS."""
    folded = " ".join(re.sub(r"\([^)]*\)|\b(NEC|NOS)\b|-$", "", title).lower().split())
    is_plural = len(folded) > 4 and folded.endswith("s") and not folded.endswith(("ss", "is", "us"))
    return folded[:-1] if is_plural else folded
