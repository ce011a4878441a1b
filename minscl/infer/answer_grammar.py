"""The grammar of a grounded answer: an automaton over bytes that accepts no invented quotation and no invented code.

    Evidence:            then evidence lines, or none                  state Evidence
    1. <part of note>    verbatim, from word boundary to word boundary state Quote
    Codes:               then code lines, or none
    [1, 2] I50.23 <its description>                                    states CodeLine, References, Code; the
                                                                       description is fixed

A state (answer_states.py) is a small immutable value; `transitions(state)` maps each byte that may come next to the
state after it.
Nothing here depends on tokens: constrained.py walks the vocabulary along these transitions. White space in the note
counts as single spaces, since a quotation is one line (data/prompts.py).

A Quote state holds the note offsets just after each occurrence of what has been written so far: at first all offsets
where a quotation may start; each further byte keeps those that it continues.

    note "DM2 and DM1"      written ""  → offsets 0 4 8;      "D" → 1 9;      "DM" → 2 10;      "DM2" → 3

Read next: quotable.py, where a quotation may start and end; constrained.py.
"""

import functools
from bisect import bisect_left

from minscl.data.icd import CodeBook
from minscl.data.prompts import one_line, quotation_reads_back
from minscl.infer.answer_states import (
    Closed,
    Code,
    CodeLine,
    Evidence,
    Quote,
    References,
    State,
    Text,
    Transitions,
    spell,
)
from minscl.infer.automaton import Automaton
from minscl.infer.quotable import MAX_QUOTATION_BYTES, QuotableNote, is_read_as_evidence

# Times that a quotation may be listed. If a second copy were forbidden, a model that repeats itself would have to go on
# to a longer quotation than it intended. A third is forbidden, which ends loops.
MAX_COPIES = 2
MAX_LINES = 99  # of evidence, and of codes


class Grammar(Automaton):
    """The automaton for answers about one note. While `closing` is set, only transitions towards the end remain.

    `codebook`: the code set; None: the default edition. `reference_first=False`: a code's numbers follow its
    description.
    """

    def __init__(self, note: str, codebook: CodeBook | None = None, reference_first: bool = True):
        self.codebook, self.reference_first = codebook or CodeBook.load(), reference_first
        self.note = QuotableNote(one_line(note))
        self.closing = False
        self._is_evidence = functools.cache(is_read_as_evidence)  # both are asked several times about a quotation
        self._reads_back = functools.cache(quotation_reads_back)
        self.exhausted = functools.cache(self._exhausted)  # codes written → prefixes that may not be written again

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

    def only(self, state: State) -> tuple[bytes, State] | None:
        """As Automaton.only: a fixed text at once, and no transitions made where there are plainly several."""
        if isinstance(state, Text):
            return state.rest, state.after
        if isinstance(state, Quote) and not self.must_end_soon(state):
            continued = self.note.continued(state.offsets)
            if len(continued) > 1 or continued and self.ended(state):
                return None
            offset, end = state.offsets[0], self.note.next_end(state.offsets[0])
            if len(state.offsets) == 1 and offset not in self.note.ends and end is not None:  # the rest of a word
                return self.note.bytes[offset:end], Quote(state.quotations, (end,), state.length + end - offset)
        if isinstance(state, Code) and not self.codebook.is_billable(state.prefix):
            letters = next_characters(self.codebook, state.prefix)
            if len(letters) > 1 and not any(code.startswith(state.prefix) for code in state.codes):
                return None
        return super().only(state)

    def after(self, state: State, text: bytes) -> State:
        """As Automaton.after: fixed texts and quotations several bytes at a time."""
        while text:
            count = 1
            if isinstance(state, Text):
                count = len(state.rest)
                state = Text(state.rest[len(text) :], state.after) if count > len(text) else state.after
            elif isinstance(state, Quote) and b"\n" not in text and not self.must_end_soon(state, len(text)):
                count = len(text)
                state = Quote(state.quotations, self.note.after(state.offsets, text), state.length + count)
            elif isinstance(state, Code) and not self.codebook.is_billable(state.prefix):
                state = Code(state.evidence_lines, state.codes, state.prefix + chr(text[0]))
            else:
                state = self.transitions(state)[text[0]]
            text = text[count:]
        return state

    def must_end_soon(self, state: Quote, count: int = 0) -> bool:
        """Whether a quotation that `count` more bytes may follow has to end at its next end."""
        return self.closing or state.length + count > MAX_QUOTATION_BYTES

    def ended(self, state: Quote) -> Evidence | None:
        """The state after a line break; None where the quotation may not end.

        One copy too many, and a text that the parser would not return unchanged, may end only where nothing else can
        follow. What the parser returns unchanged, it reads as evidence.
        """
        end = next((offset for offset in state.offsets if offset in self.note.ends), None) if state.length else None
        if end is None:
            return None
        text = self.note.bytes[end - state.length : end].decode("utf-8")
        may_end = state.quotations.count(text) < MAX_COPIES and self._reads_back(len(state.quotations) + 1, text)
        if not may_end and (self.must_end_soon(state) or not self.note.continued(state.offsets)):
            may_end = self._is_evidence(text)
        return Evidence((*state.quotations, text)) if may_end else None

    def _exhausted(self, codes: tuple[str, ...]) -> frozenset[str]:
        """The shortest prefixes of which all billable codes are in `codes`."""
        exhausted: set[str] = set()
        for code in codes:
            for prefix in (code[:count] for count in range(1, len(code) + 1)):
                number = count_billable_below(self.codebook, prefix)
                if number <= len(codes) and number == sum(other.startswith(prefix) for other in codes):
                    exhausted.add(prefix)
                    break
        return frozenset(exhausted)

    @staticmethod
    def up_to_white_space(state: Code | References) -> Code | References:
        """A state after which the same bytes may follow, up to white space, whatever the answer says before: as long as
        no code is exhausted."""
        if isinstance(state, Code):
            return Code(1, (), state.prefix)
        another = ("",) if 0 < len(state.codes) < MAX_LINES else ()
        return References(state.evidence_lines, another, state.last, state.digits)

    @staticmethod
    def may_end(state: State) -> bool:
        """Whether the answer may end in `state`."""
        return isinstance(state, Closed)

    def _after_evidence_line(self, state: Evidence) -> Transitions:
        options: list[tuple[bytes, State]] = []
        count = len(state.quotations)
        if self.note.starts and count < MAX_LINES and not self.closing:
            options.append((b"%d. " % (count + 1), Quote(state.quotations, self.note.starts, 0)))
        options.append((b"Codes:\n", CodeLine(count)) if count else (b"none\nCodes:\nnone", Closed()))
        return spell(*options)

    def _in_quotation(self, state: Quote) -> Transitions:
        ended = self.ended(state)
        transitions: Transitions = {ord("\n"): ended} if ended else {}
        if not (ended and self.must_end_soon(state)):
            for byte, offsets in self.note.continued(state.offsets).items():
                transitions[byte] = Quote(state.quotations, offsets, state.length + 1)
        return transitions

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
            if state.prefix + letter not in self.exhausted(state.codes):
                transitions[ord(letter)] = Code(state.evidence_lines, state.codes, state.prefix + letter)
        return transitions

    def _in_references(self, state: References) -> Transitions:
        transitions: Transitions = {
            ord(digit): References(state.evidence_lines, state.codes, state.last, state.digits + digit)
            for digit in next_digits(state.last, state.evidence_lines, state.digits)
        }
        reference = int(state.digits) if state.digits else 0
        if state.last < reference <= state.evidence_lines:  # references ascend
            if self.closing:
                transitions = {}
            rest = (state.evidence_lines, state.codes)
            transitions[ord("]")] = Text(b" ", Code(*rest)) if self.reference_first else Closed(*rest)
            if reference < state.evidence_lines and not self.closing:
                transitions[ord(",")] = Text(b" ", References(state.evidence_lines, state.codes, reference, ""))
        return transitions


@functools.cache
def next_characters(codebook: CodeBook, prefix: str) -> list[str]:
    """The characters that follow `prefix` in billable codes, sorted."""
    return sorted({code[len(prefix)] for code in codebook.billable_below(prefix) if len(code) > len(prefix)})


@functools.cache
def count_billable_below(codebook: CodeBook, prefix: str) -> int:
    """The number of billable codes that start with `prefix`."""
    return bisect_left(codebook.billable, prefix + "\x7f") - bisect_left(codebook.billable, prefix)


@functools.cache
def next_digits(last: int, evidence_lines: int, digits: str) -> str:
    """The digits that may follow `digits` in a number above `last` and at most `evidence_lines`."""
    numbers = range(last + 1, evidence_lines + 1)
    return "".join(digit for digit in "0123456789" if any(str(number).startswith(digits + digit) for number in numbers))
