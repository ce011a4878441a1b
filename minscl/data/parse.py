"""Reading a generated answer: the inverse of prompts.py, and whatever else a model may write (EVALUATION.md section 4).

An answer in our own format is read exactly, line by line. Anything else goes through the tolerant reader: reasoning and
fences are removed, a JSON object is understood, headings and list marks are recognised, and a code line must begin with its code.
Nothing is ever repaired: a malformed code is dropped and flagged.

Read next: infer/coder.py, which locates what this finds.
"""

import json
import re
from dataclasses import dataclass, replace

CODE = re.compile(r"[A-Za-z][0-9][0-9ABab](?:\.?[0-9A-Za-z]{1,4})?(?![0-9A-Za-z])(?!\.[0-9A-Za-z])(?!\s*[-–]\s*[A-Za-z][0-9][0-9ABab])")
LINE = re.compile(r"(?P<code>[A-Z][0-9][0-9AB](?:\.[0-9A-Z]{1,4})?) (?P<description>.*?)(?: \[(?P<references>\d+(?:, \d+)*)\])?")
HEADING = re.compile(r"[\s>*#_`]*(?:(?P<evidence>(?:supporting |clinical )?evidence(?: spans?)?)|(?P<codes>(?:final |assigned |predicted )?"
                     r"(?:icd[- ]?10(?:[- ]?cm)? )?(?:diagnos(?:is|tic) )?codes?)(?: ?\([^)]*\))?)[\s*_`]*(?P<colon>:)?[\s*_`]*(?P<rest>.*)", re.IGNORECASE)
MARKS = re.compile(r"^\s*(?:(?:[-*•+>#]+|\(?\d{1,3}[.)])\s+)*[*_`\"“']*(?:code\s*:\s*)?[*_`\"“']*", re.IGNORECASE)


@dataclass(frozen=True)
class ParsedCode:
    """A code of the answer: canonical form, what followed it, and where it stands in the answer (characters)."""

    code: str
    description: str = ""
    references: tuple[int, ...] = ()
    start: int = 0
    end: int = 0


@dataclass(frozen=True)
class Parsed:
    """An answer, read. Flags say what was unusual."""

    evidence: tuple[str, ...] = ()
    codes: tuple[ParsedCode, ...] = ()
    truncated: bool = False
    sectionless: bool = False
    malformed: int = 0  # code lines whose token is not shaped like a code

    @property
    def empty(self) -> bool:
        return not self.codes


def parse_document(text: str, known_category=None, truncated: bool = False) -> Parsed:
    """Evidence and codes of an answer. `known_category(code) -> bool` tells whether an undotted token may be a code
    (None: every one may). `truncated`: the generation stopped at its length limit.
    """
    exact = _parse_exact(text)
    if exact is not None and not truncated:
        return exact
    return _parse_free(text, known_category or (lambda code: True), truncated)


def parse_span(text: str) -> tuple[str, str] | None:
    """(code, description) of a span's answer, or None where it does not begin with a code."""
    match = re.match(r"\s*(" + CODE.pattern + r")[ \t]*([^\n]*)", text)
    return (canonical(match[1]), match[2].strip()) if match else None


def canonical(code: str) -> str:
    """Upper case, with the dot after three characters."""
    bare = code.replace(".", "").upper()
    return bare if len(bare) == 3 else f"{bare[:3]}.{bare[3:]}"


def _parse_exact(text: str) -> Parsed | None:
    """The format of prompts.py and nothing else, or None."""
    lines, offset, evidence = text.split("\n"), 0, []
    if lines[0] == "Evidence:":
        number = 1
        while number < len(lines) and lines[number].startswith(f"{number}. "):
            evidence.append(lines[number].partition(" ")[2])
            number += 1
        if number == 1 and lines[1:2] == ["none"]:
            number = 2
        if lines[number : number + 1] != ["Codes:"]:
            return None
        offset = sum(len(line) + 1 for line in lines[: number + 1])
        lines = lines[number + 1 :]
    elif lines[0] == "Codes:":
        offset, lines = len("Codes:\n"), lines[1:]
    else:
        return None
    codes = []
    if lines != ["none"]:
        for line in lines:
            match = LINE.fullmatch(line)
            if match is None or any(not 1 <= int(n) <= len(evidence) for n in (match["references"] or "").split(", ") if n):
                return None
            references = tuple(map(int, match["references"].split(", "))) if match["references"] else ()
            codes.append(ParsedCode(match["code"], match["description"], references, offset, offset + len(match["code"])))
            offset += len(line) + 1
    return Parsed(tuple(evidence), tuple(codes))


def _parse_free(text: str, known_category, truncated: bool) -> Parsed:
    """Free-form model text, by the rules of EVALUATION.md section 4; offsets still count in `text` as given."""
    body = _without_thinking(text)
    listed = _parse_json(body, text, known_category)
    if listed is not None:
        return replace(listed, truncated=truncated)
    lines = _lines(body)
    evidence_lines, code_lines, sectionless = _sections(lines)
    evidence, links = [], []
    if truncated and code_lines is None and evidence_lines and not body.endswith("\n"):
        evidence_lines = evidence_lines[:-1]  # the last quotation is unfinished
    for _, line in evidence_lines or []:
        quotation, link = _quotation(line)
        if quotation and quotation.casefold().strip(" .") != "none":
            evidence.append(quotation)
            links.append(link)
    codes, malformed = [], 0
    for offset, line in code_lines or []:
        found = _codes_of_line(line, offset, known_category)
        malformed += not found and bool(re.match(r"[A-Za-z]\d", MARKS.sub("", line)))
        codes += found
    if truncated and codes and codes[-1].end == len(text.rstrip()):
        codes.pop()  # it may have gone on
    codes = [replace(one, references=one.references or tuple(n for n, link in enumerate(links, 1) if link == one.code)) for one in codes]
    codes = [replace(one, references=tuple(n for n in one.references if n <= len(evidence))) for one in codes]
    first = {one.code: one for one in reversed(codes)}
    return Parsed(tuple(evidence), tuple(one for one in codes if first[one.code] is one), truncated, sectionless, malformed)


def _without_thinking(text: str) -> str:
    """Blanks (same length, so offsets hold) over <think>…</think> and code fences; an unclosed <think> blanks the rest."""
    blank = lambda match: re.sub(r"[^\n]", " ", match[0])  # noqa: E731
    text = re.sub(r"<think>.*?(?:</think>|\Z)", blank, text, flags=re.DOTALL)
    return re.sub(r"^\s*```\w*\s*$", blank, text, flags=re.MULTILINE)


def _lines(body: str) -> list[tuple[int, str]]:
    found, offset = [], 0
    for line in body.split("\n"):
        if line.strip():
            found.append((offset, line))
        offset += len(line) + 1
    return found


def _parse_json(body: str, text: str, known_category) -> Parsed | None:
    """The answer as one JSON object with `codes` (strings, or objects with `code`) and perhaps `evidence`."""
    try:
        found = json.loads(body)
    except ValueError:
        return None
    if not isinstance(found, dict) or not isinstance(found.get("codes"), list):
        return None
    codes, malformed, place = {}, 0, 0
    for item in found["codes"]:
        token = item.get("code") if isinstance(item, dict) else item
        match = CODE.fullmatch(token.strip()) if isinstance(token, str) else None
        if match is None or ("." not in match[0] and not known_category(match[0][:3].upper())):
            malformed += 1
            continue
        place = max(text.find(match[0], place), 0)
        description = str(item.get("description", "")) if isinstance(item, dict) else ""
        codes.setdefault(canonical(match[0]), ParsedCode(canonical(match[0]), description, (), place, place + len(match[0])))
    quotations = found.get("evidence") if isinstance(found.get("evidence"), list) else []
    return Parsed(tuple(one for one in quotations if isinstance(one, str) and one.strip()), tuple(codes.values()), malformed=malformed)


def _sections(lines):
    """(evidence lines, code lines, sectionless): the last code section and the last evidence section before it."""
    headings = []
    for index, (offset, line) in enumerate(lines):
        match = HEADING.fullmatch(line)
        if match and (match["colon"] or not match["rest"].strip()) and not (match["codes"] and re.match(r"\s*code\s*:", line, re.IGNORECASE) and match["rest"]):
            headings.append((index, "codes" if match["codes"] else "evidence", match))
    if not headings:
        return None, lines, True
    bounds = [index for index, _, _ in headings] + [len(lines)]

    def section(position):
        index, _, match = headings[position]
        rest = [(lines[index][0] + match.start("rest"), match["rest"])] if match["rest"].strip() else []
        return rest + lines[index + 1 : bounds[position + 1]]

    last = max((i for i, one in enumerate(headings) if one[1] == "codes"), default=None)
    before = [i for i, one in enumerate(headings) if one[1] == "evidence" and (last is None or i < last)]
    evidence = section(before[-1]) if before else None
    return evidence, section(last) if last is not None else None, False


def _quotation(line: str) -> tuple[str, str | None]:
    """A line's quotation without list marks and quotation marks, and the code linked to it by `-> CODE` or `(CODE)`."""
    link = None
    match = re.search(r"\s*(?:->|→)\s*(" + CODE.pattern + r")\s*$|\s*\((" + CODE.pattern + r")\)\s*$", line)
    if match:
        link, line = canonical(match[1] or match[2]), line[: match.start()]
    line = re.sub(r"^\s*(?:(?:[-*•+>]+|\(?\d{1,3}[.)])\s+)?", "", line).strip()
    return line.strip("\"“”`*").strip(), link


def _codes_of_line(line: str, offset: int, known_category) -> list[ParsedCode]:
    """The codes at the start of a line (more after `, ; / &` or "and"); else one in brackets at its end."""

    def usable(match) -> bool:
        return "." in match[0] or known_category(match[0][:3].upper())

    position, found = MARKS.match(line).end(), []
    while (match := CODE.match(line, position)) and usable(match):
        found.append((match.start(), match.end(), canonical(match[0])))
        position = match.end() + len(re.match(r"[*_`\"”’]*(?:\s*(?:,|;|/|&|\band\b)\s*(?:and\s+)?|\s+)?", line[match.end() :])[0])
    if not found:
        match = re.search(r"[\[(]\s*(" + CODE.pattern + r")\s*[\])]\s*[.*_]*$", line)
        if match and usable(match := re.compile(CODE.pattern).search(line, match.start(1))):
            found = [(match.start(), match.end(), canonical(match[0]))]
            position = len(line)
    rest = line[position:].strip(" :-–—*_`\t")
    numbers = re.search(r"\s*\[(\d+(?:\s*,\s*\d+)*)\]\s*$", rest)
    references = tuple(int(n) for n in re.findall(r"\d+", numbers[1]) if int(n)) if numbers else ()
    description = rest[: numbers.start()] if numbers else rest
    return [ParsedCode(code, description if len(found) == 1 else "", references, offset + start, offset + end) for start, end, code in found]
