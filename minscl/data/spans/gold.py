"""Gold spans (Eq. 5): every phrase that ICD-10-CM itself ties to a code, as (evidence, code) pairs.

Two sources: the Alphabetic Index, each term as a coder would say it (icd/index_phrases.py), and the Tabular List's
inclusion terms; on request also the tables that accompany the Index (icd/index_tables.py). A code that is not billable
as printed is resolved where Index and Tabular List determine one: it has a single billable code below it, or a child
that the List calls "unspecified", which the guidelines assign where the term says no more. A code that needs a 7th
character gets a pair for each, with the character's meaning in words: "burn of hand, subsequent encounter". Everything
else is counted by reason.

An Index that is older than the edition prints codes that have been divided since (icd/divided_codes.py). These rows
are counted apart, as "stale". A manifestation, the second code in square brackets, gives no pair: a pair has one code,
and the term's phrase is already that of the first.

Read next: ../samples.py; ../icd/alphabetic_index.py for the XML.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from minscl.collection import collection_paused
from minscl.data.icd import CodeBook
from minscl.data.icd.alphabetic_index import SeeReferences, Term, index_corrections, read_index
from minscl.data.icd.divided_codes import DividedCodes, term_texts
from minscl.data.icd.index_corrections import REPLACED
from minscl.data.icd.index_phrases import plain_inclusion_term, proper_nouns, term_phrases
from minscl.data.icd.index_tables import read_columns, table_phrase
from minscl.data.types import Pair


@dataclass
class GoldCounts:
    """What was read and written. `unresolved`: terms with a code or a reference that became no pair, by reason."""

    terms: int = 0
    main_terms: int = 0
    terms_with_code: int = 0
    code_strings: int = 0
    manifestations: int = 0
    inclusion_terms: int = 0
    table_lines: int = 0
    pairs: int = 0
    codes: int = 0
    ambiguous_phrases: int = 0  # with more than one code
    resolved: Counter[str] = field(default_factory=Counter)
    unresolved: Counter[str] = field(default_factory=Counter)

    def rows(self, billable: int) -> list[tuple[str, int]]:
        """(name, number) rows to print; `billable`: how many billable codes there are."""
        return [
            ("terms read", self.terms),
            ("  main terms", self.main_terms),
            ("  terms with a code", self.terms_with_code),
            ("  distinct code strings", self.code_strings),
            ("  second codes in brackets, not written", self.manifestations),
            ("inclusion terms read", self.inclusion_terms),
            ("lines of tables read", self.table_lines),
            ("pairs written", self.pairs),
            (f"  distinct codes, of {billable:,} billable", self.codes),
            ("  phrases with more than one code", self.ambiguous_phrases),
            ("resolved", self.resolved.total()),
            *((f"  {how}", number) for how, number in self.resolved.most_common()),
            ("unresolved", self.unresolved.total()),
            *((f"  {reason}", number) for reason, number in self.unresolved.most_common()),
        ]


def gold_pairs(codebook: CodeBook, tables=()) -> list[Pair]:
    """All gold pairs: in Index order, then inclusion terms in code order, then `tables` (names of index_tables.TABLES).

    Each (evidence, code) occurs once, without regard to case.
    """
    return read_gold(codebook, tables)[0]


@collection_paused()
def read_gold(codebook: CodeBook, tables=()) -> tuple[list[Pair], GoldCounts]:
    """(the pairs of gold_pairs, the counts)."""
    terms = read_index(codebook.edition)
    proper, counts, divided = proper_nouns(terms), GoldCounts(), DividedCodes(terms, codebook)
    counts.terms, counts.main_terms = len(terms), sum(len(term.path) == 1 for term in terms)
    counts.terms_with_code = sum(bool(term.code) for term in terms)
    counts.manifestations = sum(bool(term.manifestation) for term in terms)
    counts.code_strings = len({term.code for term in terms if term.code})
    unique: dict[tuple[str, str], Pair] = {}  # (folded evidence, code) → the first pair
    variants: list[Pair] = []
    for pair, variants_of_term in _term_pairs(terms, lambda term: term_phrases(term, proper), divided, counts):
        unique.setdefault((pair.evidence.casefold(), pair.code), pair)
        variants += variants_of_term
    for pair in _inclusion_pairs(divided, counts):
        unique.setdefault((pair.evidence.casefold(), pair.code), pair)
    printed = {evidence for evidence, _ in unique}
    for pair in variants:  # a variant must not contradict a term that the Index itself prints
        if pair.evidence.casefold() not in printed:
            unique.setdefault((pair.evidence.casefold(), pair.code), pair)
    for column in (column for name in tables for column in read_columns(name, codebook.edition)):
        counts.table_lines += len(column)
        for pair, _ in _term_pairs(column, lambda term: [table_phrase(term)], divided, counts):
            unique.setdefault((pair.evidence.casefold(), pair.code), pair)
    pairs = list(unique.values())
    counts.pairs, counts.codes = len(pairs), len({pair.code for pair in pairs})
    counts.ambiguous_phrases = sum(number > 1 for number in Counter(evidence for evidence, _ in unique).values())
    return pairs, counts


def _term_pairs(
    terms: list[Term], phrases_of: Callable[[Term], list[str]], divided: DividedCodes, counts: GoldCounts
) -> Iterator[tuple[Pair, list[Pair]]]:
    """(pair, pairs of the variants) for each code of each term; `phrases_of(term)`: the phrase, then its variants.

    Variants only of codes that are complete as printed: repeated for each 7th character they would outnumber the rest.
    """
    references = SeeReferences(terms)
    for term in terms:
        codes = _codes_of(term, references, divided, counts)
        if not codes:
            continue
        phrase, *variants = phrases_of(term)
        if not phrase:
            counts.unresolved["a term that is empty without its brackets"] += 1
            continue
        for code, addition in codes:
            yield (
                Pair(_append(phrase, addition), code, "gold", origin=term.origin),
                [Pair(variant, code, "gold", origin=term.origin) for variant in variants if not addition],
            )


def _append(phrase: str, addition: str) -> str:
    return f"{phrase}, {addition}" if addition else phrase


def _codes_of(
    term: Term, references: SeeReferences, divided: DividedCodes, counts: GoldCounts
) -> list[tuple[str, str]]:
    """_resolve for the term's own code or that of the term it refers to; counts how it was resolved, or why not."""
    if not term.default_code and not term.see:
        return []
    if term.is_fragment:
        counts.unresolved["a word that lost its end"] += 1
        return []
    target, how = references.resolve(term)
    codes: list[tuple[str, str]] = []
    if target:
        codes, how = _resolve(target.default_code, *term_texts(target), divided)
        if divided.is_divided(target.correction.removeprefix(REPLACED)):
            how = "stale: corrected"
    if codes:
        counts.resolved["see: " + how if target is not term else how] += 1
    else:
        counts.unresolved[how] += 1
    return codes


def _resolve(printed: str, text: str, modifiers: str, divided: DividedCodes) -> tuple[list[tuple[str, str]], str]:
    """billable_for `printed`, or for the code that follows for these words from a code divided since it was printed."""
    if not divided.is_divided(printed):
        return billable_for(printed, divided.codebook)
    successor, how = divided.resolve(printed, text, modifiers)
    codes, reason = billable_for(successor, divided.codebook) if successor else ([], how)
    return codes, f"stale: {how}" if codes else f"stale: left out: {reason}"


@collection_paused()
def stale_rows(codebook: CodeBook) -> list[tuple[str, str, list[str], str]]:
    """(path, code as printed, billable codes now, how or why not) of each row of the Index whose code was billable when
    it was printed and is not in this edition: in print order, deleted rows last. An Index of its own year has none.
    """
    terms, corrections = read_index(codebook.edition), index_corrections(codebook.edition)
    divided = DividedCodes(terms, codebook)
    rows = []
    for term in terms:
        replaced = term.correction.removeprefix(REPLACED)
        if replaced != term.correction and divided.is_divided(replaced):
            codes = billable_for(term.default_code, codebook)[0]
            rows.append((" > ".join(term.path), replaced, codes, "stale: corrected"))
        elif divided.is_divided(term.default_code):
            rows.append(
                (" > ".join(term.path), term.default_code, *_resolve(term.default_code, *term_texts(term), divided))
            )
    deleted = [row for row in corrections if row.action == "delete_term" and divided.is_divided(row.old)]
    rows += [(row.path, row.old, [], "stale: corrected: deleted") for row in deleted]
    return [(path, printed, [code for code, _ in codes], how) for path, printed, codes, how in rows]


def billable_for(printed: str, codebook: CodeBook) -> tuple[list[tuple[str, str]], str]:
    """([(billable code, words it adds to the phrase)], how) for a code as the Index prints it, or ([], reason).

    Several codes only where a 7th character is needed: one for each, with its meaning in words.
    """
    code = printed.rstrip("-").rstrip(".")
    if codebook.is_billable(code):
        return [(code, "")], "billable as written" if code == printed else "billable without the dash"
    if codebook.description(code) is None:
        return [], "a code that the Tabular List does not have"
    how = "a single code below"
    while not codebook.is_billable(code):
        children = codebook.children(code)
        prefix = f"{codebook.description(code)}, "
        if all(len(child) == 8 and (codebook.description(child) or "").startswith(prefix) for child in children):
            return [(child, _seventh_character(child, codebook)) for child in children], "7th characters added"
        unspecified = [child for child in children if _is_unspecified(child, codebook)]
        if len(children) == 1:
            code = children[0]
        elif len(unspecified) == 1:
            code, how = unspecified[0], "the List's unspecified code below"
        else:
            return [], "several codes below"
    return [(code, "")], how


def _descriptions(code: str, codebook: CodeBook) -> tuple[str, str]:
    """The Tabular List's descriptions of `code` and of its parent."""
    return codebook.description(code) or "", codebook.description(codebook.parent(code) or "") or ""


def _seventh_character(code: str, codebook: CodeBook) -> str:
    """The meaning of the 7th character of `code` in words; "" for "unspecified", which a plain phrase implies."""
    description, parent = _descriptions(code, codebook)
    meaning = description[len(parent) + 2 :]
    return "" if "unspecified" in meaning else meaning


def _is_unspecified(code: str, codebook: CodeBook) -> bool:
    """Whether the Tabular List calls this code unspecified and does not call its parent so."""
    description, parent = _descriptions(code, codebook)
    return description.lower().count("unspecified") > parent.lower().count("unspecified")


def _inclusion_pairs(divided: DividedCodes, counts: GoldCounts) -> Iterator[Pair]:
    """Inclusion terms of every code as pairs; those of a heading belong to the billable code that it determines."""
    codebook = divided.codebook
    for code in codebook.headings_with("inclusionTerm"):
        for line in codebook.inclusion_terms(code):
            codes, how = _resolve(code, line, "", divided)
            counts.inclusion_terms += 1
            text = plain_inclusion_term(line)
            if codes and text:
                counts.resolved[f"inclusion term: {how}"] += 1
                for billable, addition in codes:
                    yield Pair(_append(text, addition), billable, "gold", origin=f"inclusion term: {code}")
            elif not codes:
                counts.unresolved[f"inclusion term: {how}"] += 1
