"""Where in a note a quotation may start, continue and end, as byte offsets.

    "pH 7.4"  → starts 0 3 4 5, ends 2 4 5 6: word boundaries, and the marks between words

Read next: answer_grammar.py, which walks over these offsets.
"""

import functools
import unicodedata
from bisect import bisect_right

from minscl.data.locate import extends_letter
from minscl.data.parse_line import every_category, read_heading, read_quotation

MAX_QUOTATION_BYTES = 300  # a longer quotation must end at the next word boundary
MAX_BYTES_TO_END = 120  # from any offset where a quotation may start or continue to the next where it may end


class QuotableNote:
    """A note on one line: its UTF-8 `bytes`, and the offsets into them where a quotation may start and end."""

    def __init__(self, text: str):
        self.bytes = text.encode("utf-8")
        starts, self.ends = word_boundaries(text)
        self._sorted_ends = sorted(self.ends)
        self.starts = tuple(offset for offset in starts if self._can_end(offset))
        following = [*self._sorted_ends[1:], len(self.bytes) + MAX_BYTES_TO_END + 1]
        self._last_ends = frozenset(
            end for end, after in zip(self._sorted_ends, following, strict=False) if after - end > MAX_BYTES_TO_END
        )
        self.continued = functools.cache(self._continued)

    def _continued(self, offsets: tuple[int, ...]) -> dict[int, tuple[int, ...]]:
        """{next byte: the offsets after it}, for quotations that have come to `offsets`; kept for each `offsets`."""
        continued: dict[int, list[int]] = {}
        for offset in offsets:
            if self.may_continue(offset):
                continued.setdefault(self.bytes[offset], []).append(offset + 1)
        return {byte: tuple(after) for byte, after in continued.items()}

    def after(self, offsets: tuple[int, ...], text: bytes) -> tuple[int, ...]:
        """Where quotations that have come to `offsets` come to with `text`."""
        offsets, rest = self.continued(offsets).get(text[0], ()), text[1:]
        return tuple(
            offset + len(rest)
            for offset in offsets
            if self.bytes.startswith(rest, offset) and self._last_ends.isdisjoint(range(offset, offset + len(rest)))
        )

    def may_continue(self, offset: int) -> bool:
        """Whether a quotation may go on with the byte at `offset`: beyond an end only where another one is near."""
        return offset not in self._last_ends

    def next_end(self, offset: int) -> int | None:
        """The first end after `offset`, if there is one."""
        index = bisect_right(self._sorted_ends, offset)
        return self._sorted_ends[index] if index < len(self._sorted_ends) else None

    def _can_end(self, start: int) -> bool:
        """Whether a quotation from `start` has an end within MAX_BYTES_TO_END at which the parser reads it as evidence.

        `1. none` and `1. ***` are not read as evidence, and a run of 2,000 letters has no end. A quotation that may
        reach the end of the note must be readable there too.
        """
        first = bisect_right(self._sorted_ends, start)
        last = bisect_right(self._sorted_ends, start + MAX_BYTES_TO_END)
        if not any(is_read_as_evidence(self.bytes[start:end].decode()) for end in self._sorted_ends[first:last]):
            return False
        beyond_reach = len(self.bytes) - start > MAX_QUOTATION_BYTES + 2 * MAX_BYTES_TO_END
        return beyond_reach or is_read_as_evidence(self.bytes[start:].decode())


def is_read_as_evidence(text: str) -> bool:
    """Whether the parser reads the evidence line `1. text` as evidence, not as `none`, a heading or nothing at all."""
    line = f"1. {text}"
    return read_quotation(line, every_category) is not None and not read_heading(line)


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
