"""Sentences and sections of a clinical note, for assertion.py: how far the words of one line can concern another.

A sentence ends at a full stop, an empty line, a list item, a heading, or a line end; a line end inside a sentence, of a
wrapped text, does not end it: where the next line begins in lower case or with a function word, or this one ends with
a comma or a function word, or is long and without a full stop.

Read next: assertion.py.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from minscl.data.assertion_cues import FAMILY, HISTORICAL, HYPOTHETICAL

# Headings that give their section a status.
STATUS_HEADINGS = {
    FAMILY: """family history|family medical history|family hx|fam hx|famhx|fhx|fh|relevant family history|
        pertinent family history|family and social history""",
    HYPOTHETICAL: """return precautions|precautions|differential diagnosis|differential diagnoses|differential|ddx|
        reasons to return|reasons to call|when to call|when to seek care""",
    HISTORICAL: "resolved problems|resolved|past resolved problems|inactive problems",
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


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split("|") if name.strip()]


_STATUS_OF_HEADING = {name: status for status, text in STATUS_HEADINGS.items() for name in _names(text)}
_HEADING_NAMES = sorted([*_STATUS_OF_HEADING, *_names(OTHER_HEADINGS)], key=len, reverse=True)
_SPACE = r"[^\S\r\n]"
_HEADING = re.compile(
    rf"[#*_]{{0,4}}{_SPACE}?({'|'.join(map(re.escape, _HEADING_NAMES))})[*_]{{0,2}}{_SPACE}?(:|(?=[-–—]{_SPACE})|$)",
    re.IGNORECASE,
)
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|$)")
_BULLET = re.compile(rf"{_SPACE}*(?:[•▪●○◦‣∙·■□►▸➢✓*–—-]{_SPACE}*(?=\S)|\(?\d{{1,2}}[.)]{_SPACE}+(?=\S)|[a-z][.)]{_SPACE}+)")
_SIGN = re.compile(rf"{_SPACE}*-(?=[^\W\d])[^\r\n]*[+]")  # "-fever +cough" is no list item
_LABEL = re.compile(r"\s*[A-Z][^\s:]*(?: [^\s:]+){0,4}:")
_SENTENCE_END = re.compile(r"[.?!]+[\"'”’)\]]{0,2}(?=\s|$)|(?<=[a-z)])[.!](?=[A-Z][a-z])")
_LAST_WORD = re.compile(r"(\S+)\s*\Z")
_ABBREVIATIONS = frozenset("dr mr mrs ms vs hx dx tx rx sx pt st approx e.g i.e eg ie jr sr prof dept neg pos no".split())
_FUNCTION_WORDS = frozenset("""
    of or and nor in on at to for from with without by as but no not any the a an his her is was are were has had have
    denies denied negative reports endorses that which than history acute""".split())
_CONTINUATION = frozenset("of or and nor in on at to for from with without by as but that which than".split())
_RELATIVE_LINE = re.compile(r"mother|father|brother|sister|aunt|uncle|grand|parent|sibling|cousin|son\b|daughter", re.I)
WRAPPED_LINE = 60  # characters: a shorter line is an item of its own


@dataclass(frozen=True)
class Sentence:
    """`text[start:end]`, the status that its section gives to what it says, and the list head that it belongs to.

    `head` is the index of the sentence that ends with a colon and opens the list ("Denies the following:"), or None.
    """

    start: int
    end: int
    section: str = ""
    head: int | None = None


@dataclass
class _Line:
    """A line without its end and white space around it."""

    start: int
    end: int
    is_item: bool
    is_indented: bool


def sentences(text: str) -> list[Sentence]:
    """The sentences of a note, in order; what lies between them is white space and list marks."""
    result: list[Sentence] = []
    section, section_is_inline, head, head_items = "", False, None, False
    caps = sum(map(str.isupper, text[:4000])) > 2 * sum(map(str.islower, text[:4000]))
    for lines, after_blank in _paragraphs(text):
        line = lines[0]
        start, end = line.start, lines[-1].end
        if after_blank:
            if section_is_inline:
                section = ""
            if head is not None and (head_items or head != len(result) - 1):
                head = None
        elif head is not None and head_items and not (line.is_item or line.is_indented):
            head = None
        first, heading_status = start, _heading(text, start, end)
        if heading_status is None and after_blank | (not result) and _is_unknown_heading(text, start, end, caps):
            heading_status = ""
        if heading_status is not None:
            section, head = heading_status, None
        is_head = text[end - 1] == ":"
        for first, last in _split(text, start, end):
            inline = _HEADING.match(text, first, last)
            if inline and (first == start or inline[1]) and (first == start or inline[2] == ":"):
                section = _STATUS_OF_HEADING.get(inline[1].lower(), "")
                section_is_inline = bool(text[inline.end() : end].strip(" :-–—"))
            result.append(Sentence(first, last, section, head))
        if is_head:
            head, head_items = len(result) - 1, False
        elif head is not None:
            head_items = line.is_item or line.is_indented
    return result


def _heading(text: str, start: int, end: int) -> str | None:
    """The status of the section that a heading at `start` opens, "" for none; None where there is no heading."""
    heading = _HEADING.match(text, start, end)
    return _STATUS_OF_HEADING.get(heading[1].lower(), "") if heading else None


def _is_unknown_heading(text: str, start: int, end: int, caps: bool) -> bool:
    """Whether a line after an empty one is a heading by its looks: few words, in capitals or with a colon at its end."""
    line = text[start:end].strip("*_# ")
    if not 2 < len(line) <= 50 or len(line.split()) > 6 or _RELATIVE_LINE.search(line):
        return False
    return line.endswith(":") or (line.isupper() and not caps)


def _paragraphs(text: str) -> Iterator[tuple[list[_Line], bool]]:
    """Runs of lines that are one wrapped text, and whether an empty line comes before."""
    lines: list[_Line] = []
    after_blank = blank = False
    for match in _LINE.finditer(text):
        content = match[0].strip()
        if not content:
            blank = True
            continue
        start = match.start() + len(match[0]) - len(match[0].lstrip())
        bullet = None if _SIGN.match(text, match.start(), match.end()) else _BULLET.match(text, match.start(), match.end())
        is_indented = start - match.start() > 1
        line = _Line(bullet.end() if bullet else start, start + len(content), bool(bullet), is_indented)
        if lines and not blank and not bullet and _continues(text, lines[-1], line):
            lines.append(line)
            continue
        if lines:
            yield lines, after_blank
        lines, after_blank, blank = [line], blank, False
    if lines:
        yield lines, after_blank


def _continues(text: str, line: _Line, following: _Line) -> bool:
    """Whether `following` is the same wrapped text as `line`."""
    last = text[following.start - 1 : line.start : -1].lstrip()[:1] or text[line.start]
    if last in ".?!:;" and not (last == "." and _is_abbreviation(text, line.end - 1)):
        return False
    if _HEADING.match(text, following.start, following.end) or _LABEL.match(text, following.start, following.end):
        return False
    if text[following.start].islower() or last == ",":
        return True
    next_word = text[following.start : following.start + 20].split()[0].lower().strip(".,")
    last_word = text[max(line.start, line.end - 20) : line.end].split()[-1].lower()
    if next_word in _CONTINUATION or last_word in _FUNCTION_WORDS:
        return not _HEADING.match(text, line.start, line.end)
    return line.end - line.start >= WRAPPED_LINE


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
    match = _LAST_WORD.search(text[max(0, stop - 12) : stop])
    if not match:
        return stop == 0 or text[stop - 1].isspace()
    word = match[1].lower().lstrip("([\"'")
    following = text[stop + 1 : stop + 8].lstrip()[:1]
    if word in _ABBREVIATIONS:
        return word not in ("no", "pt", "neg", "pos") or following.islower() or following.isdigit()
    return following.islower() and (len(word) == 1 or word[-2:-1] == ".")
