"""Gold pairs: counts against the published ones, phrases against hand-written expectations, every code billable."""

import json
import subprocess
import sys

import pytest

import minscl.expand
from minscl.command import run_command
from minscl.data import Pair
from minscl.data.icd import CodeBook
from minscl.data.icd.alphabetic_index import SeeReferences, Term, read_index
from minscl.data.icd.index_phrases import plain_inclusion_term, proper_nouns, term_phrases
from minscl.data.icd.index_tables import TABLES, read_columns, table_phrase
from minscl.data.jsonl import read_jsonl, write_jsonl
from minscl.data.spans import gold as gold_module
from minscl.data.spans.coverage import coverage, coverage_table, draw_coverage
from minscl.data.spans.gold import billable_for, read_gold
from minscl.errors import InputError

BOOK = CodeBook.load()


@pytest.fixture(scope="module")
def terms():
    return read_index(BOOK.edition)


@pytest.fixture(scope="module")
def pairs(gold):
    return gold[0]


@pytest.fixture(scope="module")
def counts(gold):
    return gold[1]


@pytest.fixture(scope="module")
def columns():
    """Name of a table → its columns of terms."""
    return {name: read_columns(name, BOOK.edition) for name in TABLES}


@pytest.fixture(scope="module")
def pairs_of_tables(terms, columns):
    """The pairs of every table, of all Index terms only those of the first letter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gold_module, "read_index", lambda edition: terms[:100])
        patch.setattr(gold_module, "read_columns", lambda name, edition: columns[name])
        return read_gold(BOOK, tuple(TABLES))[0]


@pytest.fixture(scope="module")
def gold_with_tables(terms, columns):
    """read_gold with every table, from the terms that the other tests have read already."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gold_module, "read_index", lambda edition: terms)
        patch.setattr(gold_module, "read_columns", lambda name, edition: columns[name])
        return read_gold(BOOK, tuple(TABLES))


def test_counts_are_those_of_the_published_table(terms, counts):
    """Guards: a level of the Index not read. The figures are those of the table that the file was rebuilt from, less
    the deleted term and the replaced reference.
    """
    printed = [term for term in terms if term.correction != "added"]
    assert (len(printed), sum(len(term.path) == 1 for term in printed)) == (81_024 - 1, 8_100)
    assert sum(bool(term.code) for term in printed) == 62_721 - 1 + 1
    assert sum(bool(term.see) for term in printed) == 12_136 - 1
    assert sum(bool(term.modifiers) for term in printed) == 12_601
    assert (counts.terms, counts.main_terms) == (len(terms), 8_100)
    # 3 codes are printed in a title only; FY2027 divided the codes of 57 rows; 4 rows are fragments of words; 18
    # corrections add a code
    assert counts.resolved["billable as written"] == 48_585 + 3 - 57 - 4 + 18
    assert counts.resolved["billable without the dash"] == 22
    assert counts.unresolved["see condition: names no term"] == 477


def test_nothing_disappears_without_being_counted(terms, counts):
    """Guards: terms dropped silently: each with a code or reference is either resolved or counted by reason."""
    expected = sum(bool(term.default_code or term.see) for term in terms) + counts.inclusion_terms
    empty = sum(
        not plain_inclusion_term(line)
        for code in BOOK.headings_with("inclusionTerm")
        for line in BOOK.inclusion_terms(code)
        if billable_for(code, BOOK)[0]
    )
    assert counts.resolved.total() + counts.unresolved.total() == expected - empty


def test_pairs_are_usable(pairs, counts):
    """Guards: headings as codes, empty or repeated phrases, remains of the Index's typography."""
    assert all(BOOK.is_billable(pair.code) and pair.source == "gold" and pair.origin for pair in pairs)
    assert len({(pair.evidence.casefold(), pair.code) for pair in pairs}) == len(pairs) == counts.pairs > 80_000
    assert len({pair.code for pair in pairs}) == counts.codes > 30_000
    assert all(pair.evidence == " ".join(pair.evidence.split()) != "" for pair in pairs)
    assert not [pair for pair in pairs if " NEC" in pair.evidence or " NOS" in pair.evidence]


@pytest.fixture(scope="module")
def phrase_codes(pairs):
    return {(pair.evidence.casefold(), pair.code) for pair in pairs}


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
def test_terms_read_as_a_coder_would_say_them(phrase_codes, evidence, code):
    """Guards: phrases in the Index's inverted order, default codes lost, the dash resolved wrongly."""
    assert (evidence.casefold(), code) in phrase_codes


@pytest.fixture(scope="module")
def proper(terms):
    return proper_nouns(terms)


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
        (Term(("Deficiency, deficient", "factor", "specified NEC"), ()), ["other specified factor deficiency"]),
        (Term(("Mass", "abdominal", "specified site NEC"), ()), ["abdominal mass of other specified site"]),
        (Term(("Tenderness, abdominal", "rebound"), ()), ["rebound abdominal tenderness"]),
        (Term(("Functioning, intellectual, borderline",), ()), ["borderline intellectual functioning"]),
        (Term(("Diver's palsy, paralysis or squeeze",), ()), ["Diver's palsy"]),
        (Term(("Fracture, pathological", "ankle"), ()), ["ankle pathological fracture"]),
        (Term(("Fracture, traumatic", "ankle"), ()), ["ankle fracture"]),
        (Term(("Tear, torn", "meniscus"), ()), ["meniscus tear", "meniscus torn"]),
        (Term(("Addison's", "disease"), ()), ["disease Addison's"]),
        (Term(("Deficiency", "fructose 1,6-diphosphatase"), ()), ["fructose 1,6-diphosphatase deficiency"]),
        (
            Term(("Hypertension, hypertensive",), ("essential", "of pregnancy")),
            ["hypertension", "hypertensive", "essential hypertension", "hypertension of pregnancy"],
        ),
    ],
)
def test_phrases(proper, term, expected):
    """Guards: connectives before their head, modifiers lost, names without their capital; "specified NEC" given the
    phrase of the line above; a qualifier after a comma taken for a synonym, or left out."""
    assert term_phrases(term, proper) == expected


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
def test_codes_that_are_not_billable_are_resolved_by_rule(printed, codes, how):
    """Guards: a default code guessed where Index and Tabular List do not say, or lost where they do."""
    resolved, reason = billable_for(printed, BOOK)
    assert ([code for code, _ in resolved], reason) == (codes, how)


def test_seventh_characters_are_said_in_words(pairs):
    """Guards: one phrase for three codes, which a model could only guess between; an S06 code that does not exist."""
    exact = {(pair.evidence, pair.code) for pair in pairs}
    for words, code in (
        ("initial encounter", "T33.60XA"),
        ("subsequent encounter", "T33.60XD"),
        ("sequela", "T33.60XS"),
    ):
        assert (f"thigh frostbite, {words}", code) in exact
    assert ("acetabulum fracture, subsequent encounter for fracture with nonunion", "S32.409K") in exact
    # "not applicable or unspecified" adds no words
    assert ("Labor and delivery complicated by compression of cord", "O69.2XX0") in exact
    assert ("Labor and delivery complicated by compression of cord, fetus 2", "O69.2XX2") in exact
    intracranial = [pair.code for pair in pairs if pair.code.startswith("S06")]
    assert not [code for code in intracranial if code[6:7] in "78" and code[-1] in "DS"]


@pytest.mark.slow
def test_tables_have_the_published_counts(columns):
    """Guards: cells read by position where some are left out; terms or columns lost. Figures counted in the files."""
    tables = [columns[name] for name in ("neoplasm", "drug", "external-cause")]
    assert [len(table) for table in tables] == [6, 6, 1]
    assert [{len(column) for column in table} for table in tables] == [{1_940}, {7_430}, {8_090}]
    codes = [[term.code for column in table for term in column if term.code] for table in tables]
    assert [len(table) for table in codes] == [9_020, 40_036, 6_671]
    assert [len(set(table)) for table in codes] == [689, 1_606, 2_716]
    [secondary] = [column for column in columns["neoplasm"] if column[0].column == "Malignant Secondary"]
    skin = [term for term in secondary if term.path[1:] == ("abdomen, abdominal", "wall", "skin")]
    assert [term.code for term in skin] == [""]  # this line has a cell in column 2 alone


@pytest.mark.slow
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
def test_table_lines_as_phrases(pairs_of_tables, evidence, code, origin):
    """Guards: a column's code under another column's words, an origin that does not say which table."""
    [pair] = [pair for pair in pairs_of_tables if (pair.evidence, pair.code) == (evidence, code)]
    assert pair == Pair(evidence, code, "gold", origin=origin)


@pytest.mark.long
def test_tables_are_read_on_request_and_add_only(pairs, counts, columns, gold_with_tables):
    """Guards: tables in the default output, gold pairs that change when a table is read, table lines lost uncounted."""
    more_pairs, more_counts = gold_with_tables
    assert more_pairs[: len(pairs)] == pairs
    assert counts.table_lines == 0 and more_counts.table_lines == 6 * 1_940 + 6 * 7_430 + 8_090
    books = {pair.origin.split(":")[0] for pair in pairs}
    assert books == {"index", "inclusion term"}
    table_books = {"neoplasm table", "drug table", "external cause index"}
    assert {pair.origin.split(":")[0] for pair in more_pairs} == books | table_books
    assert all(BOOK.is_billable(pair.code) for pair in more_pairs)
    assert all(pair.evidence == " ".join(pair.evidence.split()) != "" for pair in more_pairs)
    assert len({(pair.evidence.casefold(), pair.code) for pair in more_pairs}) == len(more_pairs)
    lines = [term for table in columns.values() for column in table for term in column]
    with_code_or_reference = sum(bool(term.default_code or term.see) for term in lines)
    empty = sum(not table_phrase(term) for term in lines if term.default_code)
    added = more_counts.resolved.total() + more_counts.unresolved.total()
    added -= counts.resolved.total() + counts.unresolved.total()
    # a line that resolves and has no words of its own is counted twice
    assert with_code_or_reference <= added <= with_code_or_reference + empty


def test_coverage_against_a_naive_count():
    """Guards: a code or pair in the wrong chapter or combination, a heading counted as covered, 99.99% as 100%."""
    pairs = [
        Pair("a", "I10", "gold"),
        Pair("b", "I10", "silver"),
        Pair("c", "I10", "gold"),
        Pair("d", "E11.9", "gold"),
        Pair("e", "J18.9", "synthetic-template"),
        Pair("f", "E11", "gold"),
        Pair("g", "T14.8XXA", "silver"),
    ]
    counts = coverage(pairs, BOOK)
    assert (counts.billable, counts.covered) == (74_879, 4)
    assert counts.pairs == {"gold": 4, "silver": 2, "synthetic-template": 1}
    assert counts.codes == {"gold": 2, "silver": 2, "synthetic-template": 1} and counts.not_billable == {"E11": 1}
    assert counts.exactly == {"none": 74_875, "gold + silver": 1, "gold": 1, "silver": 1, "synthetic-template": 1}
    chapters = {chapter.number: chapter for chapter in counts.chapters}
    assert list(chapters) == [str(number) for number in range(1, 23)]
    assert sum(chapter.billable for chapter in counts.chapters) == 74_879
    assert chapters["9"].codes == {"gold": 1, "silver": 1, "synthetic-template": 0} and chapters["9"].covered == 1
    assert chapters["9"].pairs == {"gold": 2, "silver": 1, "synthetic-template": 0}
    assert chapters["4"].pairs["gold"] == 1  # a heading's pair covers nothing
    rows = {line.split()[0]: line.split() for line in coverage_table(counts).splitlines() if line}
    assert rows["9"][-6:] == ["2", "1", "1", "1", "0", "0"] and rows["all"][-6:] == ["3", "2", "2", "2", "1", "1"]
    assert [chapter.number for chapter in counts.chapters if chapter.covered] == ["4", "9", "10", "19"]
    assert chapters["9"].billable == sum("I00" <= code[:3] <= "I99" for code in BOOK.billable)
    all_but_one = coverage([Pair("x", code, "synthetic") for code in BOOK.billable[1:]], BOOK)
    synthetic_row = coverage_table(all_but_one).splitlines()[1]
    assert "100.0%" not in synthetic_row and "99.9%" in synthetic_row
    assert coverage([], BOOK).exactly == {"none": 74_879}


def expand(*arguments, cwd=None):
    """`python -m minscl.expand` as a user runs it."""
    command = [sys.executable, "-m", "minscl.expand", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd)


@pytest.mark.slow
@pytest.mark.long
def test_the_coverage_command(tmp_path):
    """Guards: files counted apart, a picture that is none, an error without its file."""
    write_jsonl(tmp_path / "a.jsonl", [Pair("high blood pressure", "I10", "gold")])
    write_jsonl(tmp_path / "b.jsonl", [Pair("HTN", "I10", "silver"), Pair("diabetes", "E11.9", "silver")])
    done = expand("coverage", "a.jsonl", "b.jsonl", "--json", "--plot", "c.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert counts["exactly"] == {"none": 74_877, "gold + silver": 1, "silver": 1}
    assert counts["chapters"]["9"]["covered"] == 1
    assert counts["chapters"]["4"]["pairs"] == {"gold": 0, "silver": 1}
    assert counts["chapters"]["9"]["pairs"] == {"gold": 1, "silver": 1}
    assert counts["share"] == pytest.approx(2 / 74_879) and (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    table = expand("coverage", "a.jsonl", "b.jsonl", cwd=tmp_path).stdout
    assert "gold + silver" in table and "Diseases of the circulatory system" in table
    bad = expand("coverage", "a.jsonl", "none.jsonl", cwd=tmp_path)
    assert bad.returncode == 2 and bad.stderr.count("\n") == 1 and "none.jsonl" in bad.stderr


def test_references_are_followed(terms):
    """Guards: `see` taken as a phrase, a chain that ends nowhere, the main term Condition mistaken for a reference."""
    references = SeeReferences(terms)
    target, reason = references.resolve(Term(("Bowen's", "epithelioma"), see="Hypertension"))
    assert (target.default_code, reason) == ("I10", "")
    assert references.resolve(Term(("X",), see="condition")) == (None, "see condition: names no term")
    assert references.resolve(Term(("X",), see="Neoplasm, by site, malignant"))[1].startswith("see ... by site")
    assert references.resolve(Term(("X",), see="Table of Drugs and Chemicals"))[1].startswith("see: a table")
    assert references.resolve(Term(("X",), see="Nothing like this"))[1] == "see: no such term"


@pytest.mark.long
@pytest.mark.slow
def test_a_picture_replaces_the_old_one_whole_or_not_at_all(tmp_path, monkeypatch):
    """Guards: a picture written in place, lost by a full disk; .PNG refused; another type told only by a traceback."""
    counts = coverage([Pair("high blood pressure", "I10", "gold")], BOOK)
    (tmp_path / "c.PNG").write_text("old")
    with monkeypatch.context() as patch, pytest.raises(InputError, match="c.PNG: cannot be written"):
        patch.setattr("os.fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        draw_coverage(counts, str(tmp_path / "c.PNG"))
    assert (tmp_path / "c.PNG").read_text() == "old" and len(list(tmp_path.iterdir())) == 1
    draw_coverage(counts, str(tmp_path / "c.PNG"))
    assert (tmp_path / "c.PNG").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="c.jsonl: name a .png, .svg or .pdf file"):
        draw_coverage(counts, str(tmp_path / "c.jsonl"))


@pytest.mark.parametrize(
    "titles, see, expected",
    [
        (["throat or lake", "lake"], "lake", "lake"),  # printed exactly so
        (["Smith's throat or lake", "lake, lakes, lacustrine"], "lake", "lake, lakes, lacustrine"),  # begins so
        (["throat or lake"], "lake", "throat or lake"),  # the only one with that part
        (["lakes, wide", "lake, deep"], "lakes", "lakes, wide"),  # of equals, the first in print
    ],
)
def test_a_title_comes_before_a_part_of_another(titles, see, expected):
    """Guards: a part of an earlier title that takes the place of the printed title ("piriform fossa or sinus")."""
    terms = [Term(("Swelling",)), *(Term(("Swelling", title), code="A00.0") for title in titles)]
    assert SeeReferences(terms).resolve(Term(("X",), see=f"Swelling, {see}"))[0].path == ("Swelling", expected)
    terms = [Term((title,), code="A00.0") for title in titles]
    assert SeeReferences(terms).resolve(Term(("X",), see=see))[0].path == (expected,)


SEE_REFERENCES = {}  # by table: building them takes a second


def see_references(table, terms, columns):
    if table not in SEE_REFERENCES:
        SEE_REFERENCES[table] = SeeReferences(terms if table == "index" else columns[table][0])
    return SEE_REFERENCES[table]


@pytest.mark.parametrize(
    "table, see, code",
    [
        ("neoplasm", "Neoplasm, sinus", "C31.9"),
        ("index", "Vertigo", "R42"),
        ("index", "Pneumoconiosis", "J64"),
        ("index", "Fever, yellow", "A95.9"),
        ("index", "Gangrene", "I96"),
        ("index", "Tuberculosis, pulmonary", "A15.0"),
        ("index", "Splenomegaly", "R16.1"),
    ],
)
def test_bundled_references_lead_to_the_printed_title(terms, columns, table, see, code):
    """Guards: the wrong codes that parts of titles gave: C12, H81.09, J60, A95.0, N49.3, R76.11, E75.22."""
    references = see_references(table, terms, columns)
    assert references.resolve(Term(("X",), see=see))[0].default_code == code


@pytest.fixture
def gold_once(gold, monkeypatch):
    """The command, with the session's one run of read_gold; a test that runs it whole would take as long again."""

    def read_gold(codebook, tables):
        assert codebook is BOOK and list(tables) == []
        return gold

    monkeypatch.setattr(minscl.expand, "read_gold", read_gold)


@pytest.mark.slow
@pytest.mark.long
def test_the_command_writes_pairs_and_prints_the_counts(pairs, tmp_path):
    """Guards: a command that prints one thing and writes another."""
    out = tmp_path / "gold.jsonl"
    done = expand("gold", "--out", out)
    assert done.returncode == 0, done.stderr
    assert read_jsonl(out, Pair) == pairs
    numbers = {" ".join(line.split()[:-1]): line.split()[-1] for line in done.stdout.splitlines() if line}
    assert numbers["terms read"] == "81,044" and numbers["pairs written"] == f"{len(pairs):,}"
    with open(out, encoding="utf-8") as lines:
        assert json.loads(next(lines))["source"] == "gold"
    circulatory = next(line for line in done.stdout.splitlines() if "Diseases of the circulatory" in line)
    covered = len({pair.code for pair in pairs if pair.code.startswith("I")})
    assert f"{covered:,}" in circulatory.split()


def test_the_command_refuses_in_one_line(gold_once, tmp_path, capsys):
    """Guards: a traceback, an error without its value, a file after an error."""
    with pytest.raises(SystemExit) as status:
        run_command(lambda: minscl.expand.main(["gold", "--out", "/dev/null/x.jsonl"]))
    error = capsys.readouterr().err
    assert status.value.code == 2 and len(error.strip().splitlines()) == 1 and "/dev/null/x.jsonl" in error
    for arguments, words in (
        (["--out", "x.jsonl", "--tables", "plants"], ["plants", "neoplasm"]),
        ([], ["--out"]),
        (["--nonsense"], ["--nonsense", "--help"]),
    ):
        bad = expand("gold", *arguments, cwd=tmp_path)
        assert bad.returncode == 2 and bad.stderr.count("\n") == 1 and all(word in bad.stderr for word in words)
    assert not (tmp_path / "x.jsonl").exists()


def test_a_word_without_its_end_is_no_phrase(gold):
    """Guards: "cancer" as evidence of F45.29, since the rebuilt Index has "Cancer(o)" for "Cancer(o)phobia"."""
    pairs, counts = gold
    assert not [pair for pair in pairs if pair.evidence == "cancer"]
    assert counts.unresolved["a word that lost its end"] == 5  # Amnes(t)ic, Carrier (HB(c)(s)-AG), Weil(l)-Marchesani
    assert not Term(("Pain",), ("s",)).is_fragment and Term(("Cancer",), ("o",)).is_fragment
