"""The Alphabetic Index of an edition: corrections, codes divided since it was printed, the official file's layout."""

import dataclasses
import gzip
import hashlib
import random
from collections import Counter

import pytest

from minscl.data.icd import CodeBook
from minscl.data.icd.alphabetic_index import SeeReferences, Term, index_corrections, read_index
from minscl.data.icd.divided_codes import DividedCodes, term_texts
from minscl.data.icd.editions import EditionFile
from minscl.data.icd.index_corrections import apply_corrections, read_corrections
from minscl.data.icd.index_phrases import proper_nouns, term_phrases
from minscl.data.icd.index_tables import read_columns
from minscl.data.icd.xml_text import read_xml
from minscl.data.spans import gold as gold_module
from minscl.data.spans.gold import billable_for, read_gold, stale_rows
from minscl.errors import InputError

BOOK, OLD_BOOK = CodeBook.load("2027"), CodeBook.load("2026")
# The rows of the FY2025 Index whose code FY2027 does not bill: by code, counted from CMS's lists of both years.
STALE = dict(
    [("B88.0", 48), ("Q89.8", 29), ("G35", 23), ("D69.1", 17), ("I49.8", 16), ("R10.2", 14), ("I42.8", 12), ("D71", 11)]
    + [("E88.1", 9), ("Z59.86", 8), ("E72.53", 7), ("H01.8", 6), ("Q99.8", 6), ("M72.2", 5), ("Z87.890", 4)]
    + [("E78.01", 4), ("R76.8", 3), ("Z91.011", 3), ("Z91.012", 2), ("I42.0", 2), ("Z84.1", 1), ("Z40.8", 1)]
    + [("Z68.1", 1)]
)
DIVIDED_BY_FY2027 = {"D69.1", "I42.0", "I42.8", "I49.8", "M72.2", "Z68.1", "Z87.890"}


@pytest.fixture(scope="module")
def terms():
    return read_index(BOOK.edition)


@pytest.fixture(scope="module")
def stale(terms):
    """The stale rows of FY2027, from the terms that are read already."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gold_module, "read_index", lambda edition: terms)
        return stale_rows(BOOK)


@pytest.mark.slow
def test_each_correction_is_applied_once(terms):
    """Guards: an edit that does nothing, an added term elsewhere than printed, a title that keeps its old modifiers."""
    corrections = index_corrections(BOOK.edition)
    actions = Counter(correction.action for correction in corrections)
    assert len(corrections) == 50 and not index_corrections(OLD_BOOK.edition)
    by_path = {" > ".join(term.path): term for term in terms}
    assert Counter(term.correction.split()[0] for term in terms if term.correction) == {
        "added": actions["add_term"],
        "instead": actions["replace_code"] + actions["replace_see_by_code"],
    }
    assert (actions["revise_title"], actions["delete_term"]) == (2, 1)
    assert "Body, bodies > mass index > adult > 19.9 or less" not in by_path
    active = by_path["Sclerosis, sclerotic > multiple > progressive > primary > active"]
    assert (active.code, active.correction) == ("G35.B1", "added")
    assert by_path["Cardiomyopathy > dilated"].correction == "instead of I42.0"
    specified = by_path["Cardiomyopathy > dilated > specified NEC"]
    assert (specified.code, specified.modifiers) == ("I42.09", ("nonfamilial",))
    plantar = by_path["Fibromatosis > plantar"]
    assert (plantar.code, plantar.modifiers) == ("M72.2-", ("fascial", "foot"))
    aggressive = by_path["Fibromatosis > aggressive"]
    assert (aggressive.code, aggressive.see) == ("D48.11-", "")


@pytest.mark.parametrize(
    "table, words",
    [
        ("add_term\tA > b\t\tA00.0\n", ":1: not a table of corrections"),
        ("action\tpath\told\tnew\n", ":1: not a table of corrections"),
        ("action\tpath\told\tnew\n" + 2 * "add_term\tA > b\t\tA00.0\n", ":3: the same correction twice"),
    ],
)
def test_a_table_that_is_none_of_corrections(table, words):
    """Guards: a first line that is lost as if it were the heading; a term added twice."""
    with pytest.raises(InputError, match=words):
        read_corrections(table.encode(), "corrections.tsv")


@pytest.mark.parametrize(
    "line, words",
    [
        ("replace_code\tAbscess > liver\tK75.0\tK75.1", "0 terms of the Index have the path Abscess > liver"),
        (
            "replace_code\tAbscess > brain(any part)\tG06.1\tG06.2",
            "Abscess > brain(any part) has the code G06.0, not G06.1",
        ),
        ("replace_see_by_code\tAbscess > brain(any part)\tsee: Empyema\tG06.2", "has the see none, not Empyema"),
        ("replace_code\tAbscess > lung\tJ85.2\tJ85.1", "2 terms of the Index have the path Abscess > lung"),
        ("move_term\tAbscess\tL02.91\t", "not an action"),
        ("replace_code\tAbscess", "not an action"),
    ],
)
def test_a_correction_that_does_not_fit_is_an_error(line, words):
    """Guards: a table for another Index that is applied in part, silently. One line names the file's line."""
    root = read_xml(
        b"<ICD10CM.index><letter><mainTerm><title>Abscess</title><code>L02.91</code>"
        b"<term><title>brain<nemod>(any part)</nemod></title><code>G06.0</code></term>"
        b"<term><title>lung</title><code>J85.2</code></term><term><title>lung</title><code>J85.2</code></term>"
        b"</mainTerm></letter></ICD10CM.index>",
        "index.xml",
    )
    with pytest.raises(InputError) as error:
        apply_corrections(root, read_corrections(f"action\tpath\told\tnew\n{line}\n".encode(), "corrections.tsv"))
    assert str(error.value).startswith("corrections.tsv:2: ") and words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_stale_rows_are_found_from_the_book_alone(stale, terms, monkeypatch):
    """Guards: rows with a heading's code that pass as current, and dashes that the Index leaves out taken for stale."""
    assert Counter(printed for _, printed, _, _ in stale) == STALE and len(stale) == 232
    monkeypatch.setattr(gold_module, "read_index", lambda edition: terms)
    printed_2026 = Counter(printed for _, printed, _, _ in stale_rows(OLD_BOOK))
    assert printed_2026 == {code: number for code, number in STALE.items() if code not in DIVIDED_BY_FY2027}


@pytest.mark.slow
def test_stale_rows_are_corrected_resolved_or_counted(stale, gold):
    """Guards: a row lost uncounted, a code that is not billable, counts of the command that differ from these."""
    outcomes = Counter(outcome for *_, outcome in stale)
    assert outcomes == {
        "stale: corrected": 25,
        "stale: corrected: deleted": 1,
        "stale: the other code below": 82,
        "stale: names one code below": 63,
        "stale: the unspecified code below": 51,
        "stale: a description elsewhere": 1,
        "stale: left out: several codes below": 4,
        "stale: left out: the List has moved a part elsewhere": 3,
        "stale: left out: other or unspecified": 2,
    }
    for _, printed, codes, outcome in stale:
        assert all(map(BOOK.is_billable, codes)) and not BOOK.is_billable(printed)
        assert bool(codes) == ("left out" not in outcome and "deleted" not in outcome)
    del outcomes["stale: corrected: deleted"]
    counts = gold[1].resolved | gold[1].unresolved
    assert {how: number for how, number in counts.items() if how.startswith("stale")} == outcomes


@pytest.mark.slow
@pytest.mark.parametrize(
    "path, codes",
    [
        ("Lipodystrophy > insulin", ["E88.13"]),  # an inclusion term of one code below
        ("Syndrome > Hollander-Simons", ["E88.11"]),  # a word of one code below
        ("Lipodystrophy", ["E88.10"]),
        ("Lipodystrophia progressiva", []),  # a name of its own: "other" or "unspecified"?
        ("Bankruptcy", ["Z59.868"]),  # not the unspecified code: it is an inclusion term of the other
        ("Debt, burdensome", ["Z59.869"]),
        ("Job's syndrome", ["D71.8"]),  # by its modifier, "chronic granulomatous disease"
        ("Syndrome > Job's", ["D71.8"]),  # by the row above
        ("Disorder > neutrophil, polymorphonuclear", ["D71.9"]),
        ("Dermatitis > due to > Demodex species", ["B88.01"]),
        ("Mite > hair follicle", ["B88.01"]),
        ("Infestation > chigger", ["B88.09"]),  # "infestation" is in the description of B88.01
        ("Syndrome > Kabuki", ["Q89.81"]),
        ("Syndrome > Stickler", ["Q89.89"]),
        ("Disease, diseased > Naegeli's", ["D69.11"]),  # the Index has "Glanzmann(-Naegeli)"
        ("Bernard-Soulier disease or thrombopathia", ["D69.19"]),
        ("Dysfunction > platelets", ["D69.19"]),
        ("Dysplasia > arrhythmogenic right ventricular", ["I42.81"]),
        ("Becker's > cardiomyopathy", ["I42.89"]),
        ("Syndrome > Brugada", ["I49.81"]),
        ("Rhythm > disorder > nodal", ["I49.89"]),
        ("Fasciitis > plantar", ["M67.A09"]),  # a new category's description
        ("Syndrome > plantar fascia", []),
        ("Ulcer, ulcerated, ulcerating, ulceration, ulcerative > eyelid", ["H01.89"]),
        ("Hypercholesterolemia > hereditary", ["E78.019"]),
        ("Allergy, allergic > milk protein", ["Z91.0110"]),
        ("Sclerosis, sclerotic > multiple", ["G35.D"]),
        ("Dementia > in > multiple > sclerosis", ["G35.D"]),  # "primary" stands in a modifier of the main term
        ("Status > sex reassignment surgery status", []),  # not Z87.8904, "intersex surgery"
        ("History > family > disease or disorder > kidney", ["Z84.19"]),  # not Z84.11, "APOL1-mediated kidney disease"
    ],
)
def test_a_stale_row_leads_where_a_coder_would_look(stale, path, codes):
    """Guards: the unspecified code where the term says more, the word of another code, a guess."""
    [outcome] = [codes for stale_path, _, codes, _ in stale if stale_path == path]
    assert outcome == codes


@pytest.mark.slow
def test_any_division_yields_billable_codes_only(terms):
    """Guards: pairs with a heading's code in an edition that divides other codes than the bundled ones."""
    draw = random.Random(20261001)
    printed = sorted({term.code for term in terms if BOOK.is_billable(term.code) and len(term.code) < 7})
    divided_codes = draw.sample(printed, 40)
    nodes = {node: [BOOK.description(node), BOOK.parent(node)] for node in BOOK.nodes}
    billable = set(BOOK.billable) - set(divided_codes)
    for code in divided_codes:
        stem = code if "." in code else code + "."
        for digit in draw.sample(range(10), draw.randint(2, 4)):
            ending = draw.choice([", unspecified", " with rash", ", left", " not elsewhere classified"])
            nodes[f"{stem}{digit}"] = [f"{draw.choice(['', 'Other '])}{BOOK.description(code)}{ending}", code]
            billable.add(f"{stem}{digit}")
    book = CodeBook({"nodes": nodes, "billable": sorted(billable), "notes": {}}, BOOK.edition)
    divided, outcomes = DividedCodes(terms, book), Counter()
    for term in terms:
        if term.code in divided_codes:
            codes, how = gold_module._resolve(term.code, *term_texts(term), divided)
            assert all(book.is_billable(code) for code, _ in codes)
            assert how.endswith("elsewhere") or all(code.startswith(term.code) for code, _ in codes)
            outcomes[how.startswith("stale"), bool(codes)] += 1
        elif term.default_code:
            assert all(book.is_billable(code) for code, _ in billable_for(term.default_code, book)[0])
    assert outcomes[True, True] and outcomes[True, False]


OFFICIAL = """<ICD10CM.index><version>2027</version><title>Index</title><letter><title>A</title>
<mainTerm><title>Abandonment<nemod>(causing exposure) (with intent)</nemod> NEC</title><code>T74.01</code></mainTerm>
<mainTerm><title>Amyloidosis<nemod>(generalized)</nemod></title><code>E85.9</code>
  <term level="1"><title>heart</title><code>E85.4</code><manif>I43</manif></term>
  <term level="1"><title>joint</title><code>E85.4</code><manif>[M14.8-]</manif></term></mainTerm>
<mainTerm><title>Asphyxia</title><seecat>T71</seecat></mainTerm>
<mainTerm><title>Accident</title>
  <term level="1"><title>lightning</title><subcat>T75.0</subcat></term>
  <term level="1"><title>lightning stroke</title><see>Accident, lightning</see></term></mainTerm>
</letter></ICD10CM.index>"""


def edition_with(path, role, xml):
    """FY2027 with another file, written to `path`, in place of the one with that role; and no corrections."""
    path.write_bytes(gzip.compress(xml.encode()))
    files = {role: file for role, file in BOOK.edition.files if role != "index-corrections"}
    files[role] = EditionFile(path, "a test's", hashlib.sha256(path.read_bytes()).hexdigest())
    return dataclasses.replace(BOOK.edition, files=tuple(files.items()))


@pytest.fixture
def official_edition(tmp_path):
    """FY2027 with an Index in the layout of the official file."""
    return edition_with(tmp_path / "index.xml.gz", "index", OFFICIAL)


def test_the_official_layout_is_read_whole(official_edition):
    """Guards: words after the modifiers, the code in brackets, and references to a category or subcategory lost."""
    terms = {" > ".join(term.path): term for term in read_index(official_edition)}
    abandonment = terms["Abandonment NEC"]
    assert (abandonment.code, abandonment.modifiers) == ("T74.01", ("causing exposure", "with intent"))
    assert (terms["Amyloidosis > heart"].code, terms["Amyloidosis > heart"].manifestation) == ("E85.4", "I43")
    assert terms["Amyloidosis > joint"].manifestation == "M14.8-"
    assert (terms["Asphyxia"].see, terms["Accident > lightning"].see) == ("T71", "T75.0")
    references = SeeReferences(list(terms.values()))
    for path in ("Accident > lightning", "Accident > lightning stroke"):
        assert references.resolve(terms[path])[0].default_code == "T75.0"
    assert references.resolve(terms["Asphyxia"]) == (None, "see: a table, a category or a code range, not a term")
    assert term_phrases(terms["Amyloidosis > heart"], proper_nouns(terms.values()))[0] == "heart amyloidosis"


def test_gold_pairs_of_an_official_index(official_edition):
    """Guards: a phrase tied to two codes because of a manifestation, a category resolved to its unspecified code, the
    bundled Index in place of the edition's."""
    nodes = {node: [BOOK.description(node), BOOK.parent(node)] for node in BOOK.nodes}
    book = CodeBook({"nodes": nodes, "billable": BOOK.billable, "notes": {}}, official_edition)
    pairs, counts = read_gold(book)
    codes = {}
    for pair in pairs:
        codes.setdefault(pair.evidence, []).append(pair.code)
    assert codes["heart amyloidosis"] == ["E85.4"] and codes["amyloidosis"] == ["E85.9"]
    assert codes["lightning accident, initial encounter"] == ["T75.00XA"]
    assert "I43" not in {pair.code for pair in pairs} and "asphyxia" not in codes
    assert counts.resolved == {
        "billable as written": 3,
        "7th characters added": 1,
        "see: 7th characters added": 2,
    }
    assert counts.unresolved == {"see: a table, a category or a code range, not a term": 1}
    assert counts.manifestations == 2 and not stale_rows(book)


def test_the_external_causes_have_subcategories_and_words_after_modifiers():
    """Guards: the layout above read from a file that the test wrote, but not from the bundled official one."""
    terms = read_index(BOOK.edition, "external-cause", "external cause index")
    assert sum(term.see == "T75.0" for term in terms) == 11
    assert Counter(term.see for term in terms if term.see in ("T71", "Z77")) == {"T71": 3, "Z77": 1}
    assert Term(("Abandonment NEC",)).path in {term.path for term in terms}
    references = SeeReferences(terms)
    resolved = [references.resolve(term)[0] for term in terms if term.see == "T75.0"]
    assert [term.default_code for term in resolved if term] == ["T75.0"] * 11


@pytest.mark.parametrize(
    "heading, column, words",
    [
        ("Malignant Primary", "3", "a cell of lip is in a column without a heading"),
        ("Malignant", "2", "a column is headed"),
    ],
)
def test_a_table_with_other_columns_is_refused(tmp_path, heading, column, words):
    """Guards: a traceback, or codes lost, where the columns of a later edition's table are not the known ones."""
    xml = (
        f'<ICD10CM.index><indexHeading><head col="1">Neoplasm</head><head col="2">{heading}</head></indexHeading>'
        f'<letter><mainTerm><title>lip</title><cell col="{column}">C00.9</cell></mainTerm></letter></ICD10CM.index>'
    )
    with pytest.raises(InputError, match=words) as error:
        read_columns("neoplasm", edition_with(tmp_path / "neoplasm.xml.gz", "neoplasm", xml))
    assert str(error.value).startswith(str(tmp_path / "neoplasm.xml.gz"))
