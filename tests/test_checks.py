"""What a coder sees beside the codes: the List's rules, the evidence's assertion, the edition; nothing is dropped."""

import dataclasses
import json

import pytest

from minscl.data.checks import breaks_rules, check_document, is_informational
from minscl.data.icd import CodeBook
from minscl.data.jsonl import write_jsonl
from minscl.data.resuming import already_coded
from minscl.data.types import Assignment, CodedDocument, Evidence, Note
from minscl.errors import InputError
from minscl.infer import coder
from minscl.infer.answer import read_answer
from minscl.infer.report import about_document, text_table
from minscl.infer.sequence import Generation

NOTE = Note(
    "visit-7",
    "ASSESSMENT\n"
    "Type 1 diabetes, type 2 diabetes. Dementia of Parkinson's disease.\n"
    "Denies chest pain. Mother had breast cancer.\n"
    "Dilated cardiomyopathy.\n",
)
ANSWER = """Evidence:
1. Type 1 diabetes
2. type 2 diabetes
3. Dementia
4. Parkinson's disease
5. chest pain
6. breast cancer
7. Dilated cardiomyopathy
Codes:
[1] E10.9 Type 1 diabetes mellitus without complications
[2] E11.9 Type 2 diabetes mellitus without complications
[3] F02.80 Dementia
[4] G20.A1 Parkinson's disease
[5] R07.9 Chest pain, unspecified
[6] C50.919 Breast cancer
[7] I42.0 Dilated cardiomyopathy
"""


def answered(tokenizer, codebook):
    """The document that is read out of ANSWER, as if a model had written it, and then checked."""
    ids = tokenizer.encode(ANSWER)
    generation = Generation(ids, [0.5] * len(ids), stopped=True, forwards=len(ids))
    return check_document(read_answer(NOTE, generation, tokenizer, codebook=codebook), codebook)


@pytest.fixture(scope="module")
def tokenizer(embedded):
    """The embedded model's tokenizer."""
    return embedded[1]


@pytest.fixture(scope="module")
def document(tokenizer):
    """ANSWER's document on a day in FY2027."""
    return answered(tokenizer, CodeBook.load(date="2026-11-02"))


def test_findings_quote_the_list(document):
    """Guards: a rule without the List's own sentence and its place, or one that no code and no warning has."""
    excludes = "“type 2 diabetes mellitus (E11.-)” at category E10"
    by_code = {item.code: item.rules for item in document.codes}
    assert any(rule.startswith("Excludes1: E10.9 and E11.9: ") and excludes in rule for rule in by_code["E11.9"])
    assert by_code["E10.9"][0] == by_code["E11.9"][0] and by_code["E10.9"][0] in document.warnings
    assert any(rule.startswith("Invalid: I42.0") and "valid until 2026-09-30" in rule for rule in by_code["I42.0"])
    assert not any(map(is_informational, document.warnings)) and any(map(is_informational, sum(by_code.values(), ())))


def test_no_code_is_dropped_and_a_cause_stands_before_its_manifestation(document, tokenizer):
    """Guards: rules that drop or repeat codes; a manifestation listed first; another order for no reason."""
    codes = [item.code for item in document.codes]
    assert codes == ["E10.9", "E11.9", "G20.A1", "F02.80", "R07.9", "C50.919", "I42.0"]
    assert not any(rule.startswith("Code first") for item in document.codes for rule in item.rules)
    assert check_document(document, CodeBook.load(date="2026-11-02")) == document


def test_evidence_has_its_assertion(document):
    """Guards: a code that rests on a denial or on a relative's disease, without a word."""
    assertions = {item.code: [evidence.assertion for evidence in item.evidence] for item in document.codes}
    assert assertions["R07.9"] == ["denied"] and assertions["C50.919"] == ["family"]
    assert assertions["E10.9"] == assertions["F02.80"] == ["affirmed"]
    assert "R07.9 rests on denied evidence alone" in document.warnings
    assert "C50.919 rests on family evidence alone" in document.warnings


def test_other_evidence_keeps_a_code_from_resting_on_a_denial():
    """Guards: a warning where the note affirms the finding elsewhere; evidence that is not located taken as denied."""
    text = "Denies chest pain. Later reports chest pain."
    places = [Evidence(text[start : start + 10], start, start + 10) for start in (7, 33)]
    item = Assignment("R07.9", "Chest pain, unspecified", tuple(places))
    checked = check_document(CodedDocument("n", text, (item,)), CodeBook.load())
    assert [evidence.assertion for evidence in checked.codes[0].evidence] == ["denied", "affirmed"]
    unlocated = Assignment("R07.9", "", (Evidence("pain in chest", None, None, grounded=False),))
    for codes in ((item,), (unlocated,), (Assignment("R07.9", ""),)):
        assert not check_document(CodedDocument("n", text, codes), CodeBook.load()).warnings


def test_the_edition_is_named_and_decides(document, tokenizer):
    """Guards: a document that does not say by which code set it was coded; last year's codes refused for last year."""
    before = answered(tokenizer, CodeBook.load(date="2026-09-30"))
    assert (document.edition, document.date, before.edition, before.date) == (
        "2027",
        "2026-11-02",
        "2026",
        "2026-09-30",
    )
    assert not any(rule.startswith("Invalid") for item in before.codes for rule in item.rules)
    undated = answered(tokenizer, CodeBook.load())
    assert undated.date is None and "date" not in undated.to_dict() and undated.edition == "2027"


def test_checked_documents_are_records(document):
    """Guards: a coded document that `generate --out` cannot read again, or whose fields get lost on the way."""
    record = json.loads(json.dumps(document.to_dict()))
    assert CodedDocument.from_dict(record) == document
    assert record["codes"][0]["rules"] and record["codes"][0]["evidence"][0]["assertion"] == "affirmed"


def test_the_table_shows_rules_assertions_and_edition(document):
    """Guards: a finding that only JSON has; informational notes that bury what must be acted on."""
    table = text_table(document)
    for shown in (table, about_document(document)):
        assert "ICD-10-CM edition 2027, date of service 2026-11-02" in shown
    assert "“type 2 diabetes mellitus (E11.-)” at category E10" in table and "valid until 2026-09-30" in table
    assert "“chest pain”  3:8  denied" in table
    assert "Use additional code" not in table and "of the Tabular List apply: see" in table


def test_strict_is_a_status(document, generate, tmp_path, monkeypatch):
    """Guards: a pipeline that bills what the List forbids; --strict that drops codes; other findings taken for it."""
    clean = CodedDocument("n", "Anemia.", (Assignment("D64.9", "Anemia, unspecified"),))
    (tmp_path / "note.txt").write_text("Anemia.")
    assert breaks_rules(document) and not breaks_rules(check_document(clean, CodeBook.load()))
    for codes, status in ((document.codes, 1), (clean.codes, 0)):
        answer = CodedDocument(
            str(tmp_path / "note.txt"), "Anemia.", tuple(Assignment(item.code, "") for item in codes)
        )
        monkeypatch.setattr(coder, "read_answer", lambda *arguments, answer=answer: answer)
        run = generate(tmp_path / "note.txt", "--json", "--strict")
        assert run.returncode == status, run.stderr
        assert len(json.loads(run.stdout)["codes"]) == len(codes)
        assert ("--strict: 1 of 1 documents break" in run.stderr) == bool(status)
        assert generate(tmp_path / "note.txt", "--json").returncode == 0


def test_codes_that_score_too_low_break_no_rule(embedded, monkeypatch):
    """Guards: a finding about a code that --min-score has left out."""
    answer = CodedDocument("n", "x", (Assignment("E10.9", "", score=0.9), Assignment("E11.9", "", score=0.1)))
    monkeypatch.setattr(coder, "read_answer", lambda *arguments: answer)
    [checked] = coder.code_notes(*embedded, [Note("n", "Diabetes.")], min_score=0.5)
    assert [item.code for item in checked.codes] == ["E10.9"] and not breaks_rules(checked)


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--date", "2026-9-30"], "date 2026-9-30: no such date; write it as 2026-10-01"),
        (["--edition", "2026", "--date", "2026-10-01"], "edition 2026 ends on 2026-09-30"),
        (["--edition", "nowhere"], "edition nowhere: neither 2026, 2027 nor a folder"),
    ],
)
def test_flags_that_name_no_code_set(flags, message, generate, tmp_path):
    """Guards: a run that loads the model, or codes with another edition, before it refuses the flag."""
    (tmp_path / "note.txt").write_text("Anemia.")
    run = generate(tmp_path / "note.txt", *flags)
    assert run.returncode == 2 and message in run.stderr and run.stderr.count("\n") == 1 and not run.stdout


def test_documents_of_older_versions_are_checked_too(document, generate, tmp_path):
    """Guards: --strict that passes what was never checked; a page that names an edition by which nothing was judged."""
    note, out, page = tmp_path / "note.txt", tmp_path / "old.jsonl", tmp_path / "page.html"
    note.write_text("Diabetes.")
    bare = tuple(Assignment(item.code, "") for item in document.codes)
    write_jsonl(out, [CodedDocument(str(note), "Diabetes.", bare)])
    before = out.read_bytes()
    run = generate(note, "--out", out, "--strict", "--html", page)
    assert run.returncode == 1, run.stderr
    assert out.read_bytes() == before and "Excludes1: E10.9 and E11.9" in page.read_text()
    recorded = CodedDocument(str(note), "Diabetes.", bare, coded_with={"system": "scl"})  # as 0.2.0 wrote it
    with pytest.raises(InputError, match="was coded before 0.3.0, with the code set of April 2026; name another --out"):
        already_coded([recorded], [Note(str(note), "Diabetes.")], str(out), {"system": "scl", "edition": "2026"})


def test_a_later_check_replaces_the_warnings_of_the_earlier(document):
    """Guards: what another edition found wrong, still there after a check with this one; other warnings lost."""
    before = dataclasses.replace(document, warnings=("the answer has no section headings", *document.warnings))
    checked = check_document(before, CodeBook.load(date="2026-09-30"))
    assert checked.warnings[0] == "the answer has no section headings"
    assert not any("Invalid" in warning for warning in checked.warnings) and len(checked.warnings) < len(
        before.warnings
    )


def test_rules_find_codes_as_people_write_them():
    """Guards: a conflict between codes of a document that are not in canonical form."""
    checked = check_document(CodedDocument("n", "", (Assignment("e109", ""), Assignment("E119", ""))), CodeBook.load())
    assert breaks_rules(checked) and all(item.rules[0].startswith("Excludes1") for item in checked.codes)


@pytest.mark.parametrize(
    "key, value", [("edition", ""), ("edition", "a b"), ("date", "2026-9-1"), ("assertion", "maybe")]
)
def test_fields_of_a_check_are_validated(document, key, value):
    """Guards: a page or a count that shows whatever a file says."""
    record = document.to_dict()
    (record["codes"][0]["evidence"][0] if key == "assertion" else record)[key] = value
    with pytest.raises(InputError, match=key):
        CodedDocument.from_dict(record)
