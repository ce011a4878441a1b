"""Code first: a manifestation is listed after its cause, and never without one.

The notes of one node make a block: "underlying disease, such as:", then lines with codes. A block is *mandatory* unless
its first line makes it conditional ("if applicable", "if known", "any associated ...") or names a special case of the
code's own condition ("heart failure complicating abortion ..."); the title "in diseases classified elsewhere" makes it
mandatory even so. Its list is *open* where a line names no code: then any disease can be the cause. In a closed list
("neoplasm (C00-D49)") only the named codes are. The other half of the convention counts, too (guideline I.A.13): a code
whose "use additional code" note names the manifestation is its cause.

Read next: ordering.py, which puts codes in this order; checking.py.
"""

import functools
import re
from dataclasses import dataclass

from minscl.data.icd.codebook import CodeBook
from minscl.data.icd.rules.finding import CODE_FIRST, Finding, is_infection, is_wide, on_different_sides, place_name
from minscl.data.icd.rules.note_index import node_path, note_index
from minscl.data.icd.rules.references import Ending
from minscl.data.icd.rules.validity import in_canonical_form

_CONDITIONAL = re.compile(
    r"\bif (applicable|known)\b|\bany\b"
    r"|\b(complicating|due to)\b|^associated AIDS\b"  # I42, I47, I49, I50, I74, I82; G90.81, N64.1; B39
)
# "Codes with this title ... are never permitted to be used as first listed" (the List's introduction)
_TITLE = re.compile(r"\bin (\w+ )?(diseases?|conditions?) classified elsewhere")
# What an open list asks for, by its heading → the chapters where that can be.
_ANY_DISEASE = tuple(str(chapter) for chapter in (*range(1, 20), 22))
_CHAPTERS = {
    "malignan": ("2",),
    "neoplasm": ("2",),
    "infection": _ANY_DISEASE,  # where finding.is_infection says so
    "": _ANY_DISEASE,
}
_ADVERSE_EFFECT = Ending("intent", ("5",))  # of T36-T50: "for adverse effects, the nature of the adverse effect"


@dataclass(frozen=True)
class CodeFirst:
    """The code-first notes of one node. `numbers`: in note_index(book, "codeFirst")."""

    node: str
    numbers: tuple[int, ...]
    mandatory: bool
    is_open: bool
    only_adverse_effects: bool
    is_sequela: bool
    asked_for: str  # "infection", "malignan", "neoplasm": what an open list asks for, "" for any disease


class Sequencer:
    """The code-first blocks of one book. Get it from `sequencer`."""

    def __init__(self, book: CodeBook):
        self._book = book
        self.index = note_index(book, "codeFirst")
        self._additional = note_index(book, "useAdditionalCode")
        self._blocks: dict[str, CodeFirst] = {}
        self._of_code: dict[str, tuple[CodeFirst, ...]] = {}
        by_node: dict[str, list[int]] = {}
        for number, note in enumerate(self.index.notes):
            by_node.setdefault(note.node, []).append(number)
        for node, numbers in by_node.items():
            heading = self.index.notes[numbers[0]].text
            is_open = not all(self.index.notes[number].reference.patterns for number in numbers)
            asked_for = next((words for words in _CHAPTERS if f" {words}" in f" {heading}"), "")
            self._blocks[node] = CodeFirst(
                node,
                tuple(numbers),
                mandatory=bool(_TITLE.search(book.description(node) or "")) or not _CONDITIONAL.search(heading),
                is_open=is_open,
                only_adverse_effects="for adverse effects" in heading,
                is_sequela="(sequela)" in heading,
                asked_for=asked_for if is_open else "",
            )

    def blocks(self, code: str) -> tuple[CodeFirst, ...]:
        """The blocks that apply to `code`, the nearest first."""
        if code not in self._of_code:
            blocks = [self._blocks[node] for node in node_path(code, self._book) if node in self._blocks]
            is_adverse_effect = _ADVERSE_EFFECT.fits(code.replace(".", ""), None)
            applying = tuple(block for block in blocks if is_adverse_effect or not block.only_adverse_effects)
            if self._book.description(code) is None:
                return applying
            self._of_code[code] = applying
        return self._of_code[code]

    def is_manifestation(self, code: str) -> bool:
        """Whether `code` needs a cause before it."""
        return any(block.mandatory for block in self.blocks(code))

    def names(self, block: CodeFirst, cause: str) -> list[int]:
        """The notes of `block` that name `cause`."""
        return sorted(self.index.naming(cause).intersection(block.numbers))

    def causes(self, block: CodeFirst, manifestation: str, codes: list[str]) -> list[str]:
        """Those of `codes` that `block` or, if it is mandatory, a "use additional code" note pairs with the code."""
        paired = self._additional.naming(manifestation) if block.mandatory else frozenset()
        return [
            code
            for code in codes
            if code != manifestation
            and (
                self.names(block, code)
                or _is_surely(code, block.asked_for)
                or (self._is_disease(code) and not paired.isdisjoint(self._additional.carried(code)))
            )
            and not on_different_sides(code, manifestation, self._book)
        ]

    def _is_disease(self, code: str, asked_for: str = "") -> bool:
        if asked_for == "infection":
            return is_infection(code, self._book)
        return self._book.chapter(code[:3]) in _CHAPTERS[asked_for]

    def is_adverse_effect(self, manifestation: str, codes: list[str]) -> bool:
        """Whether the code is due to a drug among `codes`, which its "use additional code" note names: then it comes
        first. K52.1, toxic gastroenteritis, has such a note beside "code first (T51-T65)"."""
        asked_for = self._additional.carried(manifestation)
        return any(
            "T36" <= code[:3] <= "T50"
            and _ADVERSE_EFFECT.fits(code.replace(".", ""), None)
            and not asked_for.isdisjoint(self._additional.naming(code))
            for code in codes
        )

    def may_be_cause(self, block: CodeFirst, code: str) -> bool:
        """Whether `code`, which nothing names, can be the disease that an open list asks for: no external cause, no
        chapter 21, no manifestation; for an adverse effect, its nature, which may be a manifestation but no drug."""
        if not block.is_open or not self._is_disease(code, block.asked_for):
            return False
        if block.only_adverse_effects:
            return block.node not in node_path(code, self._book)
        return not self.is_manifestation(code)


@functools.lru_cache(maxsize=4)
def sequencer(book: CodeBook) -> Sequencer:
    """The code-first notes of `book`."""
    return Sequencer(book)


def code_first(codes: list[str], book: CodeBook) -> list[Finding]:
    """Manifestations without a cause or before it, and other codes listed before one that their note names first."""
    rules = sequencer(book)
    codes = in_canonical_form(codes, book)
    findings = []
    for place, code in enumerate(codes):
        has_mandatory = False  # one finding of a missing cause for each code, at the nearest node
        for block in rules.blocks(code):
            causes = rules.causes(block, code, codes)
            before = [cause for cause in causes if codes.index(cause) < place]
            after = [cause for cause in causes if codes.index(cause) > place]
            if not block.mandatory:
                findings += [_order(rules, block, code, cause, book) for cause in after]
            elif not before and not has_mandatory and not rules.is_adverse_effect(code, codes):
                if after:
                    findings.append(_order(rules, block, code, after[0], book))
                elif any(rules.may_be_cause(block, other) for other in codes[:place]):
                    continue
                else:
                    findings.append(_missing(rules, block, code, codes, book))
                has_mandatory = True
    return findings


def manifestations_without_cause(codes: list[str], book: CodeBook) -> list[Finding]:
    """The manifestations for which no code of the document, before or after, can be the cause."""
    rules = sequencer(book)
    codes = in_canonical_form(codes, book)
    findings = []
    for code in codes:
        for block in rules.blocks(code):
            if (  # the quickest question first, as evaluate asks it of every document
                block.mandatory
                and not any(rules.may_be_cause(block, other) for other in codes if other != code)
                and not rules.causes(block, code, codes)
                and not rules.is_adverse_effect(code, codes)
            ):
                findings.append(_missing(rules, block, code, codes, book))
                break
    return findings


def _order(rules: Sequencer, block: CodeFirst, code: str, cause: str, book: CodeBook) -> Finding:
    """`cause`, which stands after `code`, belongs before it."""
    number = (rules.names(block, cause) or block.numbers)[0]
    remedy = f"list {cause} before {code}"
    return _finding(rules, block, number, (code, cause), remedy, book)


def _missing(rules: Sequencer, block: CodeFirst, code: str, codes: list[str], book: CodeBook) -> Finding:
    """`code` has no cause before it."""
    if block.is_open:
        following = codes[codes.index(code) + 1 :]
        if any(rules.may_be_cause(block, other) for other in following):
            reason = "it may be among the codes that follow"
        else:
            reason = "none of the other codes can be it"
        remedy = f"list that before {code}; {reason} (guideline {_guideline(block, book)})"
    else:
        printed = ", ".join(rules.index.notes[number].reference.printed for number in block.numbers)
        remedy = f"list {printed if book.is_billable(printed) else f'a code of {printed}'} before {code}"
    return _finding(rules, block, block.numbers[0], (code,), remedy, book)


def _is_surely(code: str, asked_for: str) -> bool:
    """Whether a code that no line names is what an open list asks for, by its chapter: an infection, a neoplasm."""
    if asked_for == "infection":
        return "A00" <= code[:3] < "B90"  # not B95-B97: organisms
    return bool(asked_for) and "C00" <= code[:3] <= ("C96" if asked_for == "malignan" else "D49")


def _guideline(block: CodeFirst, book: CodeBook) -> str:
    """The section of the Official Guidelines that asks for the order."""
    if block.only_adverse_effects:
        return "I.C.19.e.5.a"
    if block.is_sequela:
        return "I.B.10"
    return "I.A.13" if _TITLE.search(book.description(block.node) or "") else "I.B.7"


def _finding(
    rules: Sequencer, block: CodeFirst, number: int, codes: tuple[str, ...], remedy: str, book: CodeBook
) -> Finding:
    sentence = rules.index.notes[number].text.removeprefix(", ")  # the List prints "Code first, if applicable, ..."
    return Finding(CODE_FIRST, codes, remedy, sentence, place_name(block.node, book), wide=is_wide(block.node))
