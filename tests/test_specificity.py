"""Codes that do not go together without a note: unspecified beside specific, with and without, A and D, none alone."""

import pytest

from minscl.data.icd import CodeBook
from minscl.data.icd.rules import check

BOOK = CodeBook.load(date="2026-10-05")


def findings(text, rule):
    """The findings of one rule for the codes in `text`."""
    return [finding for finding in check(text.split(), BOOK) if finding.rule == rule]


UNSPECIFIED = [  # codes, the one that is left out; "" for none
    ("D50.9 D50.0", "D50.9"),
    ("I50.30 I50.9", "I50.9"),
    ("E11.9 E11.65", "E11.9"),
    ("F10.20 F10.239", "F10.20"),
    ("J45.41 J45.909", "J45.909"),
    ("I48.91 I48.0", "I48.91"),
    ("S52.501A S52.531A", "S52.501A"),
    ("C50.911 C50.411", "C50.911"),
    ("J96.90 J96.01", "J96.90"),  # "unspecified whether with hypoxia or hypercapnia"
    ("G93.40 G93.41", "G93.40"),  # the heading is "Other and unspecified encephalopathy"
    ("P59.0 P59.9", "P59.9"),
    ("C77.9 C77.5", "C77.9"),  # "Secondary and unspecified" is in both
    ("I46.9 I46.2", "I46.9"),  # "cause unspecified"
    ("N18.30 N18.31", "N18.30"),
    ("I48.91 I48.3", ""),  # fibrillation, flutter
    ("K92.2 K92.1", ""),  # hemorrhage, melena: Other diseases of digestive system
    ("R11.2 R11.0", ""),  # nausea with vomiting
    ("S52.501A S52.532A", ""),  # right, left
    ("C50.911 C50.412", ""),
    ("O36.90X1 O36.5932", ""),  # two fetuses
    ("I77.6 I77.811", ""),  # arteritis, ectasia of an artery
    ("C22.8 C22.9", ""),  # "not specified as primary or secondary" says less than "primary"
    ("G93.40 G93.6", ""),  # encephalopathy, cerebral edema
    ("I25.9 I25.2", ""),  # chronic heart disease, an old infarction
    ("N13.30 N13.4", ""),  # hydronephrosis, hydroureter
    ("H40.9 H40.001", ""),  # glaucoma, preglaucoma
    ("M79.606 M79.621", ""),  # leg, upper arm
    ("R40.20 R40.2412", ""),  # coma, a score
    ("N52.39 N52.37", ""),  # "Other and unspecified"
    # what the vague code says besides would be lost
    ("G40.911 G40.009", ""),  # intractable, with status epilepticus
    ("J96.92 J96.01", ""),  # hypercapnia
    ("K51.911 K51.00", ""),  # rectal bleeding
    ("L97.204 L97.211", ""),  # necrosis of bone
    ("L89.304 L89.311", ""),  # stage 4
    ("F03.92 F03.A0", ""),  # psychotic disturbance, which F03.A0 denies
    ("S72.009C S72.001A", ""),  # an open fracture
    ("E11.9 E11.9", ""),
    ("D50.9 D51.0", ""),  # two categories
    ("I10 I11.0", ""),
]


@pytest.mark.parametrize("codes, vague", UNSPECIFIED)
def test_unspecified_beside_specified(codes, vague):
    """Guards: a vague code that passes beside the specific one; other sites, sides and conditions taken for one; advice
    to leave out a code that says what the other does not."""
    found = findings(codes, "Unspecified")
    assert [finding.codes for finding in found] == ([tuple(codes.split())] if vague else [])
    assert all(f"leave out {vague}" in finding.remedy for finding in found)


CONTRADICTIONS = [  # codes, what one of them denies; "" for none
    ("K57.30 K57.31", "without bleeding"),
    ("I25.110 I25.10", "without angina pectoris"),
    ("K21.9 K21.00", "without esophagitis"),
    ("K70.30 K70.31", "without ascites"),
    ("E11.3591 E11.3511", "without macular edema"),
    ("E11.3592 E11.3511", ""),  # left, right
    ("K57.30 K57.51", ""),  # large intestine, both
    ("S01.01XA S01.02XA", ""),  # two wounds
]


@pytest.mark.parametrize("codes, denied", CONTRADICTIONS)
def test_with_and_without_at_once(codes, denied):
    """Guards: a condition with and without bleeding in one document; the two eyes, or two wounds, taken for one."""
    found = findings(codes, "Unspecified")
    assert [finding.codes for finding in found] == ([tuple(codes.split())] if denied else [])
    assert all(f"says “{denied}”" in finding.remedy for finding in found)


NOT_ALONE = [  # codes, guideline
    ("W19.XXXA Y92.009", "I.C.20.a.6"),
    ("Z79.4", "I.C.21.c.3"),
    ("Z87.891 Z79.4", "I.C.21.c.4"),
    ("Z90.710 V43.02XA", "I.C.20.a.6"),
    ("Z68.20", "I.B.14"),
    ("Z59.00", "I.B.14"),
    ("Y90.6", "I.B.14"),  # no injury is missing
    ("R29.705", "I.B.14"),
    ("R40.2432", "I.B.14"),
    ("Z3A.39 Z37.0", "I.C.21.c.11"),
    ("B96.20", "section B95-B97"),
]


@pytest.mark.parametrize("codes, guideline", NOT_ALONE)
def test_not_alone(codes, guideline):
    """Guards: an external cause, status or history as the only codes; a body mass index called a status."""
    (finding,) = findings(codes, "Not alone")
    assert guideline in finding.remedy
    assert ("injury" in finding.remedy) == ("I.C.20.a.6" in finding.remedy)


@pytest.mark.parametrize(
    "codes",
    ["S01.00XA W19.XXXA", "Z12.31 Z80.3", "Z23", "Z00.00", "Z51.11 C50.911", "Z38.00", "Z20.822", "Z21", "R40.20", ""],
)
def test_what_may_be_alone(codes):
    """Guards: reasons for an encounter, and coma, called codes that explain none."""
    assert not findings(codes, "Not alone")


def test_two_encounters_of_one_injury():
    """Guards: A beside D or S of one injury that passes, IIIA fractures (whose meaning has commas) among them; stages,
    fetuses and two injuries taken for encounters."""
    for codes in ("S72.001A I10 S72.001D", "S72.001C S72.001D", "S72.001F S72.001J", "S72.001A S72.001B"):
        (finding,) = findings(codes, "Encounters")
        assert finding.codes == tuple(code for code in codes.split() if code != "I10")
        assert "unless there are two" in finding.remedy
    assert "C is “initial encounter for open fracture type IIIA, IIIB, or IIIC”" in str(
        findings("S72.001C S72.001D", "Encounters")[0]
    )
    for codes in ("S72.001A S72.002D", "H40.1131 H40.1132", "O36.5931 O36.5932", "S72.001A S72.001A"):
        assert not findings(codes, "Encounters")
