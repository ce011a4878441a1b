"""Turns terms of the Alphabetic Index, which are printed inverted, into phrases as a clinician would write them.

"Abscess > brain" becomes "brain abscess", "Diabetes > with > amyotrophy" becomes "diabetes with amyotrophy". The
rules are heuristics: a subterm that begins with a connective follows the words above it, any other subterm goes
before them.

Read next: ../spans/gold.py, which pairs the phrases with codes.
"""

import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence

from minscl.data.icd.alphabetic_index import Term

# A subterm that begins with one of these follows the words above it: "with amyotrophy", "due to trauma", "type 2".
CONNECTIVE = re.compile(
    r"(with|without|due to|in|of|by|from|during|after|following|associated|complicating|to|for|on|at|caused|resulting|"
    r"secondary to|related to|involving|affecting|not|as|and|or|between|within|into|through|under|against|causing|"
    r"requiring|since|until|when|where|while|that|which|who|than|status post|manifested|induced by|except|because|per|"
    r"plus|type|stage|grade|class|level)\b",
    re.IGNORECASE,
)
# Words that add nothing to a phrase: "specified NEC", "unspecified".
_UNSPECIFIC = re.compile(r"\b(NEC|NOS|specified (type|site|form|part|cause|organism)|specified|unspecified)\b")
# Adjectives, by their ending or by name: "gastric", "lacrimal", "acute".
ADJECTIVE = re.compile(
    r"(ic|al|ous|ive|ed|ing|ar|ary|ory|ent|ant|ile|oid|less|ible|able|ate|ior)$|"
    r"^(acute|chronic|subacute|simple|severe|mild|old|late|early|lower|upper|left|right|female|male|newborn|minor|major|"
    r"diffuse|large|small|true|mixed|adult|complete|incomplete|benign)$"
)
_OPTIONAL_ENDING = re.compile(r"\((s|es|ies|al|ic)\)")  # "Pain(s)" → "(s)"
_WORD = re.compile(r"[^\W\d_][\w'’-]*")
_ALIKE = 3  # letters with which synonyms in one title begin, all but these:
_UNLIKE = frozenset(
    ["Anus, anal", "Moebius, Möbius", "Nose, nasal", "Scurvy, scorbutic", "Sialitis, silitis", "Tear, torn"]
    + ["Tooth, teeth", "Vein, venous", "Wear, worn"]
)
_IMPLIED = ("traumatic", "inconclusive", "without diagnosis")  # of fractures and findings that are named without them
_MAX_MODIFIERS = 8  # nonessential modifiers used per term: two are usual, the longest list has 30


def proper_nouns(terms: Iterable[Term]) -> frozenset[str]:
    """The words that subterms always write with a capital: Crohn's, Addison, ABO. (Main terms all begin with one.)"""
    words = {word for term in terms if len(term.path) > 1 for word in _WORD.findall(term.path[-1])}
    return frozenset(word for word in words if word[0].isupper() and word[0].lower() + word[1:] not in words)


def term_phrases(term: Term, proper: frozenset[str]) -> list[str]:
    """The phrase of the term, then variants of it: synonyms, an adjective main term, each nonessential modifier.

    `proper`: from proper_nouns. The first phrase is "" for a term without words outside parentheses.
    """
    head, synonyms, qualifiers = _main_title(term.path[0])
    main = join_subterms(lowercase_first(head, proper), qualifiers)
    synonyms = [lowercase_first(part, proper) for part in synonyms]
    subterms = term.path[1:]
    phrases = [join_subterms(main, titles) for titles in _alternatives(subterms)]
    if subterms and _is_residual(subterms[-1]):
        template = "{} of other specified site" if "site" in subterms[-1] else "other specified {}"
        return [template.format(phrase) for phrase in phrases]
    adjectives = [word for word in synonyms if word.endswith(("ic", "ous", "al", "oid"))]
    if adjectives and len(subterms) > 1 and subterms[0].lower() in ("with", "in", "due to"):
        phrases.append(join_subterms(plain_title(subterms[1]), subterms[2:], adjectives[0]))  # "diabetic amyotrophy"
    phrases += [join_subterms(word, subterms) for word in synonyms if word not in adjectives and len(subterms) < 2]
    for modifier in _usable_modifiers(term):
        if CONNECTIVE.match(modifier) or (not subterms and modifier == "mellitus"):
            phrases.append(f"{phrases[0]} {modifier}")
        elif not subterms:
            phrases.append(f"{modifier} {phrases[0]}")
        else:  # it modifies the last title: "urinary (tract)", "atrial (established)"
            *above, last = next(_alternatives(subterms))
            modified = f"{modifier} {last}" if ADJECTIVE.search(modifier) else f"{last} {modifier}"
            phrases.append(join_subterms(main, [*above, modified]))
    first, *variants = dict.fromkeys(" ".join(phrase.split()) for phrase in phrases)
    return [first, *filter(None, variants)]


@functools.cache  # the title of a main term is that of all its subterms, too
def _main_title(title: str) -> tuple[str, list[str], list[str]]:
    """(first part, synonyms, qualifiers) of a main term's title, whose parts have a comma between them.

    A part that begins like the first is a synonym: "Tuberculosis, tubercular". Any other is a qualifier, printed after
    what it qualifies: "Tenderness, abdominal". A list with "or" has neither: "Diver's palsy, paralysis or squeeze".
    """
    head, *parts = [part for part in title.split(", ") if part.strip(" ,")] or [""]
    synonyms = [
        part for part in parts if part[:_ALIKE].casefold() == head[:_ALIKE].casefold() or f"{head}, {part}" in _UNLIKE
    ]
    if any(re.search(r"(^| )or ", part) for part in parts):
        return head, synonyms, []
    return head, synonyms, [part for part in parts if part not in synonyms and part not in _IMPLIED]


def _is_residual(title: str) -> bool:
    """Whether a subterm has no words but "specified NEC" or the like: what is left besides the terms around it."""
    return not plain_title(title) and bool(re.search(r"\b(specified|NEC)\b", title)) and "unspecified" not in title


def _alternatives(titles: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The titles with "atrial or auricular" as its first word, then as its second; at most four combinations."""
    options = [title.split(" or ") if re.fullmatch(r"\w+ or \w+", title) else [title] for title in titles]
    return itertools.islice(itertools.product(*options), 4)


def _usable_modifiers(term: Term) -> list[str]:
    """The nonessential modifiers that are words of their own, not plural endings, lone connectives or NEC.

    "(acute, chronic)" is two.
    """
    modifiers = []
    for text in term.modifiers[:_MAX_MODIFIERS]:
        for part in re.split(r",\s*", text) if len(text) < 60 else [text]:
            modifier = " ".join(_UNSPECIFIC.sub("", part).split())
            if len(modifier) > 2 and modifier[0].isalpha() and not CONNECTIVE.fullmatch(modifier):
                modifiers.append(modifier)
    return modifiers


def join_subterms(head: str, titles: Iterable[str], prefix: str = "") -> str:
    """`prefix`, then `head` with those subterms after it that begin with a connective, and the others before it."""
    phrase, connective = head, ""
    for title in map(plain_title, titles):
        if not title:
            continue
        if connective:  # the subterm above was only a connective: "with"
            phrase, connective = f"{phrase} {connective} {title}", ""
        elif CONNECTIVE.fullmatch(title):
            connective = title
        elif CONNECTIVE.match(title):
            phrase = f"{phrase} {title}"
        else:
            phrase = f"{title} {phrase}"
    return " ".join(f"{prefix} {phrase}".split())


@functools.cache  # titles repeat, and each is read once for every variant of a phrase
def plain_title(title: str) -> str:
    """A title up to its first ", ", without NEC and the like, optional endings and square brackets.

    The comma of "2,4-D" has no space after it and stays.
    """
    plain = _UNSPECIFIC.sub("", _OPTIONAL_ENDING.sub("", title)).split(", ")[0]
    return " ".join(re.sub(r"\[[^\]]*\]", "", plain).split()).strip(" -")


def lowercase_first(title: str, proper: frozenset[str]) -> str:
    """The plain title of a main term without its capital, unless the first word is a name or an abbreviation."""
    title = plain_title(title)
    first = _WORD.match(title)
    if first is None:
        return title
    is_abbreviation = first[0][1:].upper() == first[0][1:] != ""
    if first[0] in proper or is_abbreviation or "'" in first[0]:
        return title
    return title[0].lower() + title[1:]


def plain_inclusion_term(text: str) -> str:
    """An inclusion term of the Tabular List without NOS, NEC and a code reference in parentheses at its end."""
    without_code = re.sub(r"\s*\([A-Z]\d[^)]*\)\s*$", "", text)
    return " ".join(re.sub(r"\b(NOS|NEC)\b", "", without_code).split()).strip(" ,;:")
