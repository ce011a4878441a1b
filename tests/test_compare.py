"""study/compare.py: all systems, one table, and nothing coded twice."""

import dataclasses
import sys
from pathlib import Path

import pytest

from minscl.data.chains import append_steps, split_steps
from minscl.data.icd import CodeBook
from minscl.data.jsonl import read_jsonl, write_jsonl
from minscl.data.prompts import render_document_prompt, render_evidence, render_reasoning_prompt
from minscl.data.types import Assignment, CodedDocument, Evidence, Note
from minscl.errors import InputError
from minscl.infer.systems.questions import introduce
from study import compare, compare_docs, compare_runs
from study.compare_rows import ROWS, Setup, generate_command, gold_path, predictions_path
from study.compare_table import detail_table, difference_cell, main_table, measure, score
from study.compare_tokens import count_tokens
from study.demo_data import adapter_documents, written
from study.tables import MICRO

TEXT = "Pt with HTN and DM2."
HTN = Assignment("I10", "Essential (primary) hypertension", (Evidence("HTN", 8, 11),))
DM2 = Assignment("E11.9", "Type 2 diabetes mellitus without complications", (Evidence("DM2", 16, 19),))
OF_NAME = {row.name: row for row in ROWS}


class Words:
    """A tokenizer whose tokens are words; a chat has two more."""

    def encode(self, text):
        return text.split()

    encode_answer_start = encode

    def encode_chat(self, messages, add_generation_prompt):
        return ["user", *messages[0]["content"].split(), "assistant"]


def documents(number, codes=(HTN, DM2)):
    return [CodedDocument(str(index), TEXT + " " * index, codes) for index in range(number)]


def write_row(folder, name, coded, ids, seconds=1.0):
    """A row's file and record, as if it had coded the notes `ids`."""
    predicted = predictions_path(folder, OF_NAME[name])
    write_jsonl(predicted, coded)
    compare_runs.write_record(predicted, compare_runs.Record([], dict.fromkeys(ids, ""), seconds))


@pytest.mark.slow
@pytest.mark.long
def test_systems_are_run_scored_and_kept(tmp_path, monkeypatch, capfd, generate):
    """Guards: flags that do not reach generate, a row scored on another's file, zero-shot with an adapter, notes coded
    again by a second start or by a larger --limit, evidence scores of a row that was given gold's evidence."""
    calls = []

    def run(command):
        assert command[:3] == [sys.executable, "-m", "minscl.generate"]
        calls.append(command[3:])
        done = generate(*command[3:])
        return done.returncode, done.stderr.strip()

    def write_data(setup):
        write_jsonl(setup.documents, documents(2))

    write_jsonl(tmp_path / "visits.jsonl", documents(2))
    monkeypatch.setattr(compare_runs, "run", run)
    monkeypatch.setattr(compare, "write_data", write_data)
    rows = "lookup,scl,scl-evidence,scl-verify,cot"
    arguments = ["--rows", rows, "--gold", tmp_path / "visits.jsonl", "--out", tmp_path / "out", "--rounds", 10]

    def start(*flags):
        calls.clear()
        monkeypatch.setattr(sys, "argv", ["compare", *map(str, (*arguments, *flags))])
        assert compare.main() == 0
        return capfd.readouterr().out.partition("| system |")[2]

    table = start("--limit", 1)
    coded = {name: read_jsonl(tmp_path / "out" / "visits" / f"{name}.jsonl", CodedDocument) for name in rows.split(",")}
    assert all(len(items) == 1 for items in coded.values())
    assert coded["cot"][0].coded_with["adapter"] == "none" != coded["scl"][0].coded_with["adapter"]
    assert coded["scl-verify"][0].coded_with["verified"] == "True"
    assert all(document.continued for document in coded["scl-evidence"])
    assert "| look-up | 100.0" in table and all(OF_NAME[name].title in table for name in rows.split(","))
    details = [line.split(" | ") for line in table.partition("visits:\n")[2].splitlines() if line.startswith("| S")]
    assert [cells[1] for cells in details] == ["1"] * 3
    assert details[1][0] == "| SCL + Evid." and details[1][4] == "-" != details[0][4]

    assert start("--limit", 1) == table and not calls
    table = start("--limit", 2)
    assert [Path(call[call.index("--out") + 1]).stem for call in calls] == [
        "cot", "lookup", "scl", "scl-evidence", "scl-verify",
    ]  # fmt: skip
    assert read_jsonl(tmp_path / "out" / "visits" / "cot.jsonl", CodedDocument)[0] == coded["cot"][0]
    assert table.count(" | 2 | ") == 5
    monkeypatch.setattr(compare, "describe_weights", lambda *_: {"model": "other", "adapter": "none"})
    with pytest.raises(InputError, match="was made with model demo .*, now other; name another --out"):
        compare.main()


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--rows", "scl,magic"], "--rows magic: choose from cot"),
        (["--limit", "-1"], "--limit -1"),
        (["--gold", "empty.jsonl"], "contains no document"),
        (["--gold", "a/x.jsonl", "--gold", "b/x.jsonl"], "two files have the same name"),
    ],
)
def test_bad_usage_is_one_line(tmp_path, monkeypatch, arguments, words):
    """Guards: an unknown row, a division by no notes, one test's answers taken for another's."""
    for name in ("empty", "a/x", "b/x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.jsonl").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compare, "write_data", lambda setup: None)
    monkeypatch.setattr(sys, "argv", ["compare", *arguments])
    with pytest.raises(InputError, match=words):
        compare.main()


def code_with(monkeypatch, folder, status, last_line, output="", number=1, command=("minscl.generate",)):
    """compare_runs.code_notes with a generate that appends `output`, says `last_line` and exits with `status`."""
    predicted = folder / "cot.jsonl"

    def run(command):
        with open(predicted, "a") as handle:
            handle.write(output)
        return status, last_line

    monkeypatch.setattr(compare_runs, "run", run)
    compare_runs.code_notes(predicted, list(command), folder / "notes.jsonl", documents(number))
    return compare_runs.read_record(predicted)


def test_a_skipped_note_is_not_bad_usage(tmp_path, monkeypatch):
    """Guards: status 2 of a wrong flag taken for a skipped note, and scored; a note that is always skipped started for
    ever."""
    for last_line in (
        "minscl: --model nowhere: no such file",
        "minscl: 2 of 2 notes were skipped, the first is a; the others are coded",
    ):
        with pytest.raises(InputError, match="ended with status 2"):
            code_with(monkeypatch, tmp_path, 2, last_line)
    with pytest.raises(InputError, match="ended with status 2"):  # stopped half-way
        code_with(monkeypatch, tmp_path, 2, "minscl: 3 GiB are not available", "{}\n")
    assert not compare_runs.read_record(tmp_path / "cot.jsonl").notes
    last_line = "minscl: 1 of 2 notes were skipped, the first is a; the others are coded"
    assert list(code_with(monkeypatch, tmp_path, 2, last_line).notes) == ["0"]
    code_with(monkeypatch, tmp_path, 1, "is not run again")
    script = "import sys; print('100%', file=sys.stderr); sys.exit('minscl: 1 of 2 notes were skipped')"
    monkeypatch.undo()
    assert compare_runs.run([sys.executable, "-c", script]) == (1, "minscl: 1 of 2 notes were skipped")


def test_a_file_of_another_command_or_other_notes_is_refused(tmp_path, monkeypatch):
    """Guards: another model's answers, or another note's, scored as this run's because their number is right; more
    notes that are not coded."""
    first = code_with(monkeypatch, tmp_path, 0, "", "{}\n", number=2)
    assert first.seconds > 0 and set(first.notes) == {"0", "1"}
    assert code_with(monkeypatch, tmp_path, 1, "is not run again", number=1) == first
    more = code_with(monkeypatch, tmp_path, 0, "", "{}\n", number=3)
    assert set(more.notes) == {"0", "1", "2"} and more.seconds > first.seconds
    predicted = tmp_path / "cot.jsonl"
    assert predicted.read_text() == "{}\n" * 2
    changed = [dataclasses.replace(document, codes=(HTN,)) for document in documents(3)]
    for command, notes in ((["minscl.generate", "--model", "other"], documents(3)), (first.command, changed)):
        with pytest.raises(InputError, match="another command or from other documents"):
            compare_runs.earlier(predicted, command, notes)
    compare_runs.record_path(predicted).unlink()
    with pytest.raises(InputError, match="another command"):
        compare_runs.earlier(predicted, first.command, documents(3))


def test_every_row_gets_its_weights(tmp_path):
    """Guards: a head with an adapter flag, which generate refuses; SCL's adapter in a zero-shot row."""
    setup = Setup(tmp_path, "MODEL", "ADAPTER")
    after = {}
    for row in ROWS:
        command = generate_command(row, setup, tmp_path / "test")
        after[row.name] = dict(zip(command, command[1:], strict=False))
    for name in ("cot", "cot-sc", "mac", "clh"):
        assert after[name]["--adapter"] == "none"
    for name in ("plm-icd", "plm-ca", "gki-icd"):
        assert after[name]["--heads"] == str(tmp_path / "trained" / name) and "--adapter" not in after[name]
    assert {after[name]["--adapter"] for name in ("scl", "scl-evidence", "scl-verify")} == {"ADAPTER"}
    assert after["sft"]["--adapter"] == str(tmp_path / "trained" / "sft")
    assert after["scl-evidence"]["--evidence"] == str(tmp_path / "test" / "gold.jsonl")
    assert "--model" not in after["lookup"] and after["cot"]["--model"] == "MODEL"


def test_differences_are_paired_on_a_row_s_own_notes(tmp_path):
    """Guards: SCL scored on notes that the row does not have, a skipped note left out of the score, evidence of "+
    Evid." scored, costs by the number of coded notes."""
    gold = documents(4)
    write_jsonl(gold_path(tmp_path), gold)
    right, half = gold[:2], [dataclasses.replace(document, codes=(HTN,)) for document in gold]
    write_row(tmp_path, "scl", half[:2] + gold[2:], [str(number) for number in range(4)], seconds=8)
    write_row(tmp_path, "clh", right[:1], ["0", "1"])  # note 1 was skipped
    write_row(tmp_path, "scl-evidence", gold, [str(number) for number in range(4)])
    results = measure(tmp_path, ROWS, 50, Words())
    assert [row.name for row in ROWS if row in results] == ["clh", "scl", "scl-evidence"]
    scl, clh, given = (results[OF_NAME[name]] for name in ("scl", "clh", "scl-evidence"))
    assert scl.seconds == 2 and (clh.notes, clh.skipped) == (2, 1)
    # SCL on notes 0 and 1: 2 of 4 codes, none wrong; CLH: 2 of 4 too. On all notes SCL has 6 of 8.
    assert clh.scores.value[MICRO][2] == pytest.approx(2 / 3) == clh.reference.value[MICRO][2]
    assert scl.scores.value[MICRO][2] == pytest.approx(12 / 14)
    assert difference_cell(clh, MICRO).startswith("+0.0 [-") and difference_cell(scl, MICRO) == "-"
    low, high = sorted((clh.scores.samples[MICRO] - clh.reference.samples[MICRO])[:, 2])[:: len("x") * 49]
    assert low == pytest.approx(-2 / 3) and high == pytest.approx(1 / 3)  # only note 1, only note 0
    lines = detail_table(results, ROWS).splitlines()
    assert lines[2].startswith("| CLH | 2 (1 too long) | +0.0 [")
    assert lines[4].split(" | ")[4] == "-" != lines[3].split(" | ")[4]
    assert main_table({"visits": results}, ROWS).splitlines()[4].startswith("| SCL + Evid. | 100.0")
    alone = score(gold, {OF_NAME["scl"]: measure_input(tmp_path, "scl")}, 50)
    assert (alone[OF_NAME["scl"]].samples[MICRO] == scl.scores.samples[MICRO]).all()  # same draws for every row
    assert difference_cell(given, MICRO).startswith("+14.3")


def measure_input(folder, name):
    """What compare_table.score takes of a row."""
    from study.compare_table import Coded

    predicted = predictions_path(folder, OF_NAME[name])
    coded = {document.id: document for document in read_jsonl(predicted, CodedDocument)}
    return Coded(coded, compare_runs.read_record(predicted))


def test_tokens_of_each_kind_of_system():
    """Guards: a note counted for each of its questions, questions counted as answers, passages or chains as one."""
    note, words = Note("1", TEXT), Words()

    def tokens(output, quotations=None, **settings):
        document = CodedDocument("1", TEXT, output=output, coded_with=settings)
        return count_tokens(document, words, quotations)

    prompt = len(render_document_prompt(TEXT).split()) + 2
    assert tokens("a b c", system="scl") == (prompt, 3)
    assert tokens("a b c", ["HTN"], system="scl") == (prompt + len(render_evidence(["HTN"]).split()), 3)
    reasoning = len(render_reasoning_prompt(TEXT).split()) + 2
    chains = "--- chain 1 of 2\na b\n--- chain 2 of 2\nc"
    assert tokens(chains, system="cot-sc") == (reasoning, 3)
    shared = len(introduce(note).split()) + 2
    steps = [("extract", "What is\nthere?\n> 1. HTN\n2. DM2"), ("assign", "Which?\n> 2")]
    assert tokens(append_steps(None, steps), system="clh") == (shared + 4, 5)
    assert tokens(append_steps("a b c", steps[1:]), system="scl", verified="True") == (prompt + shared + 1, 4)
    assert tokens("a b c", system="lookup") == (0, 0)
    assert tokens(None, system="plm-ca") == (len(TEXT.split()), 0)
    passages = [render_document_prompt(text) for text in ("One two.", "Three four.")]
    document = CodedDocument("1", "One two. Three four.", output="--- passage 1 of 2\na\n--- passage 2 of 2\nb")
    document = dataclasses.replace(document, coded_with={"system": "scl", "passage": "2"})
    assert count_tokens(document, words) == (sum(len(text.split()) + 2 for text in passages), 2)


def test_steps_are_split_as_they_were_appended():
    """Guards: a step whose text has several lines, an answer before the steps."""
    steps = [("extract", "What?\n> a\nb"), ("assign: one", "Which?\n> 1")]
    assert split_steps(append_steps(None, steps)) == steps
    assert split_steps(append_steps(append_steps("1. a\n2. b", steps[:1]), steps[1:])) == [
        ("generate", "1. a\n2. b"), *steps,
    ]  # fmt: skip
    assert split_steps("1. a") == []


def test_the_documents_have_a_place_for_every_row(tmp_path, monkeypatch):
    """Guards: a row without a place in docs/, figures put at another row's, text outside the places changed."""
    folder = tmp_path / "test"
    gold = documents(3)
    write_jsonl(gold_path(folder), gold)
    write_row(folder, "mac", gold, ["0", "1", "2"])
    for name in ("study.md", "systems.md"):
        (tmp_path / name).write_bytes((compare_docs.DOCS / name).read_bytes())
    before = (tmp_path / "systems.md").read_text()
    monkeypatch.setattr(compare_docs, "DOCS", tmp_path)
    results = {"visits": measure(folder, ROWS, 10, Words())}
    compare_docs.write_docs(results, ROWS)
    compare_docs.write_docs(results, ROWS)  # in the place of the first
    after = (tmp_path / "systems.md").read_text()
    expected = "visits, 3 notes: micro-F1 100.0 [100.0, 100.0], 0.33 s a note, "
    assert after.count(expected) == 1 and after.index(expected) > after.index("### mac")
    assert all(f"<!-- study.compare {row.name} -->" in after for row in ROWS)
    assert len(before.splitlines()) == len(after.splitlines())
    assert "| MAC | 100.0 [100.0, 100.0] | 100.0" in (tmp_path / "study.md").read_text()
    (tmp_path / "systems.md").write_text(before.replace("<!-- study.compare mac -->", ""))
    with pytest.raises(InputError, match="has no <!-- study.compare mac -->"):
        compare_docs.write_docs(results, ROWS)


def test_documents_are_those_of_the_adapter(monkeypatch):
    """Guards: SFT and heads trained on other documents than SCL's adapter."""
    from study import demo_data

    cases = written("cases", CodeBook.load())
    monkeypatch.setattr(
        demo_data, "training_documents", lambda codebook: dict.fromkeys(demo_data.ADAPTER_DOCUMENTS, cases)
    )
    monkeypatch.setattr(demo_data, "ADAPTER_DOCUMENTS", {"codiesp": 3, "notes": 2})
    monkeypatch.setattr(demo_data, "in_passages", lambda chosen, tokenizer: chosen)
    saved = {}
    monkeypatch.setattr(demo_data, "write_jsonl", lambda path, records: saved.update({Path(path).name: records}))
    pairs = [None] * demo_data.ADAPTER_SPANS
    monkeypatch.setattr(demo_data, "gold_pairs", lambda codebook: pairs)
    monkeypatch.setattr(demo_data, "common_phrases", lambda codebook: pairs)
    demo_data.write_adapter_data(Path("unused"), None)
    assert len(saved["documents.jsonl"]) == 5 and saved["documents.jsonl"] == adapter_documents(CodeBook.load())
