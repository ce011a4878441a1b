"""Use additional code, code also: notes that ask for a further code. All are informational.

The lines of a node fall into groups: a line that ends in a colon ("code to identify:") opens one, and the lines below
belong to it. A group is met when the document has one of its codes, and passed on otherwise, without the lines

- that cannot apply to the code (underdosing, of an adverse effect) or that another finding has passed on already;
- that nobody can check: a condition ("if applicable", "any") without a code, or one of a whole chapter or section;
- that ask for an encounter ("any follow-up examination (Z08-Z09)"): it is why the patient came, and no code tells.

Read next: checking.py.
"""

import functools
import re
from dataclasses import dataclass, replace

from minscl.data.icd.codebook import CodeBook
from minscl.data.icd.rules.finding import CODE_ALSO, USE_ADDITIONAL, Finding, is_infection, is_wide, place_name
from minscl.data.icd.rules.note_index import Note, node_path, note_index
from minscl.data.icd.rules.references import Reference, intent_in_words
from minscl.data.icd.rules.validity import in_canonical_form

_KINDS = {USE_ADDITIONAL: "useAdditionalCode", CODE_ALSO: "codeAlso"}
_SHOWN = 6  # lines in a message
_CONDITIONAL = re.compile(r"\bif (applicable|known|necessary|present)\b|\bany\b")
_BUNDLE = re.compile(r"codes?(\(s\))?( \((for|if applicable)\))?:")  # a heading of notes that have nothing in common
# Z3A goes with every code of chapter 15 that is not of the puerperium or an abortion (guideline I.C.21.c.11).
_WEEKS = "Z3A"
_PUERPERIUM = re.compile(r"puerper|postpartum|following delivery", re.IGNORECASE)
_INFECTION = re.compile(r"\binfect|\bsepsis")
# What a line without a code asks for, by its words → the chapters of which any other code may be that; of infections,
# which are in many, finding.is_infection.
_ASKED_FOR = (
    (re.compile(r"\bneoplasm"), ("2",)),
    (re.compile(r"\borganism"), ("1",)),
    (_INFECTION, ()),
    (re.compile(r"\bunderlying|requiring care|specifi(c|ed) condition"), tuple(map(str, range(1, 20)))),
)


@dataclass(frozen=True)
class _Group:
    """`heading`: the line that opens it, "" if none does. `numbers`: its other lines, in note_index. `meets`: the lines
    whose codes meet it. `scope`: the only codes it is for, as in "for codes G31.0-G31.83 ...:"."""

    heading: str
    numbers: tuple[int, ...]
    meets: tuple[int, ...]
    scope: Reference | None = None


@functools.lru_cache(maxsize=8)  # four books, two kinds
def _groups(book: CodeBook, kind: str) -> dict[str, list[_Group]]:
    """Node → the groups of its notes."""
    groups: dict[str, list[_Group]] = {}
    for number, note in enumerate(note_index(book, kind).notes):
        at_node = groups.setdefault(note.node, [])
        text = note.text.rstrip()
        numbers = () if _is_pointless(note, book) else (number,)
        if text.endswith(":"):
            is_scope = "for codes" in text
            heading = "" if _BUNDLE.fullmatch(text) else text
            at_node.append(_Group(heading, (), () if is_scope else (number,), note.reference if is_scope else None))
        elif at_node and (
            text.startswith("or ") or (at_node[-1].heading and not text.startswith(("code", "external cause", ",")))
        ):
            last = at_node[-1]
            at_node[-1] = replace(last, numbers=last.numbers + numbers, meets=(*last.meets, number))
        else:
            at_node.append(_Group("", numbers, (number,)))
    for node in filter(is_wide, groups):
        groups[node] = [group for group in groups[node] if not _CONDITIONAL.search(group.heading)]
    return groups


def _is_pointless(note: Note, book: CodeBook) -> bool:
    """Whether a line says nothing of the codes of a document, whatever they are."""
    patterns = note.reference.patterns
    if _CONDITIONAL.search(note.text) and (not patterns or is_wide(note.node)) and note.reference.printed != _WEEKS:
        return True
    bounds = [bound for pattern in patterns for bound in (pattern.first, pattern.last)]
    titles = [book.description(f"{bound[:3]}.{bound[3:]}".rstrip(".")) or "" for bound in bounds]
    return bool(titles) and all(title.startswith("Encounter for ") for title in titles)


def _can_apply(note: Note, code: str, is_newborn: bool, book: CodeBook) -> bool:
    """Whether a line that stands at `code`, or above it, can speak of it. `is_newborn`: whether the document is."""
    if "T36" <= code[:3] <= "T50":
        intent = intent_in_words(note.text)
        return not intent or intent.fits(code.replace(".", ""), None)
    if code.startswith("O") and note.reference.printed == _WEEKS:
        return code[:3] > "O08" and not _PUERPERIUM.search(book.description(code) or "")
    patterns = note.reference.patterns
    return is_newborn or not patterns or not all(pattern.first.startswith("P") for pattern in patterns)


def additional_codes(codes: list[str], book: CodeBook, rule: str) -> list[Finding]:
    """What the notes of one rule (USE_ADDITIONAL, CODE_ALSO) ask for and the document lacks, each line once."""
    codes = in_canonical_form(codes, book)
    index, groups = note_index(book, _KINDS[rule]), _groups(book, _KINDS[rule])
    present = frozenset().union(*map(index.naming, codes))
    is_newborn = any(code.startswith(("P", "Z38")) for code in codes)
    carriers: dict[tuple[str, int], list[str]] = {}
    for code in codes:
        for node in node_path(code, book):
            for place, group in enumerate(groups.get(node, ())):
                if present.isdisjoint(group.meets) and (not group.scope or group.scope.covers(code, book)):
                    carriers.setdefault((node, place), []).append(code)
    findings = []
    passed_on: set[str] = set()  # codes as printed, or places and texts
    for (node, place), carrying in carriers.items():
        group = groups[node][place]
        if _may_be_there(group, carrying, codes, rule, book):
            continue
        lines: dict[str, Note] = {}
        spoken_of: set[str] = set()
        for note in map(index.notes.__getitem__, group.numbers):
            if applying := [code for code in carrying if _can_apply(note, code, is_newborn, book)]:
                lines.setdefault(note.reference.printed or f"{node} {note.text}", note)
                spoken_of.update(applying)
        if not group.numbers and group.heading and not _CONDITIONAL.search(group.heading):
            spoken_of.update(carrying)
        if spoken_of and 2 * len(passed_on & lines.keys()) <= len(lines):  # one list of tobacco codes is enough
            shown = [note for key, note in lines.items() if key not in passed_on]
            passed_on |= lines.keys()
            speaking = tuple(code for code in carrying if code in spoken_of)
            findings.append(_finding(rule, speaking, group.heading, shown, node, book))
    return findings


def asking_note(code: str, other: str, book: CodeBook) -> Note | None:
    """The note at `code`, or above it, that asks for `other` beside it; None if there is none."""
    for kind in _KINDS.values():
        index = note_index(book, kind)
        numbers = index.carried(code) & index.naming(other)
        for node in node_path(code, book) if numbers else ():
            for group in _groups(book, kind).get(node, ()):
                for number in numbers.intersection(group.numbers):
                    if not group.scope or group.scope.covers(code, book):
                        return index.notes[number]
    return None


def _may_be_there(group: _Group, carrying: list[str], codes: list[str], rule: str, book: CodeBook) -> bool:
    """Whether the group is one line without a code, and another code of the document may be what it asks for."""
    notes = [note_index(book, _KINDS[rule]).notes[number] for number in group.numbers]
    if len(notes) > 1 or any(note.reference.patterns for note in notes):
        return False
    text = notes[0].text if notes else group.heading
    for words, chapters in _ASKED_FOR:
        if words.search(text):
            others = [code for code in codes if code not in carrying]
            if words is _INFECTION:
                return any(is_infection(code, book) for code in others)
            return any(book.chapter(code[:3]) in chapters for code in others)
    return False


def _finding(rule: str, codes: tuple[str, ...], heading: str, lines: list[Note], node: str, book: CodeBook) -> Finding:
    texts = [line.text.removeprefix(", ") for line in lines]
    if heading and texts:
        more = f" … and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
        remedy = f"add where documented: {'; '.join(texts[:_SHOWN])}{more}"
    elif lines and lines[0].reference.printed:
        remedy = f"add {', '.join(line.reference.printed for line in lines)} where documented"
    else:
        remedy = "the List names no code for it; check whether the document has one"
    sentence = heading.removeprefix(", ") or texts[0]
    where = place_name(node, book)
    return Finding(rule, codes, remedy, sentence, where, informational=True, wide=is_wide(node))
