"""Gold pairs: counts against the data's own README, phrases against hand-written expectations, every code billable."""

import json
import subprocess
import sys

import pytest

from minscl.data import CodeBook, Pair
from minscl.data.gold import billable_for, phrases, proper_words, read_gold, tidy
from minscl.data.index import References, Term, read_index
from minscl.data.jsonl import read_jsonl

BOOK = CodeBook.load()
TERMS = read_index()
PAIRS, COUNTS = read_gold(BOOK)
PROPER = proper_words(TERMS)


def test_counts_are_those_of_the_published_table():
    """Guards: a level of the Index not read. The figures are those of the table that the file was rebuilt from."""
    assert (COUNTS.terms, COUNTS.main_terms, COUNTS.terms_with_code, COUNTS.code_strings) == (81_024, 8_100, 62_721, 20_073)
    assert sum(bool(term.see) for term in TERMS) == 12_136
    assert sum(bool(term.modifiers) for term in TERMS) == 12_601
    assert COUNTS.resolved["billable as written"] == 48_585 + 3  # 3 of the codes that stand in a title only
    assert COUNTS.resolved["billable without the dash"] == 22
    assert COUNTS.unresolved["see condition: names no term"] == 477


def test_nothing_disappears_without_being_counted():
    """Guards: terms dropped silently: each with a code or reference is either resolved or counted by reason."""
    asked = sum(bool(term.default_code or term.see) for term in TERMS) + COUNTS.inclusion_terms
    assert COUNTS.resolved.total() + COUNTS.unresolved.total() == asked - sum(
        bool(not tidy(line)) for code in BOOK.headings_with("inclusionTerm") for line in BOOK.inclusion_terms(code) if billable_for(code, BOOK)[0])


def test_pairs_are_usable():
    """Guards: headings as codes, empty or repeated phrases, unbalanced leftovers of the Index's print."""
    assert all(BOOK.is_billable(one.code) and one.source == "gold" and one.origin for one in PAIRS)
    assert len({(one.evidence.casefold(), one.code) for one in PAIRS}) == len(PAIRS) == COUNTS.pairs > 80_000
    assert len({one.code for one in PAIRS}) == COUNTS.codes > 15_000
    assert all(one.evidence == " ".join(one.evidence.split()) != "" for one in PAIRS)
    assert not [one for one in PAIRS if " NEC" in one.evidence or " NOS" in one.evidence]


@pytest.mark.parametrize("evidence, code", [
    ("brain abscess", "G06.0"), ("diabetes with amyotrophy", "E11.44"), ("diabetic amyotrophy", "E11.44"), ("diabetes mellitus", "E11.9"),
    ("atrial fibrillation", "I48.91"), ("diastolic heart failure", "I50.30"), ("auricular fibrillation", "I48.91"), ("urinary tract infection", "N39.0"), ("Crohn's disease", "K50.90"),
    ("congestive heart failure", "I50.9"), ("pneumonia", "J18.9"), ("fluid overload", "E87.70"), ("hypertension", "I10"), ("acute appendicitis", "K35.80"),
])
def test_terms_read_as_a_coder_would_say_them(evidence, code):
    """Guards: phrases in the Index's inverted order, default codes lost, the dash resolved wrongly."""
    assert (evidence.casefold(), code) in {(one.evidence.casefold(), one.code) for one in PAIRS}


@pytest.mark.parametrize("term, expected", [
    (Term(("Abscess", "brain"), ("any part",)), ["brain abscess", "brain any part abscess"]),
    (Term(("Fibrillation", "atrial or auricular"), ("established",)), ["atrial fibrillation", "auricular fibrillation", "established atrial fibrillation"]),
    (Term(("Infection", "urinary"), ("tract", "s", "in", "specified NEC")), ["urinary infection", "urinary tract infection"]),
    (Term(("Diabetes, diabetic", "with", "amyotrophy"), ()), ["diabetes with amyotrophy", "diabetic amyotrophy"]),
    (Term(("Abnormal, abnormality, abnormalities", "gait"), ()), ["gait abnormal", "gait abnormality", "gait abnormalities"]),
    (Term(("Pain(s)", "limb", "lower"), ()), ["lower limb pain"]),
    (Term(("Deficiency, deficient", "factor", "specified NEC"), ()), ["factor deficiency"]),
    (Term(("Addison's", "disease"), ()), ["disease Addison's"]),
    (Term(("Hypertension, hypertensive",), ("essential", "of pregnancy")), ["hypertension", "hypertensive", "essential hypertension", "hypertension of pregnancy"]),
])
def test_phrases(term, expected):
    """Guards: connectives before their head, modifiers lost, names without their capital."""
    assert phrases(term, PROPER) == expected


@pytest.mark.parametrize("printed, code, how", [
    ("F45.8", "F45.8", "billable as written"), ("O21.0-", "O21.0", "billable without the dash"), ("C50.91-", "C50.919", "the List's unspecified code below"),
    ("G35", "G35.D", "the List's unspecified code below"), ("T14.8", None, "needs a 7th character"), ("D24.-", "D24.9", "the List's unspecified code below"),
    ("Z99.999", None, "a code that the Tabular List does not have"), ("L97.4-", "L97.409", "the List's unspecified code below"), ("Q99.8", None, "several codes below"),
])
def test_codes_that_are_not_billable_are_finished_by_rule(printed, code, how):
    """Guards: a default code guessed where the books do not say, or lost where they do."""
    assert billable_for(printed, BOOK) == (code, how)


def test_references_are_followed():
    """Guards: `see` taken as a phrase, a chain that ends nowhere, the main term Condition mistaken for a reference."""
    references = References(TERMS)
    target, reason = references.follow(Term(("Bowen's", "epithelioma"), see="Hypertension"))
    assert (target.default_code, reason) == ("I10", "")
    assert references.follow(Term(("X",), see="condition")) == (None, "see condition: names no term")
    assert references.follow(Term(("X",), see="Neoplasm, by site, malignant"))[1].startswith("see ... by site")
    assert references.follow(Term(("X",), see="Table of Drugs and Chemicals"))[1].startswith("see: a table")
    assert references.follow(Term(("X",), see="Nothing like this"))[1] == "see: no such term"


def test_the_command_writes_pairs_and_prints_the_counts(tmp_path):
    """Guards: a command that prints one thing and writes another."""
    out = tmp_path / "gold.jsonl"
    done = subprocess.run([sys.executable, "-m", "minscl.expand", "gold", "--out", str(out)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert read_jsonl(out, Pair) == PAIRS
    printed = {" ".join(line.split()[:-1]): line.split()[-1] for line in done.stdout.splitlines()}
    assert printed["terms read"] == "81,024" and printed["pairs written"] == f"{len(PAIRS):,}"
    assert json.loads(out.read_text().splitlines()[0])["source"] == "gold"
    bad = subprocess.run([sys.executable, "-m", "minscl.expand", "gold", "--out", "/dev/null/x.jsonl"], capture_output=True, text=True)
    assert bad.returncode == 2 and len(bad.stderr.strip().splitlines()) == 1 and "/dev/null/x.jsonl" in bad.stderr
