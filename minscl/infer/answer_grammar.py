"""The grammar of a grounded answer, byte by byte: what may follow what, so that an invented quotation or code cannot be written.

    Evidence:            then evidence lines, or none                      state Evidence
    1. <piece of note>   begins and ends at a word's edge, verbatim        state Quote
    Codes:               then code lines, or none
    I50.23 <its description> [1, 2]                                        states Code, References; the description is forced

A state is a small immutable value; `moves(state)` gives the bytes that may come next and the state after each. Nothing here knows of tokens:
grounded.py walks the vocabulary along these moves. White space in the note counts as single spaces (data/prompts.py: one line a quotation).

A quotation's state is the list of places in the note where what was written so far ends. At first these are all word beginnings;
each byte keeps the places that it continues.

    note "DM2 and DM1"      written ""  → places 0 4 8;      "D" → 1 9;      "DM" → 2 10;      "DM2" → 3

Read next: grounded.py.
"""

import functools
import unicodedata
from bisect import bisect_left, bisect_right
from dataclasses import dataclass

from minscl.data.icd import CodeBook
from minscl.data.parse_line import read_heading, read_quotation
from minscl.data.prompts import one_line, quotation_reads_back

LONGEST_QUOTATION = 300  # bytes; at the next word's edge a longer one has to end
REACH = 120  # bytes to the next place where a quotation may end, from wherever it may begin or go on
COPIES = 2  # of a quotation; a model's slip costs a line then, where no second one would force it to quote more than it means, and a loop ends
MOST_LINES = 99  # of evidence, and of codes


@dataclass(frozen=True)
class Text:
    """A fixed text, then `after`."""

    rest: bytes
    after: object


@dataclass(frozen=True)
class Evidence:
    """Between evidence lines: `texts` are written."""

    texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Quote:
    """In an evidence line: `places` in the note where the last byte stands, `length` bytes written."""

    texts: tuple[str, ...]
    places: tuple[int, ...]
    length: int


@dataclass(frozen=True)
class Code:
    """In a code line's code: `prefix` is written; `given` codes stand above."""

    number: int  # of evidence lines
    given: tuple[str, ...] = ()
    prefix: str = ""


@dataclass(frozen=True)
class References:
    """Inside a code line's brackets: after number `last`, `digits` of the next are written ("" : none is begun)."""

    number: int
    given: tuple[str, ...]
    last: int
    digits: str


@dataclass(frozen=True)
class Closed:
    """After a code line, or after `none`: the answer may end; a line may follow if `more`."""

    number: int = 0
    given: tuple[str, ...] = ()
    more: bool = False


class Grammar:
    """The moves of one note's answers. `hurry`: from now on every choice goes towards the end."""

    def __init__(self, note: str):
        self.note = one_line(note)
        self.bytes = self.note.encode("utf-8")
        first, self.last = edges(self.note)
        self.ends, self.hurry = sorted(self.last), False
        self.first = tuple(place for place in first if self._can_end(place))

    def _next_end(self, place: int) -> int:
        """The first edge behind `place`, or a place out of reach."""
        found = bisect_right(self.ends, place)
        return self.ends[found] if found < len(self.ends) else place + REACH + 1

    def _can_end(self, place: int) -> bool:
        """Whether a quotation that begins at `place` soon comes to an end that the reader of answers keeps, and has one at the note's end too, if it may
        reach that: `1. none` or `1. ***` is no evidence, and a run of 2,000 letters would never be over."""
        soon = self.ends[bisect_right(self.ends, place) : bisect_right(self.ends, place + REACH)]
        if not any(kept(self.bytes[place:end].decode()) for end in soon):
            return False
        return len(self.bytes) - place > LONGEST_QUOTATION + 2 * REACH or kept(self.bytes[place:].decode())

    def start(self, leading_space: bool = False) -> Text:
        """The state before an answer; Llama 2's answers begin with a space."""
        return Text(b" Evidence:\n" if leading_space else b"Evidence:\n", Evidence())

    @staticmethod
    def after_evidence(number: int) -> Code:
        """The state behind `Codes:` where people gave `number` quotations."""
        return Code(number)

    def moves(self, state) -> dict[int, object]:
        """{next byte: state after it}; empty only where nothing but the end can follow."""
        if isinstance(state, Text):
            return spell((state.rest, state.after))
        if isinstance(state, Evidence):
            return self._evidence(state)
        if isinstance(state, Quote):
            return self._quote(state)
        if isinstance(state, Code):
            return self._code(state)
        if isinstance(state, References):
            return self._references(state)
        return spell((b"\n", Code(state.number, state.given))) if state.more and not self.hurry else {}

    @staticmethod
    def may_end(state) -> bool:
        return isinstance(state, Closed)

    def _evidence(self, state: Evidence) -> dict[int, object]:
        options = []
        if self.first and len(state.texts) < MOST_LINES and not self.hurry:
            options.append((b"%d. " % (len(state.texts) + 1), Quote(state.texts, self.first, 0)))
        options.append((b"Codes:\n", Code(len(state.texts))) if state.texts else (b"none\nCodes:\nnone", Closed()))
        return spell(*options)

    def _quote(self, state: Quote) -> dict[int, object]:
        after: dict[int, list[int]] = {}
        for place in state.places:
            if place < len(self.bytes) and (place not in self.last or self._next_end(place) - place <= REACH):
                after.setdefault(self.bytes[place], []).append(place + 1)
        ends = [place for place in state.places if place in self.last] if state.length else []
        text = self.bytes[ends[0] - state.length : ends[0]].decode("utf-8") if ends else ""
        good = bool(ends) and kept(text)
        if good and (self.hurry or state.length > LONGEST_QUOTATION):
            after = {}
        fresh = state.texts.count(text) < COPIES and quotation_reads_back(len(state.texts) + 1, text)
        found = {byte: Quote(state.texts, tuple(places), state.length + 1) for byte, places in after.items()}
        if good and (
            fresh or not found
        ):  # one too many, or one that is read back a little otherwise, ends only where nothing else can follow
            found[ord("\n")] = Evidence((*state.texts, text))
        return found

    def _code(self, state: Code) -> dict[int, object]:
        codes, found = CodeBook.load().billable, {}
        begin = bisect_left(codes, state.prefix)
        if begin < len(codes) and codes[begin] == state.prefix:
            description = one_line(CodeBook.load().description(state.prefix))
            return spell((f" {description} [".encode(), References(state.number, (*state.given, state.prefix), 0, "")))
        for letter in next_letters(state.prefix):
            if not all(code in state.given for code in below(state.prefix + letter)[: len(state.given) + 1]):
                found[ord(letter)] = Code(state.number, state.given, state.prefix + letter)
        if not state.number:
            found = {}  # no code without evidence
        if not state.given and not state.prefix:
            found = spell((b"none", Closed())) | ({} if self.hurry else found)
        return found

    def _references(self, state: References) -> dict[int, object]:
        larger = range(state.last + 1, state.number + 1)
        found = {}
        for digit in "0123456789":
            if any(str(number).startswith(state.digits + digit) for number in larger):
                found[ord(digit)] = References(state.number, state.given, state.last, state.digits + digit)
        written = int(state.digits) if state.digits else 0
        if written in larger:
            if self.hurry:
                found = {}
            found[ord("]")] = Closed(state.number, state.given, len(state.given) < MOST_LINES)
            if written < state.number and not self.hurry:
                found[ord(",")] = Text(b" ", References(state.number, state.given, written, ""))
        return found


def kept(text: str) -> bool:
    """Whether the reader of answers takes an evidence line of `text` for evidence."""
    return read_quotation(f"1. {text}", lambda category: True) is not None and not read_heading(f"1. {text}")


def spell(*options) -> dict[int, object]:
    """The first byte of each (text, state after it); no two texts begin alike."""
    return {text[0]: Text(text[1:], after) if len(text) > 1 else after for text, after in options}


def edges(text: str) -> tuple[tuple[int, ...], frozenset[int]]:
    """Byte offsets in `text` where a quotation may begin, and where one may end: never inside a word, never at a space."""
    first, last, offset, before = [], [], 0, ""
    for letter in text:
        inside = wordy(before) and wordy(letter)
        if not letter.isspace() and not inside:
            first.append(offset)
        if before and not before.isspace() and not inside:
            last.append(offset)
        offset, before = offset + len(letter.encode("utf-8")), letter
    return tuple(first), frozenset([*last, offset] if text else ())


def wordy(letter: str) -> bool:
    """A letter, a digit, or an accent that stands by itself behind its letter."""
    return letter.isalnum() or letter != "" and unicodedata.category(letter)[0] == "M"


@functools.cache
def next_letters(prefix: str) -> str:
    """What follows `prefix` in billable codes."""
    return "".join(sorted({code[len(prefix)] for code in below(prefix) if len(code) > len(prefix)}))


def below(prefix: str) -> list[str]:
    """The billable codes that begin with `prefix`."""
    codes = CodeBook.load().billable
    return codes[bisect_left(codes, prefix) : bisect_left(codes, prefix + "\x7f")]
