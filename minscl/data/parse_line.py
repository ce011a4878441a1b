"""Parses one line of an answer: a code token, an evidence line, a code line, a heading.

Tolerant of models' habits (list marks, markup, quotation marks, labels, `-> CODE` links), but never repairing: text
that is not shaped like an ICD-10-CM code is not a code. prompts.py uses these functions to check that a line it is
about to write will be parsed back unchanged.

Each regular expression has an example beside it: on the left what is searched, on the right what matches, or the
groups. tests/test_parse_line.py has a table of matches and non-matches for each. Parsing takes time linear in the
line, whatever a model wrote (tests/test_parse_time.py): two repeats that can match the same characters never stand
side by side, or n of them would be divided in n ways, and a search does not start anew inside a run.

Read next: parse.py, which parses whole answers.
"""

import re
from collections.abc import Callable

# known_category("B12"): whether the Tabular List has this category. It decides about tokens without a dot.
KnownCategory = Callable[[str], bool]

# Parts of the expressions below.
_SHAPE = r"(?:[A-Za-z][0-9][0-9ABab]|[Qq][Aa]0)(?:\.[0-9A-Za-z]{1,4}|[0-9A-Za-z]{1,4})?"  # e1165, E11.65, M1A.9XX0
CANONICAL = r"(?:[A-Z][0-9][0-9AB]|QA[0-9])(?:\.[0-9A-Z]{1,4})?"  # E11.65, I10; not e11.65, E1165
_LABEL = r"(?:(?:ICD[-\s]?10(?:[-\s]?CM)?(?:\s+codes?)?|codes?)(?:\s+[0-9]{1,2})?\s*:)"  # "ICD-10-CM code:", "Code 2:"
_MARKUP = r"[\s#>*_`]*"  # "## ", "> **"
_HEADING_WORD = (  # words that may precede "evidence" or "codes" in a heading
    "(?:the|list|of|final|assigned|predicted|suggested|selected|billable|supporting|clinical|key|relevant|extracted|"
    r"textual|verbatim|medical|diagnos[ie]s|diagnostic|icd(?:[-\s]?10(?:[-\s]?cm)?)?)"
)

# Codes. "E11.65 Type 2" → "E11.65"; nothing in "E11.65789", "E11.6.5": the token must not be the start of a longer one.
CODE_TOKEN = re.compile(rf"{_SHAPE}(?![^\W_]|\.[^\W_])")
# What follows the first code of a range. In "I10-I16", after I10: "-"; in "I10 through I16": " through ".
RANGE_SIGN = re.compile(r"\s*(?:[-–—]|\b(?:to|through)\b)\s*")
# Whether the first word tried to be a code. "250.00 diabetes", "E1Q": yes; "heart failure": no.
CODE_ATTEMPT = re.compile(r"(?=[^\W\d]*[0-9])[\w.]{3,}")
# Numbers of evidence lines in a reference. "[1, 3]" → "1", "3".
NUMBER = re.compile("[0-9]+")

# Code lines as prompts.py renders them. "[2, 3] E11.65 Type 2 diabetes" → references "2, 3", code "E11.65",
# description " Type 2 diabetes"; in the earlier order, "E11.65 Type 2 diabetes [2, 3]".
_RENDERED_REFERENCES = r"\[(?P<references>(?:[0-9]{1,4}(?:, [0-9]{1,4})*)?)\]"
_RENDERED_CODE = rf"(?P<code>{CANONICAL})(?P<description>(?: .*)?)"
REFERENCE_FIRST_LINE = re.compile(f"{_RENDERED_REFERENCES} {_RENDERED_CODE}")
CODE_FIRST_LINE = re.compile(f"{_RENDERED_CODE} {_RENDERED_REFERENCES}")
# What may precede the first code. "2. **Code: I10** x" → "2. **Code: "; may be empty.
CODE_LINE_PREFIX = re.compile(
    rf"\s*(?:[-*•·+–—>|#]+\s+)?(?:\(?[0-9]{{1,3}}[.)]\s+)?[\s*_`|\[(\"'“]*(?:{_LABEL}[\s*_`\[(\"'“]*)?", re.IGNORECASE
)
# Markup closed after a code. In "**I10**: x", after I10: "**"; may be empty.
CLOSING_MARKUP = re.compile(r"[*_`\])\"'”]*")
# Between two codes of a line. In "I10, E11.9", after I10: ", "; in "I10 and `E11.9`": " and `"; nothing in "I10: x".
CODE_SEPARATOR = re.compile(r"(?:(?:\s*(?:[,;/&]|\band\b))+\s*|\s+)[*_`\[(]*", re.IGNORECASE)
# A bracketed code at the end. "Diabetes (ICD-10: E11.9)" → "E11.9".
CODE_AT_END = re.compile(rf"[\[(]\s*(?:{_LABEL}\s*)?({_SHAPE})\s*[\])][\s.*_`|]*$", re.IGNORECASE)
# One reference. "I10 Hypertension [1, 3]" → "[1, 3]"; "x [Evidence: 1 and 3]" → "[Evidence: 1 and 3]".
_NUMBERS = r"(?:evidence:?\s*)?[0-9]{1,4}(?:\s*(?:,|;|&|and)\s*[0-9]{1,4})*"
REFERENCE = re.compile(rf"\[{_NUMBERS}\]", re.IGNORECASE)
# References before the code, after a list mark. "**[1][3]**: I10" → "**[1][3]**:", group 1 "[1][3]"; also "[] I10".
LEADING_REFERENCES = re.compile(rf"[\s*_`|]*((?:\[(?:{_NUMBERS})?\]\s*)+)[*_`:.=→⇒]*", re.IGNORECASE)
# What may follow the references at the end of a line. In "I10 x [1][3].**", after "[3]": ".**"; may be empty.
AFTER_REFERENCES = re.compile(r"[\s.*_`|]*")

# Evidence lines. The list mark: "- 2. DM2" → "- 2. ", group 1 "2"; "(2) DM2" → "(2) ", group 1 "2"; may be empty.
LIST_MARK = re.compile(r"\s*(?:[-*•·+–—>]+\s+)?(?:\(?([0-9]{1,4})[.)](?:\s+|$))?")
# A code after the quotation. "HTN -> I10" → group 1 "I10"; "chest pain (R07.9)" → group 2 "R07.9".
LINKED_CODE = re.compile(rf"(?:(?:->|=>|→|⇒)\s*[\[(]?({_SHAPE})[\])]?|[\[(]({_SHAPE})[\])])[\s.*_`]*$")
_QUOTATION_MARKS = (('"', '"'), ("“", "”"), ("'", "'"), ("‘", "’"), ("**", "**"), ("`", "`"))

# Headings. "## Final ICD-10-CM Codes" → codes "Codes"; "Supporting evidence: HTN" → evidence "evidence", rest "HTN".
HEADING = re.compile(
    rf"{_MARKUP}(?:(?P<mark>[0-9]{{1,2}}[.)]|[-•])\s{_MARKUP})?(?:{_HEADING_WORD}\s+)*(?:"
    r"(?P<evidence>evidence(?:\s+(?:spans?|quotes?|quotations?|list|section))?)|"
    r"(?P<codes>codes?(?:\s+(?:list|section|assignments?))?))"
    rf"(?:\s*\([^()]*\))?{_MARKUP}(?:(?P<colon>:){_MARKUP})?(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,  # so that `rest`, the last part, always matches and nothing is tried twice
)


def every_category(category: str) -> bool:
    """A KnownCategory that accepts everything."""
    return True


def canonical(token: str) -> str:
    """`token` (a code of any case, with or without its dot) in upper case with the dot after three characters."""
    bare = token.replace(".", "").upper()
    return bare if len(bare) == 3 else f"{bare[:3]}.{bare[3:]}"


def read_token(line: str, position: int, known_category: KnownCategory) -> re.Match | None:
    """The code token at `position`; None if there is none, if it begins a range (`I10-I16`), or if it has no dot and
    its category is unknown (`B12 deficiency`).
    """
    match = CODE_TOKEN.match(line, position)
    if match is None or not _dotted_or_known(match[0], known_category):
        return None
    range_sign = RANGE_SIGN.match(line, match.end())
    range_end = CODE_TOKEN.match(line, range_sign.end()) if range_sign else None
    return None if range_end and _dotted_or_known(range_end[0], known_category) else match


def _dotted_or_known(token: str, known_category: KnownCategory) -> bool:
    return "." in token or known_category(token[:3].upper())


def read_quotation(line: str, known_category: KnownCategory) -> tuple[str, str | None] | None:
    """(quotation, canonical code linked after it or None) of an evidence line; None for a blank line or "none"."""
    text = line[_end_of(LIST_MARK, line) :].strip()
    if text.casefold().strip(" .*_()[]") in ("none", ""):
        return None
    quotation = _strip_quotation_marks(text)
    if quotation != text:
        return quotation, None
    match = LINKED_CODE.search(text)
    if match is not None:
        code = match[1] or match[2]
        if match.start() and _is_code(code, known_category):
            return _strip_quotation_marks(text[: match.start()].rstrip()), canonical(code)
    return text, None


def read_code_line(line: str, known_category: KnownCategory) -> tuple[list[tuple[int, int]], str, tuple[int, ...]]:
    """([(start, end) of each code in `line`], description, numbers of the evidence lines referred to).

    Codes are read at the start of the line or after references, or one in brackets at its end; without any the
    description is "". References at the end count where there are none before the code.
    """
    rendered = match_rendered(line.rstrip())
    if rendered:
        places = [rendered.span("code")] if _dotted_or_known(rendered["code"], known_category) else []
        return places, rendered["description"][1:], _numbers(rendered["references"])
    places = []
    leading = _leading_references(line)
    position = end = _end_of(CODE_LINE_PREFIX, line, leading.end() if leading else 0)
    while code := read_token(line, position, known_category):
        places.append(code.span())
        end = _end_of(CLOSING_MARKUP, line, code.end())
        separator = CODE_SEPARATOR.match(line, end)
        if separator is None:
            break
        position = separator.end()
    tail = line[end:]
    start = len(tail) if leading else _references_start(tail)
    tail, numbers = tail[:start], _numbers(leading[1] if leading else tail[start:])
    if not places:
        at_end = CODE_AT_END.search(tail)
        if at_end and _is_code(at_end[1], known_category):
            places, tail = [(end + at_end.start(1), end + at_end.end(1))], tail[: at_end.start()]
    return places, tail.strip(" \t\r.:-–—*_`|") if places else "", numbers


def match_rendered(line: str) -> re.Match | None:
    """The match of a code line with references as prompts.py renders it, in either order."""
    return REFERENCE_FIRST_LINE.fullmatch(line) or CODE_FIRST_LINE.fullmatch(line)


def looks_like_code(line: str) -> bool:
    """Whether a line without a code tried to state one: its first word has a digit (`250.00`, `I10-I16`, `E1Q`)."""
    leading = _leading_references(line)
    return CODE_ATTEMPT.match(line, _end_of(CODE_LINE_PREFIX, line, leading.end() if leading else 0)) is not None


def read_heading(line: str) -> re.Match | None:
    """The match of a heading line: group `evidence` or `codes` is set, and `rest` is what follows the colon.

    A heading is a line of its own. Words may follow its colon ("Codes: I10, E11.9"), but not in a list item, and
    "Code: I10" is a code line.
    """
    match = HEADING.fullmatch(line)
    if match is None or not match["rest"]:
        return match
    return match if match["colon"] and not match["mark"] and (match["codes"] or "").casefold() != "code" else None


def _is_code(text: str, known_category: KnownCategory) -> bool:
    return CODE_TOKEN.fullmatch(text) is not None and read_token(text, 0, known_category) is not None


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, NUMBER.findall(text)))


def _leading_references(line: str) -> re.Match | None:
    return LEADING_REFERENCES.match(line, _end_of(LIST_MARK, line))


def _references_start(text: str) -> int:
    """Where the references that end `text` start: 10 in "Diabetes [1] [3].", len(text) where it does not end in any."""
    start = end = len(text)
    for reference in REFERENCE.finditer(text):
        if reference.start() < end or text[end : reference.start()].strip():  # the first one, or words come before it
            start = reference.start()
        end = reference.end()
    return start if AFTER_REFERENCES.fullmatch(text, end) else len(text)


def _end_of(pattern: re.Pattern, text: str, start: int = 0) -> int:
    """The end of what `pattern` matches at `start`, `start` if it does not match."""
    match = pattern.match(text, start)
    return match.end() if match else start


def _strip_quotation_marks(text: str) -> str:
    for left, right in _QUOTATION_MARKS:
        if len(text) > len(left) + len(right) and text.startswith(left) and text.endswith(right):
            return text[len(left) : -len(right)]
    return text
