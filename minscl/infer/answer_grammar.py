"""The grammar of a grounded answer: an automaton over bytes that accepts no invented quotation and no invented code.

    Evidence:            then evidence lines, or none                  state Evidence
    1. <part of note>    verbatim, from word boundary to word boundary state Quote
    Codes:               then code lines, or none
    [1, 2] I50.23 <its description>                                    states CodeLine, References, Code; the
                                                                       description is fixed

A state is a small immutable value; `transitions(state)` maps each byte that may come next to the state after it.
Nothing here depends on tokens: constrained.py walks the vocabulary along these transitions. White space in the note
counts as single spaces, since a quotation is one line (data/prompts.py).

A Quote state holds the note offsets just after each occurrence of what has been written so far: at first all offsets
where a quotation may start; each further byte keeps those that it continues.

    note "DM2 and DM1"      written ""  → offsets 0 4 8;      "D" → 1 9;      "DM" → 2 10;      "DM2" → 3

Read next: constrained.py.
"""

import functools
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

from minscl.data.icd import CodeBook
from minscl.data.locate import extends_letter
from minscl.data.parse_line import every_category, read_heading, read_quotation
from minscl.data.prompts import one_line, quotation_reads_back

MAX_QUOTATION_BYTES = 300  # a longer quotation must end at the next word boundary
MAX_BYTES_TO_END = 120  # from any offset where a quotation may start or continue to the next where it may end
# Times that a quotation may be listed. If a second copy were forbidden, a model that repeats itself would have to go on
# to a longer quotation than it intended. A third is forbidden, which ends loops.
MAX_COPIES = 2
MAX_LINES = 99  # of evidence, and of codes


@dataclass(frozen=True)
class Text:
    """A fixed text of which `rest` is still to be written, then the state `after`."""

    rest: bytes
    after: "State"


@dataclass(frozen=True)
class Evidence:
    """Between evidence lines; `quotations` have been written."""

    quotations: tuple[str, ...] = ()


@dataclass(frozen=True)
class Quote:
    """In an evidence line: `offsets` into the note just after each occurrence of the `length` bytes written so far."""

    quotations: tuple[str, ...]
    offsets: tuple[int, ...]
    length: int


@dataclass(frozen=True)
class CodeLine:
    """At the start of a code line; `codes` have been written."""

    evidence_lines: int
    codes: tuple[str, ...] = ()


@dataclass(frozen=True)
class References:
    """In a code line's brackets, after reference `last` (0: none yet); `digits` of the next one have been written."""

    evidence_lines: int
    codes: tuple[str, ...]
    last: int = 0
    digits: str = ""


@dataclass(frozen=True)
class Code:
    """In the code of a code line, of which `prefix` has been written."""

    evidence_lines: int
    codes: tuple[str, ...]
    prefix: str = ""


@dataclass(frozen=True)
class Closed:
    """After a code line, or after `none` (no `codes`): the answer may end."""

    evidence_lines: int = 0
    codes: tuple[str, ...] = ()


State = Text | Evidence | Quote | CodeLine | References | Code | Closed
Transitions = dict[int, State]  # next byte → state after it


class Grammar:
    """The automaton for answers about one note. While `closing` is set, only transitions towards the end remain.

    `starts` and `ends` are the byte offsets into `note_bytes` where a quotation may start and end. `codebook`: the
    code set; None: the default edition. `reference_first=False`: a code's numbers follow its description.
    """

    def __init__(self, note: str, codebook: CodeBook | None = None, reference_first: bool = True):
        text = one_line(note)
        self.codebook, self.reference_first = codebook or CodeBook.load(), reference_first
        self.note_bytes = text.encode("utf-8")
        starts, self.ends = word_boundaries(text)
        self.sorted_ends = sorted(self.ends)
        self.closing = False
        self.starts = tuple(offset for offset in starts if self._can_end(offset))

    def _next_end(self, offset: int) -> int:
        """The first end after `offset`; where there is none, an offset beyond MAX_BYTES_TO_END."""
        index = bisect_right(self.sorted_ends, offset)
        return self.sorted_ends[index] if index < len(self.sorted_ends) else offset + MAX_BYTES_TO_END + 1

    def _can_end(self, start: int) -> bool:
        """Whether a quotation from `start` has an end within MAX_BYTES_TO_END at which the parser reads it as evidence.

        `1. none` and `1. ***` are not read as evidence, and a run of 2,000 letters has no end. A quotation that may
        reach the end of the note must be readable there too.
        """
        first = bisect_right(self.sorted_ends, start)
        last = bisect_right(self.sorted_ends, start + MAX_BYTES_TO_END)
        if not any(is_read_as_evidence(self.note_bytes[start:end].decode()) for end in self.sorted_ends[first:last]):
            return False
        beyond_reach = len(self.note_bytes) - start > MAX_QUOTATION_BYTES + 2 * MAX_BYTES_TO_END
        return beyond_reach or is_read_as_evidence(self.note_bytes[start:].decode())

    def start(self, leading_space: bool = False) -> Text:
        """The state before an answer. `leading_space`: the chat format puts a space before it, as Llama 2's does."""
        return Text(b" Evidence:\n" if leading_space else b"Evidence:\n", Evidence())

    @staticmethod
    def after_evidence(evidence_lines: int) -> CodeLine:
        """The state after `Codes:` where the prompt ends with `evidence_lines` human quotations ("+ Evid.")."""
        return CodeLine(evidence_lines)

    def transitions(self, state: State) -> Transitions:
        """{next byte: state after it}; empty only where the answer must end."""
        if isinstance(state, Text):
            return spell((state.rest, state.after))
        if isinstance(state, Evidence):
            return self._after_evidence_line(state)
        if isinstance(state, Quote):
            return self._in_quotation(state)
        if isinstance(state, CodeLine):
            return self._at_code_line(state)
        if isinstance(state, References):
            return self._in_references(state)
        if isinstance(state, Code):
            return self._in_code(state)
        another = 0 < len(state.codes) < MAX_LINES and not self.closing
        return spell((b"\n", CodeLine(state.evidence_lines, state.codes))) if another else {}

    @staticmethod
    def may_end(state: State) -> bool:
        """Whether the answer may end in `state`."""
        return isinstance(state, Closed)

    def _after_evidence_line(self, state: Evidence) -> Transitions:
        options: list[tuple[bytes, State]] = []
        count = len(state.quotations)
        if self.starts and count < MAX_LINES and not self.closing:
            options.append((b"%d. " % (count + 1), Quote(state.quotations, self.starts, 0)))
        options.append((b"Codes:\n", CodeLine(count)) if count else (b"none\nCodes:\nnone", Closed()))
        return spell(*options)

    def _in_quotation(self, state: Quote) -> Transitions:
        continued: dict[int, list[int]] = {}  # next byte → offsets after it
        for offset in state.offsets:
            at_end = offset in self.ends
            if offset < len(self.note_bytes) and (not at_end or self._next_end(offset) - offset <= MAX_BYTES_TO_END):
                continued.setdefault(self.note_bytes[offset], []).append(offset + 1)
        ends = [offset for offset in state.offsets if offset in self.ends] if state.length else []
        text = self.note_bytes[ends[0] - state.length : ends[0]].decode("utf-8") if ends else ""
        may_end = bool(ends) and is_read_as_evidence(text)
        if may_end and (self.closing or state.length > MAX_QUOTATION_BYTES):
            continued = {}
        transitions: Transitions = {
            byte: Quote(state.quotations, tuple(offsets), state.length + 1) for byte, offsets in continued.items()
        }
        if may_end and (self._is_preferred(text, state.quotations) or not transitions):
            transitions[ord("\n")] = Evidence((*state.quotations, text))
        return transitions

    @staticmethod
    def _is_preferred(text: str, quotations: tuple[str, ...]) -> bool:
        """False for one copy too many, and for a text that the parser would not return unchanged: such a quotation may
        end only where nothing else can follow."""
        return quotations.count(text) < MAX_COPIES and quotation_reads_back(len(quotations) + 1, text)

    def _at_code_line(self, state: CodeLine) -> Transitions:
        none = {} if state.codes else spell((b"none", Closed()))
        if not state.evidence_lines or (none and self.closing):  # no code without evidence
            return none
        if self.reference_first:
            return none | spell((b"[", References(state.evidence_lines, state.codes)))
        return none | self._in_code(Code(state.evidence_lines, state.codes))

    def _in_code(self, state: Code) -> Transitions:
        if self.codebook.is_billable(state.prefix):  # the code is complete
            description = one_line(self.codebook.description(state.prefix) or "")
            codes = (*state.codes, state.prefix)
            if self.reference_first:
                return spell((f" {description}".encode(), Closed(state.evidence_lines, codes)))
            return spell((f" {description} [".encode(), References(state.evidence_lines, codes)))
        transitions: Transitions = {}
        for letter in next_characters(self.codebook, state.prefix):
            candidates = self.codebook.billable_below(state.prefix + letter)[: len(state.codes) + 1]
            if not all(code in state.codes for code in candidates):
                transitions[ord(letter)] = Code(state.evidence_lines, state.codes, state.prefix + letter)
        return transitions

    def _in_references(self, state: References) -> Transitions:
        allowed = range(state.last + 1, state.evidence_lines + 1)  # references ascend
        transitions: Transitions = {}
        for digit in "0123456789":
            digits = state.digits + digit
            if any(str(reference).startswith(digits) for reference in allowed):
                transitions[ord(digit)] = References(state.evidence_lines, state.codes, state.last, digits)
        reference = int(state.digits) if state.digits else 0
        if reference in allowed:
            if self.closing:
                transitions = {}
            rest = (state.evidence_lines, state.codes)
            transitions[ord("]")] = Text(b" ", Code(*rest)) if self.reference_first else Closed(*rest)
            if reference < state.evidence_lines and not self.closing:
                transitions[ord(",")] = Text(b" ", References(state.evidence_lines, state.codes, reference, ""))
        return transitions


def is_read_as_evidence(text: str) -> bool:
    """Whether the parser reads the evidence line `1. text` as evidence, not as `none`, a heading or nothing at all."""
    line = f"1. {text}"
    return read_quotation(line, every_category) is not None and not read_heading(line)


def spell(*options: tuple[bytes, State]) -> Transitions:
    """Transitions on the first byte of each (text, state after it); no two texts start with the same byte."""
    return {text[0]: Text(text[1:], after) if len(text) > 1 else after for text, after in options}


def word_boundaries(text: str) -> tuple[tuple[int, ...], frozenset[int]]:
    """Byte offsets where a quotation from `text` may start and may end: never inside a word, at a space, or between a
    character and its combining marks."""
    starts, ends, offset, previous = [], [], 0, ""
    for character in text:
        inside_word = is_word_character(previous) and is_word_character(character)
        inside_word |= extends_letter(previous + character, 1)
        if not character.isspace() and not inside_word:
            starts.append(offset)
        if previous and not previous.isspace() and not inside_word:
            ends.append(offset)
        offset, previous = offset + len(character.encode("utf-8")), character
    return tuple(starts), frozenset([*ends, offset] if text else ())


def is_word_character(character: str) -> bool:
    """Whether `character` is a letter, a digit or a combining mark; "" is none."""
    return character.isalnum() or character != "" and unicodedata.category(character)[0] == "M"


@functools.cache
def next_characters(codebook: CodeBook, prefix: str) -> Iterable[str]:
    """The characters that follow `prefix` in billable codes, sorted."""
    return sorted({code[len(prefix)] for code in codebook.billable_below(prefix) if len(code) > len(prefix)})
