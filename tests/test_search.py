"""Search in Index and Tabular List, by the queries that a coder types and by what the books themselves print."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from minscl import code_set, expand
from minscl.data.icd import CodeBook
from minscl.data.icd.alphabetic_index import Term
from minscl.data.icd.lookup import abbreviations
from minscl.data.icd.lookup.abbreviations import CLINICAL
from minscl.data.icd.lookup.default_codes import default_below, seventh_characters
from minscl.data.icd.lookup.entries import IndexEntry
from minscl.data.icd.lookup.page import IndexLine, look_up
from minscl.data.icd.lookup.search import Search
from minscl.data.icd.lookup.spelling import find_node, nearest_listed, refusal
from minscl.data.icd.lookup.text import KIND_NAMES, hits_text, page_text
from minscl.data.icd.lookup.words import singular, split_words
from minscl.data.icd.tabular import NOTE_KINDS
from tests.conftest import call_command

BOOK = CodeBook.load("2027")

# What a coder types | the code | within how many hits | remark. Each checked by hand against the Index or the List.
_LINES = (Path(__file__).parent / "resources/lookup_queries.txt").read_text(encoding="utf-8").splitlines()
QUERIES = [(query, code, int(within)) for query, code, within, *_ in (line.split(" | ") for line in _LINES)]


@pytest.fixture(scope="module")
def entries(index_entries):
    """The lines of the Index and its tables."""
    return index_entries


@pytest.fixture(scope="module")
def search(entries):
    """The search, built once; two seconds."""
    return Search(BOOK, entries)


@pytest.fixture
def lookup(entries, search, monkeypatch):
    """lookup(*words): the command in this process, with what is built already."""
    monkeypatch.setattr(code_set, "read_entries", lambda book: entries)
    monkeypatch.setattr(code_set, "Search", lambda book: search)
    return lambda *arguments: call_command(expand.main, "lookup", *arguments, "--edition", "2027")


def codes(hits):
    """The codes of hits, in order."""
    return [hit.code for hit in hits]


@pytest.mark.parametrize("query, code, within", QUERIES, ids=[query for query, _, _ in QUERIES])
def test_a_coders_query_leads_to_the_code(search, query, code, within):
    """Guards the ranking: default code of the main term, references, synonyms, modifiers, sides, 7th characters."""
    assert code in codes(search.search(query))[:within]


@pytest.mark.parametrize("query", ["uri", "abi", "tha", "fib"])
def test_an_unknown_abbreviation_is_not_the_beginning_of_a_word(lookup, query):
    """Guards uricemia for "uri", and thalassemia for "tha": the command's words are complete."""
    result = lookup(query)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1)


@pytest.mark.parametrize(
    "query, code",
    [
        ("history of stroke", "Z82.3"),
        ("benign prostatic hyperplasia with luts", "N40.0"),
        ("distal radius fracture left", "S52.522S"),
        ("ckd stage 3", "I12.0"),
        ("fracture of right femur", "S72.92XA"),
        ("laceration of scalp without foreign body", "S01.02XA"),
        ("pain in left knee", "M25.561"),
    ],
)
def test_a_code_that_says_the_opposite_is_not_first(search, query, code):
    """Guards family history, the other side or stage, a sequela and "without" before what was asked."""
    assert code not in codes(search.search(query))[:1]


@pytest.mark.parametrize(
    "query, code",
    [
        *(("CHF", "I50.9"), ("HTN", "I10"), ("T2DM", "E11.9"), ("BPH", "N40.0"), ("HLD", "E78.5"), ("OSA", "G47.33")),
        *(("afib", "I48.91"), ("AKI", "N17.9"), ("CAD", "I25.10"), ("NSTEMI", "I21.4"), ("OA left knee", "M17.12")),
    ],
)
def test_what_clinicians_write_for_short_is_found(search, query, code):
    """Guards abbreviations that the books do not print: nothing was found."""
    assert code in codes(search.search(query))[:3]


def test_each_abbreviation_leads_to_a_code(search):
    """Guards a list in other words than the books'."""
    assert not [word for word in CLINICAL if not search.search(f"{word} ", 3)]


@pytest.mark.parametrize("query", ["I50.99", "I5099", "E11.99", "J18.99", "I10.9", "C99", "C99-"])
def test_a_code_that_is_not_listed_is_not_read_as_words(search, query):
    """Guards T32.99 for "I50.99", whose "99" was a word; but "B12" and "A1c" are words."""
    assert search.search(query) == []


@pytest.mark.parametrize("query, code", [("I50.2-", "I50.2"), ("E11,65", "E11.65"), ("b12 deficiency", "E53.8")])
def test_a_code_may_be_written_with_dash_or_comma(search, query, code):
    """Guards queries that found nothing."""
    assert code in codes(search.search(query))[:3]


def test_every_billable_code_is_among_the_first_three_of_its_own_description(search):
    """Guards a code that no search can find, as one whose words are not read or that hundreds of others outrank."""
    for code in random.Random(21).sample(BOOK.billable, 200):
        assert code in codes(search.search(BOOK.description(code)))[:3], code


def test_index_lines_are_found_by_what_is_printed(search, entries):
    """Guards lines whose titles are not read whole. 2 of 100 may miss: some `see` references have better answers."""
    lines = random.Random(22).sample([entry for entry in entries if entry.code], 100)
    missed = []
    for entry in lines:
        hits = search.search(" ".join([*entry.term.path, entry.term.column]))
        if not {entry.code, default_below(BOOK, entry.code)} & set(codes(hits)[:5]):
            missed.append(entry.where)
    assert len(missed) <= 2, missed


def test_the_order_of_complete_words_does_not_matter(search):
    """Guards a search for phrases: "pain chest" is "chest pain". White space at the end: no word is unfinished."""
    shuffler = random.Random(23)
    for code in shuffler.sample(BOOK.billable, 40):
        words = BOOK.description(code).split()
        shuffled = shuffler.sample(words, len(words))
        assert search.search(" ".join(shuffled) + " ") == search.search(" ".join(words) + " "), code


def test_case_accents_and_plurals_do_not_matter(search):
    """Guards the folding of words on one side only."""
    for texts in (
        ("Sjögren syndrome", "SJOGREN SYNDROMES"),
        ("femur fracture", "Femur FRACTURES"),
        ("metastasis of bone", "metastases of bones"),
        ("Alzheimer’s disease", "alzheimer's diseases"),
        ("kidney biopsy", "kidney biopsies"),
    ):
        first, second = (search.search(text + " ") for text in texts)
        assert first and first == second, texts


def test_hits_are_distinct_ranked_described_and_repeatable(search):
    """Guards one code in several rows, scores out of order, and hits that change with the state of the search."""
    for query in ("diabetes", "fracture", "of", "a", "unspecified", "lisinopril", "heart failure", "E11", "neoplasm"):
        hits = search.search(query)
        assert len({hit.code or hit.where for hit in hits}) == len(hits) <= 20
        assert hits and hits == search.search(query)
        assert all(hit.description == (BOOK.description(hit.code) or "") for hit in hits)
        assert all(hit.billable == BOOK.is_billable(hit.code) for hit in hits)
        if query != "E11":  # codes are in the List's order
            assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        assert search.search(query, limit=3) == hits[:3]


def test_a_code_lists_what_begins_so_in_the_lists_order(search):
    """Guards codes ranked as words, and dots and case that matter."""
    first = codes(search.search("E11"))
    assert first == sorted(first) and first[:4] == ["E11", "E11.0", "E11.00", "E11.01"]
    assert codes(search.search("s72.001a")) == codes(search.search("S72001A")) == ["S72.001A"]


@pytest.mark.parametrize(
    "query",
    [
        "",
        " ",
        "!!!",
        ".",
        "a" * 300,
        "of " * 100,
        "a " * 5000,
        "\x00\x1b[31m",
        "%s {} \\",
        "ﬁ É ß ٣",
        "xyzzy",
        "\ud800",
    ],
)
def test_no_query_is_an_error(search, query):
    """Guards a traceback for what is pasted or half typed."""
    assert len(search.search(query)) <= 20


def test_words_lose_their_plural_and_possessive():
    """Guards endings that are no plurals: "pancreas" must equal itself, "abscess" must not be "absces"."""
    plurals = {"fractures": "fracture", "biopsies": "biopsy", "abscesses": "abscess", "stenoses": "stenosis"}
    assert all(singular(plural) == singular(word) for plural, word in plurals.items())
    assert [singular(word) for word in ("abscess", "humerus", "gas", "iris")] == ["abscess", "humerus", "gas", "iris"]
    assert split_words("Crohn's (large-bowel) Ménière’s") == ["crohn", "large", "bowel", "meniere"]


def test_a_page_shows_a_code_in_context(entries):
    """Guards inherited notes without the node where they stand, and Index lines of other codes."""
    page = look_up(BOOK, "E11.65", entries)
    assert [line.code for line in page.path] == ["chapter 4", "section E08-E13", "E11", "E11.6", "E11.65"]
    assert (page.status, page.valid, page.children, page.seventh_characters) == ("billable", "", [], [])
    notes = {(block.kind, block.code): block.texts for block in page.notes}
    assert "type 1 diabetes mellitus (E10.-)" in notes["excludes1", "E11"]
    assert "insulin (Z79.4)" in notes["useAdditionalCode", "E11"]
    assert ("excludes1", "chapter 4") in notes and ("notes", "chapter 4") in notes
    assert {line.where for line in page.index} >= {"index: Diabetes, diabetic > type 2 > with > hyperglycemia"}
    assert all(line.code == "E11.65" for line in page.index)
    assert page.notes_from == "Tabular List of April 2026"
    assert "; notes: Tabular List of April 2026\n" in page_text(page)
    assert set(KIND_NAMES) == set(NOTE_KINDS)


def test_the_default_code_of_a_main_term_and_its_references(entries):
    """Guards references that are not followed: lines that lead to a code without printing it."""
    places = [line.where for line in look_up(BOOK, "I50.9", entries).index]
    assert "index: Failure, failed > heart" in places
    assert any(", see Failure, heart" in place for place in places)


def test_a_bracketed_code_is_shown_and_found(entries):
    """Guards the manifestation code of an official Index, which leads to two codes."""
    line = IndexEntry(Term(("Amyloidosis", "heart"), code="E85.4", manifestation="I43"), "E85.4", "E85.4", "I43")
    for code in ("E85.4", "I43"):
        assert look_up(BOOK, code, [line]).index == [IndexLine("index: Amyloidosis > heart", "E85.4 [I43]")]
    assert look_up(BOOK, "I42.9", [line]).index == []


def test_a_heading_that_the_index_prints_as_a_code_has_no_default(search):
    """Guards E88.10 for "Lipodystrophy > insulin E88.1": E88.1 was divided later, and insulin has a code of its own."""
    places = {hit.code: hit.where for hit in search.search("insulin lipodystrophy")}
    assert list(places)[0] == "E88.13" and "E88.1" in places
    assert places.get("E88.10") != "index: Lipodystrophy > insulin"


def test_lines_older_than_the_list_lead_to_the_codes_of_today(entries):
    """Guards M72.2 for plantar fasciitis, which FY2027 moved, and solvents lost with the deleted T52.8X-."""
    fasciitis = next(entry for entry in entries if entry.term.path == ("Fasciitis", "plantar"))
    assert (fasciitis.code, fasciitis.where) == ("M67.A", "index: Fasciitis > plantar (printed M72.2)")
    deleted = [entry for entry in entries if entry.printed.startswith("T52.8X")]
    assert len(deleted) > 200 and {entry.code for entry in deleted} == {"T52.8"}


def test_inclusion_terms_are_a_codes_own_but_for_the_7th_character(entries):
    """Guards inclusion terms of a heading shown for every code below, or lost where a 7th character is added."""

    def kinds(code):
        return {block.code for block in look_up(BOOK, code, entries).notes if block.kind == "inclusionTerm"}

    assert BOOK.inclusion_terms("S06.0X") == [] and "S06.0XA" in kinds("S06.0XAA")
    assert BOOK.inclusion_terms("I42.0") and kinds("I42.00") == set()


def test_7th_characters_and_what_is_missing(entries):
    """Guards the padding of T07.XXXA, and the 16 characters of fractures of the forearm."""
    page = look_up(BOOK, "T07", entries)
    assert page.status == "not billable: needs 3 placeholder X and a 7th character (A, D, S)"
    assert [seventh.code for seventh in page.seventh_characters] == ["T07.XXXA", "T07.XXXD", "T07.XXXS"]
    whole = look_up(BOOK, "S52.501A", entries)
    assert whole.status == "billable" and len(whole.seventh_characters) == 16
    assert whole.seventh_characters[0].meaning == "initial encounter for closed fracture"
    assert [line.code for line in whole.index] == ["S52.50-"]
    heading = look_up(BOOK, "S52.50", entries)
    assert heading.status == "not billable: needs a 6th character; 48 billable codes below"
    assert [(seventh.character, seventh.code) for seventh in heading.seventh_characters[:2]] == [("A", ""), ("B", "")]
    assert look_up(BOOK, "S52", entries).seventh_characters == []  # S52.0 has torus fractures, with other characters
    assert seventh_characters(BOOK, "E11") == [] and seventh_characters(BOOK, "S62.10") == []


def test_chapters_sections_and_codes_of_the_year_before(entries):
    """Guards headings above the categories, and I42.0, which is no longer billable."""
    chapter = look_up(BOOK, "9", entries)
    assert chapter.status.endswith("billable codes below") and chapter.children[5].code == "section I30-I5A"
    assert look_up(BOOK, "section I30-I5A", entries).children[0].code == "I30"
    page = look_up(BOOK, "I42.0", entries)
    assert page.status == "not billable: needs a 5th character; 3 billable codes below"
    assert page.valid == "valid until 2026-09-30" and not page.billable
    assert look_up(CodeBook.load("2026"), "I42.0", entries).status == "billable"


def test_the_default_code_below_a_heading_says_no_more_than_the_heading():
    """Guards E11.8 for E11: "with unspecified complications" says more than its heading."""
    expected = {
        "S01.01": "S01.01XA",
        "I82.40": "I82.409",
        "O31.00": "O31.00X0",
        "E11": "",
        "E78.0": "E78.00",
        "M1A.9": "",
    }
    assert {code: default_below(BOOK, code) for code in expected} == expected


@pytest.mark.parametrize(
    "text, node",
    [
        ("e1165", "E11.65"),
        (" E11.6- ", "E11.6"),
        ("s52 501 a", "S52.501A"),
        ("9", "9"),
        ("Chapter 9", "9"),
        ("chapter 23", None),
        ("i30-i5a", "section I30-I5A"),
        ("section I30–I5A", "section I30-I5A"),
        ("section T07", "section T07"),
        ("T07", "T07"),
        ("(E11.65)", "E11.65"),
        ("[e11.65].", "E11.65"),
        ("E11,65", "E11.65"),
        ("E11-65", "E11.65"),
        ("code E11.65", "E11.65"),
        ("ICD-10-CM: E11.65", "E11.65"),
        ("chapter IX", "9"),
        ("A00-B99", "1"),
        ("Q00-QA0", "17"),
        ("I30 - I5A", "section I30-I5A"),
        ("C50-C50", "C50"),
        ("A00-A05", None),
        ("chapter 0", None),
        ("Z99.999", None),
        ("heart failure", None),
        ("x-ray", None),
        ("", None),
    ],
)
def test_nodes_are_found_in_any_spelling(text, node):
    """Guards the spellings of codes, sections and chapters."""
    assert find_node(BOOK, text) == node


@pytest.mark.parametrize(
    "text, message",
    [
        ("chapter 23", "no such chapter; chapters are 1 to 22"),
        ("chapter XXX", "no such chapter; chapters are 1 to 22"),
        ("A00-A05", "no chapter or section has this range; A00 is in section A00-A09"),
        ("250.00", "the form of an ICD-9-CM code"),
        ("E849.0", "the form of an ICD-9-CM code"),
        ("47.01", "the form of an ICD-9-CM code"),
        ("0SR9019", "the form of an ICD-10-PCS procedure code"),
        ("E11.65,I10", "several codes; look up one at a time"),
        ("S72.001XA", "8 characters, a code has at most 7; the nearest listed is S72.001A "),
        ("T52.8X1A", "(valid until 2026-09-30; name a --date); the nearest listed is T52.8- "),
        ("E11-79", "lookup E11.79: not in ICD-10-CM edition 2027; the nearest listed is E11- "),
    ],
)
def test_what_only_looks_like_a_code_is_a_line(lookup, text, message):
    """Guards words that are searched for in its place: chapter 23 was a delivery, 47.01 cholera."""
    result = lookup(text)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert message in result.stderr


@pytest.mark.parametrize("text", ["B12", "bladder", "x-ray", "covid 19", "type 2 diabetes", "chapter", "heart failure"])
def test_words_are_not_refused_as_codes(text):
    """Guards words and vitamins taken for codes."""
    assert refusal(BOOK, text) == ""


def test_the_nearest_code_of_an_unlisted_one():
    """Guards help that names another category, or the sequela or intent of another code."""
    expected = {
        "Z99.999": "Z99",
        "I10.9": "I10",
        "E11.655": "E11.65",
        "S52.501X": "S52.501",
        "A00.5": "A00",
        "T52.8X1A": "T52.8",
        "S72.00XA": "S72.009A",
        "S72.001XA": "S72.001A",
        "S72.001AX": "S72.001A",
        "U99": "U09",
        "W19.A": "W19",
        "W19.XA": "W19",
    }
    assert {code: nearest_listed(BOOK, code) for code in expected} == expected


def test_the_command_prints_pages_and_hits(lookup):
    """Guards the text and the JSON of the command, and its exit statuses."""
    page = lookup("e11.65")
    assert page.returncode == 0 and page.stdout.startswith(
        "E11.65  Type 2 diabetes mellitus with hyperglycemia\nbillable"
    )
    assert "  E11        diabetes mellitus due to underlying condition (E08.-)" in page.stdout
    assert json.loads(lookup("e11.65", "--json").stdout)["path"][2]["code"] == "E11"
    hits = lookup("heart", "failure")
    assert hits.returncode == 0
    assert hits.stdout.startswith(
        "I50.9    Heart failure, unspecified\n         index: Failure, failed > heart\nI50.810  "
    )
    assert "\nI50-     Heart failure\n" in hits.stdout
    found = json.loads(lookup("heart failure", "--json").stdout)
    assert found["query"] == "heart failure" and found["hits"][0]["code"] == "I50.9" and len(found["hits"]) == 20
    nothing = lookup("xyzzy")
    assert nothing.returncode == 1 and nothing.stdout == "" and nothing.stderr.count("\n") == 1
    assert json.loads(lookup("xyzzy", "--json").stdout)["hits"] == []
    unlisted = lookup("U99")
    assert unlisted.returncode == 2 and unlisted.stderr.startswith("minscl: lookup U99: not in ICD-10-CM edition 2027;")


def test_text_shows_all_of_a_page_and_a_reference_without_a_code(search, entries):
    """Guards text that cuts or loses lines: each note and each hit's place is in it."""
    for node in ("S52.501A", "9", "section C00-C96", "T07", "T36.0X5", "M1A"):
        page = look_up(BOOK, node, entries)
        text = " ".join(page_text(page).split())
        assert all(" ".join(note.split()) in text for block in page.notes for note in block.texts)
        assert all(" ".join(line.description.split()) in text for line in page.path)
    hits = [hit for hit in search.search("adenocarcinoma acinar", limit=40) if not hit.code]
    assert hits and all(hit.where.split(", see ")[1] in " ".join(hits_text([hit]).split()) for hit in hits)


def test_an_unlisted_code_is_one_line_and_status_2():
    """Guards the installed command from the shell."""
    command = [sys.executable, "-m", "minscl.expand", "lookup", "z99.999", "--edition", "2027"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        "minscl: lookup Z99.999: not in ICD-10-CM edition 2027; the nearest listed is "
        "Z99- Dependence on enabling machines and devices, not elsewhere classified\n"
    )


def test_a_description_full_of_brackets_takes_linear_time(monkeypatch):
    """Guards: the whole text before each bracket split into words, a minute for a damaged list of codes."""
    lengths = []
    monkeypatch.setattr(abbreviations, "split_words", lambda text: lengths.append(len(text)) or ["heart", "failure"])
    book = abbreviations.Abbreviations()
    book.learn("heart failure [HF] " * 500)
    assert len(lengths) == 500 and max(lengths) <= 400 and book.expand("hf", None) == ("heart", "failure")
