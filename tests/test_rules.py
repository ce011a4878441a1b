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


def test_a_symptom_gives_way_to_the_diagnosis():
    """Guards: a remedy that leaves out the diagnosis, or that does not say which code goes."""
    for codes in ("R47.01 I69.320", "I69.320 R47.01"):
        (finding,) = findings(codes, "Excludes1")
        assert finding.remedy.startswith("leave out the symptom or finding R47.01, unless it is unrelated to I69.320")


def test_sides_are_told_apart():
    """Guards: an open wound of the right knee held against a fracture of the left, as a conflict."""
    assert excludes1(["S81.001A", "S82.001A"], BOOK)
    assert excludes1(["S81.001A", "S82.002A"], BOOK) == []
    (finding,) = findings("S81.001A S82.002A", "Excludes1 (different sides)")
    assert finding.informational and finding.sentence == "open fracture of knee and lower leg (S82.-)"
    assert not findings("S81.001A S82.002A", "Excludes1")


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
    ("585.3", "585.3: not shaped like an ICD-10-CM code"),
    ("the patient\nhas a cold", "the patient …: not shaped like"),
    ("", "(empty): not shaped like"),
]


@pytest.mark.parametrize("code, message", INVALID)
def test_an_invalid_code_is_explained(code, message):
    """Guards: an exception for text that is no code; the wrong missing character; the padding of the 7th character."""
    (finding,) = invalid([code], BOOK)
    assert str(finding).startswith("Invalid: ") and message in str(finding) and "\n" not in str(finding)


def test_valid_codes_and_procedures_are_not_invalid():
    """Guards: codes as people write them, ICD-10-PCS codes, and two of one code, called invalid."""
    assert invalid(["e1165", " I10 ", "S01.00XA", "0SR9019", "M1A.9XX0"], BOOK) == []
    assert len(invalid(["E11", "E11", "e11."], BOOK)) == 1


UNSPECIFIED = [  # codes, the one that is left out; "" for none
    ("D50.9 D50.0", "D50.9"),
    ("I50.30 I50.9", "I50.9"),
    ("E11.9 E11.65", "E11.9"),
    ("F10.20 F10.239", "F10.20"),
    ("J45.41 J45.909", "J45.909"),
    ("I48.91 I48.0", "I48.91"),
    ("I48.91 I48.3", ""),  # fibrillation, flutter
    ("K92.2 K92.1", ""),  # hemorrhage, melena: Other diseases of digestive system
    ("R11.2 R11.0", ""),  # nausea with vomiting
    ("S52.501A S52.531A", "S52.501A"),
    ("S52.501A S52.532A", ""),  # right, left
    ("C50.911 C50.411", "C50.911"),
    ("C50.911 C50.412", ""),
    ("O36.90X1 O36.5932", ""),  # two fetuses
    ("I77.6 I77.811", ""),  # arteritis, ectasia of an artery
    ("E11.9 E11.9", ""),
    ("D50.9 D51.0", ""),  # two categories
    ("I10 I11.0", ""),
]


@pytest.mark.parametrize("codes, vague", UNSPECIFIED)
def test_unspecified_beside_specified(codes, vague):
    """Guards: a vague code that passes beside the specific one; other sites, sides and conditions taken for one."""
    found = findings(codes, "Unspecified")
    assert [finding.codes for finding in found] == ([tuple(codes.split())] if vague else [])
    assert all(f"leave out {vague}" in finding.remedy for finding in found)


def test_not_alone():
    """Guards: an external cause, status or history as the only codes; reasons for an encounter called the same."""
    for codes in ("W19.XXXA Y92.009", "Z79.4", "Z87.891 Z79.4", "Z68.20", "Z90.710 V43.02XA"):
        assert findings(codes, "Not alone"), codes
    for codes in (
        "S01.00XA W19.XXXA",
        "Z12.31 Z80.3",
        "Z23",
        "Z00.00",
        "Z51.11 C50.911",
        "Z38.00",
        "Z20.822",
        "Z21",
        "",
    ):
        assert not findings(codes, "Not alone"), codes


def test_two_encounters_of_one_injury():
    """Guards: A beside D or S of one injury that passes; stages, fetuses and two injuries taken for encounters."""
    assert findings("S72.001A I10 S72.001D", "Encounters")[0].codes == ("S72.001A", "S72.001D")
    for codes in ("S72.001A S72.002D", "H40.1131 H40.1132", "O36.5931 O36.5932", "S72.001A S72.001A"):
        assert not findings(codes, "Encounters")


def test_additional_codes_are_informational():
    """Guards: notes that the document meets already; a note told once for each code; chapter notes not marked."""
    (finding,) = findings("I12.9", "Use additional code")[:1]
    assert finding.sentence == "code to identify the stage of chronic kidney disease (N18.1-N18.4, N18.9)"
    assert "N18.1-N18.4, N18.9" in finding.remedy and finding.informational and not finding.wide
    assert finding not in findings("I12.9 N18.30", "Use additional code")
    wide = [finding for finding in findings("I10 I16.0", "Use additional code") if finding.where == "section I10-I1A"]
    assert [finding.codes for finding in wide] == [("I10", "I16.0")] and wide[0].wide
    scoped = "code, if applicable, for codes G31.0-G31.83, G31.85-G31.9, to identify:"
    assert scoped in {finding.sentence for finding in findings("G31.01", "Use additional code")}
    assert scoped not in {finding.sentence for finding in findings("G31.84", "Use additional code")}


def test_excludes2_is_informational():
    """Guards: Excludes2 as a conflict; a chapter's note told for each of its pairs."""
    (finding,) = findings("I12.9 N17.9", "Excludes2")
    assert finding.informational and finding.sentence == "acute kidney failure (N17.-)"
    wide = findings("I10 I25.10 C50.911 C34.90", "Excludes2")
    assert [finding.codes for finding in wide if "neoplasms" in finding.sentence] == [
        ("I10", "I25.10", "C50.911", "C34.90")
    ]


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
