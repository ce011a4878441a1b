"""Edits of an Alphabetic Index that is older than its edition: a table, applied to the Index's XML before it is read.

    action <tab> path <tab> old <tab> new

The path has the titles as the uncorrected Index prints them, with their modifiers: "Fibromatosis > plantar(fascial)".
Actions: add_term (as the last subterm, with the code `new`, if any), replace_code (`old` by `new`), replace_see_by_code
(`old` is "see: " and the reference), revise_title (`old` and `new` as XML, with <nemod>), delete_term (with the code
`old`).

Read next: alphabetic_index.py.
"""

import re
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement

from minscl.data.icd.xml_text import element_text, read_xml
from minscl.errors import InputError

CORRECTION = "correction"  # the attribute of a term with a new code: ADDED, or REPLACED and what it had before
ADDED, REPLACED = "added", "instead of "
_ACTIONS = ("add_term", "replace_code", "replace_see_by_code", "revise_title", "delete_term")
_REMEDY = "the table belongs to another Index; make the edition again (expand official)"


@dataclass(frozen=True)
class Correction:
    """A line of the table; `place` is its file and number, for messages."""

    place: str
    action: str
    path: str
    old: str
    new: str


def read_corrections(content: bytes, name: str) -> list[Correction]:
    """The corrections in the table `content`, in order; `name` is what messages call it. Raises InputError."""
    header, *lines = content.decode("utf-8", "replace").removesuffix("\n").split("\n")
    if header.split("\t")[0] != "action" or not lines:
        raise InputError(f"{name}:1: not a table of corrections with its heading; {_REMEDY}")
    corrections: list[Correction] = []
    for number, line in enumerate(lines, 2):
        action, *fields = line.split("\t")
        if action not in _ACTIONS or len(fields) != 3:
            raise InputError(f"{name}:{number}: not an action, path, old and new, tab-separated; {_REMEDY}")
        if any([action, *map(_one_line, fields)] == [row.action, row.path, row.old, row.new] for row in corrections):
            raise InputError(f"{name}:{number}: the same correction twice; {_REMEDY}")
        corrections.append(Correction(f"{name}:{number}", action, *map(_one_line, fields)))
    return corrections


def apply_corrections(root: Element, corrections: list[Correction]) -> None:
    """Edit the Index `root`, each correction exactly once.

    Raises InputError for a path that the Index does not have exactly once, or whose `old` is not what it prints there.
    """
    terms = _terms_by_path(root)
    for correction in corrections:
        path, _, title = (
            correction.path.rpartition(" > ") if correction.action == "add_term" else (correction.path, "", "")
        )
        if len(terms.get(path, [])) != 1:
            number = len(terms.get(path, []))
            raise InputError(f"{correction.place}: {number} terms of the Index have the path {path}; {_REMEDY}")
        parent, term = terms[path][0]
        if correction.action == "add_term":
            added = _add_term(term, title, correction.new)
            terms.setdefault(correction.path, []).append((term, added))
        else:
            _edit(term, parent, correction)


def _terms_by_path(root: Element) -> dict[str, list[tuple[Element, Element]]]:
    """Path as printed → (parent, term) of every term that has it."""
    terms: dict[str, list[tuple[Element, Element]]] = {}

    def collect(parent: Element, tag: str, above: str) -> None:
        for term in parent.findall(tag):
            path = above + element_text(term.find("title"))
            terms.setdefault(path, []).append((parent, term))
            collect(term, "term", f"{path} > ")

    for letter in root.findall("letter"):
        collect(letter, "mainTerm", "")
    return terms


def _add_term(parent: Element, title: str, code: str) -> Element:
    """A new last subterm; `title` has its modifiers in parentheses: "specified(nonfamilial) NEC"."""
    term = SubElement(parent, "term", {CORRECTION: ADDED})
    element = SubElement(term, "title")
    element.text, opening, rest = title.partition("(")
    if opening:
        modifiers, closing, tail = rest.rpartition(")")
        nemod = SubElement(element, "nemod")
        nemod.text, nemod.tail = opening + modifiers + closing, tail
    if code:
        SubElement(term, "code").text = code
    return term


def _edit(term: Element, parent: Element, correction: Correction) -> None:
    """Any action but add_term."""
    tag = {"revise_title": "title", "replace_see_by_code": "see"}.get(correction.action, "code")
    printed = element_text(term.find(tag))
    old = re.sub(r"<[^>]*>", "", correction.old).removeprefix("see: ")
    if printed != old:
        raise InputError(
            f"{correction.place}: {correction.path} has the {tag} {printed or 'none'}, not {old}; {_REMEDY}"
        )
    if correction.action == "delete_term":
        parent.remove(term)
        return
    for element in term.findall(tag):
        term.remove(element)
    if tag == "title":
        term.insert(0, read_xml(f"<title>{correction.new}</title>".encode(), correction.place))
    else:
        term.set(CORRECTION, REPLACED + correction.old)
        SubElement(term, "code").text = correction.new


def _one_line(text: str) -> str:
    return " ".join(text.split())
