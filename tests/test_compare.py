"""study/compare.py as a user runs it: all systems in one table, and no note coded twice."""

import json
import subprocess
import sys

import pytest

from minscl.data.jsonl import write_jsonl
from minscl.data.types import Assignment, CodedDocument, Evidence
from minscl.errors import InputError
from study import compare as module


@pytest.fixture()
def gold(tmp_path):
    text = "Pt with HTN and DM2."
    documents = [
        CodedDocument(
            str(number),
            text + " " * number,
            (Assignment("I10", "Essential (primary) hypertension", (Evidence("HTN", 8, 11),)),),
        )
        for number in range(2)
    ]
    write_jsonl(tmp_path / "gold.jsonl", documents)
    return tmp_path / "gold.jsonl"


def compare(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "study.compare", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=400,
    )


@pytest.mark.slow
def test_systems_are_run_scored_and_kept(gold, tmp_path):
    """Guards: a system scored on another's file, flags that do not reach generate, notes coded again by a second run,
    zero-shot with an adapter, evidence scores of a system that has gold's evidence."""
    systems = "scl-grounded,scl-evidence,cot-sc"
    arguments = (
        "--run",
        systems,
        "--gold",
        gold,
        "--out",
        tmp_path / "out",
        "--rounds",
        10,
        "--train",
        gold,
        "--",
        "--chains",
        "2",
    )
    done = compare(*arguments, cwd=".")
    assert done.returncode == 0, done.stderr
    assert (
        "scl-grounded" in done.stdout and "seen micro" in done.stdout and "seconds a note: scl-grounded" in done.stdout
    )
    lines = [json.loads(line) for line in (tmp_path / "out" / "cot-sc.jsonl").read_text().splitlines()]
    assert len(lines) == 2 and all(document["output"].count("--- chain ") == 2 for document in lines)
    assert all(
        quotation["start"] is not None
        for line in (tmp_path / "out" / "scl-grounded.jsonl").read_text().splitlines()
        for code in json.loads(line)["codes"]
        for quotation in code["evidence"]
    )
    with_evidence = [json.loads(line) for line in (tmp_path / "out" / "scl-evidence.jsonl").read_text().splitlines()]
    quoted = {e["text"] for document in with_evidence for code in document["codes"] for e in code["evidence"]}
    assert quoted <= {"HTN"} and "Evidence" not in with_evidence[0]["output"]
    rows = {line.split("  ")[0]: line for line in done.stdout.splitlines()}
    assert rows["span_exact_match"].count(" - ") == 1 and " - " not in rows["micro"]
    commands = {
        name: json.loads((tmp_path / "out" / f"{name}.command.json").read_text())["command"]
        for name in ("cot-sc", "scl-evidence")
    }
    assert "none" in commands["cot-sc"] and "--adapter" not in commands["scl-evidence"]
    before = (tmp_path / "out" / "cot-sc.jsonl").read_bytes()
    again = compare(*arguments, cwd=".")
    assert again.stdout == done.stdout and (tmp_path / "out" / "cot-sc.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--run", "scl,mac"], "--run mac: choose from scl"),
        (["--run", "scl,sft"], "give --adapter sft=DIR"),
        (["--run", "scl", "--adapter", "scl"], "write scl=DIR"),
        (["--run", "scl", "--gold", "empty.jsonl"], "no document in there"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(gold, tmp_path, monkeypatch, capsys, arguments, words):
    """Guards: a baseline with SCL's adapter, a division by zero notes."""
    (tmp_path / "empty.jsonl").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["compare", "--gold", str(gold), *arguments])
    with pytest.raises(InputError, match=words):
        module.main()


def coded(monkeypatch, out, status, last_line, line=""):
    """The record of code_notes where generate writes `line` to its file and ends with `status` and `last_line`."""

    def run(command):
        with open(out / "cot.jsonl", "a") as handle:
            handle.write(line)
        return status, last_line

    monkeypatch.setattr(module, "run", run)
    record = {"command": ["minscl.generate"], "sha256": {"notes.jsonl": "1"}}
    module.code_notes("cot", out, module.earlier("cot", out, record))
    return record


def test_a_skipped_note_is_not_bad_usage(tmp_path, monkeypatch):
    """Guards: status 2 of a wrong flag taken for a skipped note; a note that is always skipped coded over and over."""
    for last_line in (
        "minscl: --model nowhere: no such file",
        "minscl: 2 of 2 notes were skipped, the first is a; the others are coded",
    ):
        with pytest.raises(InputError, match="ended with status 2"):
            coded(monkeypatch, tmp_path, 2, last_line)
    with pytest.raises(InputError, match="ended with status 2"):  # stopped half-way
        coded(monkeypatch, tmp_path, 2, "minscl: 3 GiB are not there", "{}\n")
    record = coded(monkeypatch, tmp_path, 2, "minscl: 1 of 2 notes were skipped, the first is a; the others are coded")
    assert module.earlier("cot", tmp_path, record)["finished"]
    coded(monkeypatch, tmp_path, 1, "is not run again")
    script = "import sys; print('100%', file=sys.stderr); sys.exit('minscl: 1 of 2 notes were skipped')"
    monkeypatch.undo()
    assert module.run([sys.executable, "-c", script]) == (1, "minscl: 1 of 2 notes were skipped")


def test_a_file_of_another_command_or_other_notes_is_refused(tmp_path, monkeypatch):
    """Guards: answers of another model or for other notes scored as this run's because their number is right."""
    record = coded(monkeypatch, tmp_path, 0, "", "{}\n")
    seconds = module.earlier("cot", tmp_path, record)["seconds"]
    assert seconds > 0 and module.code_notes("cot", tmp_path, module.earlier("cot", tmp_path, record)) == seconds
    for changed in (
        {**record, "command": ["minscl.generate", "--model", "other"]},
        {**record, "sha256": {"notes.jsonl": "2"}},
    ):
        with pytest.raises(InputError, match="another command or from other documents"):
            module.earlier("cot", tmp_path, changed)
    (tmp_path / "cot.command.json").unlink()
    with pytest.raises(InputError, match="another command"):
        module.earlier("cot", tmp_path, record)
