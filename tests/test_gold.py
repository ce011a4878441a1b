"""Gold pairs: counts against the data's own README, phrases against hand-written expectations, every code billable."""

import json
import subprocess
import sys

import pytest

from minscl.data import Pair
from minscl.data.icd import CodeBook
from minscl.data.icd.alphabetic_index import SeeReferences, Term, read_index, read_table
from minscl.data.icd.index_phrases import plain_inclusion_term, proper_nouns, term_phrases
from minscl.data.icd.index_tables import TABLES, read_columns, table_phrase
from minscl.data.jsonl import read_jsonl, write_jsonl
from minscl.data.spans.coverage import coverage, coverage_table
from minscl.data.spans.gold import billable_for, read_gold

BOOK = CodeBook.load()
TERMS = read_index()
PAIRS, COUNTS = read_gold(BOOK)
PROPER = proper_nouns(TERMS)


def test_counts_are_those_of_the_published_table():
    """Guards: a level of the Index not read. The figures are those of the table that the file was rebuilt from."""
    assert (COUNTS.terms, COUNTS.main_terms, COUNTS.terms_with_code, COUNTS.code_strings) == (
        81_024,
        8_100,
        62_721,
        20_073,
    )
    assert sum(bool(term.see) for term in TERMS) == 12_136
    assert sum(bool(term.modifiers) for term in TERMS) == 12_601
    assert COUNTS.resolved["billable as written"] == 48_585 + 3  # 3 of the codes that stand in a title only
    assert COUNTS.resolved["billable without the dash"] == 22
    assert COUNTS.unresolved["see condition: names no term"] == 477


def test_nothing_disappears_without_being_counted():
    """Guards: terms dropped silently: each with a code or reference is either resolved or counted by reason."""
    asked = sum(bool(term.default_code or term.see) for term in TERMS) + COUNTS.inclusion_terms
    assert COUNTS.resolved.total() + COUNTS.unresolved.total() == asked - sum(
        bool(not plain_inclusion_term(line))
        for code in BOOK.headings_with("inclusionTerm")
        for line in BOOK.inclusion_terms(code)
        if billable_for(code, BOOK)[0]
    )


def test_pairs_are_usable():
    """Guards: headings as codes, empty or repeated phrases, unbalanced leftovers of the Index's print."""
    assert all(BOOK.is_billable(one.code) and one.source == "gold" and one.origin for one in PAIRS)
    assert len({(one.evidence.casefold(), one.code) for one in PAIRS}) == len(PAIRS) == COUNTS.pairs > 80_000
    assert len({one.code for one in PAIRS}) == COUNTS.codes > 30_000
    assert all(one.evidence == " ".join(one.evidence.split()) != "" for one in PAIRS)
    assert not [one for one in PAIRS if " NEC" in one.evidence or " NOS" in one.evidence]


@pytest.mark.parametrize(
    "evidence, code",
    [
        ("brain abscess", "G06.0"),
        ("diabetes with amyotrophy", "E11.44"),
        ("diabetic amyotrophy", "E11.44"),
        ("diabetes mellitus", "E11.9"),
        ("atrial fibrillation", "I48.91"),
        ("diastolic heart failure", "I50.30"),
        ("auricular fibrillation", "I48.91"),
        ("urinary tract infection", "N39.0"),
        ("Crohn's disease", "K50.90"),
        ("congestive heart failure", "I50.9"),
        ("pneumonia", "J18.9"),
        ("fluid overload", "E87.70"),
        ("hypertension", "I10"),
        ("acute appendicitis", "K35.80"),
    ],
)
def test_terms_read_as_a_coder_would_say_them(evidence, code):
    """Guards: phrases in the Index's inverted order, default codes lost, the dash resolved wrongly."""
    assert (evidence.casefold(), code) in {(one.evidence.casefold(), one.code) for one in PAIRS}


@pytest.mark.parametrize(
    "term, expected",
    [
        (Term(("Abscess", "brain"), ("any part",)), ["brain abscess", "brain any part abscess"]),
        (
            Term(("Fibrillation", "atrial or auricular"), ("established",)),
            ["atrial fibrillation", "auricular fibrillation", "established atrial fibrillation"],
        ),
        (
            Term(("Infection", "urinary"), ("tract", "s", "in", "specified NEC")),
            ["urinary infection", "urinary tract infection"],
        ),
        (Term(("Diabetes, diabetic", "with", "amyotrophy"), ()), ["diabetes with amyotrophy", "diabetic amyotrophy"]),
        (
            Term(("Abnormal, abnormality, abnormalities", "gait"), ()),
            ["gait abnormal", "gait abnormality", "gait abnormalities"],
        ),
        (Term(("Pain(s)", "limb", "lower"), ()), ["lower limb pain"]),
        (Term(("Deficiency, deficient", "factor", "specified NEC"), ()), ["factor deficiency"]),
        (Term(("Addison's", "disease"), ()), ["disease Addison's"]),
        (Term(("Deficiency", "fructose 1,6-diphosphatase"), ()), ["fructose 1,6-diphosphatase deficiency"]),
        (
            Term(("Hypertension, hypertensive",), ("essential", "of pregnancy")),
            ["hypertension", "hypertensive", "essential hypertension", "hypertension of pregnancy"],
        ),
    ],
)
def test_phrases(term, expected):
    """Guards: connectives before their head, modifiers lost, names without their capital."""
    assert term_phrases(term, PROPER) == expected


@pytest.mark.parametrize(
    "printed, codes, how",
    [
        ("F45.8", ["F45.8"], "billable as written"),
        ("O21.0-", ["O21.0"], "billable without the dash"),
        ("C50.91-", ["C50.919"], "the List's unspecified code below"),
        ("G35", ["G35.D"], "the List's unspecified code below"),
        ("D24.-", ["D24.9"], "the List's unspecified code below"),
        ("T14.8", ["T14.8XXA", "T14.8XXD", "T14.8XXS"], "7th characters added"),
        ("H40.10", ["H40.10X0", "H40.10X1", "H40.10X2", "H40.10X3", "H40.10X4"], "7th characters added"),
        ("Z99.999", [], "a code that the Tabular List does not have"),
        ("L97.4-", ["L97.409"], "the List's unspecified code below"),
        ("Q99.8", [], "several codes below"),
    ],
)
def test_codes_that_are_not_billable_are_finished_by_rule(printed, codes, how):
    """Guards: a default code guessed where the books do not say, or lost where they do."""
    found, why = billable_for(printed, BOOK)
    assert ([code for code, _ in found], why) == (codes, how)


def test_seventh_characters_are_said_in_words():
    """Guards: one phrase for three codes, which a model could only guess between; an S06 code that does not exist."""
    said_of = {(one.evidence, one.code) for one in PAIRS}
    for words, code in (
        ("initial encounter", "T33.60XA"),
        ("subsequent encounter", "T33.60XD"),
        ("sequela", "T33.60XS"),
    ):
        assert (f"thigh frostbite, {words}", code) in said_of
    assert ("acetabulum fracture, subsequent encounter for fracture with nonunion", "S32.409K") in said_of
    assert (
        "Labor and delivery complicated by compression of cord",
        "O69.2XX0",
    ) in said_of  # "not applicable or unspecified" adds nothing
    assert ("Labor and delivery complicated by compression of cord, fetus 2", "O69.2XX2") in said_of
    assert not [one for one in PAIRS if one.code.startswith("S06") and one.code[6:7] in "78" and one.code[-1] in "DS"]


@pytest.fixture(scope="module")
def with_tables():
    return read_gold(BOOK, tuple(TABLES))


def test_tables_have_the_published_counts():
    """Guards: cells read by position where some are left out; terms or columns lost. The figures were counted in the files themselves."""
    neoplasm, drug, cause = (read_columns(name) for name in ("neoplasm", "drug", "external-cause"))
    assert [len(table) for table in (neoplasm, drug, cause)] == [6, 6, 1]
    assert (
        {len(column) for column in neoplasm} == {1_939}
        and {len(column) for column in drug} == {7_428}
        and len(cause[0]) == 8_064
    )
    assert [sum(bool(term.code) for column in table for term in column) for table in (neoplasm, drug, cause)] == [
        9_018,
        40_026,
        6_650,
    ]
    assert [
        len({term.code for column in table for term in column if term.code}) for table in (neoplasm, drug, cause)
    ] == [689, 1_596, 2_708]
    skin = [
        term
        for term in read_table(TABLES["neoplasm"], "t")["Malignant Secondary"]
        if term.path[1:] == ("abdomen, abdominal", "wall", "skin")
    ]
    assert [term.code for term in skin] == [""]  # this line has a cell in column 2 alone


@pytest.mark.parametrize(
    "evidence, code, origin",
    [
        (
            "primary malignant neoplasm of bladder, dome",
            "C67.1",
            "neoplasm table: Neoplasm, neoplastic > bladder > dome | Malignant Primary",
        ),
        (
            "carcinoma in situ of gastric corpus",
            "D00.2",
            "neoplasm table: Neoplasm, neoplastic > corpus > gastric | Ca in situ",
        ),
        (
            "adverse effect of chlorpromazine, initial encounter",
            "T43.3X5A",
            "drug table: Chlorpromazine | Adverse effect",
        ),
        (
            "accidental poisoning by sodium bromide, sequela",
            "T42.6X1S",
            "drug table: Sodium > bromide | Poisoning Accidental (unintentional)",
        ),
        ("poisoning by 2,4-D, assault, initial encounter", "T60.3X3A", "drug table: 2,4-D | Poisoning Assault"),
        ("activity parasailing", "Y93.19", "external cause index: Activity > parasailing"),
        (
            "contact with hand tool, initial encounter",
            "W27.8XXA",
            "external cause index: Contact > with > hand > tool NEC",
        ),
    ],
)
def test_table_lines_as_phrases(with_tables, evidence, code, origin):
    """Guards: a column's code under another column's words, an origin that does not say which table."""
    found = {(one.evidence, one.code): one for one in with_tables[0]}[evidence, code]
    assert found == Pair(evidence, code, "gold", origin=origin)


def test_tables_are_read_on_request_and_add_only(with_tables):
    """Guards: tables in the default output, gold pairs that change when a table is read, lines that become no pair uncounted."""
    pairs, counts = with_tables
    assert (
        pairs[: len(PAIRS)] == PAIRS and COUNTS.table_lines == 0 and counts.table_lines == 6 * 1_939 + 6 * 7_428 + 8_064
    )
    kinds = {one.origin.split(":")[0] for one in PAIRS}
    assert kinds == {"index", "inclusion term"}
    assert {one.origin.split(":")[0] for one in pairs} == kinds | {
        "neoplasm table",
        "drug table",
        "external cause index",
    }
    assert all(BOOK.is_billable(one.code) and one.evidence == " ".join(one.evidence.split()) != "" for one in pairs)
    assert len({(one.evidence.casefold(), one.code) for one in pairs}) == len(pairs)
    asked = sum(
        bool(term.default_code or term.see) for name in TABLES for column in read_columns(name) for term in column
    )
    empty = sum(
        not table_phrase(term) for name in TABLES for column in read_columns(name) for term in column if term.default_code
    )
    added = counts.resolved.total() + counts.unresolved.total() - COUNTS.resolved.total() - COUNTS.unresolved.total()
    assert asked <= added <= asked + empty  # a line that resolves and has no words of its own is counted twice


def test_coverage_against_a_naive_count(tmp_path):
    """Guards: a code or pair in the wrong chapter or combination, a heading counted as covered, a share rounded up to all."""
    pairs = [
        Pair("a", "I10", "gold"),
        Pair("b", "I10", "silver"),
        Pair("c", "I10", "gold"),
        Pair("d", "E11.9", "gold"),
        Pair("e", "J18.9", "synthetic-template"),
        Pair("f", "E11", "gold"),
        Pair("g", "T14.8XXA", "silver"),
    ]
    found = coverage(pairs, BOOK)
    assert (found.billable, found.covered, found.pairs) == (
        74_719,
        4,
        {"gold": 4, "silver": 2, "synthetic-template": 1},
    )
    assert found.codes == {"gold": 2, "silver": 2, "synthetic-template": 1} and found.not_billable == {"E11": 1}
    assert found.exactly == {"none": 74_715, "gold + silver": 1, "gold": 1, "silver": 1, "synthetic-template": 1}
    chapters = {one.number: one for one in found.chapters}
    assert (
        list(chapters) == [str(number) for number in range(1, 23)]
        and sum(one.billable for one in found.chapters) == 74_719
    )
    assert chapters["9"].codes == {"gold": 1, "silver": 1, "synthetic-template": 0} and chapters["9"].covered == 1
    assert (
        chapters["9"].pairs == {"gold": 2, "silver": 1, "synthetic-template": 0} and chapters["4"].pairs["gold"] == 1
    )  # a heading's pair covers nothing
    rows = {line.split()[0]: line.split() for line in coverage_table(found).splitlines() if line}
    assert rows["9"][-6:] == ["2", "1", "1", "1", "0", "0"] and rows["all"][-6:] == ["3", "2", "2", "2", "1", "1"]
    assert [one.number for one in found.chapters if one.covered] == ["4", "9", "10", "19"]
    assert chapters["9"].billable == sum("I00" <= code[:3] <= "I99" for code in BOOK.billable)
    everything = coverage([Pair("x", code, "synthetic") for code in BOOK.billable[1:]], BOOK)
    assert (
        "100.0%" not in coverage_table(everything).splitlines()[1]
        and "99.9%" in coverage_table(everything).splitlines()[1]
    )
    assert coverage([], BOOK).exactly == {"none": 74_719}


def test_the_coverage_command(tmp_path):
    """Guards: files counted apart, a picture that is none, an error without its file."""
    write_jsonl(tmp_path / "a.jsonl", [Pair("high blood pressure", "I10", "gold")])
    write_jsonl(tmp_path / "b.jsonl", [Pair("HTN", "I10", "silver"), Pair("diabetes", "E11.9", "silver")])
    run = lambda *args: subprocess.run(
        [sys.executable, "-m", "minscl.expand", "coverage", *args], capture_output=True, text=True, cwd=tmp_path
    )  # noqa: E731
    done = run("a.jsonl", "b.jsonl", "--json", "--plot", "c.png")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (
        found["exactly"] == {"none": 74_717, "gold + silver": 1, "silver": 1} and found["chapters"]["9"]["covered"] == 1
    )
    assert found["chapters"]["4"]["pairs"] == {"gold": 0, "silver": 1} and found["chapters"]["9"]["pairs"] == {
        "gold": 1,
        "silver": 1,
    }
    assert found["share"] == pytest.approx(2 / 74_719) and (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    table = run("a.jsonl", "b.jsonl").stdout
    assert "gold + silver" in table and "Diseases of the circulatory system" in table
    bad = run("a.jsonl", "none.jsonl")
    assert bad.returncode == 2 and bad.stderr.count("\n") == 1 and "none.jsonl" in bad.stderr


def test_references_are_followed():
    """Guards: `see` taken as a phrase, a chain that ends nowhere, the main term Condition mistaken for a reference."""
    references = SeeReferences(TERMS)
    target, reason = references.resolve(Term(("Bowen's", "epithelioma"), see="Hypertension"))
    assert (target.default_code, reason) == ("I10", "")
    assert references.resolve(Term(("X",), see="condition")) == (None, "see condition: names no term")
    assert references.resolve(Term(("X",), see="Neoplasm, by site, malignant"))[1].startswith("see ... by site")
    assert references.resolve(Term(("X",), see="Table of Drugs and Chemicals"))[1].startswith("see: a table")
    assert references.resolve(Term(("X",), see="Nothing like this"))[1] == "see: no such term"


def test_the_command_writes_pairs_and_prints_the_counts(tmp_path):
    """Guards: a command that prints one thing and writes another."""
    out = tmp_path / "gold.jsonl"
    done = subprocess.run(
        [sys.executable, "-m", "minscl.expand", "gold", "--out", str(out)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert read_jsonl(out, Pair) == PAIRS
    printed = {" ".join(line.split()[:-1]): line.split()[-1] for line in done.stdout.splitlines() if line}
    assert printed["terms read"] == "81,024" and printed["pairs written"] == f"{len(PAIRS):,}"
    assert json.loads(out.read_text().splitlines()[0])["source"] == "gold"
    circulatory = next(line for line in done.stdout.splitlines() if "Diseases of the circulatory" in line)
    covered = len({one.code for one in PAIRS if one.code.startswith("I")})
    assert f"{covered:,}" in circulatory.split()
    bad = subprocess.run(
        [sys.executable, "-m", "minscl.expand", "gold", "--out", "/dev/null/x.jsonl"], capture_output=True, text=True
    )
    assert bad.returncode == 2 and len(bad.stderr.strip().splitlines()) == 1 and "/dev/null/x.jsonl" in bad.stderr
    for args, words in ((["--out", "x.jsonl", "--tables", "plants"], ["plants", "neoplasm"]), ([], ["--out"])):
        bad = subprocess.run(
            [sys.executable, "-m", "minscl.expand", "gold", *args], capture_output=True, text=True, cwd=tmp_path
        )
        assert bad.returncode == 2 and bad.stderr.count("\n") == 1 and all(word in bad.stderr for word in words)
    assert not (tmp_path / "x.jsonl").exists()
