"""study/compare.py as a user runs it: all systems, one table, and nothing coded twice."""

import json
import subprocess
import sys

import pytest

from minscl.data.jsonl import write_jsonl
from minscl.data.types import Assignment, CodedDocument, Evidence


@pytest.fixture()
def gold(tmp_path):
    text = "Pt with HTN and DM2."
    documents = [CodedDocument(str(number), text + " " * number, (Assignment("I10", "Essential (primary) hypertension", (Evidence("HTN", 8, 11),)),)) for number in range(2)]
    write_jsonl(tmp_path / "gold.jsonl", documents)
    return tmp_path / "gold.jsonl"


def compare(*arguments, cwd):
    return subprocess.run([sys.executable, "-m", "study.compare", *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=400)


def test_systems_are_run_scored_and_kept(gold, tmp_path):
    """Guards: a system scored on another's file, flags that do not reach generate, notes coded again by a second start."""
    arguments = ("--run", "scl-grounded,cot-sc", "--gold", gold, "--out", tmp_path / "out", "--rounds", 10, "--train", gold, "--", "--chains", "2")
    done = compare(*arguments, cwd=".")
    assert done.returncode == 0, done.stderr
    assert "scl-grounded" in done.stdout and "seen micro" in done.stdout and "seconds a note: scl-grounded" in done.stdout
    lines = [json.loads(line) for line in (tmp_path / "out" / "cot-sc.jsonl").read_text().splitlines()]
    assert len(lines) == 2 and all(one["output"].count("--- chain ") == 2 for one in lines)
    assert all(one["start"] is not None for line in (tmp_path / "out" / "scl-grounded.jsonl").read_text().splitlines() for code in json.loads(line)["codes"]
               for one in code["evidence"])
    before = (tmp_path / "out" / "cot-sc.jsonl").read_bytes()
    again = compare(*arguments, cwd=".")
    assert again.stdout == done.stdout and (tmp_path / "out" / "cot-sc.jsonl").read_bytes() == before


def test_an_unknown_system_is_one_line_and_status_2(gold, tmp_path):
    done = compare("--run", "scl,mac", "--gold", gold, "--out", tmp_path / "out", cwd=".")
    assert done.returncode == 2 and "--run mac: choose from scl" in done.stderr and done.stderr.count("\n") == 1
