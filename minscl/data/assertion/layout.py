"""Sentences and sections of a clinical note: how far the words of one line can concern another.

A sentence ends at a full stop, an empty line, a list item, a heading, or a line end. A line end does not end it where
the text is wrapped: the next line begins in lower case or with a function word, or this one ends with a comma or a
function word, or is long and has no full stop.

A section with a status ends at the next heading, or what looks like one, and at an empty line after some text; where
the text begins on the heading's line, with that text. What names a relative goes on with a family's history.

Read next: matching.py.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from minscl.data.assertion.cues import FAMILY
from minscl.data.assertion.headings import (
    HEADING,
    HEADING_LENGTH,
    RELATIVE,
    SPACE,
    STATUS_OF_HEADING,
    looks_like_heading,
)
from minscl.data.assertion.words import word_set

WRAPPED_PHRASE = 30  # characters: a shorter line that no comma or function word ends is whole, "No fever"
WRAPPED_LINE = 60  # characters: a shorter line is an item of its own
RELATIVE_WITHIN = 40  # characters: how near to its start a paragraph that goes on with a family's history names one

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|$)")
_ITEM = re.compile(rf"{SPACE}*(?:[•▪●○◦‣∙·■□►▸➢✓*–—-]{SPACE}*|\(?\d{{1,2}}[.)]{SPACE}+|[a-z][.)]{SPACE}+)(?=\S)")
_BULLETS = ("-", "•", "–", "*")
_SIGNS = re.compile(rf"{SPACE}*-(?:(?=[^\W\d])[^\r\n+]*\+|ve\b)")  # "-fever +cough" and "-ve" are no list items
_LABEL = re.compile(r"[A-Z][^\s:]*(?: [^\s:]+){0,4}:")
# A full stop, or the space before a list's number: "1) No fracture 2) Osteopenia".
_SENTENCE_END = re.compile(
    r"(?<![.?!])[.?!]+[\"'”’)\]]{0,2}(?=\s|$)|(?<=[a-z)])[.!](?=[A-Z][a-z])|"
    r"(?<=\S)\s(?=(?P<number>\d{1,2})\)\s+[^\W\d])"
)
_ABBREVIATIONS = word_set("dr mr mrs ms vs hx dx tx rx sx pt st approx e.g i.e eg ie jr sr prof dept neg pos no")
_ABBREVIATIONS_AT_END = frozenset(("no", "pt", "neg", "pos"))  # these may also end a sentence
_CONTINUES_BEFORE = word_set("of or and nor in on at to for from with without by as but that which than")
_CONTINUES_AFTER = _CONTINUES_BEFORE | word_set(
    """
    no not any the a an his her is was are were has had have denies denied negative reports endorses history acute"""
)
# A list's head: what ends with a colon, or with a verb or preposition whose objects are the items.
_HEAD = re.compile(
    r"(?::|\b(?:denies|denied|endorses|endorsed|reports|no evidence of|the following|"
    r"(?:negative|neg|positive|pos) for))$",
    re.IGNORECASE,
)
_ANSWER = re.compile(rf"{SPACE}*(?:yes|no|none|never|denies|denied|y|n){SPACE}*(?:[.,;]|$)", re.IGNORECASE)
# A sentence on the patient, wherever it stands.
_ON_PATIENT = re.compile(
    r"(?:the |this )?(?:patient|pt|he|she)\b(?: (?:also|now|currently))? "
    r"(?:has|had|is|was|developed|presents|presented)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Sentence:
    """`text[start:end]`, the status that its section gives to what it says ("" for none), and its list's head.

    `head` is the index of the sentence that ends with a colon and opens the list ("Denies the following:"), or None.
    """

    start: int
    end: int
    section: str = ""
    head: int | None = None


@dataclass(frozen=True)
class _Line:
    """A line without its list mark, its end and the white space around it."""

    start: int
    end: int
    is_item: bool


@dataclass
class _State:
    """What the lines before say of the next.

    The section's status, whether text came in it, and whether this began on its heading's line; the head of the list,
    whether lines of it came, whether these are marked items, and whether an empty line is before each of them.
    """

    section: str = ""
    section_has_text: bool = False
    section_is_inline: bool = False
    head: int | None = None
    has_lines: bool = False
    has_items: bool = False
    is_spaced: bool = False


def sentences(text: str) -> list[Sentence]:
    """The sentences of a note, in order; what lies between them is white space and list marks."""
    is_capitals = sum(map(str.isupper, text[:2000])) > sum(map(str.islower, text[:2000]))
    result: list[Sentence] = []
    state = _State()
    for start, end, is_item, after_blank in _paragraphs(text):
        ends_section = state.section_is_inline or (after_blank and state.section_has_text)
        if ends_section and not _goes_on(state.section, text, start, end):
            state.section = ""
        is_spaced = after_blank and is_item and (state.is_spaced or not state.has_lines)
        if (state.has_lines and after_blank and not is_spaced) or (state.has_items and not is_item):
            state.head = None
        if _heading(text, start, end) or looks_like_heading(text[start:end], after_blank or not result, is_capitals):
            state = _State()
        is_head = bool(_HEAD.search(text, max(start, end - 20), end))
        for first, last in _split(text, start, end):
            heading = _heading(text, first, last) if first == start or ":" in text[first:last] else None
            if heading and (first == start or heading["colon"]):
                state.section = STATUS_OF_HEADING.get(heading["name"].lower(), "")
                state.section_is_inline = bool(text[heading.end() : min(end, heading.end() + 20)].strip(" -–—*_"))
                state.section_has_text = state.section_is_inline
            else:
                state.section_has_text = True
                is_leak = state.section_is_inline and first > start and not _goes_on(state.section, text, first, last)
                if is_leak or _has_label(text, first, last):
                    state.section = ""
            if _ON_PATIENT.match(text, first, last) and not RELATIVE.search(text, first, last):
                state.section = ""
            result.append(Sentence(first, last, state.section, None if is_head else state.head))
        state.has_lines, state.has_items, state.is_spaced = True, is_item, is_spaced
        if is_head:
            state.head, state.has_lines, state.has_items, state.is_spaced = len(result) - 1, False, False, False
    return result


def _heading(text: str, start: int, end: int) -> re.Match[str] | None:
    """The heading on the lists that `text[start:end]` begins with; a list item "- PE" is none."""
    heading = HEADING.match(text, start, end)
    is_marked = text[max(0, start - 2) : start].strip() in _BULLETS
    return None if heading and is_marked and len(heading["name"]) < 4 and not heading["colon"] else heading


def _has_label(text: str, start: int, end: int) -> bool:
    """Whether `text[start:end]` begins with a heading that is on no list, a colon and text: "Final Impression: …"."""
    colon = text.find(":", start, min(end, start + HEADING_LENGTH))
    return colon > start and looks_like_heading(text[start:colon], False, True)


def _goes_on(section: str, text: str, start: int, end: int) -> bool:
    """Whether `text[start:end]`, after an empty line, belongs to the section before it: it names a relative."""
    return section == FAMILY and bool(RELATIVE.search(text, start, min(end, start + RELATIVE_WITHIN)))


def _paragraphs(text: str) -> Iterator[tuple[int, int, bool, bool]]:
    """Runs of lines that are one wrapped text: start, end, whether it is a list item, whether an empty line is before.

    An indented line counts as an item.
    """
    lines: list[_Line] = []
    after_blank = is_blank = False
    for match in _LINE.finditer(text):
        content = match[0].strip()
        if not content:
            is_blank = True
            continue
        start = match.start() + match[0].index(content[0])
        mark = None if _SIGNS.match(text, match.start(), match.end()) else _ITEM.match(text, match.start(), match.end())
        line = _Line(mark.end() if mark else start, start + len(content), bool(mark) or start > match.start() + 1)
        if lines and not is_blank and not mark and _continues(text, lines[-1], line):
            lines.append(line)
            continue
        if lines:
            yield lines[0].start, lines[-1].end, lines[0].is_item, after_blank
        lines, after_blank, is_blank = [line], is_blank, False
    if lines:
        yield lines[0].start, lines[-1].end, lines[0].is_item, after_blank


def _continues(text: str, line: _Line, following: _Line) -> bool:
    """Whether `following` is the same wrapped text as `line`."""
    if text[following.start] == "|" or _is_heading(text, line):
        return False
    mark = text[line.end - 1]
    if mark in ".?!:;" and not (mark == "." and _is_abbreviation(text, line.end - 1)):
        return False
    if any(pattern.match(text, following.start, following.end) for pattern in (HEADING, _LABEL)):
        return False
    length = line.end - line.start
    if mark == "," or (length >= WRAPPED_PHRASE and text[following.start].islower()):
        return True
    first_word = text[following.start : following.start + 20].split()[0].lower().strip(".,")
    last_word = text[max(line.start, line.end - 20) : line.end].split()[-1].lower()
    return first_word in _CONTINUES_BEFORE or last_word in _CONTINUES_AFTER or length >= WRAPPED_LINE


def _is_heading(text: str, line: _Line) -> bool:
    """Whether `line` is a heading and has no text."""
    heading = HEADING.match(text, line.start, line.end)
    if heading:
        return heading.end() == line.end
    return text[line.end - 1] != "," and looks_like_heading(text[line.start : line.end], False, True)


def _split(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The sentences of `text[start:end]`."""
    following = {1, 2}  # the numbers with which a list may go on: the mark of its first item may be cut off
    for match in _SENTENCE_END.finditer(text, start, end):
        if match["number"]:
            if int(match["number"]) not in following:
                continue
            following = {int(match["number"]) + 1}
        if text[match.start()] == "." and _is_abbreviation(text, match.start()):
            continue
        if text[match.start()] == "?" and _ANSWER.match(text, match.end(), end):
            continue
        yield start, match.end()
        start = match.end()
        while start < end and text[start].isspace():
            start += 1
    if start < end:
        yield start, end


def _is_abbreviation(text: str, stop: int) -> bool:
    """Whether the full stop at `stop` belongs to the word before it, and the sentence goes on."""
    words = text[max(0, stop - 12) : stop].split()
    if not words or text[stop - 1].isspace():
        return True  # a stop on its own ends nothing
    word = words[-1].lower().lstrip("([\"'")
    following = text[stop + 1 : stop + 8].lstrip()[:1]
    if word in _ABBREVIATIONS:
        return word not in _ABBREVIATIONS_AT_END or following.islower() or following.isdigit()
    return following.islower() and (len(word) == 1 or word[-2:-1] == ".")
