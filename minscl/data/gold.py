"""Gold spans (Eq. 5): every phrase that ICD-10-CM itself ties to a code, as (evidence, code) pairs.

Two sources: the Alphabetic Index, each term said as a coder would say it ("Abscess > brain" is "brain abscess", "Diabetes > with >
amyotrophy" is "diabetes with amyotrophy"), and the Tabular List's inclusion terms. A code that is not billable as printed is
resolved where Index and Tabular List determine one: it has a single billable code below, or a child that is the List's
"unspecified" one, which is what the guidelines assign where the term says no more. Everything else is counted by reason.

Read next: samples.py; index.py for the XML.
"""

import itertools
import re
from collections import Counter
from dataclasses import dataclass, field

from minscl.data.icd import CodeBook
from minscl.data.index import References, Term, read_index
from minscl.data.types import Pair

# A sub-term that begins with one of these follows the words above it; every other sub-term goes before them.
CONNECTIVE = re.compile(r"(with|without|due to|in|of|by|from|during|after|following|associated|complicating|to|for|on|at|caused|resulting|secondary to|"
                        r"related to|involving|affecting|not|as|and|or|between|within|into|through|under|against|causing|requiring|since|until|when|"
                        r"where|while|that|which|who|than|status post|manifested|induced by|except|because|per|plus|type|stage|grade|class|level)\b", re.IGNORECASE)
EMPTY = re.compile(r"\b(NEC|NOS|specified (type|site|form|part|cause|organism)|specified|unspecified)\b")
ADJECTIVE = re.compile(r"(ic|al|ous|ive|ed|ing|ar|ary|ory|ent|ant|ile|oid|less|ible|able|ate|ior)$|^(acute|chronic|subacute|simple|severe|mild|old|late|early|lower|"
                       r"upper|left|right|female|male|newborn|minor|major|diffuse|large|small|true|mixed|adult|complete|incomplete|benign)$")
PLURAL = re.compile(r"\((s|es|ies|al|ic)\)")
MODIFIER_LIMIT = 8  # variants a term may have; "Paralysis (complete) (incomplete)" has two, none has more than 30


@dataclass
class GoldCounts:
    """What reading the Index gave. `unresolved` counts terms with a code or a reference that became no pair, by reason."""

    terms: int = 0
    main_terms: int = 0
    terms_with_code: int = 0
    code_strings: int = 0
    inclusion_terms: int = 0
    pairs: int = 0
    codes: int = 0
    several_codes: int = 0
    resolved: Counter = field(default_factory=Counter)
    unresolved: Counter = field(default_factory=Counter)


def gold_pairs(codebook: CodeBook) -> list[Pair]:
    """All gold pairs: index order, then inclusion terms in code order; each (evidence, code) once, case aside."""
    return read_gold(codebook)[0]


def read_gold(codebook: CodeBook) -> tuple[list[Pair], GoldCounts]:
    """The pairs, and what was counted on the way."""
    terms = read_index()
    references, proper, counts = References(terms), proper_words(terms), GoldCounts()
    counts.terms, counts.main_terms = len(terms), sum(len(term.path) == 1 for term in terms)
    counts.terms_with_code = sum(bool(term.code) for term in terms)
    counts.code_strings = len({term.code for term in terms if term.code})
    found: dict[tuple[str, str], Pair] = {}
    variants: list[Pair] = []
    for term in terms:
        code = _code_of(term, references, codebook, counts)
        if not code:
            continue
        first, *others = phrases(term, proper)
        if not first:
            counts.unresolved["a term that is empty without its brackets"] += 1
            continue
        found.setdefault((first.casefold(), code), Pair(first, code, "gold", origin=term.origin))
        variants += [Pair(other, code, "gold", origin=term.origin) for other in others]
    for one in _inclusion_pairs(codebook, counts):
        found.setdefault((one.evidence.casefold(), one.code), one)
    taken = {evidence for evidence, _ in found}
    for one in variants:  # a variant must not contradict a term that stands in the Index itself
        if one.evidence.casefold() not in taken:
            found.setdefault((one.evidence.casefold(), one.code), one)
    pairs = list(found.values())
    counts.pairs, counts.codes = len(pairs), len({one.code for one in pairs})
    counts.several_codes = sum(number > 1 for number in Counter(evidence for evidence, _ in found).values())
    return pairs, counts


def _code_of(term: Term, references: References, codebook: CodeBook, counts: GoldCounts) -> str | None:
    """The billable code of a term, own or referred to; counts how, or why not."""
    if not term.default_code and not term.see:
        return None
    target, reason = references.follow(term)
    code, how = billable_for(target.default_code, codebook) if target else (None, reason)
    if code:
        counts.resolved["see: " + how if target is not term else how] += 1
    else:
        counts.unresolved[how] += 1
    return code


def billable_for(printed: str, codebook: CodeBook) -> tuple[str | None, str]:
    """(billable code, how it was determined) for a code as the Index prints it, or (None, why it is not determined)."""
    code = printed.rstrip("-").rstrip(".")
    if codebook.is_billable(code):
        return code, "billable as written" if code == printed else "billable without the dash"
    if codebook.description(code) is None:
        return None, "a code that the Tabular List does not have"
    how = "a single code below"
    while not codebook.is_billable(code):
        children = codebook.children(code)
        if all(len(child) == 8 for child in children):
            return None, "needs a 7th character"
        unspecified = [child for child in children if _is_unspecified(child, codebook)]
        if len(children) == 1:
            code = children[0]
        elif len(unspecified) == 1:
            code, how = unspecified[0], "the List's unspecified code below"
        else:
            return None, "several codes below"
    return code, how


def _is_unspecified(code: str, codebook: CodeBook) -> bool:
    """Whether the List calls this child unspecified where it does not call its parent so."""
    description, parent = codebook.description(code).lower(), codebook.description(codebook.parent(code)).lower()
    return description.count("unspecified") > parent.count("unspecified")


def _inclusion_pairs(codebook: CodeBook, counts: GoldCounts):
    """Inclusion terms of every code, as pairs; those of a heading go to the one billable code it determines."""
    for code in codebook.headings_with("inclusionTerm"):
        for line in codebook.inclusion_terms(code):
            counts.inclusion_terms += 1
            billable, how = billable_for(code, codebook)
            text = tidy(line)
            if billable and text:
                counts.resolved[f"inclusion term: {how}"] += 1
                yield Pair(text, billable, "gold", origin=f"inclusion term: {code}")
            elif not billable:
                counts.unresolved[f"inclusion term: {how}"] += 1


def proper_words(terms: list[Term]) -> frozenset[str]:
    """Words that the Index writes with a capital below a main term, where only names have one, and never without: Crohn's, Addison, ABO."""
    below = {word for term in terms if len(term.path) > 1 for word in re.findall(r"[^\W\d_][\w'’-]*", term.path[-1])}
    return frozenset(word for word in below if word[0].isupper() and word[0].lower() + word[1:] not in below)


def phrases(term: Term, proper: frozenset[str]) -> list[str]:
    """The term as a coder would say it, then its variants: synonyms, an adjective main term, each non-essential modifier."""
    head, *synonyms = [_small(part, proper) for part in term.path[0].split(", ") if part] or [""]
    below = term.path[1:]
    found = [_join(head, one) for one in _alternatives(below)]
    adjectives = [word for word in synonyms if word.endswith(("ic", "ous", "al", "oid"))]
    if adjectives and len(below) > 1 and below[0].lower() in ("with", "in", "due to"):
        found.append(_join(_clean(below[1]), below[2:], adjectives[0]))  # "diabetic" + "amyotrophy"
    found += [_join(word, below) for word in synonyms if word not in adjectives and len(below) < 2]
    for modifier in _modifiers(term):
        if not below:
            after = CONNECTIVE.match(modifier) or modifier == "mellitus"
            found.append(f"{found[0]} {modifier}" if after else f"{modifier} {found[0]}")
        elif CONNECTIVE.match(modifier):
            found.append(f"{found[0]} {modifier}")
        else:  # it belongs to the last title: "urinary (tract)", "atrial (established)"
            *above, last = next(_alternatives(below))
            found.append(_join(head, [*above, f"{modifier} {last}" if ADJECTIVE.search(modifier) else f"{last} {modifier}"]))
    base, *others = dict.fromkeys(" ".join(one.split()) for one in found)
    return [base, *filter(None, others)]


def _alternatives(titles):
    """The titles, with each "atrial or auricular" read as one word and as the other; the first words first."""
    options = [title.split(" or ") if re.fullmatch(r"\w+ or \w+", title) else [title] for title in titles]
    return itertools.islice(itertools.product(*options), 4)


def _modifiers(term: Term) -> list[str]:
    """The modifiers that can be said: no plural endings, bare prepositions or NEC; "(acute, chronic)" is two."""
    found = []
    for one in term.modifiers[:MODIFIER_LIMIT]:
        for part in re.split(r",\s*", one) if len(one) < 60 else [one]:
            part = " ".join(EMPTY.sub("", part).split())
            if len(part) > 2 and part[0].isalpha() and not CONNECTIVE.fullmatch(part):
                found.append(part)
    return found


def _join(head: str, below, front: str = "") -> str:
    """Sub-terms said around their head: qualifiers before it, what begins with a connective after it."""
    words, waiting = head, ""
    for title in below:
        title = _clean(title)
        if not title:
            continue
        if waiting:  # "with" stood alone on its line
            words, waiting = f"{words} {waiting} {title}", ""
        elif CONNECTIVE.fullmatch(title):
            waiting = title
        elif CONNECTIVE.match(title):
            words = f"{words} {title}"
        else:
            words = f"{title} {words}"
    return " ".join(f"{front} {words}".split())


def _clean(title: str) -> str:
    """A title without NEC, plural brackets and what follows its first comma or "or"."""
    plain = EMPTY.sub("", PLURAL.sub("", title)).split(",")[0]
    return " ".join(re.sub(r"\[[^\]]*\]", "", plain).split()).strip(" -")


def _small(title: str, proper: frozenset[str]) -> str:
    """A main term's part in running text: no capital unless it is a name."""
    title = _clean(title)
    first = re.match(r"[^\W\d_][\w'’-]*", title)
    keep = first is None or first[0] in proper or first[0][1:].upper() == first[0][1:] != "" or "'" in first[0]
    return title if keep else title[0].lower() + title[1:]


def tidy(line: str) -> str:
    """An inclusion term without NOS, NEC and a reference in brackets at its end."""
    return " ".join(re.sub(r"\b(NOS|NEC)\b", "", re.sub(r"\s*\([A-Z]\d[^)]*\)\s*$", "", line)).split()).strip(" ,;:")
