"""Notes that ask for a further code, and Excludes2: what is passed on, how it reads, and what is left out."""

import pytest

from minscl.data.icd import CodeBook
from minscl.data.icd.rules import check

BOOK = CodeBook.load(date="2026-10-05")


def findings(text, rule):
    """The findings of one rule for the codes in `text`."""
    return [finding for finding in check(text.split(), BOOK) if finding.rule == rule]


def test_additional_codes_are_informational():
    """Guards: notes that the document meets already; a note told once for each code; section notes not marked."""
    (finding,) = findings("I12.9", "Use additional code")[:1]
    assert finding.sentence == "code to identify the stage of chronic kidney disease (N18.1-N18.4, N18.9)"
    assert "N18.1-N18.4, N18.9" in finding.remedy and finding.informational and not finding.wide
    assert finding not in findings("I12.9 N18.30", "Use additional code")
    wide = [finding for finding in findings("I10 I16.0", "Use additional code") if finding.where == "section I10-I1A"]
    assert [finding.codes for finding in wide] == [("I10", "I16.0")] and wide[0].wide


def test_a_heading_is_passed_on_with_its_lines():
    """Guards: a heading alone, lines without theirs, one line twice, more lines than anybody reads."""
    (finding,) = findings("E11.9", "Use additional code")
    assert str(finding) == (
        "Use additional code: E11.9: “code to identify control using:” at category E11; add where documented: "
        "injectable non-insulin antidiabetic drugs (Z79.85); insulin (Z79.4); oral antidiabetic drugs (Z79.84)"
    )
    (finding,) = findings("R65.20 A41.9 Z16.12", "Use additional code")
    assert finding.remedy.endswith("encephalopathy (metabolic) (septic) (G93.41) … and 1 more")


def test_the_scope_of_a_heading():
    """Guards: "for codes G31.0-G31.83" asked of others; "code (B95-B97) ..., such as:" taken for a scope."""
    scoped = "code, if applicable, for codes G31.0-G31.83, G31.85-G31.9, to identify:"
    assert scoped in {finding.sentence for finding in findings("G31.01", "Use additional code")}
    assert scoped not in {finding.sentence for finding in findings("G31.84", "Use additional code")}
    infectious = "code (B95-B97) to identify infectious agent, if known, such as:"
    assert infectious in {finding.sentence for finding in findings("J06.9", "Use additional code")}
    assert infectious not in {finding.sentence for finding in findings("J06.9 B97.89", "Use additional code")}


DRUGS = [  # code, the lines of "code(s) to specify:" that can apply to it
    ("T40.2X5A", []),
    ("T40.2X1A", ["manifestations of poisoning"]),
    (
        "T40.2X6A",
        [
            "underdosing or failure in dosage during medical and surgical care (Y63.6, Y63.8-Y63.9)",
            "underdosing of medication regimen (Z91.12-, Z91.13-)",
        ],
    ),
]


@pytest.mark.parametrize("code, lines", DRUGS)
def test_lines_on_another_intent_are_left_out(code, lines):
    """Guards: codes of poisoning and underdosing asked for beside an adverse effect; the heading as a finding."""
    found = findings(f"K59.03 {code}", "Use additional code")
    found = [finding for finding in found if finding.where == "section T36-T50"]
    assert [finding.remedy for finding in found] == (["add where documented: " + "; ".join(lines)] if lines else [])


@pytest.mark.parametrize("codes", ["O85", "O90.81", "O03.4", "O99.345", "O24.410 Z3A.28"])
def test_weeks_of_gestation_are_not_asked_for(codes):
    """Guards: Z3A asked for in the puerperium and after an abortion."""
    assert all("Z3A" not in finding.remedy for finding in findings(codes, "Use additional code"))


def test_weeks_of_gestation_are_asked_for_in_pregnancy():
    """Guards: the conditional notes of chapters left out with the one that every chapter-15 code has."""
    (finding,) = findings("O24.410", "Use additional code")
    assert finding.where == "chapter 15" and finding.remedy == "add Z3A where documented"


def test_notes_that_say_nothing_are_left_out():
    """Guards: a follow-up and drug level monitoring asked for with every status code, retained foreign bodies with
    every injury, perinatal exposure of adults, conditional notes without a code."""
    for codes in ("Z79.4 E10.9", "Z87.891 I10", "Z95.5 I25.10"):
        assert all("Z08" not in finding.remedy for finding in findings(codes, "Code also")), codes
        assert all("Z51.81" not in finding.remedy for finding in findings(codes, "Code also")), codes
    assert all("Z18" not in str(finding) for finding in check(["S72.001A", "T45.515A", "T78.2XXA"], BOOK))
    assert "P96.81" not in str(findings("J44.9", "Use additional code")[0])
    assert "P96.81" in str(findings("J21.9 P07.32", "Use additional code")[0])
    assert findings("S93.401A", "Code also") == []  # "any associated open wound"
    assert [finding.where for finding in findings("T78.2XXA", "Code also")] == []  # "if applicable, place ..."


def test_one_list_of_tobacco_codes_is_enough():
    """Guards: the same lines told for hypertension, coronary disease, COPD and the respiratory chapter."""
    found = findings("I10 I25.5 J44.9 J96.01", "Use additional code")
    assert [finding.where for finding in found if "Z77.22" in finding.remedy] == ["section I10-I1A"]


def test_a_note_without_a_code_is_met_by_a_code_of_its_kind():
    """Guards: "underlying neoplasm" asked for beside the neoplasm; the words "add it" without any code."""
    sentence, remedy = "underlying neoplasm", "the List names no code for it; check whether the document has one"
    found = {finding.sentence: finding.remedy for finding in findings("D70.1 I10", "Code also")}
    assert found[sentence] == remedy
    assert sentence not in {finding.sentence for finding in findings("D70.1 C50.911", "Code also")}
    assert not findings("N17.9 A41.9", "Code also") and findings("N17.9", "Code also")


def test_a_bundle_of_notes_is_not_one_list():
    """Guards: insulin that "meets" the manifestations of diabetes in pregnancy; "code (if applicable):" alone."""
    sentences = {finding.sentence for finding in findings("O24.111 Z79.4 Z3A.20", "Use additional code")}
    assert sentences == {
        "from category E11 to further identify any manifestations",
        "injectable non-insulin antidiabetic drugs (Z79.85)",
    }
    (finding,) = findings("O9A.311 Z3A.20", "Use additional code")
    assert finding.sentence == "to identify the perpetrator of abuse (Y07.-)"


def test_excludes2_is_informational():
    """Guards: Excludes2 as a conflict, against an Excludes1 of the same pair, told for each pair, told of chapters."""
    (finding,) = findings("I12.9 N17.9", "Excludes2")
    assert finding.informational and finding.sentence == "acute kidney failure (N17.-)"
    (finding,) = findings("Z79.4 F17.210 Z79.82", "Excludes2")
    assert finding.codes == ("Z79.4", "F17.210", "Z79.82")
    assert findings("I10 I25.10 C50.911 C34.90", "Excludes2") == []
    assert findings("N20.1 N13.2", "Excludes2") == [] and findings("N20.1 N13.2", "Excludes1")


def test_an_infection_of_any_chapter_is_the_infection_asked_for():
    """Guards: pneumonia not taken for the infection that J44.0 asks for, as it is not in chapter 1."""
    asking = [finding.sentence for finding in check(["J44.0", "I10"]) if finding.rule == "Code also"]
    met = [finding.sentence for finding in check(["J44.0", "J18.9"]) if finding.rule == "Code also"]
    assert "to identify the infection" in asking and "to identify the infection" not in met
