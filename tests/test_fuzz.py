"""The fuzzer itself: it tells what it should, and a few inputs of every kind. `make fuzz` has 20,000."""

import os
import signal
import time

import pytest
from hypothesis import strategies as st

from minscl.errors import InputError
from tests.fuzz import answers, corpora, editions, harness, model_files, records
from tests.fuzz.harness import KindRun
from tests.fuzz.kinds import MARK, FileKind, FuzzFolder, ValueKind

MODULES = (model_files, records, corpora, editions, answers)
KINDS = [kind for module in MODULES for kind in module.KINDS]


def write(folder):
    (folder / "x.json").write_text('{"a": [1, 2], "b": "text"}')


def run(kind, inputs, tmp_path, seed=0):
    """The report of a kind."""
    kind_run = KindRun(kind, seed, inputs, tmp_path, tmp_path / "failures")
    while not kind_run.is_finished():
        time.sleep(0.02)
    return kind_run.report


def read_everything(folder):
    (folder / "x.json").read_bytes()


def raise_index_error(folder):
    if b"text" not in (folder / "x.json").read_bytes():
        [][0]


def use_memory(folder):
    if b"text" not in (folder / "x.json").read_bytes():
        bytearray(2**31)


def use_time(folder):
    while b"text" not in (folder / "x.json").read_bytes():
        pass


def show_the_note(folder):
    if b"text" not in (folder / "x.json").read_bytes():
        raise InputError(f"x.json: {MARK}")


def write_to_descriptor_2(folder):
    if b"text" not in (folder / "x.json").read_bytes():
        os.write(2, b"thread panicked")


def end_the_process(folder):
    if b"text" not in (folder / "x.json").read_bytes():
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    "read, fault",
    [
        (raise_index_error, "IndexError: list index out of range"),
        (use_memory, "MemoryError"),
        (use_time, "hang: over"),
        (show_the_note, f"text of a note is shown: x.json: {MARK}"),
        (write_to_descriptor_2, "compiled code writes to stderr: thread panicked"),
        (end_the_process, "the process ended with status -9"),
    ],
)
def test_a_fault_is_told_and_its_input_kept(read, fault, tmp_path, monkeypatch):
    """Guards a fuzzer that finds nothing because it looks at nothing, or that ends with its first finding."""
    monkeypatch.setattr(harness, "CPU_SECONDS", 0.05)
    monkeypatch.setattr(harness, "MAX_DEATHS", 3)
    report = run(FileKind("kind", write, read), 15, tmp_path)
    number, told = report.failures[0]
    assert fault in told
    assert (tmp_path / "failures" / f"kind-{number}.txt").read_text() == told
    kept = (tmp_path / "failures" / f"kind-{number}" / "x.json").read_bytes()
    again = FuzzFolder(FileKind("kind", write, read_everything), tmp_path / "again")
    again.change(0, number)
    assert (again.path / "x.json").read_bytes() == kept  # the same from the same seed


def test_a_failing_value_is_told(tmp_path):
    """Guards a failure inside hypothesis that is lost on its way."""

    def fail(value):
        assert value < 100

    report = run(ValueKind("kind", lambda: st.integers(0, 1000), fail), 200, tmp_path)
    assert (
        len(report.failures) == 1 and "AssertionError" in report.failures[0][1] and "value=100" in report.failures[0][1]
    )


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_inputs_of_every_kind(kind, tmp_path, monkeypatch):
    """Guards the readers, with another seed than `make fuzz`, and valid files of the fuzzer that a reader has come to
    refuse."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    report = run(kind, 100, tmp_path, seed=1)
    assert report.failures == [] and report.inputs >= 100
