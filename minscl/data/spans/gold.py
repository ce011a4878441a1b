"""Gold spans (Eq. 5): every phrase that ICD-10-CM itself ties to a code, as (evidence, code) pairs.

Two sources: the Alphabetic Index, each term said as a coder would say it (phrases.py), and the Tabular List's inclusion terms; on
request the tables beside the Index (tables.py). A code that is not billable as printed is resolved where Index and Tabular List
determine one: it has a single billable code below, or a child that is the List's "unspecified" one, which is what the guidelines
assign where the term says no more. A code that needs a 7th character gives a pair for each, the character's meaning added in words:
"burn of hand, subsequent encounter". Everything else is counted by reason.

Read next: samples.py; index.py for the XML.
"""

from collections import Counter
from dataclasses import dataclass, field

from minscl.data.icd import CodeBook
from minscl.data.icd.alphabetic_index import SeeReferences, Term, read_index
from minscl.data.icd.index_phrases import plain_inclusion_term, proper_nouns, term_phrases
from minscl.data.icd.index_tables import read_columns, table_phrase
from minscl.data.types import Pair


@dataclass
class GoldCounts:
    """What reading the Index gave. `unresolved` counts terms with a code or a reference that became no pair, by reason."""

    terms: int = 0
    main_terms: int = 0
    terms_with_code: int = 0
    code_strings: int = 0
    inclusion_terms: int = 0
    table_lines: int = 0
    pairs: int = 0
    codes: int = 0
    several_codes: int = 0
    resolved: Counter = field(default_factory=Counter)
    unresolved: Counter = field(default_factory=Counter)


def gold_pairs(codebook: CodeBook, tables=()) -> list[Pair]:
    """All gold pairs: index order, then inclusion terms in code order, then `tables`; each (evidence, code) once, case aside."""
    return read_gold(codebook, tables)[0]


def read_gold(codebook: CodeBook, tables=()) -> tuple[list[Pair], GoldCounts]:
    """The pairs, and what was counted on the way. `tables`: names of tables.TABLES."""
    terms = read_index()
    proper, counts = proper_nouns(terms), GoldCounts()
    counts.terms, counts.main_terms = len(terms), sum(len(term.path) == 1 for term in terms)
    counts.terms_with_code = sum(bool(term.code) for term in terms)
    counts.code_strings = len({term.code for term in terms if term.code})
    found: dict[tuple[str, str], Pair] = {}
    variants: list[Pair] = []
    for pair, others in _pairs(terms, lambda term: term_phrases(term, proper), codebook, counts):
        found.setdefault((pair.evidence.casefold(), pair.code), pair)
        variants += others
    for pair in _inclusion_pairs(codebook, counts):
        found.setdefault((pair.evidence.casefold(), pair.code), pair)
    taken = {evidence for evidence, _ in found}
    for pair in variants:  # a variant must not contradict a term that stands in the Index itself
        if pair.evidence.casefold() not in taken:
            found.setdefault((pair.evidence.casefold(), pair.code), pair)
    for column in (column for name in tables for column in read_columns(name)):
        counts.table_lines += len(column)
        for pair, _ in _pairs(column, lambda term: [table_phrase(term)], codebook, counts):
            found.setdefault((pair.evidence.casefold(), pair.code), pair)
    pairs = list(found.values())
    counts.pairs, counts.codes = len(pairs), len({one.code for one in pairs})
    counts.several_codes = sum(number > 1 for number in Counter(evidence for evidence, _ in found).values())
    return pairs, counts


def _pairs(terms: list[Term], say, codebook: CodeBook, counts: GoldCounts):
    """(pair, pairs of the variants) for each code of each term; `say(term)` gives the phrase, then its variants.

    Variants are of codes that are complete as they stand: with each 7th character again they would drown the rest.
    """
    references = SeeReferences(terms)
    for term in terms:
        codes = _codes_of(term, references, codebook, counts)
        if not codes:
            continue
        first, *others = say(term)
        if not first:
            counts.unresolved["a term that is empty without its brackets"] += 1
            continue
        for code, words in codes:
            yield (
                Pair(_with(first, words), code, "gold", origin=term.origin),
                [Pair(other, code, "gold", origin=term.origin) for other in others if not words],
            )


def _with(phrase: str, words: str) -> str:
    return f"{phrase}, {words}" if words else phrase


def _codes_of(term: Term, references: SeeReferences, codebook: CodeBook, counts: GoldCounts) -> list[tuple[str, str]]:
    """The billable codes of a term, own or referred to, as `billable_for` gives them; counts how, or why not."""
    if not term.default_code and not term.see:
        return []
    target, reason = references.resolve(term)
    codes, how = billable_for(target.default_code, codebook) if target else ([], reason)
    if codes:
        counts.resolved["see: " + how if target is not term else how] += 1
    else:
        counts.unresolved[how] += 1
    return codes


def billable_for(printed: str, codebook: CodeBook) -> tuple[list[tuple[str, str]], str]:
    """([(billable code, words it adds to the phrase)], how) for a code as the Index prints it, or ([], why it is not determined).

    Several codes only where a 7th character is needed: one for each, its meaning as the words.
    """
    code = printed.rstrip("-").rstrip(".")
    if codebook.is_billable(code):
        return [(code, "")], "billable as written" if code == printed else "billable without the dash"
    if codebook.description(code) is None:
        return [], "a code that the Tabular List does not have"
    how = "a single code below"
    while not codebook.is_billable(code):
        children = codebook.children(code)
        if all(
            len(child) == 8 and codebook.description(child).startswith(codebook.description(code) + ", ")
            for child in children
        ):
            return [(child, _seventh(child, codebook)) for child in children], "7th characters added"
        unspecified = [child for child in children if _is_unspecified(child, codebook)]
        if len(children) == 1:
            code = children[0]
        elif len(unspecified) == 1:
            code, how = unspecified[0], "the List's unspecified code below"
        else:
            return [], "several codes below"
    return [(code, "")], how


def _seventh(code: str, codebook: CodeBook) -> str:
    """What the 7th character of `code` means, in words; none for "unspecified", which a phrase that says no more already is."""
    meaning = codebook.description(code)[len(codebook.description(codebook.parent(code))) + 2 :]
    return "" if "unspecified" in meaning else meaning


def _is_unspecified(code: str, codebook: CodeBook) -> bool:
    """Whether the List calls this child unspecified where it does not call its parent so."""
    description, parent = codebook.description(code).lower(), codebook.description(codebook.parent(code)).lower()
    return description.count("unspecified") > parent.count("unspecified")


def _inclusion_pairs(codebook: CodeBook, counts: GoldCounts):
    """Inclusion terms of every code, as pairs; those of a heading go to the billable code it determines."""
    for code in codebook.headings_with("inclusionTerm"):
        codes, how = billable_for(code, codebook)
        for line in codebook.inclusion_terms(code):
            counts.inclusion_terms += 1
            text = plain_inclusion_term(line)
            if codes and text:
                counts.resolved[f"inclusion term: {how}"] += 1
                for billable, words in codes:
                    yield Pair(_with(text, words), billable, "gold", origin=f"inclusion term: {code}")
            elif not codes:
                counts.unresolved[f"inclusion term: {how}"] += 1
