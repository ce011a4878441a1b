"""Parses an answer: exactly what prompts.py renders, and whatever else a model may write.

    reasoning blanked → a JSON object, or sections by heading → quotations, codes with references (parse_line.py)

The same parser does both. prompts.py puts quotation marks, or an empty `[]`, around the rare text that tolerant
parsing would change. Nothing is repaired: what is not a code is dropped and counted. All offsets are characters of
the answer as received.

Read next: answer_sections.py; parse_line.py, for one line; infer/coder.py, which locates the quotations in the note.
"""

import itertools
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from minscl.data.answer_sections import answer_body, blank_thinking, sections
from minscl.data.parse_line import (
    CANONICAL,
    LIST_MARK,
    NUMBER,
    KnownCategory,
    canonical,
    every_category,
    looks_like_code,
    read_code_line,
    read_quotation,
)

# Examples as in parse_line.py; tests/test_parse_line.py has the table.
# Cut-off references. "I10 Hypertension [1, 2" → " [1, 2", group 1 "1, ": the last number may be cut.
CUT_REFERENCES = re.compile(r"(?<!\s)\s*\[((?:[0-9]{1,4},\s*)*)[0-9]*$")
# Fences around a whole answer. '```json\n{}\n```' → "```json" and "```".
OUTER_FENCES = re.compile(r"^```[\w-]*|```$")
# A rendered span answer. "I10 Essential hypertension" → "I10", "Essential hypertension".
RENDERED_SPAN = re.compile(rf"({CANONICAL})(?: (.*)(?=\n|\Z))?\s*\Z")


@dataclass(frozen=True)
class ParsedCode:
    """A code in canonical form, its description, the 1-based numbers of its quotations, and its place in the answer."""

    code: str
    description: str = ""
    references: tuple[int, ...] = ()
    start: int = 0
    end: int = 0


@dataclass(frozen=True)
class Parsed:
    """A parsed answer. Whether its codes are listed or billable is for the caller to check.

    `links[i]` is the code written after quotation i, or None. `truncated` repeats the caller's argument.
    `sectionless`: the answer has no heading. `malformed`: the number of code lines that begin with something that is
    not a code.
    """

    evidence: tuple[str, ...] = ()
    codes: tuple[ParsedCode, ...] = ()
    links: tuple[str | None, ...] = ()
    truncated: bool = False
    sectionless: bool = False
    malformed: int = 0

    @property
    def empty(self) -> bool:
        """Whether the answer has no code."""
        return not self.codes


def parse_document(text: str, known_category: KnownCategory | None = None, truncated: bool = False) -> Parsed:
    """Quotations and codes of the answer to a document prompt. Never raises on any text.

    `known_category("B12")` says whether the Tabular List has the category; a token without a dot is a code only if it
    does. None accepts every category. `truncated` says that the answer stopped at its length limit; a code or
    quotation at its very end is then incomplete and dropped.
    """
    known_category = known_category or every_category
    body = answer_body(text)
    from_json = _parse_json(body, known_category)
    if from_json is not None:
        return replace(from_json, truncated=truncated)
    evidence_lines, code_lines, sectionless = sections(body)
    if truncated and code_lines is None and evidence_lines and not body.endswith("\n"):
        evidence_lines.pop()
    quotations: list[tuple[str, str | None]] = []
    position_of: dict[int, int] = {}  # number written before a quotation → its 1-based position among those parsed
    for _, line in evidence_lines or ():
        quotation = read_quotation(line, known_category)
        if quotation:
            quotations.append(quotation)
            mark = LIST_MARK.match(line)
            position_of.setdefault(int(mark[1] if mark and mark[1] else len(quotations)), len(quotations))
    codes: list[ParsedCode] = []
    malformed = 0
    for offset, line in code_lines or ():
        of_line = _codes_of_line(line, offset, known_category, cut=truncated and offset + len(line) == len(body))
        malformed += not of_line and looks_like_code(line)
        written = of_line[0].references if of_line else ()  # all codes of a line have the same
        references = tuple(dict.fromkeys(position_of[number] for number in written if number in position_of))
        # A code at the very end is incomplete: "I50." may have been about to become I50.23.
        codes += [
            replace(code, references=references)
            for code in of_line
            if not (truncated and body[code.end : code.end + 2] in ("", "."))
        ]
    links = tuple(link for _, link in quotations)
    evidence = tuple(quotation for quotation, _ in quotations)
    return Parsed(evidence, _merge(codes, links), links, truncated, sectionless, malformed)


def parse_span(text: str, known_category: KnownCategory | None = None) -> tuple[str, str] | None:
    """(code, description) of the answer to a span prompt: the first code of any line; None if no line has one."""
    known_category = known_category or every_category
    match = RENDERED_SPAN.match(text)
    if match and ("." in match[1] or known_category(match[1][:3])):
        return match[1], match[2] or ""
    for line in blank_thinking(text).split("\n"):
        for code in _codes_of_line(line, 0, known_category):
            return code.code, code.description
    return None


def _codes_of_line(line: str, offset: int, known_category: KnownCategory, cut: bool = False) -> list[ParsedCode]:
    """The codes of a line at `offset`. Several codes share its references and have no description of their own.

    `cut`: the answer stopped in this line; of references that were cut only the complete numbers count.
    """
    complete_references: tuple[int, ...] = ()
    if cut and (match := CUT_REFERENCES.search(line)):
        complete_references, line = tuple(map(int, NUMBER.findall(match[1]))), line[: match.start()]
    places, description, references = read_code_line(line, known_category)
    description = description if len(places) == 1 else ""
    return [
        ParsedCode(
            canonical(line[start:end]), description, references or complete_references, offset + start, offset + end
        )
        for start, end in places
    ]


def _merge(codes: Iterable[ParsedCode], links: Iterable[str | None]) -> tuple[ParsedCode, ...]:
    """Each code once, at its first place, with the references of all its lines, or else the quotations linked to it."""
    merged: dict[str, ParsedCode] = {}
    references: dict[str, dict[int, tuple[int, ...]]] = {}  # code → id of a line's references → these references
    for code in codes:
        merged.setdefault(code.code, code)
        references.setdefault(code.code, {})[id(code.references)] = code.references
    linked: dict[str, list[int]] = {}
    for number, link in enumerate(links, 1):
        if link is not None:
            linked.setdefault(link, []).append(number)
    for name, code in merged.items():
        of_lines = list(references[name].values())
        numbers = of_lines[0] if len(of_lines) == 1 else tuple(dict.fromkeys(itertools.chain(*of_lines)))
        merged[name] = replace(code, references=numbers or tuple(linked.get(name, ())))
    return tuple(merged.values())


def _parse_json(body: str, known_category: KnownCategory) -> Parsed | None:
    """The answer if it is a JSON object with `codes`: strings, or objects with `code`, `description`, `evidence`."""
    text = OUTER_FENCES.sub("", body.strip()).strip()
    if not (text.startswith("{") and text.endswith("}")):
        return None
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(answer.get("codes"), list):
        return None

    evidence, codes, malformed, position = _strings(answer.get("evidence")), [], 0, 0
    number_of: dict[str, int] = {}  # quotation → its first 1-based position in `evidence`
    for number, quotation in enumerate(evidence, 1):
        number_of.setdefault(quotation, number)
    for item in answer["codes"]:
        fields = item if isinstance(item, dict) else {"code": item}
        text = fields["code"] if isinstance(fields.get("code"), str) else ""
        of_item = _codes_of_line(text, 0, known_category)
        malformed += not of_item
        quotations = _strings(fields.get("evidence"))
        for quotation in [quotation for quotation in quotations if quotation not in number_of]:
            evidence.append(quotation)
            number_of.setdefault(quotation, len(evidence))
        numbers = [
            number
            for number in (fields["evidence"] if isinstance(fields.get("evidence"), list) else ())
            if type(number) is int and 1 <= number <= len(evidence)
        ]
        references = tuple(dict.fromkeys([number_of[quotation] for quotation in quotations] + numbers))
        for code in of_item:
            position = max(body.find(text[code.start : code.end], position), 0)
            description = fields["description"] if isinstance(fields.get("description"), str) else code.description
            codes.append(ParsedCode(code.code, description, references, position, position + code.end - code.start))
    return Parsed(tuple(evidence), _merge(codes, ()), (None,) * len(evidence), malformed=malformed)


def _strings(value) -> list[str]:
    """The non-blank texts of a JSON value: a string, or a list of strings and of objects with `text`."""
    items = value if isinstance(value, list) else [value]
    texts = [item.get("text") if isinstance(item, dict) else item for item in items]
    return [text for text in texts if isinstance(text, str) and text.strip()]
