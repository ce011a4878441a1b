"""Excludes1 and Excludes2: pairs of codes of which a note at one, or at a node above it, names the other.

A note that applies to both codes of a pair says nothing about them: D72 excludes "basophilia (D72.824)", which stands
below it.

Read next: checking.py.
"""

import re
from collections.abc import Collection

from minscl.data.icd.codebook import CodeBook
from minscl.data.icd.rules.additional import asking_note
from minscl.data.icd.rules.finding import (
    EXCLUDES1,
    EXCLUDES1_SIDES,
    EXCLUDES2,
    Finding,
    is_wide,
    on_different_sides,
    place_name,
)
from minscl.data.icd.rules.note_index import Note, node_path, note_index
from minscl.data.icd.rules.validity import in_canonical_form

_NEVER_TOGETHER = (
    "NOT CODED HERE! Never coded together unless the two are unrelated; if that is unclear, ask the provider "
    "(guideline I.A.12.a)"
)
# Conditions of chapter 18 that are no mere symptoms: shock, sepsis, coma, functional quadriplegia
_NO_SYMPTOMS = ("R57", "R65", "R40.2", "R53.2")
_SIDES_DIFFER = "the two are coded together if they are unrelated (guideline I.A.12.a)"
_BOTH = "not included here; code each that the patient has"


def excludes1(codes: list[str], book: CodeBook) -> list[Finding]:
    """The pairs that exclude each other, each once; of those on different sides of the body nothing."""
    return [finding for finding in excludes1_and_sides(codes, book) if finding.rule == EXCLUDES1]


def excludes1_and_sides(codes: list[str], book: CodeBook) -> list[Finding]:
    """As `excludes1`, and as EXCLUDES1_SIDES the pairs on different sides, which are likely unrelated."""
    findings = []
    for pair, notes in _pairs(codes, book, "excludes1").items():
        if on_different_sides(*pair, book):
            findings.append(_finding(EXCLUDES1_SIDES, pair, notes, _SIDES_DIFFER, book, informational=True))
        else:
            findings.append(_finding(EXCLUDES1, pair, notes, _remedy(pair, notes, book), book))
    return findings


def excludes2(codes: list[str], book: CodeBook, conflicts: Collection[frozenset[str]] = ()) -> list[Finding]:
    """The notes that keep two of the codes apart, each once with all its codes; informational.

    The notes of chapters are left out: "neoplasms (C00-D49)" at chapter 9 speaks of nearly every document, and says no
    more than that the chapters are two. `conflicts`: pairs of which another rule speaks already.
    """
    by_note: dict[Note, set[str]] = {}
    for pair, notes in _pairs(codes, book, "excludes2").items():
        note = notes[0]  # the most specific
        if not note.node.isdigit() and frozenset(pair) not in conflicts:
            by_note.setdefault(note, set()).update(pair)
    in_order = in_canonical_form(codes, book)
    return [
        _finding(EXCLUDES2, tuple(code for code in in_order if code in pairs), [note], _BOTH, book, informational=True)
        for note, pairs in by_note.items()
    ]


def _pairs(codes: list[str], book: CodeBook, kind: str) -> dict[tuple[str, str], list[Note]]:
    """Pairs in the document's order → the notes that make them, the most specific first."""
    codes = in_canonical_form(codes, book)
    index = note_index(book, kind)
    anywhere = frozenset().union(*map(index.carried, codes))
    pairs: dict[tuple[str, str], set[int]] = {}
    for place, named in enumerate(codes):
        # most codes are named by no note that applies to another code of the document
        if notes := (index.naming(named) & anywhere) - index.carried(named):
            for other_place, carrier in enumerate(codes):
                if hits := notes & index.carried(carrier):
                    pair = (carrier, named) if other_place < place else (named, carrier)
                    pairs.setdefault(pair, set()).update(hits)
    place_of = {code: place for place, code in enumerate(codes)}
    return {
        pair: sorted((index.notes[number] for number in sorted(pairs[pair])), key=lambda note: -note.depth)
        for pair in sorted(pairs, key=lambda pair: (place_of[pair[0]], place_of[pair[1]]))
    }


def _finding(
    rule: str, codes: tuple[str, ...], notes: list[Note], remedy: str, book: CodeBook, informational: bool = False
) -> Finding:
    first = notes[0]
    others = dict.fromkeys(note.text for note in notes[1:] if note.text != first.text)
    where = place_name(first.node, book)
    return Finding(rule, codes, remedy, first.text, where, informational, is_wide(first.node), tuple(others))


def _remedy(pair: tuple[str, str], notes: list[Note], book: CodeBook) -> str:
    """A symptom or finding gives way to the diagnosis where the note says so; of other pairs the List does not say
    which goes. Some codes stand for more than the note speaks of, as E29.1 for more than 5-alpha-reductase deficiency.
    """
    remedy = _NEVER_TOGETHER
    for symptom, diagnosis in (pair, pair[::-1]):
        if _gives_way(symptom, diagnosis, notes, book):
            reason = f"unless it is unrelated to {diagnosis} (guideline I.A.12.a)"
            remedy = f"leave out the symptom or finding {symptom}, {reason}"
    for code, other in (pair, pair[::-1]):
        if asking := asking_note(code, other, book):
            return f"{remedy}; but “{asking.text}” at {place_name(asking.node, book)} asks for both"
    note = notes[0]
    named = pair[1] if note.reference.covers(pair[1], book) else pair[0]
    titles = [book.description(node) or "" for node in node_path(named, book) if not is_wide(node)]
    if _words(note.text) & _words(" ".join(title.partition(" without ")[0] for title in titles)):
        return remedy
    return f"{remedy}; check that {named} is that here: its title is “{book.description(named) or ''}”"


def _gives_way(symptom: str, diagnosis: str, notes: list[Note], book: CodeBook) -> bool:
    """Whether every note stands at the symptom's code, or names it as "bacteremia NOS"."""
    if not symptom.startswith("R") or symptom.startswith(_NO_SYMPTOMS):
        return False
    if book.chapter(diagnosis[:3]) in ("18", "20", "21"):
        return False
    above = node_path(symptom, book)
    return all(note.node in above or "NOS" in note.text for note in notes)


def _words(text: str) -> set[str]:
    """The words of `text` by their first five letters, in lower case; short ones are left out."""
    return {word[:5] for word in re.findall(r"[a-z]{4,}", text.lower())}
