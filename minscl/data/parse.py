"""Reading an answer: what prompts.py renders, to the letter, and whatever else a model may write.

    reasoning blanked → a JSON object, or sections by their headings → quotations, codes with references (lines.py)

There is one reader for both. prompts.py puts quotation marks or an empty `[]` around the rare text that the tolerant reading
would change. Nothing is repaired: what is not a code is dropped and counted. Offsets count in the answer as it was given.

Read next: lines.py for one line; infer/coder.py, which finds the quotations in the note.
"""

import json
import re
from dataclasses import dataclass, replace

from minscl.data.parse_line import (
    CANONICAL,
    LIST_MARK,
    OUR_LINE,
    Known,
    canonical,
    looks_like_code,
    read_code_line,
    read_heading,
    read_quotation,
)

_CUT_REFERENCES = re.compile(r"\s*\[((?:[0-9]{1,4},\s*)*)[0-9]*$")  # an answer that stopped inside them
_THINKING = re.compile(r"<think>.*?(?:</think>|\Z)", re.IGNORECASE | re.DOTALL)
_UNOPENED = re.compile(r"\A.*</think>", re.IGNORECASE | re.DOTALL)  # some chat formats open it in the prompt
_END_OF_TURN = re.compile(r"<\|(?:eot_id|im_end|end|end_of_text|endoftext|eom_id)\|>|</s>|<end_of_turn>", re.IGNORECASE)
REMOVED = re.compile(rf"</?think>|{_END_OF_TURN.pattern}", re.IGNORECASE)
_FENCE = re.compile(r"\s*```[\w-]*\s*")


@dataclass(frozen=True)
class ParsedCode:
    """A code in canonical form, its description, the 1-based numbers of its quotations, its place text[start:end] in the answer."""

    code: str
    description: str = ""
    references: tuple[int, ...] = ()
    start: int = 0
    end: int = 0


@dataclass(frozen=True)
class Parsed:
    """An answer. `links[i]` is the code written after quotation i, if any. `truncated` is what the caller said; `sectionless`: no
    heading at all; `malformed`: how many code lines begin with something that is not a code. Whether a code is listed is the caller's to ask.
    """

    evidence: tuple[str, ...] = ()
    codes: tuple[ParsedCode, ...] = ()
    links: tuple[str | None, ...] = ()
    truncated: bool = False
    sectionless: bool = False
    malformed: int = 0

    @property
    def empty(self) -> bool:
        return not self.codes


def parse_document(text: str, known_category: Known | None = None, truncated: bool = False) -> Parsed:
    """Quotations and codes of a document's answer.

    `known_category("B12")` says whether the Tabular List has a category; an undotted token counts only if it has. None: any shape counts.
    `truncated`: the answer stopped at its length limit, so a code or quotation at its very end is not whole.
    """
    known = known_category or (lambda category: True)
    body = text if not REMOVED.search(text) or _rendered(text) else _without_thinking(text)
    listed = _read_json(body, known)
    if listed is not None:
        return replace(listed, truncated=truncated)
    evidence_lines, code_lines, sectionless = _sections(body)
    if truncated and code_lines is None and evidence_lines and not body.endswith("\n"):
        evidence_lines.pop()
    quotations, numbers = [], {}
    for _, line in evidence_lines or ():
        found = read_quotation(line, known)
        if found:
            quotations.append(found)
            numbers.setdefault(int(LIST_MARK.match(line)[1] or len(quotations)), len(quotations))
    codes, malformed = [], 0
    for offset, line in code_lines or ():
        found = _codes_of_line(line, offset, known, cut=truncated and offset + len(line) == len(body))
        malformed += not found and looks_like_code(line)
        codes += [one for one in found if not (truncated and body[one.end :] in ("", "."))]  # "I50." was to be I50.23
    codes = [replace(one, references=tuple(numbers[n] for n in one.references if n in numbers)) for one in codes]
    return Parsed(
        tuple(quote for quote, _ in quotations),
        _merged(codes, [link for _, link in quotations]),
        tuple(link for _, link in quotations),
        truncated,
        sectionless,
        malformed,
    )


def parse_span(text: str, known_category: Known | None = None) -> tuple[str, str] | None:
    """(code, description) of a span's answer, or None where no line has a code."""
    match = re.match(rf"({CANONICAL})(?: (.*))?\s*\Z", text)
    if match and (known_category is None or "." in match[1] or known_category(match[1][:3])):
        return match[1], match[2] or ""
    for line in _without_thinking(text).split("\n"):
        for one in _codes_of_line(line, 0, known_category or (lambda category: True)):
            return one.code, one.description
    return None


def _codes_of_line(line: str, offset: int, known: Known, cut: bool = False) -> list[ParsedCode]:
    """The line's codes; several share its references and have no description of their own. `cut`: the answer stopped in this line."""
    complete = ()
    if cut and (match := _CUT_REFERENCES.search(line)):
        complete, line = tuple(map(int, re.findall("[0-9]+", match[1]))), line[: match.start()]
    places, description, references = read_code_line(line, known)
    description = description if len(places) == 1 else ""
    return [
        ParsedCode(canonical(line[start:end]), description, references or complete, offset + start, offset + end)
        for start, end in places
    ]


def _merged(codes, links) -> tuple[ParsedCode, ...]:
    """Each code once, where it first stands, with all its references; a code without any takes the quotations linked to it."""
    found: dict[str, ParsedCode] = {}
    for one in codes:
        first = found.get(one.code, one)
        found[one.code] = replace(first, references=tuple(dict.fromkeys(first.references + one.references)))
    linked = {code: tuple(number for number, link in enumerate(links, 1) if link == code) for code in found}
    return tuple(one if one.references else replace(one, references=linked[one.code]) for one in found.values())


def _rendered(text: str) -> bool:
    """Whether an answer that holds `<think>` or an end-of-turn text is ours all the same, these being part of a quotation."""
    sections = re.fullmatch(r"(?:Evidence:\n(?:(?:[0-9]+\. [^\n]+\n)+|none\n))?Codes:\n(.+)", text, re.DOTALL)
    lines = sections[1].split("\n") if sections else ["</s>"]
    return all(OUR_LINE.fullmatch(line) or not REMOVED.search(line) for line in lines)


def _without_thinking(text: str) -> str:
    """Spaces in place of reasoning, so that offsets hold; the text ends where the turn does."""
    for pattern in (_THINKING, _UNOPENED):
        text = pattern.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    end = _END_OF_TURN.search(text)
    return text[: end.start()] if end else text


def _sections(body: str):
    """(evidence lines, code lines, sectionless), a line as (offset, text): the last code section, and the last evidence section before
    it. Without headings every line is a code line; with evidence alone there are no code lines (None).
    """
    lines, headings, offset = [], [], 0
    for line in body.split("\n"):
        if line.strip() and not _FENCE.fullmatch(line):
            match = read_heading(line)
            if match:
                headings.append((len(lines), match))
            lines.append((offset, line))
        offset += len(line) + 1
    last = max((n for n, (_, match) in enumerate(headings) if match["codes"]), default=None)
    # With words on its own line and no code section to come, "Evidence: ..." is a remark on the code above it, not a section.
    headings = [
        one
        for n, one in enumerate(headings)
        if (last is not None and n <= last) or not (one[1]["evidence"] and one[1]["rest"])
    ]
    if not headings:
        return None, lines, True

    def section(number: int):
        first, match = headings[number]
        stop = headings[number + 1][0] if number + 1 < len(headings) else len(lines)
        inline = [(lines[first][0] + match.start("rest"), match["rest"])] if match["rest"] else []
        return inline + lines[first + 1 : stop]

    before = [n for n, (_, match) in enumerate(headings) if match["evidence"] and (last is None or n < last)]
    return section(before[-1]) if before else None, section(last) if last is not None else None, False


def _read_json(body: str, known: Known) -> Parsed | None:
    """The answer as one JSON object: `codes` holds strings, or objects with `code` (`description`, `evidence` if given)."""
    text = re.sub(r"^```[\w-]*|```$", "", body.strip()).strip()
    if not (text.startswith("{") and text.endswith("}")):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found.get("codes"), list):
        return None

    evidence, codes, malformed, position = _strings(found.get("evidence")), [], 0, 0
    for item in found["codes"]:
        fields = item if isinstance(item, dict) else {"code": item}
        raw = fields.get("code")
        read = _codes_of_line(raw, 0, known) if isinstance(raw, str) else []
        malformed += not read
        own = _strings(fields.get("evidence"))
        evidence += [one for one in own if one not in evidence]
        numbers = [
            one
            for one in (fields.get("evidence") if isinstance(fields.get("evidence"), list) else ())
            if type(one) is int and 1 <= one <= len(evidence)
        ]
        references = tuple(dict.fromkeys([evidence.index(one) + 1 for one in own] + numbers))
        for one in read:
            position = max(body.find(raw[one.start : one.end], position), 0)
            description = fields.get("description") if isinstance(fields.get("description"), str) else one.description
            codes.append(ParsedCode(one.code, description, references, position, position + one.end - one.start))
    return Parsed(tuple(evidence), _merged(codes, ()), (None,) * len(evidence), malformed=malformed)


def _strings(value) -> list[str]:
    """The texts of a JSON value: a string, or a list of strings and of objects with `text`."""
    items = [
        one.get("text") if isinstance(one, dict) else one for one in (value if isinstance(value, list) else [value])
    ]
    return [one for one in items if isinstance(one, str) and one.strip()]
