"""Locates a quotation in a note: half-open character offsets, or None. A quotation is never repaired.

Search order: the exact text; the text up to canonical equivalence (é as one character or as e with a combining accent:
tokenizers normalise, notes need not be); then also ignoring case and white space. Within each, a match at word
boundaries is preferred ("AF" is not located inside "AFEBRILE" if it also occurs as a word), and places already used by
another quotation of the same document come last. A match never cuts an accent off its letter.

A note is normalised once, with a map back to its own offsets, and searched by str.find: long notes with many quotations
take little time.

Read next: ../infer/answer.py, which locates the model's quotations; spans/silver.py, which locates an LLM's.
"""

import functools
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

# White space, printable ASCII, or any other character. "é  ab" → "é", then "  ", then "ab".
_PIECE = re.compile(r"\s+|[!-~]+|[^\s!-~]")
_NOT_WORD = re.compile(r"\W")
_DOTLESS = str.maketrans({"İ": "i", "ı": "i"})  # their case pairs are not Unicode's but Turkish

Place = tuple[int, int]  # half-open characters


@dataclass(frozen=True)
class Normalised:
    """A note in a normalised form.

    Piece i of `text` starts at `starts[i]` and is `note[slice(*places[i])]`, normalised; without pieces it is the note.
    """

    note: str
    text: str
    starts: tuple[int, ...] = ()
    places: tuple[Place, ...] = ()

    def find(self, quotation: str, whole_words: bool) -> Iterator[Place]:
        """The places in the note of `quotation`, which is normalised as `text` is, without overlaps."""
        position = 0
        while (start := self.text.find(quotation, position)) >= 0:
            end = start + len(quotation)
            place = self._place(start, end)
            if place and whole_words and is_in_word(self.note, place[0] - 1):
                gap = _NOT_WORD.search(self.text, start)  # the next word starts after it at the earliest
                position = gap.end() if gap else len(self.text)
            elif place and not (whole_words and is_in_word(self.note, place[1])):
                yield place
                position = end
            else:
                position = start + 1

    def _place(self, start: int, end: int) -> Place | None:
        """The place in the note of `text[start:end]`; None where it cuts a letter and its accents."""
        first, last = self._note_offset(start, start), self._note_offset(end, end - 1)
        if first is None or last is None or extends_letter(self.note, first) or extends_letter(self.note, last):
            return None
        return first, last

    def _note_offset(self, offset: int, neighbour: int) -> int | None:
        """`offset` into `text` as one into the note, by the piece with the character `neighbour`; None: inside it."""
        if not self.starts:
            return offset
        piece = bisect_right(self.starts, neighbour) - 1
        piece_start, (first, last) = self.starts[piece], self.places[piece]
        length = (self.starts[piece + 1] if piece + 1 < len(self.starts) else len(self.text)) - piece_start
        if length == last - first:  # character by character
            return first + offset - piece_start
        return first if offset == piece_start else last if offset == piece_start + length else None


def locate(text: str, quotation: str, used: Collection[Place] = frozenset()) -> Place | None:
    """(start, end) where `text[start:end]` equals `quotation` up to canonical equivalence, case and white space.

    None if it does not occur. `used` holds the places of other quotations; one of these is returned only if there is no
    other place.
    """
    first_used = None
    for place in _places(text, quotation.strip()):
        if place not in used:
            return place
        first_used = first_used or place
    return first_used


def _places(text: str, quotation: str) -> Iterator[Place]:
    """Where the note `text` has `quotation`, the preferred places first."""
    caseless = _normalised(text, _caseless), _normalise(quotation, _caseless).text
    if not quotation or caseless[1] not in caseless[0].text:
        return  # the other two searches would find nothing either
    searches = [(Normalised(text, text), quotation), caseless]
    if not (unicodedata.is_normalized("NFC", text) and unicodedata.is_normalized("NFC", quotation)):
        searches.insert(1, (_normalised(text, _canonical), _normalise(quotation, _canonical).text))
    for note, normalised_quotation in searches:
        for whole_words in (True, False):
            yield from note.find(normalised_quotation, whole_words)


def _canonical(piece: str) -> str:
    """`piece`, a letter with its accents, decomposed."""
    return unicodedata.normalize("NFD", piece)


def _caseless(piece: str) -> str:
    """`piece` decomposed and without case; white space is one space."""
    if piece.isspace():
        return " "
    if piece.isascii():
        return piece.lower()
    # One character at a time, because whole texts fold a ligature into its letters (ﬁ, ß): that is not its case.
    composed = unicodedata.normalize("NFC", piece)
    folded = ((letter.casefold(), letter.lower()) for letter in _canonical(composed.translate(_DOTLESS)))
    return _canonical("".join(fold if len(fold) == 1 else lower for fold, lower in folded))


def _normalise(note: str, normalise_piece: Callable[[str], str]) -> Normalised:
    pieces, starts, places, length = [], [], [], 0
    for place in _pieces(note):
        pieces.append(normalise_piece(note[slice(*place)]))
        starts.append(length)
        places.append(place)
        length += len(pieces[-1])
    return Normalised(note, "".join(pieces), tuple(starts), tuple(places))


_normalised = functools.lru_cache(maxsize=2)(_normalise)  # of the note whose quotations are being located


def _pieces(text: str) -> Iterator[Place]:
    """`text` in pieces that can be normalised alone: white space, ASCII, or any other character with its accents."""
    start = end = 0
    for match in _PIECE.finditer(text):
        if end and extends_letter(text, match.start()):
            if end - start > 1 and not extends_letter(text, end - 1):  # the accent is that of the last letter only
                yield start, end - 1
                start = end - 1
            end = match.end()
            continue
        if end:
            yield start, end
        start, end = match.span()
    if end:
        yield start, end


def extends_letter(text: str, offset: int) -> bool:
    """Whether the character at `offset` belongs to the one before: a combining mark, or a Hangul vowel or final."""
    if not 0 < offset < len(text) or text[offset] < "\u0300" or text[offset - 1].isspace():
        return False
    return unicodedata.category(text[offset])[0] == "M" or "\u1160" <= text[offset] <= "\u11ff"


def is_in_word(text: str, offset: int) -> bool:
    """Whether there is a character at `offset`, and it is a letter, a digit, an underscore or a combining mark."""
    if not 0 <= offset < len(text):
        return False
    return text[offset].isalnum() or text[offset] == "_" or unicodedata.category(text[offset])[0] == "M"


@functools.lru_cache(maxsize=2)
def _line_starts(text: str) -> tuple[int, ...]:
    """The offset at which each line of `text` starts."""
    return (0, *(match.end() for match in re.finditer("\n", text)))


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    """1-based line and column of a character offset, as editors count them."""
    starts = _line_starts(text)
    line = bisect_right(starts, offset)
    return line, offset - starts[line - 1] + 1
