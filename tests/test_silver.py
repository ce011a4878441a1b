"""Silver pairs: an LLM's quotations are checked against the note, its choice against the candidates.

A logged answer is used again for exactly the same prompt.
"""

import json
import os
import re
import shutil

import pytest

from minscl import expand
from minscl.config import DEMO
from minscl.data import Pair
from minscl.data.answer_log import AnswerLog
from minscl.data.icd import CodeBook
from minscl.data.jsonl import read_jsonl
from minscl.data.record_checks import checked_record
from minscl.data.spans.answers import StageOneAnswer, StageTwoAnswer, SyntheticAnswer
from minscl.data.spans.asking import answer_lines, open_answer_log
from minscl.data.spans.silver import (
    Candidate,
    collect_candidates,
    expand_silver,
    locate_quotations,
    run_stage_one,
    run_stage_two,
    silver_pairs,
)
from minscl.data.spans.synthetic import expand_synthetic
from minscl.data.types import Assignment, CodedDocument
from minscl.errors import InputError
from minscl.expand_config import SilverConfig

BOOK = CodeBook.load()


def document(id, text, *codes):
    return CodedDocument(id, text, tuple(Assignment(code, BOOK.description(code)) for code in codes))


NOTES = [
    document("a", "Known HTN. Productive cough,\nfever; CXR: pneumonia.", "I10", "J18.9"),
    document("b", "htn, on lisinopril. Pneumonia of the left base.", "I10", "J18.9"),
    document("c", "Hypertensive today. HTN.", "I10"),
    document("d", "Feels well.", "Z00.00"),
]
ANSWERS = {
    ("a", "I10"): '1. "HTN"\n2. high blood pressure',
    ("a", "J18.9"): "Quotes:\n- Productive cough, fever\n- pneumonia",
    ("b", "I10"): "htn\nhtn",
    ("b", "J18.9"): "pneumonia OF the left base",
    ("c", "I10"): "HTN\nHypertensive",
    ("d", "Z00.00"): "None.",
}


class Scripted:
    """Answers from a table by what the prompt names; fails after `answers_left` answers."""

    name, notes, step = "scripted", NOTES, 1  # step -1: the last prompt is answered first

    def __init__(self, answers_left=10**9):
        self.answers_left = answers_left
        self.prompts = []  # those answered

    def token_counts(self):
        return []

    def ask(self, prompts):
        for number, prompt in list(enumerate(prompts))[:: self.step]:
            if self.answers_left == 0:
                raise InputError("the server went away")
            self.answers_left -= 1
            self.prompts.append(prompt)
            yield number, self.answer(prompt)

    def answer(self, prompt):
        for (note_id, code), answer in ANSWERS.items():
            if any(note.id == note_id and note.text in prompt for note in self.notes) and f"code {code} " in prompt:
                return answer
        return {
            "I10": "1. HTN (3)\nhigh blood pressure",
            "J18.9": "pneumonia\nPneumonia of the left base\nProductive cough, fever",
        }[prompt.split()[2]]


def both_stages(folder, llm, notes=NOTES):
    """(stage 1's answers, candidates, pairs), with the answer logs in `folder`."""
    with AnswerLog(folder / "quoted.jsonl", StageOneAnswer) as log:
        quoted = run_stage_one(notes, BOOK, llm, log)
    candidates = collect_candidates(quoted)
    with AnswerLog(folder / "chosen.jsonl", StageTwoAnswer) as log:
        return quoted, candidates, silver_pairs(run_stage_two(candidates, BOOK, llm, log), candidates)


def test_two_stages_by_hand(tmp_path):
    """Guards: quotations that are not in the note, an expression counted twice for its case or within a note, answers
    outside the candidates, lost counts."""
    quoted, candidates, pairs = both_stages(tmp_path, llm := Scripted())
    assert [(answer.note, answer.code, answer.evidence, answer.rejected) for answer in quoted] == [
        ("a", "I10", ("HTN",), 1),
        ("a", "J18.9", ("Productive cough, fever", "pneumonia"), 0),
        ("b", "I10", ("htn",), 0),
        ("b", "J18.9", ("Pneumonia of the left base",), 0),
        ("c", "I10", ("HTN", "Hypertensive"), 0),
        ("d", "Z00.00", (), 0),
    ]
    assert [(candidate.text, candidate.count, candidate.notes) for candidate in candidates["I10"]] == [
        ("HTN", 3, ("a", "b", "c")),
        ("Hypertensive", 1, ("c",)),
    ]
    assert pairs == [
        Pair("HTN", "I10", "silver", 3, "notes: a, b, c"),
        Pair("pneumonia", "J18.9", "silver", 1, "notes: a"),
        Pair("Pneumonia of the left base", "J18.9", "silver", 1, "notes: b"),
        Pair("Productive cough, fever", "J18.9", "silver", 1, "notes: a"),
    ]
    assert read_jsonl(tmp_path / "chosen.jsonl", StageTwoAnswer)[0].rejected == 1 and len(llm.prompts) == 8


@pytest.mark.parametrize(
    "answer, lines",
    [
        ("none", []),
        ("None.", []),
        ("", []),
        ("Evidence:\n1. HTN\n(2) “DM2”\n• 'x y'\n- A1c 9.4", ["HTN", "DM2", "x y", "A1c 9.4"]),
        ("9.4 percent", ["9.4 percent"]),
        ("<think>\nOkay, the user wants\nphrases.\n</think>\n\nHTN", ["HTN"]),
        ("<think>\nOkay, the user wants", []),
        (
            "HTN\r\nchest\x0cpain\nleft\u2028leg\x0b\nDM2\x85\rCKD\n",
            ["HTN", "chest\x0cpain", "left\u2028leg", "DM2\x85\rCKD"],
        ),
    ],
)
def test_lines_of_an_answer(answer, lines):
    """Guards: bullets and quotation marks taken for words of the note, numbers of the note taken for bullets; a
    quotation cut in two where the note has a form feed or another separator that is no line break; a model's reasoning
    taken for phrases."""
    assert answer_lines(answer) == lines


def test_quotations_are_the_notes_own_words():
    """Guards: the LLM's case and spaces in place of the note's."""
    assert locate_quotations("Acute  Renal\nFailure", ["acute renal failure", "renal", "kidney", "x" * 300]) == (
        ("Acute Renal Failure", "Renal"),
        2,
        0,
    )


def test_a_rule_of_dashes_is_no_quotation():
    """Guards: a line with which a model separates its answer, found in a note that has one, as evidence of the code."""
    assert locate_quotations("Plan\n---\n- HTN *", ["---", "*", "HTN", "-"]) == (("HTN",), 3, 0)


def test_the_cut_line_of_an_answer_is_not_read(tmp_path):
    """Guards: "hyperten" as evidence, found inside "hypertension", because the answer ended at its length limit."""
    llm = Scripted()
    llm.truncated = {0, 2}
    llm.answer = lambda prompt: "HTN\nhyperten"
    notes = [document(id, "HTN: hypertension.", "I10") for id in "abc"]
    with AnswerLog(tmp_path / "quoted.jsonl", StageOneAnswer) as log:
        quoted = run_stage_one(notes, BOOK, llm, log)
    assert [answer.evidence for answer in quoted] == [("HTN",), ("HTN", "hyperten"), ("HTN",)]


def test_a_prompt_that_was_too_long_is_asked_again(tmp_path):
    """Guards: notes left out for good, because a server's context was too short for them once."""
    notes = [document(id, f"HTN {id}.", "I10") for id in "ab"]
    for context, evidence in ((True, ()), (True, ()), (False, ("HTN",))):
        llm = Scripted()
        llm.answer = lambda prompt, short=context: None if short and "HTN b" in prompt else "HTN"
        with AnswerLog(tmp_path / "quoted.jsonl", StageOneAnswer) as log:
            quoted = run_stage_one(notes, BOOK, llm, log)
        assert [answer.evidence for answer in quoted] == [("HTN",), evidence]
    assert len(llm.prompts) == 1 and len((tmp_path / "quoted.jsonl").read_text().splitlines()) == 3


def test_a_servers_adapter_is_not_a_folders(tmp_path):
    """Guards: hours of answers of the model without the adapter that the user named."""
    flags = ["--endpoint", "http://127.0.0.1:9/v1", "--model", "m", "--adapter", str(tmp_path)]
    with pytest.raises(InputError, match="--adapter: the server has its own; leave --adapter out"):
        expand.main(["silver", "--notes", str(tmp_path / "notes.jsonl"), "--out", str(tmp_path / "out.jsonl"), *flags])


def test_a_long_quotation_is_counted_apart():
    """Guards: a quotation in the note counted as one that is not there, because it is too long for a phrase."""
    assert locate_quotations("pain " * 60, [" ".join(["pain"] * 50), "agony", "pain"]) == (("pain",), 1, 1)


@pytest.mark.parametrize(
    "answer, chosen, rejected",
    [
        ("CKD (3)", ("CKD (3)",), 0),
        ("ckd (3) (2)\nkidney failure (1)", ("CKD (3)", "kidney failure"), 0),
        ("CKD\nrenal (1)", (), 2),
    ],
)
def test_a_candidate_may_end_in_a_number(tmp_path, answer, chosen, rejected):
    """Guards: the end of a candidate taken for the count that the prompt shows beside it."""
    llm = Scripted()
    llm.answer = lambda prompt: answer
    candidates = {"N18.30": [Candidate("CKD (3)", 2, ("a", "b")), Candidate("kidney failure", 1, ("a",))]}
    with AnswerLog(tmp_path / "chosen.jsonl", StageTwoAnswer) as log:
        [stage_two] = run_stage_two(candidates, BOOK, llm, log)
    assert (stage_two.evidence, stage_two.rejected) == (chosen, rejected)


def test_an_output_that_cannot_be_written_is_refused_first(tmp_path):
    """Guards: a job of days whose every question was asked before its output was found to be a folder."""
    llm = Scripted(answers_left=0)
    gold = [Pair("HTN", "I10", "gold")]
    for function, records in ((expand_silver, NOTES), (expand_synthetic, gold)):
        for out in (tmp_path, tmp_path / ("x" * 300), tmp_path / "pipe"):
            if out.name == "pipe" and not out.exists():
                os.mkfifo(out)
            with pytest.raises(InputError) as error:
                function(records, BOOK, llm, str(out))
            assert str(error.value).startswith(f"{out}: ")
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def coded(id, *codes):
    """A document as a user writes it, without descriptions or evidence."""
    codes = [{"code": code, "description": "", "evidence": []} for code in codes]
    return {"id": id, "text": "Known HTN, DM2 with hyperglycemia.", "codes": codes}


def span(code):
    return {"evidence": "high blood pressure", "code": code, "source": "gold"}


def write_lines(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def test_codes_of_the_input_are_read_as_evaluate_reads_them(tmp_path, monkeypatch, capsys):
    """Guards: i10 and E1165 asked about without a description and written as they are spelt; a pair written for a
    retired code, which train refuses."""
    llm = Scripted()
    llm.answer = lambda prompt: "HTN" if " I10 " in prompt else "DM2 with hyperglycemia"
    monkeypatch.setattr(expand, "load_llm", lambda config: llm)
    notes = write_lines(tmp_path / "notes.jsonl", [coded("a", "i10", "I10", "E1165", "Z99.99"), coded("b", " e11.65")])
    assert expand.main(["silver", "--notes", notes, "--out", str(tmp_path / "silver.jsonl")]) == 0
    pairs = read_jsonl(tmp_path / "silver.jsonl", Pair)
    assert [(pair.code, pair.evidence, pair.count) for pair in pairs] == [
        ("E11.65", "DM2 with hyperglycemia", 2),
        ("I10", "HTN", 1),
    ]
    assert len(llm.prompts) == 3 and all("Type 2 diabetes" in text or "Essential" in text for text in llm.prompts)
    assert re.search(r"\ncodes not in the Tabular List, not asked about +1\n", capsys.readouterr().out)


def test_silver_without_a_pair_fails(tmp_path, monkeypatch, capsys):
    """Guards status 0 and an empty file that the next command trains on."""
    llm = Scripted()
    llm.answer = lambda prompt: "none"
    monkeypatch.setattr(expand, "load_llm", lambda config: llm)
    notes, out = write_lines(tmp_path / "notes.jsonl", [coded("a", "I10")]), tmp_path / "silver.jsonl"
    with pytest.raises(InputError, match="silver.jsonl: not written, since no quotation was located"):
        expand.main(["silver", "--notes", notes, "--out", str(out)])
    assert not out.exists() and re.search(r"\npairs written +0\n", capsys.readouterr().out)


@pytest.mark.long
def test_a_code_is_covered_however_it_is_spelt(tmp_path, capsys):
    """Guards: I10 counted as uncovered, and written a phrase for, beside i10."""
    spelt = [write_lines(tmp_path / f"{code}.jsonl", [span(code)]) for code in ("i10", "I10")]
    assert expand.main(["synthetic", "--template", "--pairs", spelt[0], "--out", f"{spelt[0]}.out"]) == 0
    assert "I10" not in {pair.code for pair in read_jsonl(f"{spelt[0]}.out", Pair)}
    capsys.readouterr()
    assert expand.main(["coverage", "--json", *spelt]) == 0
    assert json.loads(capsys.readouterr().out)["covered"] == 1


@pytest.mark.parametrize("command", ["silver", "synthetic", "coverage"])
def test_what_is_no_code_is_refused_with_count_and_line(tmp_path, monkeypatch, command):
    """Guards: questions about, and pairs of, an ICD-9 code or a word; text of a user's file in a message."""
    monkeypatch.setattr(expand, "load_llm", lambda config: Scripted(answers_left=0))
    records = [coded("a", "I10"), coded("b", "kidney pain", "585.3")] if command == "silver" else [span("I10")] * 2
    records += [] if command == "silver" else [span("kidney pain"), span("585.3")]
    path, out = write_lines(tmp_path / "in.jsonl", records), str(tmp_path / "out.jsonl")
    arguments = {
        "silver": ["--notes", path, "--out", out],
        "synthetic": ["--template", "--pairs", path, "--out", out],
        "coverage": [path],
    }[command]
    with pytest.raises(InputError, match="not an ICD-10-CM code; 2 codes of the file are not") as error:
        expand.main([command, *arguments])
    line = 2 if command == "silver" else 3
    assert str(error.value).startswith(f"{path}:{line}: ") and "kidney" not in str(error.value)
    assert [file.name for file in tmp_path.iterdir()] == ["in.jsonl"]


def test_another_models_log_is_refused_without_its_password(tmp_path):
    """Guards: the password of an address, which versions before 0.2.0 stored, printed."""
    log = tmp_path / "log.jsonl"
    for secret in ("http://u:sesame@127.0.0.1/v1", "http://u:ses?ame@127.0.0.1/v1", "http://127.0.0.1/v1?key=sesame"):
        log.write_text(json.dumps({"code": "I10", "prompt": "x", "evidence": [], "llm": f"m at {secret}"}) + "\n")
        expected = pytest.raises(InputError, match="has answers of m at http://127.0.0.1/v1, not scripted")
        with expected as error, open_answer_log(str(log), SyntheticAnswer, Scripted()):
            pass
        assert "ame" not in str(error.value).replace("name", "")


def test_an_interrupted_job_asks_nothing_twice(tmp_path):
    """Guards: answers lost or asked for again after the LLM fails in either stage; pairs that depend on where."""
    _, _, pairs_uninterrupted = both_stages(tmp_path / "whole", Scripted())
    prompts = []
    for _ in range(20):
        llm = Scripted(answers_left=1)
        try:
            _, _, pairs = both_stages(tmp_path / "pieces", llm)
            break
        except InputError:
            pass
        finally:
            prompts += llm.prompts
    assert pairs == pairs_uninterrupted and len(prompts) == len(set(prompts)) == 8
    for name in ("quoted.jsonl", "chosen.jsonl"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "pieces" / name).read_bytes()


def test_the_order_of_answers_changes_nothing(tmp_path):
    """Guards: evidence, counts or pairs that depend on which prompt was answered first."""
    llm = Scripted()
    llm.step = -1
    assert both_stages(tmp_path / "backwards", llm) == both_stages(tmp_path / "forwards", Scripted())
    logs = [(tmp_path / name / "quoted.jsonl").read_bytes() for name in ("backwards", "forwards")]
    assert sorted(logs[0].splitlines()) == sorted(logs[1].splitlines())


class Undecided(Scripted):
    """Chooses nothing before three notes say HTN."""

    def answer(self, prompt):
        return "none" if "Phrases that" in prompt and "HTN (3)" not in prompt else super().answer(prompt)


def test_more_notes_give_the_uninterrupted_runs_pairs(tmp_path):
    """Guards: a choice among fewer candidates, an empty one above all, used again when more notes have come; quotations
    asked for again."""
    assert both_stages(tmp_path / "grown", Undecided(), [NOTES[0], NOTES[2]])[2] == []
    grown, whole = both_stages(tmp_path / "grown", llm := Undecided()), both_stages(tmp_path / "whole", Undecided())
    assert grown == whole and Pair("HTN", "I10", "silver", 3, "notes: a, b, c") in grown[2]
    assert len(llm.prompts) == 3 + 2  # the codes of b and d; I10 and J18.9, whose candidates are others now


def test_an_edited_note_is_asked_about_again(tmp_path):
    """Guards: quotations of a note's earlier text, which are not in it any more."""
    edited, llm = [document("a", "High blood pressure. CXR: pneumonia.", "I10", "J18.9"), *NOTES[1:]], Scripted()
    both_stages(tmp_path / "edited", Scripted())
    llm.notes = edited
    result = both_stages(tmp_path / "edited", llm, edited)
    assert [answer.evidence for answer in result[0]][:2] == [("High blood pressure",), ("pneumonia",)]
    assert len(llm.prompts) == 2 + 2
    assert result == both_stages(tmp_path / "fresh", llm, edited)


@pytest.mark.parametrize(
    "cls, line, message",
    [
        (
            StageOneAnswer,
            {"note": "a", "code": "I10", "evidence": [], "rejected": 0, "llm": "m", "answered": True},
            "1: StageOneAnswer: key 'prompt' is missing: an older version's answer",
        ),
        (
            StageTwoAnswer,
            {"code": "I10", "prompt": "x", "evidence": ["HTN", 3], "rejected": 0, "llm": "m"},
            "1: StageTwoAnswer: evidence is a number; it must be a string",
        ),
        (
            SyntheticAnswer,
            {"code": "I10", "prompt": "x", "evidence": [None], "llm": "m"},
            "1: SyntheticAnswer: evidence is null; it must be a string",
        ),
        (
            SyntheticAnswer,
            {"code": "I10", "prompt": "x", "evidence": {}, "llm": "m"},
            "1: SyntheticAnswer: evidence is an object; it must be a list",
        ),
        (SyntheticAnswer, 3, "1: SyntheticAnswer: a number, not an object"),
    ],
)
def test_a_damaged_answer_log_is_refused_in_one_line(tmp_path, cls, line, message):
    """Guards: an answer to another prompt used; a traceback, or a number as evidence, out of a log that was edited."""
    (tmp_path / "log.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(InputError) as error:
        AnswerLog(tmp_path / "log.jsonl", cls)
    assert message in str(error.value)


def test_every_kind_of_value_has_a_name():
    """Guards: a KeyError in place of the message where a key must hold an object."""
    with pytest.raises(InputError, match="Pair: x is a number; it must be a JSON object"):
        checked_record({"x": 3}, Pair, {"x": dict}, {})


def test_a_local_model_is_named_by_its_content(tmp_path):
    """Guards: answers of two models, or of two dtypes, in one log, because both lay under the same path."""
    shutil.copytree(DEMO, tmp_path / "model")

    def name(**settings):
        config = SilverConfig(notes="n", out="o", model=str(tmp_path / "model"), **settings)
        return expand.load_llm(config).name

    first = name()
    assert first == name() != name(dtype="bfloat16") and name(adapter="none") != first
    weights = (tmp_path / "model" / "model.safetensors").read_bytes()
    (tmp_path / "model" / "model.safetensors").write_bytes(weights[:-2] + b"\0\0")
    assert name() != first
