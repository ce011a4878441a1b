"""Reading the Alphabetic Index and the tables beside it: XML → terms with path, non-essential modifiers, code and `see` reference.

A printed entry
    Diabetes, diabetic (mellitus) (sugar) E11.9
      with
        amyotrophy E11.44
is a main term with two levels below; the term "amyotrophy" has the path ("Diabetes, diabetic", "with", "amyotrophy"). Words
in brackets, the non-essential modifiers, may stand in the note or not: they change no code.

Read next: gold.py, which makes phrases of the terms.
"""

import gzip
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from importlib import resources

INDEX = "icd10cm_index_2025.xml.gz"
NOTE_IN_TITLE = re.compile(r"\s*-?\s*\b(omit code|code (to|by|as|first|also|both)\b.*|see also\b.*)$", re.IGNORECASE)
CODE_AT_END = re.compile(r"\s*\b([A-Z]\d[0-9A-Z](?:\.[0-9A-Z]{1,4})?)-{0,4}$")


@dataclass(frozen=True)
class Term:
    """One line of the Index. `path`: titles from the main term to this one; `code` as printed, dash included; "" where absent.

    `code_in_title`: a code that the printed line has among its words ("immunoglobulin G4-related D89.84") and not in its column.
    `book` and `column`: where it is printed; the tables have several columns, each with a code of its own.
    """

    path: tuple[str, ...]
    modifiers: tuple[str, ...] = ()
    code: str = ""
    see: str = ""
    code_in_title: str = ""
    book: str = "index"
    column: str = ""

    @property
    def default_code(self) -> str:
        return self.code or self.code_in_title

    @property
    def origin(self) -> str:
        """The path as the Index prints it, for the pair's `origin`."""
        return f"{self.book}: {' > '.join(self.path)}" + (f" | {self.column}" if self.column else "")


def read_index(name: str = INDEX, book: str = "index") -> list[Term]:
    """All terms of the bundled index file `name`, in print order; `book` is what `origin` calls it."""
    terms: list[Term] = []
    for element, path, modifiers, code in _lines(_root(name)):
        terms.append(Term(path, modifiers, _text(element.find("code")), _text(element.find("see")), code, book))
    return terms


def read_table(name: str, book: str) -> dict[str, list[Term]]:
    """Column heading → all terms, with that column's code; for the files whose codes stand in numbered cells (dashes alone: no code)."""
    root = _root(name)
    heads = {head.get("col"): _text(head) for head in root.iter("head")}
    columns: dict[str, list[Term]] = {
        heads[number]: [] for number in sorted(heads)[1:]
    }  # the first heads the terms themselves
    for element, path, modifiers, _ in _lines(root):
        cells = {
            heads[cell.get("col")]: _text(cell) for cell in element.findall("cell")
        }  # by number: cells may be left out
        for column, terms in columns.items():
            terms.append(
                Term(
                    path,
                    modifiers,
                    cells.get(column, "").lstrip("-"),
                    _text(element.find("see")),
                    book=book,
                    column=column,
                )
            )
    return columns


def _root(name: str):
    with (resources.files("minscl.data.icd") / "resources" / name).open("rb") as packed, gzip.open(packed) as handle:
        return ElementTree.parse(handle).getroot()


def _lines(root):
    """(element, path, modifiers, code in the title) of every term, in print order."""

    def walk(element, above: tuple[str, ...]):
        title, modifiers, code = _title(element.find("title"))
        yield element, (*above, title), modifiers, code
        for child in element.findall("term"):
            yield from walk(child, (*above, title))

    for main in root.iter("mainTerm"):
        yield from walk(main, ())


def _title(element) -> tuple[str, tuple[str, ...], str]:
    """(words outside the brackets, one string a bracket, a code that stands in the title as plain text or "")."""
    outside, inside = [element.text or ""], []
    for child in element:
        if child.tag == "nemod":
            inside += re.findall(r"\(([^()]*)\)", "".join(child.itertext()))
        else:
            outside.append("".join(child.itertext()))
        outside.append(child.tail or "")
    title = NOTE_IN_TITLE.sub("", " ".join(" ".join(outside).split()))
    code = CODE_AT_END.search(title)
    title = CODE_AT_END.sub("", title) if code else title
    return (
        title.strip(" ,-"),
        tuple(word for word in (" ".join(one.split()) for one in inside) if word),
        code[1] if code else "",
    )


def _text(element) -> str:
    return "" if element is None else " ".join("".join(element.itertext()).split())


class References:
    """Follows `see` references: a comma path such as "Neoplasm, malignant, by site" to the term it names."""

    def __init__(self, terms: list[Term]):
        self._children: dict[tuple[str, ...], dict[str, Term]] = {(): {}}
        for term in terms:
            above = tuple(map(key, term.path[:-1]))
            for spelling in (term.path[-1], *re.split(r", | or ", term.path[-1])):
                self._children.setdefault(above, {}).setdefault(key(spelling), term)

    def follow(self, term: Term) -> tuple[Term | None, str]:
        """(the term at the end of the chain of references, "") or (None, why not)."""
        for _ in range(5):
            if term.default_code or not term.see:
                return (term, "") if term.default_code else (None, "see: the term it leads to has no code of its own")
            target, reason = self._find(term.see)
            if target is None:
                return None, reason
            term = target
        return None, "see: more than five references in a row"

    def _find(self, see: str) -> tuple[Term | None, str]:
        if key(see) == "condition":
            return None, "see condition: names no term"
        if "by site" in see or "by type" in see:
            return None, "see ... by site: no single term"
        if see.startswith("Table of") or re.match(r"[A-Z]\d", see):
            return None, "see: a table or a code range, not a term"
        parts = [part.strip() for part in see.split(",") if part.strip()]
        for taken in range(len(parts), 0, -1):  # main terms hold commas themselves: the longest match first
            term = self._children[()].get(key(", ".join(parts[:taken])))
            for part in parts[taken:]:
                term = term and self._below(tuple(map(key, term.path)), key(part))
            if term:
                return term, ""
        return None, "see: no such term"

    def _below(self, path: tuple[str, ...], wanted: str) -> Term | None:
        """The sub-term `wanted`; prepositions alone on a line ("with", "due to") are looked through."""
        here = self._children.get(path, {})
        if wanted in here:
            return here[wanted]
        for between in ("with", "due to", "in", "specified"):
            deeper = self._children.get((*path, between), {})
            if between in here and wanted in deeper:
                return deeper[wanted]
        return None


def key(title: str) -> str:
    """The form in which two titles are the same: lower case, no brackets, no NEC, singular."""
    folded = " ".join(re.sub(r"\([^)]*\)|\b(NEC|NOS)\b|-$", "", title).lower().split())
    return (
        folded[:-1] if len(folded) > 4 and folded.endswith("s") and not folded.endswith(("ss", "is", "us")) else folded
    )
