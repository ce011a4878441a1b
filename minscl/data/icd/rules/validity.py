"""Invalid codes: what is wrong with each, and which codes it may stand for. Read next: checking.py."""

import re

from minscl.data.icd.codebook import CodeBook, is_procedure
from minscl.data.icd.rules.finding import INVALID, Finding
from minscl.data.icd.rules.note_index import node_path

_ORDINALS = {4: "4th", 5: "5th", 6: "6th", 7: "7th"}
_SHOWN = 3  # candidates named in a message
_ICD9 = re.compile(r"\d{3}(\.\d{1,2})?|E\d{3}\.\d")


def in_canonical_form(codes: list[str], book: CodeBook) -> list[str]:
    """Each code once, in order and canonical form. What is not shaped like one, and ICD-10-PCS codes, are left out."""
    return list(dict.fromkeys(code for code in (_canonical(text, book) for text in codes) if code))


def _canonical(text: str, book: CodeBook) -> str | None:
    """CodeBook.normalise, which takes off the dash of "E11.6-", as the List writes all codes below E11.6."""
    return text if book.is_billable(text) else book.normalise(text.rstrip().rstrip("-"))


def invalid(codes: list[str], book: CodeBook) -> list[Finding]:
    """One finding for each code that `book` does not bill, in order. ICD-10-PCS codes are left out: they are no
    diagnoses, and this book cannot judge them."""
    findings = {}
    for text in codes:
        code = _canonical(text, book)
        if code is None and not is_procedure(text):
            shown = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in " ".join(text.split()))
            shown = shown or "(empty)"
            shown = shown if len(shown) <= 12 else shown[:12] + "…"
            is_old = "but like one of ICD-9-CM, which ended on 2015-09-30" if _ICD9.fullmatch(shown) else ""
            remedy = f"not shaped like an ICD-10-CM code{is_old and f', {is_old}'}; look the diagnosis up"
            findings[shown] = Finding(INVALID, (shown,), remedy)
        elif code is not None and not book.is_billable(code):
            findings[code] = Finding(INVALID, (code,), _explain(code, book))
    return list(findings.values())


def _explain(code: str, book: CodeBook) -> str:
    """Why `code`, which has the shape of a code, is not billable in `book`, and what to write instead."""
    when = f"on {book.date}" if book.date else f"in edition {book.edition.name}"
    dates = book.when_valid(code)
    if book.description(code) is not None:
        below = _billable_below(code, book)
        problem = f"not valid {when}: {dates};" if dates else "not billable,"
        return f"{problem} {_missing_character(code, below)}: {_some(below)}"
    problem = f"not valid {when}: {dates}" if dates else f"no such code {when}"
    bare = code.replace(".", "")
    padded = f"{bare[:-1].ljust(6, 'X')}{bare[-1]}"
    padded = f"{padded[:3]}.{padded[3:]}"
    if book.is_billable(padded):
        return f"{problem}; the 7th character stands in 7th place, padded with X: {padded}"
    path = node_path(code, book)
    if not path:
        return problem if dates else f"{problem}, nor its category {code[:3]}"
    if book.is_billable(path[0]):
        return f"{problem}; {path[0]} is complete and takes no further character"
    return f"{problem}; below {path[0]} there are {_some(_billable_below(path[0], book))}"


def _billable_below(node: str, book: CodeBook) -> list[str]:
    """The billable codes below `node`, in the List's order."""
    below = []
    for child in book.children(node):
        below += [child] if book.is_billable(child) else _billable_below(child, book)
    return below


def _missing_character(code: str, below: list[str]) -> str:
    """Which character must follow `code`; an X that merely fills a place is none."""
    length = len(code.replace(".", ""))
    rests = [candidate.replace(".", "")[length:] for candidate in below]
    padding = min((len(rest) - len(rest.lstrip("X")) for rest in rests), default=0)
    missing = f"the {_ORDINALS[length + 1 + padding]} character is missing"
    return f"{missing} (X fills the place{'s' if padding > 1 else ''} before it)" if padding else missing


def _some(codes: list[str]) -> str:
    """The first few of `codes`, and how many more there are."""
    more = len(codes) - _SHOWN
    return ", ".join(codes[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
