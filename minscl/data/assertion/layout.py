"""Sentences and sections of a clinical note: how far the words of one line can concern another.

A sentence ends at a full stop, an empty line, a list item, a heading, or a line end. A line end does not end it where
the text is wrapped: the next line begins in lower case or with a function word, or this one ends with a comma or a
function word, or is long and has no full stop.

Read next: matching.py.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from minscl.data.assertion.cues import FAMILY, HISTORICAL, HYPOTHETICAL
from minscl.data.assertion.words import word_set

# Headings that give their section a status.
STATUS_HEADINGS = {
    FAMILY: """family history|family medical history|family hx|fam hx|famhx|fhx|fh|relevant family history|
        pertinent family history""",
    HYPOTHETICAL: """return precautions|precautions|differential diagnosis|differential diagnoses|differential|ddx|
        reasons to return|reasons to call|when to call|when to seek care""",
    HISTORICAL: "resolved problems|past resolved problems|inactive problems",
}
# Headings that only end the section before.
OTHER_HEADINGS = """
    chief complaint|cc|reason for visit|reason for consultation|history of present illness|hpi|present illness|
    interval history|subjective|past medical history|past history|medical history|pmh|pmhx|past surgical history|
    surgical history|psh|pshx|past medical/surgical history|birth history|obstetric history|gynecologic history|
    social history|social hx|shx|sh|soc hx|allergies|allergy|medications|current medications|home medications|meds|
    immunizations|health maintenance|review of systems|review of symptoms|ros|vitals|vital signs|vitals reviewed|
    physical exam|physical examination|exam|examination|pe|objective|results|labs|laboratory data|laboratory|imaging|
    radiology|studies|data|procedure|procedures|pathology|ekg|ecg|assessment|assessment and plan|assessment & plan|
    assessment/plan|a/p|a&p|impression|impression and plan|diagnosis|diagnoses|discharge diagnosis|problem list|
    problems|active problems|plan|recommendations|instructions|follow-up|follow up|followup|disposition|
    hospital course|pertinent positives|positives|patient agreements|general|constitutional
"""
WRAPPED_LINE = 60  # characters: a shorter line is an item of its own
HEADING_WORDS, HEADING_LENGTH = 6, 50  # a heading that is not on the lists has no more words and characters


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split("|")]


_STATUS_OF_HEADING = {name: status for status, text in STATUS_HEADINGS.items() for name in _names(text)}
_HEADING_NAMES = sorted([*_STATUS_OF_HEADING, *_names(OTHER_HEADINGS)], key=len, reverse=True)
_SPACE = r"[^\S\r\n]"
# "**Family history**:" → name "Family history", colon ":"; also a name alone on its line, or before a spaced dash.
_HEADING = re.compile(
    rf"[#*_]{{0,4}}{_SPACE}?(?P<name>{'|'.join(map(re.escape, _HEADING_NAMES))})[*_]{{0,2}}{_SPACE}?"
    rf"(?:(?P<colon>:)|(?=[-–—]{_SPACE})|$)",
    re.IGNORECASE,
)
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|$)")
_ITEM = re.compile(rf"{_SPACE}*(?:[•▪●○◦‣∙·■□►▸➢✓*–—-]{_SPACE}*|\(?\d{{1,2}}[.)]{_SPACE}+|[a-z][.)]{_SPACE}+)(?=\S)")
_SIGNS = re.compile(rf"{_SPACE}*-(?=[^\W\d])[^\r\n+]*\+")  # "-fever +cough" is no list item
_LABEL = re.compile(r"[A-Z][^\s:]*(?: [^\s:]+){0,4}:")
_SENTENCE_END = re.compile(r"(?<![.?!])[.?!]+[\"'”’)\]]{0,2}(?=\s|$)|(?<=[a-z)])[.!](?=[A-Z][a-z])")
_ABBREVIATIONS = word_set("dr mr mrs ms vs hx dx tx rx sx pt st approx e.g i.e eg ie jr sr prof dept neg pos no")
_ABBREVIATIONS_AT_END = frozenset(("no", "pt", "neg", "pos"))  # these may also end a sentence
_CONTINUES_BEFORE = word_set("of or and nor in on at to for from with without by as but that which than")
_CONTINUES_AFTER = _CONTINUES_BEFORE | word_set(
    """
    no not any the a an his her is was are were has had have denies denied negative reports endorses history acute"""
)
_RELATIVE = re.compile(r"mother|father|brother|sister|aunt|uncle|grand|parent|sibling|cousin|son\b|daughter", re.I)


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

    The section's status, and whether its heading's line has text too; the head of the list, and whether lines of it
    came, and whether these are marked items.
    """

    section: str = ""
    section_is_inline: bool = False
    head: int | None = None
    has_lines: bool = False
    has_items: bool = False


def sentences(text: str) -> list[Sentence]:
    """The sentences of a note, in order; what lies between them is white space and list marks."""
    is_capitals = sum(map(str.isupper, text[:2000])) > sum(map(str.islower, text[:2000]))
    result: list[Sentence] = []
    state = _State()
    for start, end, is_item, after_blank in _paragraphs(text):
        if after_blank and state.section_is_inline:
            state.section = ""
        if (state.has_lines and after_blank) or (state.has_items and not is_item):
            state.head = None
        heading = _HEADING.match(text, start, end)
        if heading or ((after_blank or not result) and _looks_like_heading(text[start:end], is_capitals)):
            state = _State()
        is_head = text[end - 1] == ":"
        for first, last in _split(text, start, end):
            heading = _HEADING.match(text, first, last) if first == start or ":" in text[first:last] else None
            if heading and (first == start or heading["colon"]):
                state.section = _STATUS_OF_HEADING.get(heading["name"].lower(), "")
                state.section_is_inline = bool(text[heading.end() : end].strip(" -–—"))
            result.append(Sentence(first, last, state.section, None if is_head else state.head))
        state.has_lines, state.has_items = True, is_item
        if is_head:
            state.head, state.has_lines, state.has_items = len(result) - 1, False, False
    return result


def _looks_like_heading(line: str, is_capitals: bool) -> bool:
    """Whether a line after an empty one is a heading: few words, with a colon at the end or in capitals.

    Capitals say nothing where the whole note is in capitals (`is_capitals`).
    """
    line = line.strip("*_# ")
    if not 2 < len(line) <= HEADING_LENGTH or len(line.split()) > HEADING_WORDS or _RELATIVE.search(line):
        return False
    return line.endswith(":") or (line.isupper() and not is_capitals)


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
    mark = text[line.end - 1]
    if mark in ".?!:;" and not (mark == "." and _is_abbreviation(text, line.end - 1)):
        return False
    if any(pattern.match(text, following.start, following.end) for pattern in (_HEADING, _LABEL)):
        return False
    if text[following.start].islower() or mark == ",":
        return True
    first_word = text[following.start : following.start + 20].split()[0].lower().strip(".,")
    last_word = text[max(line.start, line.end - 20) : line.end].split()[-1].lower()
    if first_word in _CONTINUES_BEFORE or last_word in _CONTINUES_AFTER or line.end - line.start >= WRAPPED_LINE:
        return not _HEADING.match(text, line.start, line.end)
    return False


def _split(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The sentences of `text[start:end]`."""
    for match in _SENTENCE_END.finditer(text, start, end):
        if text[match.start()] == "." and _is_abbreviation(text, match.start()):
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
