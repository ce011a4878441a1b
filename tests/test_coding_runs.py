"""Runs of `generate` over many notes: bad notes are skipped and reported, an interrupted run resumes."""

import bisect
import json
import random
import signal
import subprocess
import sys
import time

import pytest

from minscl.data.answer_log import AnswerLog
from minscl.data.types import CodedDocument, Note
from minscl.errors import InputError


def start(*arguments) -> subprocess.Popen:
    """`python -m minscl.generate --free` as a process: plain generation takes the least time."""

    def restore_ctrl_c():  # a shell's background job ignores Ctrl-C, and so would its children
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    command = [sys.executable, "-m", "minscl.generate", "--free", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=restore_ctrl_c
    )


def write_notes(path, texts) -> None:
    path.write_text("".join(json.dumps({"id": f"n{number}", "text": text}) + "\n" for number, text in enumerate(texts)))


def lines_of(path) -> list[str]:
    return path.read_text().splitlines(keepends=True) if path.exists() else []


@pytest.mark.slow
@pytest.mark.long
def test_one_bad_file_among_several_is_skipped(tmp_path):
    """Guards: ten thousand text files of which none is coded because one is empty."""
    for name, content in (("a.txt", b"Hypertension."), ("b.txt", b""), ("c.txt", b"caf\xe9"), ("d.txt", b"Anxiety.")):
        (tmp_path / name).write_bytes(content)
    files = [tmp_path / name for name in ("a.txt", "b.txt", "c.txt", "d.txt", "missing.txt")]
    run = start(*files, "--out", tmp_path / "out.jsonl")
    _, err = run.communicate(timeout=120)
    ids = [json.loads(line)["id"] for line in lines_of(tmp_path / "out.jsonl")]
    assert run.returncode == 2 and ids == [str(tmp_path / "a.txt"), str(tmp_path / "d.txt")]
    assert err.count("skipped: ") == 3 and "3 of 5 notes were skipped" in err and "Traceback" not in err


@pytest.mark.slow
def test_one_bad_note_is_skipped_and_reported(tmp_path):
    """Guards: a month's notes lost because of one, a bad note reported without its id, exit status 0."""
    write_notes(tmp_path / "notes.jsonl", ["Hypertension.\n", "", "Anemia.\n"])
    run = start(tmp_path / "notes.jsonl", "--out", tmp_path / "out.jsonl")
    out, err = run.communicate(timeout=300)
    assert run.returncode == 2 and out == ""
    assert "skipped: n1: the note is empty" in err and "1 of 3 notes were skipped, the first is n1" in err
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [CodedDocument.from_dict(json.loads(line)).id for line in lines] == ["n0", "n2"]


@pytest.mark.slow  # a process is killed; what follows runs in this one
@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.long)])
def test_an_interrupted_run_resumes(tmp_path, generate, number):
    """Guards: notes coded twice or never after kill -9 or Ctrl-C, a torn line kept, an old answer for a new text."""
    notes, out = tmp_path / "notes.jsonl", tmp_path / "out.jsonl"
    write_notes(notes, [f"{number} days of cough. Hypertension, GERD and anxiety.\n" for number in range(7)])
    arguments = (notes, "--free", "--out", out, "--batch-size", 2)
    run = start(*arguments)
    while run.poll() is None and len(lines_of(out)) < 2:
        time.sleep(0.02)
    run.send_signal(number)
    run.communicate(timeout=60)
    assert all(line.endswith("\n") and json.loads(line) for line in lines_of(out))
    written = lines_of(out)
    with open(out, "a") as handle:
        handle.write('{"id": "n6", "te')  # a write that the kill cut short
    last = generate(*arguments)
    assert last.returncode == 0, last.stderr
    assert lines_of(out)[: len(written)] == written and len(written) < 7
    assert generate(notes, "--free", "--out", tmp_path / "whole.jsonl", "--batch-size", 2).returncode == 0
    resumed, uninterrupted = ([json.loads(line) for line in lines_of(path)] for path in (out, tmp_path / "whole.jsonl"))
    # Which notes share a pass may change a score's last digit.
    scores, expected = (
        [code.pop("score") for document in documents for code in document["codes"]]
        for documents in (resumed, uninterrupted)
    )
    assert resumed == uninterrupted and scores == pytest.approx(expected, abs=1e-5)
    write_notes(notes, ["Another text.\n"])
    changed = generate(*arguments)
    assert changed.returncode == 2 and "n0 was coded from another text" in changed.stderr


def test_an_answer_log_survives_any_cut(tmp_path):
    """Guards: a cut inside a letter or a line, a whole line taken for a torn one, two runs at once."""
    records = [Note(str(number), "naïve 日本\n" * (number + 1)) for number in range(6)]
    path, rng = tmp_path / "answers.jsonl", random.Random(0)
    with AnswerLog(path, Note) as log:
        log.append(records)
    whole = path.read_bytes()
    ends = [offset + 1 for offset, byte in enumerate(whole) if byte == 10]
    for cut in [0, 9, ends[0] + 1, len(whole), *ends, *rng.sample(range(9, len(whole)), 40)]:
        path.write_bytes(whole[:cut])
        with AnswerLog(path, Note) as log:
            assert log.records == records[: bisect.bisect_right([end - 1 for end in ends], cut)]  # newline or not
            assert path.read_bytes() == whole[:cut]  # nothing changes until the next record
            with pytest.raises(InputError, match="another run is writing it"):
                AnswerLog(path, Note)
            log.append(records[len(log.records) :])
        assert path.read_bytes() == whole
