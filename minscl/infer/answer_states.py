"""The states of the grammar of a grounded answer: small immutable values.

Read next: answer_grammar.py, which says what may follow each.
"""

from typing import NamedTuple


class Text(NamedTuple):
    """A fixed text of which `rest` is still to be written, then the state `after`."""

    rest: bytes
    after: "State"


class Evidence(NamedTuple):
    """Between evidence lines; `quotations` have been written."""

    quotations: tuple[str, ...] = ()


class Quote(NamedTuple):
    """In an evidence line: `offsets` into the note just after each occurrence of the `length` bytes written so far."""

    quotations: tuple[str, ...]
    offsets: tuple[int, ...]
    length: int


class CodeLine(NamedTuple):
    """At the start of a code line; `codes` have been written."""

    evidence_lines: int
    codes: tuple[str, ...] = ()


class References(NamedTuple):
    """In a code line's brackets, after reference `last` (0: none yet); `digits` of the next one have been written."""

    evidence_lines: int
    codes: tuple[str, ...]
    last: int = 0
    digits: str = ""


class Code(NamedTuple):
    """In the code of a code line, of which `prefix` has been written."""

    evidence_lines: int
    codes: tuple[str, ...]
    prefix: str = ""


class Closed(NamedTuple):
    """After a code line, or after `none` (no `codes`): the answer may end."""

    evidence_lines: int = 0
    codes: tuple[str, ...] = ()


State = Text | Evidence | Quote | CodeLine | References | Code | Closed
Transitions = dict[int, State]  # next byte → state after it


def spell(*options: tuple[bytes, State]) -> Transitions:
    """Transitions on the first byte of each (text, state after it); no two texts start with the same byte."""
    return {text[0]: Text(text[1:], after) if len(text) > 1 else after for text, after in options}
