"""The codes that a note of the Tabular List names: text → patterns that other codes match.

A note ends in the codes it speaks of, in many shapes: `(K00.1)`, `(S06.A-)`, `(A00.-)`, `(K00-K14)`, `(F10.- -F19.-)`,
`(E08-E13 with .42)`, `(T36-T50 with fifth or sixth character 5)`, `Q67.0-Q67.4` without brackets, `(E87.8}`. A code
stands for itself and for all that is below it. A range holds what the List prints from its first code to its last, so
D10-D49 holds D3A. A note that names no code is "text only", and one that opens a list is a "heading": nothing is
guessed from their words.

Read next: note_index.py, which looks notes up by the codes that they name; checking.py, which quotes them.
"""

import functools
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from minscl.data.icd.codebook import CodeBook

# How a note is read. One note can have several shapes; the last of these that applies counts.
CODE, DASH, RANGE, CHARACTERS, WORDS = "code", "dash", "range", "with characters", "with words"
HEADING, TEXT_ONLY = "heading", "text only"
SHAPES = (CODE, DASH, RANGE, CHARACTERS, WORDS, HEADING, TEXT_ONLY)

_CODE = re.compile(r"(?<![0-9A-Za-z])[A-Z][0-9A-Z]{2}(?:\.[0-9A-Z]{1,4})?(?![0-9A-Za-z])")  # QA1.71
_BRACKETS = re.compile(r"[(\[]([^()\[\]{}]*)(?:[)\]}]|$)")  # R11.16 has "(E87.8}"; Z47.33 lacks the bracket that closes
# Between two codes. "I69.81- I69.91-" is no range but a list without its comma; "S00 - S09", "P28.3- - P28.4-" are.
_RANGE_MARK = re.compile(r"\.?-?(-|\s+-\s*|\s+to\s+)")
_DASHES = re.compile(r"\.?-*")  # what a code may end in: "F10.-", "S12.6.-", "E11.2-"
_WITH = re.compile(r"\.?-?,?\s*with (?P<ending>.*)", re.DOTALL)
_POSITIONS = {"fifth": 4, "5th": 4, "sixth": 5, "6th": 5, "seventh": 6, "7th": 6}  # counted from 0, without the dot
_CHARACTER = re.compile(
    r"(?P<words>open fracture )?(?:(?P<place>fifth or six(?:th)?|5th or 6th|final|fifth|5th|sixth|6th|seventh|7th)"
    r"(?: to sixth)?[ -]characters? ?)?(?P<values>.*)",
    re.DOTALL,
)
_VALUE = re.compile(r"(?P<first>\d+)-\.?(?P<last>\d+)|(?P<alone>\d+|\b[A-Z]\b)")
_WITH_PHRASE = re.compile(r"\bwith (?!fifth|sixth|final|\dth)([^()\[]*)")
_WITHOUT = re.compile(r"\bwithout (.*?)(?=\bwith\b|$)")
_INTENTS = {"poisoning": "1234", "intoxication": "1234", "adverse effect": "5", "underdosing": "6"}
_SYNONYMS = {"hemorrhage": "bleeding"}
# Brackets that are read otherwise than they stand. F06.7 prints I69.01- to I69.91- as ranges, which would take in
# speech deficits, hemiplegia and dysphagia; G31.84 prints the same condition as a list. T88.7 names 18 chapters for
# "specified adverse effects", which is not to say that it excludes every diagnosis of the patient.
_CORRECTIONS = {
    "I69.01-I69.11-, I69.21-I69.31-, I69.81- I69.91-": "I69.01-, I69.11-, I69.21-, I69.31-, I69.81-, I69.91-",
    "A00-R94 and T80-T88.6, T88.8": "T80-T88.6, T88.8",
}


@dataclass(frozen=True)
class Ending:
    """What a code must have besides its first characters. `place`: an index into the code without its dot, where one
    of `values` begins; "intent", the 5th or 6th character of T36-T65 that tells poisoning (1-4), adverse effect (5) and
    underdosing (6) apart; "final", the last characters before the 7th; "words", which its description has; "not
    without", words that its description does not deny. In a final value each leading dash stands for one character
    more after the category: "-20" is I69.320, not I69.20."""

    place: int | str
    values: tuple[str, ...]

    def fits(self, bare: str, description: str | None) -> bool:
        """`bare`: the code without its dot; `description` as CodeBook.description gives it."""
        if isinstance(self.place, int):
            return bare.startswith(self.values, self.place)
        if self.place == "intent":
            # The 6th character unless the code has five and X up to the 7th: T43.015A is 5, T36.91XA is 1.
            return (bare[5:6] if bare[5:6] not in ("", "X") else bare[4:5]) in self.values
        if self.place == "final":
            written = bare[:6].rstrip("X")
            plain = [(value.lstrip("-"), 3 + len(value)) for value in self.values]
            return any(written.endswith(value) and len(written) >= length for value, length in plain)
        if self.place == "not without":
            denied = " ".join(_WITHOUT.findall((description or "").lower()))
            return not any(words in denied for words in self.values)
        return any(words in (description or "") for words in self.values)


@dataclass(frozen=True)
class Pattern:
    """All codes from `first` to `last`, both with what is below them. Both are written without the dot."""

    first: str
    last: str
    ending: Ending | None = None

    def covers(self, code: str, book: CodeBook) -> bool:
        """Whether `code`, in canonical form, is one of them. It may be a heading and need not be listed."""
        bare = code.replace(".", "")
        if self.first == self.last:
            inside = bare.startswith(self.first)
        else:
            order = category_order(book)
            at, start, end = (order.get(bound[:3], -1) for bound in (bare, self.first, self.last))
            inside = (
                start <= at <= end
                and (at > start or bare >= self.first)
                and (at < end or bare <= self.last or bare.startswith(self.last))
            )
        return inside and (not self.ending or self.ending.fits(bare, book.description(code)))


@dataclass(frozen=True)
class Reference:
    """`shape` is one of SHAPES; without patterns it is HEADING or TEXT_ONLY. `printed`: the codes as they stand."""

    shape: str
    patterns: tuple[Pattern, ...] = ()
    printed: str = ""

    def covers(self, code: str, book: CodeBook) -> bool:
        """Whether the note names `code` or something above it."""
        return any(pattern.covers(code, book) for pattern in self.patterns)


@functools.lru_cache(maxsize=4)  # keeps the books of the last four calls, and no more
def category_order(book: CodeBook) -> Mapping[str, int]:
    """Category → its place in the List. C7A comes before C76 and D3A before D37: not the order of characters."""
    return {category: number for number, category in enumerate(node for node in book.nodes if len(node) == 3)}


def read_reference(text: str, book: CodeBook) -> Reference:
    """The codes named in `text`, a note of the List. Codes in brackets are taken, or else those outside them.

    What has the shape of a code but no category in `book`, such as the vitamin B12, is none.
    """
    text = text.replace("–", "-")  # an en dash, as some editions of the List have it
    groups = []
    for bracket in _BRACKETS.finditer(text):
        content = bracket.group(1)
        after = text[bracket.end() :]
        if after.lstrip().startswith(("with fifth", "with sixth", "with 5th", "with 6th", "with 7th")):
            content += " " + after.lstrip()  # Z91.12: "(T36-T50) with fifth or sixth character 6"
        groups.append(_CORRECTIONS.get(content, content))
    readings = [reading for reading in (_read_group(group, book) for group in groups) if reading.patterns]
    if not readings:
        readings = [_read_group(text, book)]
    patterns = [pattern for reading in readings for pattern in reading.patterns]
    if not patterns:
        return Reference(HEADING if text.rstrip().endswith(":") else TEXT_ONLY)
    ending, intent = _ending_in_words(text), intent_in_words(text)
    for number, pattern in enumerate(patterns):
        in_words = intent if "T36" <= pattern.first[:3] <= "T65" else ending
        if in_words and not pattern.ending:
            patterns[number] = replace(pattern, ending=in_words)
    printed = ", ".join(reading.printed for reading in readings)
    return Reference(max((reading.shape for reading in readings), key=SHAPES.index), tuple(patterns), printed)


def _ending_in_words(text: str) -> Ending | None:
    """What the words of a note say of its codes, against codes of the same category that say the opposite: with
    "diverticular disease with hemorrhage (K57.-)", K57.30 "without bleeding" is not meant; with "open fracture of hip
    and thigh (S72.-)", no closed one.
    """
    if text.startswith("open fracture"):
        return Ending("words", ("open fracture",))
    words = [word for phrase in _WITH_PHRASE.findall(text) for word in re.findall(r"[a-z]{5,}", phrase)]
    words += [_SYNONYMS[word] for word in words if word in _SYNONYMS]
    return Ending("not without", tuple(words)) if words else None


def intent_in_words(text: str) -> Ending | None:
    """Of the codes T36-T65, those that the words of a note can speak of: "opioid poisoning (T40.0-T40.2-)" is no
    adverse effect. None if it says nothing, or names all."""
    text = text.replace("adverse effect of underdosing", "underdosing")
    values = "".join(intents for words, intents in _INTENTS.items() if words in text)
    return Ending("intent", tuple(values)) if values and len(values) < 6 else None


def _read_group(group: str, book: CodeBook) -> Reference:
    """The codes of one bracket, or of a sentence without brackets."""
    order = category_order(book)
    codes = [match for match in _CODE.finditer(group) if match.group()[:3] in order]
    if not codes:
        return Reference(TEXT_ONLY)
    clause = _WITH.match(group, codes[-1].end())
    ending, shape = _read_ending(clause["ending"]) if clause else (None, CODE)
    patterns, shapes = [], {shape}
    first = None  # of a range
    for code, following in zip(codes, [*codes[1:], None], strict=True):
        bare = code.group().replace(".", "")
        between = group[code.end() : following.start()] if following else group[code.end() :]
        if following and _RANGE_MARK.fullmatch(between):
            first = first or bare
            continue
        shapes.add(RANGE if first else DASH if re.match(r"\.?-", between) else CODE)
        patterns.append(Pattern(first or bare, bare, ending))
        first = None
    dashes = _DASHES.match(group, codes[-1].end())
    assert dashes  # the pattern may be empty
    printed = group[codes[0].start() : len(group) if clause else dashes.end()]
    return Reference(max(shapes, key=SHAPES.index), tuple(patterns), printed)


def _read_ending(text: str) -> tuple[Ending | None, str]:
    """What stands after "with": (ending, CHARACTERS or WORDS). "to indicate intent" asks for no certain character."""
    match = _CHARACTER.fullmatch(text.strip())
    assert match  # every part of the pattern may be empty
    if match["words"]:
        return Ending("words", (match["words"].strip(),)), WORDS
    if not match["place"] and not text.startswith("."):
        return Ending("words", ("with " + text.strip(" ."),)), WORDS
    values: list[str] = []
    for value in _VALUE.finditer(match["values"]):
        if value["alone"]:
            dashes = match["values"][: value.start()].endswith("-") and match["place"] == "final"
            values.append("-" * dashes + value["alone"])
        else:
            width = len(value["first"])
            values += [f"{number:0{width}}" for number in range(int(value["first"]), int(value["last"]) + 1)]
    place = match["place"] or ""
    at: int | str = "intent" if " or " in place else "final" if place == "final" else _POSITIONS.get(place, 3)
    return (Ending(at, tuple(values)) if values else None), CHARACTERS


def count_references(book: CodeBook, kind: str) -> Counter[str]:
    """How the notes of one kind (tabular.NOTE_KINDS) were read: shape → number of notes."""
    return Counter(read_reference(text, book).shape for node in book.nodes for text in book.notes(node, kind))
