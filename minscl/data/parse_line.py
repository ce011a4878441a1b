"""Reading one line of an answer: a code token, a quotation, a code line, a heading.

Tolerant where a model's habits are (list marks, markup, quotation marks, labels, `-> CODE` links), and never repairing: what is
not shaped like an ICD-10-CM code is no code. prompts.py asks these functions whether a line would come back to the letter.

Read next: parse.py, which reads whole answers with them.
"""

import re
from collections.abc import Callable

Known = Callable[
    [str], bool
]  # known("B12"): whether the Tabular List has the category; decides for tokens without a dot

_SHAPE = r"(?:[A-Za-z][0-9][0-9ABab]|[Qq][Aa]0)(?:\.[0-9A-Za-z]{1,4}|[0-9A-Za-z]{1,4})?"
CANONICAL = r"(?:[A-Z][0-9][0-9AB]|QA0)(?:\.[0-9A-Z]{1,4})?"
_TOKEN = re.compile(rf"{_SHAPE}(?![^\W_]|\.[^\W_])")  # not the beginning of something longer
_RANGE = re.compile(r"\s*(?:[-–—]|\b(?:to|through)\b)\s*")
OUR_LINE = re.compile(
    rf"({CANONICAL})((?: .*)?) \[((?:[0-9]{{1,4}}(?:, [0-9]{{1,4}})*)?)\]"
)  # code, description, [references]

_LABEL = r"(?:(?:ICD[-\s]?10(?:[-\s]?CM)?(?:\s+codes?)?|codes?)(?:\s+[0-9]{1,2})?\s*:)"
_PREFIX = re.compile(
    rf"\s*(?:[-*•·+–—>|#]+\s+)?(?:\(?[0-9]{{1,3}}[.)]\s+)?[\s*_`|\[(\"'“]*(?:{_LABEL}[\s*_`\[(\"'“]*)?", re.IGNORECASE
)
_CLOSING = re.compile(r"[*_`\])\"'”]*")
_BETWEEN = re.compile(r"(?:(?:\s*(?:[,;/&]|\band\b))+\s*|\s+)[*_`\[(]*", re.IGNORECASE)
_AT_END = re.compile(rf"[\[(]\s*(?:{_LABEL}\s*)?({_SHAPE})\s*[\])][\s.*_`|]*$", re.IGNORECASE)
_NUMBERS = r"\[(?:evidence:?\s*)?[0-9]{1,4}(?:\s*(?:,|;|&|and)\s*[0-9]{1,4})*\]"
_REFERENCES = re.compile(rf"{_NUMBERS}(?:\s*{_NUMBERS})*[\s.*_`|]*$", re.IGNORECASE)

LIST_MARK = re.compile(r"\s*(?:[-*•·+–—>]+\s+)?(?:\(?([0-9]{1,4})[.)](?:\s+|$))?")  # group 1: the number
_LINK = re.compile(rf"(?:(?:->|=>|→|⇒)\s*[\[(]?({_SHAPE})[\])]?|[\[(]({_SHAPE})[\])])[\s.*_`]*$")
_PAIRS = (('"', '"'), ("“", "”"), ("'", "'"), ("‘", "’"), ("**", "**"), ("`", "`"))

_MARKUP = r"[\s#>*_`]*"
_WORDS = (
    "(?:the|list|of|final|assigned|predicted|suggested|selected|billable|supporting|clinical|key|relevant|extracted|textual|verbatim|"
    r"medical|diagnos[ie]s|diagnostic|icd(?:[-\s]?10(?:[-\s]?cm)?)?)"
)
_HEADING = re.compile(
    rf"{_MARKUP}(?:(?P<mark>[0-9]{{1,2}}[.)]|[-•])\s+{_MARKUP})?(?:{_WORDS}\s+)*(?:"
    r"(?P<evidence>evidence(?:\s+(?:spans?|quotes?|quotations?|list|section))?)|"
    r"(?P<codes>codes?(?:\s+(?:list|section|assignments?))?))"
    rf"(?:\s*\([^()]*\))?{_MARKUP}(?P<colon>:?){_MARKUP}(?P<rest>.*)",
    re.IGNORECASE,
)


def canonical(token: str) -> str:
    """Upper case, with the dot after three characters."""
    bare = token.replace(".", "").upper()
    return bare if len(bare) == 3 else f"{bare[:3]}.{bare[3:]}"


def read_token(line: str, position: int, known: Known) -> re.Match | None:
    """The code token that begins at `position`: none where it is part of a range, or undotted and of no known category."""
    match = _TOKEN.match(line, position)
    if match is None or not ("." in match[0] or known(match[0][:3].upper())):
        return None
    to = _RANGE.match(line, match.end())
    end = to and _TOKEN.match(line, to.end())
    return None if end and ("." in end[0] or known(end[0][:3].upper())) else match


def read_quotation(line: str, known: Known) -> tuple[str, str | None] | None:
    """(quotation, code it is linked to) of an evidence line, or None where nothing is quoted."""
    text = line[LIST_MARK.match(line).end() :].strip()
    if text.casefold().strip(" .*_()[]") in ("none", ""):
        return None
    inside = _unquoted(text)
    if inside != text:
        return inside, None
    match = _LINK.search(text)
    code = match and (match[1] or match[2])
    if code and match.start() and _TOKEN.fullmatch(code) and read_token(code, 0, known):
        return _unquoted(text[: match.start()].rstrip()), canonical(code)
    return text, None


def _unquoted(text: str) -> str:
    for left, right in _PAIRS:
        if len(text) > len(left) + len(right) and text.startswith(left) and text.endswith(right):
            return text[len(left) : -len(right)]
    return text


def read_code_line(line: str, known: Known) -> tuple[list[tuple[int, int]], str, tuple[int, ...]]:
    """(places of the codes in the line, description, numbers of quotations)."""
    ours = OUR_LINE.fullmatch(line.rstrip())
    if ours:
        good = "." in ours[1] or known(ours[1][:3])
        return [ours.span(1)] if good else [], ours[2][1:], tuple(map(int, re.findall("[0-9]+", ours[3])))
    places, begin = [], _PREFIX.match(line).end()
    position = rest = begin
    while match := read_token(line, position, known):
        places.append(match.span())
        rest = _CLOSING.match(line, match.end()).end()
        between = _BETWEEN.match(line, rest)
        if between is None:
            break
        position = between.end()
    tail = line[rest:]
    numbers = _REFERENCES.search(tail)
    references = tuple(map(int, re.findall("[0-9]+", numbers[0]))) if numbers else ()
    tail = tail[: numbers.start()] if numbers else tail
    if not places:
        match = _AT_END.search(tail)
        if match and _TOKEN.fullmatch(match[1]) and read_token(match[1], 0, known):
            places, tail = [(rest + match.start(1), rest + match.end(1))], tail[: match.start()]
    return places, tail.strip(" \t\r.:-–—*_`|") if places else "", references


def looks_like_code(line: str) -> bool:
    """Whether a line without a code tried to give one: its first word holds a digit (`250.00`, `I10-I16`, `E1Q`)."""
    return re.match(r"(?=[^\W\d]*[0-9])[\w.]{3,}", line[_PREFIX.match(line).end() :]) is not None


def read_heading(line: str) -> re.Match | None:
    """A heading line: groups `evidence` or `codes`, and `rest`, what follows its colon.

    A heading stands alone; words may follow its colon ("Codes: I10, E11.9"), but not in a list, and "Code: I10" is a code line.
    """
    match = _HEADING.fullmatch(line)
    if match is None or not match["rest"]:
        return match
    return match if match["colon"] and not match["mark"] and (match["codes"] or "").casefold() != "code" else None
