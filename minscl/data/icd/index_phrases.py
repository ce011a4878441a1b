"""Terms as a coder would say them: an Index line, printed inverted and in brackets, as running text.

"Abscess > brain" is "brain abscess", "Diabetes > with > amyotrophy" is "diabetes with amyotrophy". The rules are of thumb: what begins
with a connective follows the words above it, any other sub-term goes before them.

Read next: gold.py, which pairs the phrases with codes.
"""

import itertools
import re

from minscl.data.icd.alphabetic_index import Term

# A sub-term that begins with one of these follows the words above it; every other sub-term goes before them.
CONNECTIVE = re.compile(
    r"(with|without|due to|in|of|by|from|during|after|following|associated|complicating|to|for|on|at|caused|resulting|secondary to|"
    r"related to|involving|affecting|not|as|and|or|between|within|into|through|under|against|causing|requiring|since|until|when|"
    r"where|while|that|which|who|than|status post|manifested|induced by|except|because|per|plus|type|stage|grade|class|level)\b",
    re.IGNORECASE,
)
EMPTY = re.compile(r"\b(NEC|NOS|specified (type|site|form|part|cause|organism)|specified|unspecified)\b")
ADJECTIVE = re.compile(
    r"(ic|al|ous|ive|ed|ing|ar|ary|ory|ent|ant|ile|oid|less|ible|able|ate|ior)$|^(acute|chronic|subacute|simple|severe|mild|old|late|early|lower|"
    r"upper|left|right|female|male|newborn|minor|major|diffuse|large|small|true|mixed|adult|complete|incomplete|benign)$"
)
PLURAL = re.compile(r"\((s|es|ies|al|ic)\)")
MODIFIER_LIMIT = 8  # variants a term may have; "Paralysis (complete) (incomplete)" has two, none has more than 30


def proper_words(terms: list[Term]) -> frozenset[str]:
    """Words that the Index writes with a capital below a main term, where only names have one, and never without: Crohn's, Addison, ABO."""
    below = {word for term in terms if len(term.path) > 1 for word in re.findall(r"[^\W\d_][\w'’-]*", term.path[-1])}
    return frozenset(word for word in below if word[0].isupper() and word[0].lower() + word[1:] not in below)


def phrases(term: Term, proper: frozenset[str]) -> list[str]:
    """The term as a coder would say it, then its variants: synonyms, an adjective main term, each non-essential modifier."""
    head, *synonyms = [small(part, proper) for part in term.path[0].split(", ") if part] or [""]
    below = term.path[1:]
    found = [join(head, one) for one in _alternatives(below)]
    adjectives = [word for word in synonyms if word.endswith(("ic", "ous", "al", "oid"))]
    if adjectives and len(below) > 1 and below[0].lower() in ("with", "in", "due to"):
        found.append(join(clean(below[1]), below[2:], adjectives[0]))  # "diabetic" + "amyotrophy"
    found += [join(word, below) for word in synonyms if word not in adjectives and len(below) < 2]
    for modifier in _modifiers(term):
        if not below:
            after = CONNECTIVE.match(modifier) or modifier == "mellitus"
            found.append(f"{found[0]} {modifier}" if after else f"{modifier} {found[0]}")
        elif CONNECTIVE.match(modifier):
            found.append(f"{found[0]} {modifier}")
        else:  # it belongs to the last title: "urinary (tract)", "atrial (established)"
            *above, last = next(_alternatives(below))
            found.append(
                join(head, [*above, f"{modifier} {last}" if ADJECTIVE.search(modifier) else f"{last} {modifier}"])
            )
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


def join(head: str, below, front: str = "") -> str:
    """Sub-terms said around their head: qualifiers before it, what begins with a connective after it."""
    words, waiting = head, ""
    for title in below:
        title = clean(title)
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


def clean(title: str) -> str:
    """A title without NEC, plural and square brackets, and what follows its first comma ("2,4-D" holds none: no space)."""
    plain = EMPTY.sub("", PLURAL.sub("", title)).split(", ")[0]
    return " ".join(re.sub(r"\[[^\]]*\]", "", plain).split()).strip(" -")


def small(title: str, proper: frozenset[str]) -> str:
    """A main term's part in running text: no capital unless it is a name."""
    title = clean(title)
    first = re.match(r"[^\W\d_][\w'’-]*", title)
    keep = first is None or first[0] in proper or first[0][1:].upper() == first[0][1:] != "" or "'" in first[0]
    return title if keep else title[0].lower() + title[1:]


def tidy(line: str) -> str:
    """An inclusion term without NOS, NEC and a reference in brackets at its end."""
    return " ".join(re.sub(r"\b(NOS|NEC)\b", "", re.sub(r"\s*\([A-Z]\d[^)]*\)\s*$", "", line)).split()).strip(" ,;:")
