"""study/compare.py as a user runs it: all systems, one table, and nothing coded twice."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from minscl.data.jsonl import write_jsonl
from minscl.data.types import Assignment, CodedDocument, Evidence
from minscl.errors import InputError
from study import compare

ROOT = Path(__file__).parent.parent


@pytest.fixture
def gold(tmp_path):
    """A file of two coded documents."""
    text = "Pt with HTN and DM2."
    codes = (Assignment("I10", "Essential (primary) hypertension", (Evidence("HTN", 8, 11),)),)
    documents = [CodedDocument(str(number), text + " " * number, codes) for number in range(2)]
    write_jsonl(tmp_path / "gold.jsonl", documents)
    return tmp_path / "gold.jsonl"


@pytest.mark.slow
@pytest.mark.long
def test_systems_are_run_scored_and_kept(gold, tmp_path, monkeypatch, capfd, generate):
    """Guards: a system scored on another's file, flags that do not reach generate, notes coded again by a second start,
    zero-shot with an adapter, evidence scores of a system that was given gold's evidence.

    At the first start generate runs in this process; the second start is one as a user makes it."""

    def run(command):
        assert command[:3] == [sys.executable, "-m", "minscl.generate"]
        done = generate(*command[3:])
        return done.returncode, done.stderr.strip()

    def read(name):
        return [json.loads(line) for line in (tmp_path / "out" / name).read_text().splitlines()]

    arguments = ["--run", "scl-grounded,scl-evidence,cot-sc", "--gold", gold, "--out", tmp_path / "out"]
    arguments += ["--rounds", 10, "--train", gold, "--", "--chains", "2"]
    monkeypatch.setattr(compare, "run", run)
    monkeypatch.setattr(sys, "argv", ["compare", *map(str, arguments)])
    assert compare.main() == 0
    stdout = capfd.readouterr().out
    assert "scl-grounded" in stdout and "seen micro" in stdout and "seconds a note: scl-grounded" in stdout
    chains = read("cot-sc.jsonl")
    assert len(chains) == 2 and all(document["output"].count("--- chain ") == 2 for document in chains)
    grounded = [
        evidence
        for document in read("scl-grounded.jsonl")
        for code in document["codes"]
        for evidence in code["evidence"]
    ]
    assert all(evidence["start"] is not None for evidence in grounded)
    continued = read("scl-evidence.jsonl")
    quoted = {evidence["text"] for document in continued for code in document["codes"] for evidence in code["evidence"]}
    assert quoted <= {"HTN"} and "Evidence" not in continued[0]["output"]
    rows = {line.split("  ")[0]: line for line in stdout.splitlines()}
    assert rows["span_exact_match"].count(" - ") == 1 and " - " not in rows["micro"]
    commands = {name: read(f"{name}.command.json")[0]["command"] for name in ("cot-sc", "scl-evidence")}
    assert "none" in commands["cot-sc"] and "--adapter" not in commands["scl-evidence"]
    before = (tmp_path / "out" / "cot-sc.jsonl").read_bytes()
    command = [sys.executable, "-m", "study.compare", *map(str, arguments)]
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert again.returncode == 0, again.stderr
    assert again.stdout == stdout and (tmp_path / "out" / "cot-sc.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--run", "scl,mac"], "--run mac: choose from scl"),
        (["--run", "scl,sft"], "give --adapter sft=DIR"),
        (["--run", "scl", "--adapter", "scl"], "write scl=DIR"),
        (["--run", "scl", "--gold", "empty.jsonl"], "contains no document"),
    ],
)
def test_bad_usage_is_one_line(gold, tmp_path, monkeypatch, arguments, words):
    """Guards: a baseline with SCL's adapter, a division by no notes."""
    (tmp_path / "empty.jsonl").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["compare", "--gold", str(gold), *arguments])
    with pytest.raises(InputError, match=words):
        compare.main()


def code_with(monkeypatch, out, status, last_line, output=""):
    """compare.code_notes with a generate that appends `output` to its file, says `last_line` and exits with
    `status`."""

    def run(command):
        with open(out / "cot.jsonl", "a") as handle:
            handle.write(output)
        return status, last_line

    monkeypatch.setattr(compare, "run", run)
    record = {"command": ["minscl.generate"], "sha256": {"notes.jsonl": "1"}}
    compare.code_notes("cot", out, compare.earlier("cot", out, record))
    return record


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
    last_line = "minscl: 1 of 2 notes were skipped, the first is a; the others are coded"
    record = code_with(monkeypatch, tmp_path, 2, last_line)
    assert compare.earlier("cot", tmp_path, record)["finished"]
    code_with(monkeypatch, tmp_path, 1, "is not run again")
    script = "import sys; print('100%', file=sys.stderr); sys.exit('minscl: 1 of 2 notes were skipped')"
    monkeypatch.undo()
    assert compare.run([sys.executable, "-c", script]) == (1, "minscl: 1 of 2 notes were skipped")


def test_a_file_of_another_command_or_other_notes_is_refused(tmp_path, monkeypatch):
    """Guards: another model's answers, or another note's, scored as this run's because their number is right."""
    record = code_with(monkeypatch, tmp_path, 0, "", "{}\n")
    seconds = compare.earlier("cot", tmp_path, record)["seconds"]
    assert seconds > 0
    assert compare.code_notes("cot", tmp_path, compare.earlier("cot", tmp_path, record)) == seconds
    for changed in (
        {**record, "command": ["minscl.generate", "--model", "other"]},
        {**record, "sha256": {"notes.jsonl": "2"}},
    ):
        with pytest.raises(InputError, match="another command or from other documents"):
            compare.earlier("cot", tmp_path, changed)
    (tmp_path / "cot.command.json").unlink()
    with pytest.raises(InputError, match="another command"):
        compare.earlier("cot", tmp_path, record)
