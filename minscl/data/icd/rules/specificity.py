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

# Categories, and subcategories, that only add to another code: what to do where a document has nothing else, by the
# Official Guidelines for Coding and Reporting. The first that fits counts.
_NEVER_ALONE = (
    (
        (
            *("Z55", "Z56", "Z57", "Z58", "Z59", "Z60", "Z62", "Z63", "Z64", "Z65", "Z68", "Y90", "R29.7"),
            *("R40.21", "R40.22", "R40.23", "R40.24"),
        ),
        "body mass index, coma scale, stroke scale, blood alcohol level and social determinants of health are only "
        "secondary codes: add the diagnosis (guideline I.B.14)",
    ),
    (("Z3A", "Z37"), "weeks of gestation and outcome of delivery add to an obstetric code (guideline I.C.21.c.11)"),
    (
        ("B95", "B96", "B97"),
        "an organism is coded beside the disease that it causes: add that (section B95-B97)",
    ),
    (
        ("V", "W", "X", "Y"),
        "an external cause is never the only code: add the injury or condition (guideline I.C.20.a.6)",
    ),
    (
        (  # those of the guideline's list that are not themselves a reason for an encounter
            *("Z15", "Z16", "Z17", "Z18", "Z19", "Z28.3", "Z33.1", "Z66", "Z67", "Z74.01", "Z78", "Z79", "Z88", "Z89"),
            *("Z90", "Z91.0", "Z92.82", "Z93", "Z94", "Z95", "Z96", "Z97", "Z98", "Z99"),
        ),
        "a status does not explain an encounter: add the reason for it (guideline I.C.21.c.3)",
    ),
    (
        ("Z80", "Z81", "Z82", "Z83", "Z84", "Z85", "Z86", "Z87", "Z91.4", "Z91.5", "Z91.8", "Z92"),
        "a history does not explain an encounter: add the reason for it, such as a screening (guideline I.C.21.c.4)",
    ),
)

_UNSPECIFIED = re.compile(r"\bunspecified\b|\bnot specified as\b", re.IGNORECASE)
_AND_UNSPECIFIED = re.compile(r"\b\w+ and unspecified\b(?! number)", re.IGNORECASE)  # "Other and unspecified cirrhosis"
_UNCOMPLICATED = re.compile(r"\bwithout (mention of )?complications?\b|\buncomplicated\b", re.IGNORECASE)
_COMPLICATED = re.compile(r"\bwith (?!(mention of )?no )", re.IGNORECASE)
# What a description denies: at least up to the next comma, and at most, as in "without A, B, and C", to its end.
_DENIED_AT_LEAST = re.compile(r"\b(not(?! carried)|without|no)\b.*?(?=,|\bwith\b|$)|\buncomplicated\b", re.IGNORECASE)
_DENIED_AT_MOST = re.compile(r"\b(not|without|no)\b.*?(?=\bwith\b|$)", re.IGNORECASE)
_WITHOUT = re.compile(r"\bwithout (?P<denied>.*?)(?=,|\bwith(out)?\b|$)", re.IGNORECASE)
_SCALE = re.compile(r"\b(scale|score)\b", re.IGNORECASE)  # a measure, such as R40.21-R40.24, specifies no condition
# What may be unspecified and no part of the condition: "unspecified thigh" says where, "unspecified eye" nothing.
_AXES = r"(causes?|degree|ear|episode|extent|eye|fetus|level|organism|origin|reason|severity|side|stage|trimester)"
_AXIS = re.compile(rf"\bunspecified (whether\b.*|as to\b.*|{_AXES}\b)|(?<=, ){_AXES} unspecified\b", re.IGNORECASE)
_FILLER = re.compile(
    r"an?|and|as|by|due|elsewhere|for|from|in|not|of|on|or|other|part|site|specified|the|to|type|unspecified|with"
    r"|without|classified|diseases?|disorders?|types?|sites?|parts?"
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
    if on_different_sides(vague, specific, book) or len(vague) == 8 and vague[7:] != specific[7:]:
        return ""
    path = [node for node in node_path(vague, book) if node[0].isalpha() and " " not in node]
    for node, parent in zip(path, path[1:], strict=False):
        if not specific.startswith(parent):
            continue
        own, at_node, above, other = (book.description(code) or "" for code in (vague, node, parent, specific))
        if _adds(_UNCOMPLICATED, at_node, above):
            return (
                "says that there is no complication, beside" if _COMPLICATED.search(other.removeprefix(above)) else ""
            )
        if _adds(_UNSPECIFIED, at_node, above) and _UNSPECIFIED.search(_AND_UNSPECIFIED.sub("", own)):
            if _sibling_is_unspecified(specific, parent, book) or not _says_all(other, own, above):
                return ""
            return "is less specific than"
    return ""


def _adds(expression: re.Pattern, description: str, parent: str) -> bool:
    """Whether `description` says it more often than the heading above. "Other and unspecified ..." only announces what
    stands below."""
    if _AND_UNSPECIFIED.search(parent):
        description, parent = _AND_UNSPECIFIED.sub("", description), _AND_UNSPECIFIED.sub("", parent)
    return len(expression.findall(description)) > len(expression.findall(parent))


def _sibling_is_unspecified(code: str, parent: str, book: CodeBook) -> bool:
    """Whether the node below `parent` that leads to `code` is unspecified itself."""
    path = node_path(code, book)
    node = path[path.index(parent) - 1] if parent in path and path[0] != parent else code
    return _adds(_UNSPECIFIED, book.description(node) or "", book.description(parent) or "")


def _says_all(specific: str, vague: str, heading: str) -> bool:
    """Whether nothing is lost if the code described as `vague` goes: the other says all that it says, or has most of
    its words and the rest in their heading, which is of one condition ("Fracture of lower end of radius").

    Epilepsy, unspecified, with status epilepticus says more than focal epilepsy without; atrial fibrillation is no
    flutter, though both have one heading; encephalopathy is no cerebral edema.
    """
    if _SCALE.search(specific):
        return False
    words, said = _words(_DENIED_AT_LEAST.sub("", _AXIS.sub("", vague))), _words(_DENIED_AT_MOST.sub("", specific))
    heading = _AND_UNSPECIFIED.sub("", heading)
    alternatives = re.search(r"\b(and|or|with)\b", heading)
    missing = words - said
    return not missing or (not alternatives and missing <= _words(heading) and 2 * len(missing) <= len(words))


def _words(description: str) -> set[str]:
    """The words that tell conditions apart, in the singular and each by its first seven letters, as depressive and
    depression are one, arteries and arteritis not."""
    words = (word for word in re.findall(r"[a-z0-9]+", description.lower()) if not _FILLER.fullmatch(word))
    return {re.sub(r"ies$", "y", word).removesuffix("s")[:7] for word in words}


def contradictions(codes: list[str], book: CodeBook, conflicts: Collection[frozenset[str]] = ()) -> list[Finding]:
    """Codes of one category of which one says "without" what the other has; wounds and other injuries, of which a
    patient can have several, are left out. `conflicts`: pairs of which another rule speaks already."""
    codes = [code for code in in_canonical_form(codes, book) if book.is_billable(code) and code[0] not in "STVWXY"]
    findings = []
    for denying in codes:
        for other in codes:
            if denying[:3] != other[:3] or denying == other or frozenset((denying, other)) in conflicts:
                continue
            text, beside = book.description(denying) or "", book.description(other) or ""
            for without in _WITHOUT.finditer(text):
                affirmed = beside.removeprefix(text[: without.start()])
                if affirmed == beside or not affirmed.startswith("with ") or not without["denied"]:
                    continue
                if _words(text[without.start("denied") :]) <= _words(affirmed):
                    pair = (denying, other) if codes.index(denying) < codes.index(other) else (other, denying)
                    remedy = (
                        f"{denying} says “{without.group().strip()}”, {other} the opposite; keep the one that is "
                        "documented, unless they are two conditions"
                    )
                    findings.append(Finding(UNSPECIFIED, pair, remedy))
                    break
    return findings


def encounters(codes: list[str], book: CodeBook) -> list[Finding]:
    """Injuries with more than one 7th character that tells the kind of encounter."""
    by_injury: dict[str, dict[str, str]] = {}
    for code in in_canonical_form(codes, book):
        above = node_path(code, book)[1:2]  # the injury; what a code says besides is its 7th character
        meaning = (book.description(code) or "").removeprefix(f"{book.description(above[0])}, ") if above else ""
        if len(code) == 8 and re.search(r"encounter|sequela", meaning):
            by_injury.setdefault(code[:7], {})[code] = meaning
    findings = []
    for meanings in by_injury.values():
        if len(meanings) > 1:
            listed = ", ".join(f"{code[-1]} is “{meaning}”" for code, meaning in meanings.items())
            remedy = f"one injury has one 7th character: {listed}; keep one, unless there are two (guideline I.C.19.a)"
            findings.append(Finding(ENCOUNTERS, tuple(meanings), remedy))
    return findings


def not_alone(codes: list[str], book: CodeBook) -> list[Finding]:
    """One finding where no code of the document can explain the encounter."""
    codes = in_canonical_form(codes, book)
    remedies = [next((remedy for starts, remedy in _NEVER_ALONE if code.startswith(starts)), None) for code in codes]
    if not codes or None in remedies:
        return []
    return [Finding(NOT_ALONE, tuple(codes), "; ".join(dict.fromkeys(filter(None, remedies))))]
