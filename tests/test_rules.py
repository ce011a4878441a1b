"""The Tabular List's rules: cases read off the List by hand, and properties on random documents."""

import random
import re

import pytest

from minscl.data.icd import CodeBook
from minscl.data.icd.rules import check, excludes1, invalid
from minscl.data.icd.rules.finding import RULES
from minscl.data.icd.rules.references import read_reference

BOOK = CodeBook.load(date="2026-10-05")
RELATED = ["E11.22", "I12.9", "N18.30", "D63.1", "F02.80", "G30.9", "I50.9", "I11.0", "A41.9", "T81.44XA"]


def findings(text, rule):
    """The findings of one rule for the codes in `text`."""
    return [finding for finding in check(text.split(), BOOK) if finding.rule == rule]


EXCLUSIONS = [  # codes, the List's sentence, where it stands
    ("E10.9 E11.9", "type 2 diabetes mellitus (E11.-)", "category E10"),
    ("E11.9 E10.9", "type 2 diabetes mellitus (E11.-)", "category E10"),
    ("G63 E11.42", "diabetes mellitus (E08-E13 with .42)", "category G63"),
    ("F07.81 S06.0X0A", "current concussion (brain) (S06.0X- with seventh character A)", "code F07.81"),
    ("Z33.1 O24.410", "complications of pregnancy (O00-O9A)", "code Z33.1"),
    ("F10.20 F10.10", "alcohol dependence (F10.2-)", "subcategory F10.1"),
    ("F06.71 F03.C3", "dementia (F01.-, F02.-, F03.-)", "subcategory F06.7"),  # F06 has such a note, too
    ("I10 I27.0", "primary pulmonary hypertension (I27.0)", "section I10-I1A"),
    ("E87.20 E10.10", "diabetic acidosis - see categories E08-E10, E11, E13 with ketoacidosis", "subcategory E87.2"),
    (
        "I67.1 I63.50",
        "Occlusion and stenosis of cerebral artery causing cerebral infarction (I63.3-I63.5-)",
        "category I67",
    ),
    (
        "S51.001A S52.001B",
        "open fracture of elbow and forearm (S52.- with open fracture 7th character)",
        "category S51",
    ),
]


@pytest.mark.parametrize("codes, sentence, where", EXCLUSIONS)
def test_excludes1_quotes_the_note(codes, sentence, where):
    """Guards: a pair missed in one direction or at an ancestor, told twice, or quoted in other words."""
    (finding,) = findings(codes, "Excludes1")
    assert (finding.codes, finding.sentence, finding.where) == (tuple(codes.split()), sentence, where)
    assert sentence in BOOK.notes(
        where.removeprefix("category ").removeprefix("subcategory ").removeprefix("code "), "excludes1"
    )
    assert str(finding).startswith(
        f"Excludes1: {codes.replace(' ', ' and ')}: “{sentence}” at {where}; NOT CODED HERE!"
    )


NO_EXCLUSION = ["I10 I50.9", "S06.0X0D F07.81", "R47.01 I69.321", "S51.001A S52.001A", "E11.9 E11.9", "D72.824 D72.820"]


@pytest.mark.parametrize("codes", [*NO_EXCLUSION, "T88.7XXA I10"])
def test_no_excludes1(codes):
    """Guards: endings ignored, a note of both codes, one code twice, "specified adverse effects" as any diagnosis."""
    assert findings(codes, "Excludes1") == []


def test_sides_are_told_apart():
    """Guards: an open wound of the right knee held against a fracture of the left, as a conflict."""
    assert excludes1(["S81.001A", "S82.001B"], BOOK)
    assert excludes1(["S81.001A", "S82.002B"], BOOK) == []
    (finding,) = findings("S81.001A S82.002B", "Excludes1 (different sides)")
    assert finding.informational and finding.sentence == "open fracture of knee and lower leg (S82.-)"
    assert not findings("S81.001A S82.002B", "Excludes1")


REMEDIES = [  # codes, how the remedy begins
    ("R47.01 I69.320", "leave out the symptom or finding R47.01, unless it is unrelated to I69.320"),
    ("I69.320 R47.01", "leave out the symptom or finding R47.01, unless it is unrelated to I69.320"),
    ("A41.9 R78.81", "leave out the symptom or finding R78.81"),  # "bacteremia NOS" at A41
    ("I95.9 R57.9", "NOT CODED HERE!"),  # shock is what the patient has
    ("T79.4XXA R65.21", "NOT CODED HERE!"),
    ("G82.50 R53.2", "NOT CODED HERE!"),  # R53.2 names G82.5-, and is no symptom
    ("E78.5 E29.1", "NOT CODED HERE!"),
    ("R54 F03.90", "leave out the symptom or finding R54"),
]
VAGUE = {  # codes that stand for more than the note's words → their titles
    "E29.1": "Testicular hypofunction",  # 5-alpha-reductase deficiency
    "F03.90": "Unspecified dementia, unspecified severity, without behavioral disturbance",  # senile psychosis
    "R57.9": "Shock, unspecified",  # cardiovascular collapse
}


@pytest.mark.parametrize("codes, remedy", REMEDIES)
def test_which_of_two_codes_goes(codes, remedy):
    """Guards: a remedy that leaves out the diagnosis, shock as a symptom, or one that goes though no note says so."""
    (finding,) = findings(codes, "Excludes1")
    assert finding.remedy.startswith(remedy)
    titles = [f"check that {code} is that here: its title is “{VAGUE[code]}" for code in codes.split() if code in VAGUE]
    assert all(title in finding.remedy for title in titles) and titles or "check that" not in finding.remedy


@pytest.mark.parametrize(
    "codes, note", [("K60.422 N82.3", "“rectovaginal fistula (N82.3)” at subcategory K60.42"), ("G31.84 F02.80", "")]
)
def test_where_the_list_contradicts_itself(codes, note):
    """Guards: advice against a code that another note of the List asks for; a note quoted out of its scope (G31)."""
    (finding,) = findings(codes, "Excludes1")
    assert finding.remedy.startswith("NOT CODED HERE!")
    assert finding.remedy.endswith(f"; but {note} asks for both" if note else "(guideline I.A.12.a)")


INVALID = [  # code as written, what the message says
    ("E11", "not billable, the 4th character is missing: E11.00, E11.01, E11.10 and 84 more"),
    ("M54.5", "not billable, the 5th character is missing: M54.50, M54.51, M54.59"),
    ("S72.001", "the 7th character is missing: S72.001A, S72.001B, S72.001C and 13 more"),
    ("T07", "the 7th character is missing (X fills the places before it): T07.XXXA, T07.XXXD, T07.XXXS"),
    ("T36.0", "the 6th character is missing (X fills the place before it): T36.0X1A"),
    ("s0100a", "S01.00A: no such code on 2026-10-05; the 7th character stands in 7th place, padded with X: S01.00XA"),
    ("T81.4XXA", "below T81.4 there are T81.40XA"),
    ("I10.0", "I10 is complete and takes no further character"),
    ("X7Z.9", "X7Z.9: not shaped like an ICD-10-CM code"),
    ("E91.0", "no such code on 2026-10-05, nor its category E91"),
    ("D69.1", "D69.1: not valid on 2026-10-05: valid until 2026-09-30; the 5th character is missing: D69.11, D69.19"),
    ("585.3", "585.3: not shaped like an ICD-10-CM code, but like one of ICD-9-CM"),
    ("E11.6-", "E11.6: not billable, the 5th character is missing"),
    ("the patient\nhas a cold", "the patient …: not shaped like"),
    ("", "(empty): not shaped like"),
    ("\x1b[31mE11", "\\x1b[31mE11: not shaped like"),
    ("E11\u202e\ud800", "E11\\u202e\\ud…: not shaped like"),
]


@pytest.mark.parametrize("code, message", INVALID)
def test_an_invalid_code_is_explained(code, message):
    """Guards: an exception for text that is no code; control characters and halves of surrogates passed on to a
    terminal; the wrong missing character; the padding of the 7th character."""
    (finding,) = invalid([code], BOOK)
    assert str(finding).startswith("Invalid: ") and message in str(finding) and str(finding).isprintable()


def test_valid_codes_and_procedures_are_not_invalid():
    """Guards: codes as people write them, ICD-10-PCS codes, and two of one code, called invalid."""
    assert invalid(["e1165", " I10 ", "S01.00XA", "0SR9019", "M1A.9XX0"], BOOK) == []
    assert len(invalid(["E11", "E11", "e11."], BOOK)) == 1


def test_every_quotation_stands_in_the_list():
    """Guards: a sentence shortened or put together, a wrong place, a line break, in what random documents give."""
    rng = random.Random(11)
    kinds = ("excludes1", "excludes2", "codeFirst", "useAdditionalCode", "codeAlso")
    nodes = {"": ""} | {f"chapter {n}": str(n) for n in range(1, 23)}
    seen = set()
    for _ in range(150):
        document = rng.sample(BOOK.billable, 6) + rng.sample(RELATED, 3)
        for finding in check(document, BOOK):
            seen.add(finding.rule)
            text = str(finding)
            assert text.startswith(f"{finding.rule}: {finding.codes[0]}") and "\n" not in text
            assert set(finding.codes) <= set(document) and finding.rule in RULES
            node = nodes.get(finding.where) or re.sub("^(sub)?(category|code) ", "", finding.where)
            texts = {note.removeprefix(", ") for kind in kinds for note in BOOK.notes(node, kind)}
            assert not finding.sentence or finding.sentence in texts
            assert finding.to_dict()["sentence"] == finding.sentence
    assert seen >= {"Excludes1", "Code first", "Use additional code", "Excludes2"}


def test_excludes1_is_what_reading_note_by_note_gives():
    """Guards: pairs lost or made up by the index, against a plain loop over pairs, ancestors and notes."""
    rng = random.Random(5)
    heart = [code for code in BOOK.billable if "I20" <= code[:3] <= "I77"]
    for _ in range(60):
        document = rng.sample(heart, 5) + rng.sample(BOOK.billable, 3)
        expected = set()
        for carrier in document:
            above = [carrier, *BOOK.ancestors(carrier)]
            for named in document:
                nodes = [node for node in above if node not in (named, *BOOK.ancestors(named))]
                texts = [text for node in nodes for text in BOOK.notes(node, "excludes1")]
                if any(read_reference(text, BOOK).covers(named, BOOK) for text in texts):
                    expected.add(frozenset((carrier, named)))
        found = [frozenset(item.codes) for item in check(document, BOOK) if item.rule.startswith("Excludes1")]
        assert set(found) == expected and len(found) == len(expected)
