"""Codes of one document that do not go together without any note saying so.

- Unspecified: one condition coded as unspecified, or without complications, and specified as well (guideline I.B.2).
- Encounters: one injury with two 7th characters, such as A and D (guideline I.C.19.a).
- Not alone: nothing but external causes, statuses and histories, which explain no encounter (guidelines below).

Read next: checking.py.
"""

import re
from collections.abc import Collection

from minscl.data.icd.codebook import CodeBook
from minscl.data.icd.rules.finding import ENCOUNTERS, NOT_ALONE, UNSPECIFIED, Finding, on_different_sides
from minscl.data.icd.rules.note_index import node_path
from minscl.data.icd.rules.validity import in_canonical_form

# Categories, and subcategories, that only add to another code, by the Official Guidelines for Coding and Reporting.
_STATUS = (  # I.C.21.c.3, those of its list that are not themselves a reason for an encounter
    *("Z15", "Z16", "Z17", "Z18", "Z19", "Z28.3", "Z33.1", "Z66", "Z67", "Z74.01", "Z78", "Z79", "Z88", "Z89"),
    *("Z90", "Z91.0", "Z92.82", "Z93", "Z94", "Z95", "Z96", "Z97", "Z98", "Z99"),
)
_HISTORY = (  # I.C.21.c.4: they go with a screening or follow-up code
    *("Z80", "Z81", "Z82", "Z83", "Z84", "Z85", "Z86", "Z87", "Z91.4", "Z91.5", "Z91.8", "Z92"),
)
_SECONDARY = ("Z68", "Y90", "R29.7", "Z55", "Z56", "Z57", "Z58", "Z59", "Z60", "Z62", "Z63", "Z64", "Z65")  # I.B.14
_OBSTETRIC = ("Z3A", "Z37")  # I.C.21.c.11: with a code of chapter 15
_NEVER_ALONE = (*_STATUS, *_HISTORY, *_SECONDARY, *_OBSTETRIC)
_EXTERNAL_CAUSE = ("V", "W", "X", "Y")  # I.C.20.a.6

_UNSPECIFIED = re.compile(r"\bunspecified\b", re.IGNORECASE)
_UNCOMPLICATED = re.compile(r"\bwithout (mention of )?complications?\b|\buncomplicated\b", re.IGNORECASE)
_COMPLICATED = re.compile(r"\bwith (?!(mention of )?no )", re.IGNORECASE)
# The word after "unspecified" that says what is: an axis of its own, such as the organism, no part of the condition.
_AXIS = re.compile(r"\b(part unspecified|unspecified (whether\b.*|(?!of\b|in\b|with)\w+))", re.IGNORECASE)
_FILLER = re.compile(
    r"an?|and|as|by|due|elsewhere|for|from|in|not|of|on|or|other|site|specified|the|to|type|unspecified|with|without"
    r"|classified|diseases?|disorders?"
)


def unspecified(codes: list[str], book: CodeBook, conflicts: Collection[frozenset[str]] = ()) -> list[Finding]:
    """Codes that leave open, or deny, what others of their category say; one finding each. Only billable codes are
    compared. `conflicts`: pairs of which another rule speaks already."""
    codes = [code for code in in_canonical_form(codes, book) if book.is_billable(code)]
    findings = []
    for vague in codes:
        reasons: dict[str, list[str]] = {}
        for specific in codes:
            if vague == specific or vague[:3] != specific[:3] or frozenset((vague, specific)) in conflicts:
                continue
            if reason := _vague_beside(vague, specific, book):
                reasons.setdefault(reason, []).append(specific)
        for reason, specifics in reasons.items():
            involved = tuple(code for code in codes if code == vague or code in specifics)
            remedy = f"{vague} {reason} {', '.join(specifics)}; leave out {vague}, unless it is another condition"
            findings.append(Finding(UNSPECIFIED, involved, remedy))
    return findings


def _vague_beside(vague: str, specific: str, book: CodeBook) -> str:
    """How `vague`, of the same category, falls short of `specific`, as words that stand between the two; or ""."""
    path = [node for node in node_path(vague, book) if node[0].isalpha() and " " not in node]
    for node, parent in zip(path, path[1:], strict=False):
        if not specific.startswith(parent) or on_different_sides(vague, specific, book):
            continue
        own, at_node, above, other = (book.description(code) or "" for code in (vague, node, parent, specific))
        if _adds(_UNCOMPLICATED, at_node, above):
            return (
                "says that there is no complication, beside" if _COMPLICATED.search(other.removeprefix(above)) else ""
            )
        if _adds(_UNSPECIFIED, at_node, above) and _UNSPECIFIED.search(own):
            if _sibling_is_unspecified(specific, parent, book) or _other_condition(own, at_node, above, other):
                return ""
            return "is less specific than"
    return ""


def _adds(expression: re.Pattern, description: str, parent: str) -> bool:
    """Whether `description` says it more often than the node above."""
    return len(expression.findall(description)) > len(expression.findall(parent))


def _sibling_is_unspecified(code: str, parent: str, book: CodeBook) -> bool:
    """Whether the node below `parent` that leads to `code` is unspecified itself."""
    path = node_path(code, book)
    node = path[path.index(parent) - 1] if parent in path and path[0] != parent else code
    return _adds(_UNSPECIFIED, book.description(node) or "", book.description(parent) or "")


def _other_condition(vague: str, node: str, parent: str, specific: str) -> bool:
    """Whether a heading of several conditions has the two for different ones, by the words of their descriptions:
    of the vague code, its node that is unspecified, the heading above that, and the specific code.

    Atrial fibrillation and flutter (I48): unspecified fibrillation is not specified by typical flutter. Other diseases
    of the digestive system (K92): unspecified hemorrhage is not specified by mucositis. Nausea and vomiting (R11):
    nausea with vomiting, unspecified, says more than nausea.
    """
    about, above, specified = _words(node) & _words(vague), _words(parent), _words(specific)
    if about & above - specified and (specified & above - about or re.search(r"\b(and|with)\b", _AXIS.sub("", node))):
        return True
    return not (about & _words(_AXIS.sub("", node))) - above <= specified


def _words(description: str) -> set[str]:
    """The words that tell conditions apart, in the singular and each by its first seven letters, as depressive and
    depression are one, arteries and arteritis not."""
    words = (word for word in re.findall(r"[a-z0-9]+", description.lower()) if not _FILLER.fullmatch(word))
    return {re.sub(r"ies$", "y", word).removesuffix("s")[:7] for word in words}


def encounters(codes: list[str], book: CodeBook) -> list[Finding]:
    """Injuries with more than one 7th character that tells the kind of encounter."""
    by_injury: dict[str, list[str]] = {}
    for code in in_canonical_form(codes, book):
        meaning = (book.description(code) or "").rpartition(", ")[2]
        if len(code) == 8 and re.search(r"encounter|sequela", meaning):
            by_injury.setdefault(code[:7], []).append(code)
    remedy = (
        "one injury has one 7th character: A while it is treated, D in routine care afterwards, S for what it left "
        "behind; keep the one that fits this encounter (guideline I.C.19.a)"
    )
    return [Finding(ENCOUNTERS, tuple(same), remedy) for same in by_injury.values() if len(same) > 1]


def not_alone(codes: list[str], book: CodeBook) -> list[Finding]:
    """One finding where no code of the document can explain the encounter."""
    codes = in_canonical_form(codes, book)
    if not codes or not all(code.startswith((*_EXTERNAL_CAUSE, *_NEVER_ALONE)) for code in codes):
        return []
    if all(code.startswith(_EXTERNAL_CAUSE) for code in codes):
        remedy = "an external cause is never the only code: add the injury or condition (guideline I.C.20.a.6)"
    else:
        remedy = "a status or history does not explain an encounter: add the reason for it (guideline I.C.21.c.3, 4)"
    return [Finding(NOT_ALONE, tuple(codes), remedy)]
