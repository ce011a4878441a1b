"""Passages of a note (infer/passages.py): where they are cut, and what is joined again."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minscl.config import DEMO
from minscl.data.calibration import Calibration, passage_length, read_calibrations, write_calibration
from minscl.data.types import Assignment, CodedDocument, Evidence, Note
from minscl.errors import InputError
from minscl.infer.coder import code_notes, in_order
from minscl.infer.passages import join_passages, split_passages
from minscl.model import load_tokenizer

TOKENIZER = load_tokenizer(DEMO)
NOTE = "HISTORY\n\nHypertension, on lisinopril. No chest pain.\n\nPLAN\n\nPneumonia: antibiotics. Hypertension."
CALIBRATION = Calibration(((0.0, 0.0), (1.0, 1.0)), 0.2, "dev.jsonl", 3, 9)


@given(st.text(alphabet="aB .!?\n\té", max_size=200), st.integers(1, 20))
def test_passages_are_the_text_in_order(text, limit):
    """Guards: characters lost or read twice between passages, a passage of more tokens that has a place to be cut."""
    passages = split_passages(text, TOKENIZER, limit)
    end = 0
    for offset, passage in passages:
        assert text[offset : offset + len(passage)] == passage
        assert not text[end:offset].strip() and offset >= end
        end = offset + len(passage)
    assert not text[end:].strip()


def test_passages_end_with_a_sentence_or_line():
    """Guards: a sentence cut in two, a number such as 1.5 taken for the end of one, passages of one sentence each."""
    text = "BP 1.5 up. Cough! Fever?\nNo rash. " * 4
    whole = [(0, text)]
    assert split_passages(text, TOKENIZER, 0) == split_passages(text, TOKENIZER, 10_000) == whole
    passages = split_passages(text, TOKENIZER, 30)
    assert 1 < len(passages) < 8
    for _, passage in passages:
        assert len(TOKENIZER.encode(passage)) <= 30 and passage.rstrip()[-1] in ".!?"


def coded(text, *codes, **fields):
    return CodedDocument("n", text, tuple(codes), **{"output": text, "warnings": (), **fields})


def test_a_code_has_the_evidence_of_all_passages():
    """Guards: places within the passage instead of the note, a code listed twice, the lower score."""
    first = coded("HTN.", Assignment("I10", "x", (Evidence("HTN", 0, 3, grounded=True),), score=0.4), truncated=1)
    lost = Evidence("HBP", None, None, grounded=False)
    high = Assignment("I10", "x", (Evidence("HTN", 0, 3, grounded=True), lost), score=0.7)
    second = coded("HTN, CKD.", Assignment("N18.9", "y", (), score=0.9), high, warnings=("a",))
    note = Note("n", "HTN.  HTN, CKD.")
    document = join_passages(note, [(0, first), (6, second)])
    assert document.text == note.text and [(item.code, item.score) for item in document.codes] == [
        ("I10", 0.7),
        ("N18.9", 0.9),
    ]
    places = [(item.text, item.start, item.end) for item in document.codes[0].evidence]
    assert places == [("HTN", 0, 3), ("HTN", 6, 9), ("HBP", None, None)]
    assert document.output == "--- passage 1 of 2\nHTN.\n--- passage 2 of 2\nHTN, CKD."
    assert document.truncated == 1 and document.warnings == ("a",)
    whole = coded(note.text)
    assert join_passages(note, [(0, whole)]) is whole
    late = join_passages(Note("n", "\n\nHTN."), [(2, first)])  # one passage, which is not all of the note
    assert late.text == "\n\nHTN." and [(item.start, item.end) for item in late.codes[0].evidence] == [(2, 5)]


def test_answers_of_one_job_come_together():
    """Guards: the answer to another note's passage, a note that waits for the ones after it."""
    results = iter([(2, "c"), (1, "b"), (0, "a"), (4, "e"), (3, "d")])
    jobs = in_order(results, [1, 3, 1])
    assert next(jobs) == ["a"]
    assert next(results) == (4, "e")  # not read yet when the first job is done
    assert list(in_order([(0, "a"), (2, "c"), (1, "b")], [1, 2])) == [["a"], ["b", "c"]]


def test_passages_are_coded_as_notes_of_their_own(embedded):
    """Guards: quotations of another passage, places of the passage, answers in the wrong passage."""
    model, tokenizer = embedded
    notes = [Note("a", NOTE), Note("b", "Gout."), Note("c", NOTE + " Gout.")]
    settings = {"grounded": True}
    documents = list(code_notes(model, tokenizer, notes, passage=16, batch_size=3, **settings))
    for note, document in zip(notes, documents, strict=True):
        parts = split_passages(note.text, tokenizer, 16)
        alone = [next(code_notes(model, tokenizer, [Note("p", text)], **settings)) for _, text in parts]
        assert {item.code for item in document.codes} == {item.code for part in alone for item in part.codes}
        for code in document.codes:
            assert code.evidence and all(note.text[e.start : e.end] == e.text for e in code.evidence)
    assert len(split_passages(NOTE, tokenizer, 16)) > 1


def test_a_note_that_begins_with_blank_lines_keeps_its_places(embedded):
    """Guards: offsets that lack the blank lines, and a text that is not the note's, where one passage is left."""
    model, tokenizer = embedded
    note = Note("a", "\n\n" + "Hypertension and pneumonia, " * 8 + "gout")
    assert [offset for offset, _ in split_passages(note.text, tokenizer, 16)] == [2]
    [document] = code_notes(model, tokenizer, [note], passage=16, grounded=True)
    assert document.text == note.text and document.codes
    assert all(note.text[e.start : e.end] == e.text for code in document.codes for e in code.evidence)


def test_blank_and_enormous_notes_are_refused_before_they_are_cut(embedded):
    """Guards: a traceback that ends the run for 200 line ends; hours for a log file named by mistake."""
    model, tokenizer = embedded
    skipped = []
    notes = [Note("blank", "\n" * 200), Note("log", "Fever. " * 200_000), Note("a", "Hypertension.")]
    skip = lambda note, error: skipped.append(str(error))  # noqa: E731
    documents = list(code_notes(model, tokenizer, notes, passage=100, grounded=True, skip=skip))
    assert [document.id for document in documents] == ["a"]
    assert skipped == [
        "blank: the note is empty; give a note with text",
        "log: the note has 1,400,000 characters, and at most 1,000,000 are coded at once; split the note",
    ]


def test_a_calibration_knows_its_passages(tmp_path):
    """Guards: scores of whole notes calibrated as those of passages, a file of 0.3.0 that cannot be read."""
    write_calibration(tmp_path, "grounded", CALIBRATION)
    assert "passage" not in (tmp_path / "calibration.json").read_text()
    in_passages = Calibration(*list(vars(CALIBRATION).values())[:5], passage=200)
    write_calibration(tmp_path, "grounded", in_passages)
    assert read_calibrations(tmp_path) == {"grounded": in_passages}
    assert passage_length(in_passages) == passage_length(in_passages, 200) == 200 == passage_length(None, 200)
    assert passage_length(None) == passage_length(CALIBRATION) == passage_length(CALIBRATION, 0) == 0
    with pytest.raises(
        InputError, match="fitted on passages of 200 tokens; leave out --passage, or add --no-calibration"
    ):
        passage_length(in_passages, 0)


def test_the_command_codes_passages(generate, tmp_path):
    """Guards: the flag without effect, a result that does not say how it was made, passages of other systems."""
    note = tmp_path / "note.txt"
    note.write_text(NOTE)
    run = generate(note, "--passage", "16", "--no-calibration", "--json")
    document = json.loads(run.stdout)
    assert document["coded_with"]["passage"] == "16" and document["output"].startswith("--- passage 1 of ")
    for flags, message in (
        (("--passage", "16", "--system", "cot"), "--passage 16: needs SCL's own evidence"),
        (("--passage", "16"), "calibration.json was fitted on passages of 100"),
        (("--passage", "1.5"), "--passage"),
    ):
        run = generate(note, *flags)
        assert run.returncode == 2 and message in run.stderr and len(run.stderr.splitlines()) == 1
