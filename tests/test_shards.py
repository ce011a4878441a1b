"""Notes shared among processes: shares, journals, the file that the last process writes, deaths and later runs.

The fast tests run the processes one after another in this one, with the baseline that needs no model.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from minscl import chosen_system
from minscl import generate as command
from minscl.command import run_command
from minscl.config import DEMO
from minscl.data.answer_log import AnswerLog, read_log
from minscl.data.notes import code_each_note
from minscl.data.types import CodedDocument, Note
from minscl.errors import InputError, Terminated
from minscl.infer import processes
from minscl.infer.processes import Process
from minscl.infer.shards import Shards
from tests.conftest import call_command

TEXTS = [
    "Hypertension, poorly controlled. GERD.\n",
    "Three days of cough. Type 2 diabetes mellitus, on metformin. Anxiety. Denies chest pain.\n",
    "Anemia.\n",
    "Acute bronchitis and asthma. Obesity. He has hyperlipidemia and takes a statin.\n",
    "Depression.\n",
]


@pytest.fixture
def notes(tmp_path):
    """A notes JSONL in a folder of its own, with five notes of different lengths."""
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "notes.jsonl"
    write_notes(path, TEXTS)
    return path


@pytest.fixture
def run(monkeypatch):
    """run(notes, out, *flags, rank=0, size=1): `generate` as that process."""
    handler, threads = signal.getsignal(signal.SIGTERM), torch.get_num_threads()

    def call(notes, out, *flags, rank=0, size=1):
        for name, value in (("RANK", rank), ("WORLD_SIZE", size)):
            monkeypatch.setenv(name, str(value))
        lookup = ("--system", "lookup", "--documents", DEMO / "documents.jsonl")
        return call_command(command.main, notes, "--out", out, *lookup, *flags)

    yield call
    signal.signal(signal.SIGTERM, handler)
    torch.set_num_threads(threads)


def write_notes(path, texts) -> None:
    path.write_text("".join(json.dumps({"id": f"n{number}", "text": text}) + "\n" for number, text in enumerate(texts)))


def names_in(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("size", [2, 3, 7])
def test_several_processes_write_what_one_writes(notes, tmp_path, run, size):
    """Guards: documents in the order in which processes finish, a process without notes that hinders the others, files
    left behind, and exit statuses of which torchrun kills the others."""
    assert run(notes, tmp_path / "in" / "whole.jsonl").returncode == 0
    folder = tmp_path / "out"
    ranks = random.Random(size).sample(range(size), size)
    for rank in ranks[:-1]:
        done = run(notes, folder / "coded.jsonl", rank=rank, size=size)
        assert done.returncode == 0 and f"rank {rank} of {size} is done: the last to finish writes" in done.stderr
        assert not (folder / "coded.jsonl").exists()
    last = run(notes, folder / "coded.jsonl", rank=ranks[-1], size=size)
    assert last.returncode == 0 and last.stderr == ""
    assert names_in(folder) == ["coded.jsonl"]
    assert (folder / "coded.jsonl").read_bytes() == (tmp_path / "in" / "whole.jsonl").read_bytes()


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_later_run_codes_only_what_a_dead_process_has_not(notes, tmp_path, run, size, monkeypatch):
    """Guards: notes coded twice or never after a death, whatever the number of processes before and after; an
    incomplete file that looks whole; a torn line taken for a document."""
    run(notes, tmp_path / "in" / "whole.jsonl")
    out = tmp_path / "coded.jsonl"
    for rank in (0, 1):
        run(notes, out, rank=rank, size=2)
        out.rename(tmp_path / "kept") if out.exists() else None  # the death below is before that
        if rank == 0:
            before = {path: path.read_bytes() for path in tmp_path.glob("coded.jsonl.*")}
            shared = Process(1, 2).share([Note(f"n{number}", text) for number, text in enumerate(TEXTS)])
    for path, content in before.items():
        path.write_bytes(content)
    lines = (tmp_path / "kept").read_bytes().splitlines(keepends=True)
    [first, second] = [line for line in lines if json.loads(line)["id"] in {note.id for note in shared}][:2]
    (tmp_path / "coded.jsonl.rank1-of-2").write_bytes(first + second[:-40])  # killed while it wrote its second
    coded = spy_on_coding(monkeypatch)
    finished = {
        json.loads(line)["id"] for content in before.values() for line in content.splitlines() if b'"id"' in line
    }
    for rank in range(size):
        status = run(notes, out, rank=rank, size=size).returncode
        assert status == 0
    assert out.read_bytes() == (tmp_path / "in" / "whole.jsonl").read_bytes()
    assert sorted(coded) == sorted({f"n{number}" for number in range(5)} - finished - {json.loads(first)["id"]})
    assert names_in(tmp_path) == ["coded.jsonl", "in", "kept"]


def spy_on_coding(monkeypatch) -> list[str]:
    """The ids of all notes that are coded from now on."""
    coded, original = [], chosen_system.look_up_notes

    def look_up_notes(table, notes, *arguments):
        coded.extend(note.id for note in notes)
        return original(table, notes, *arguments)

    monkeypatch.setattr(chosen_system, "look_up_notes", look_up_notes)
    return coded


def test_notes_are_added_to_a_file_that_has_some(notes, tmp_path, run, monkeypatch):
    """Guards: documents of an earlier run lost or coded again when several processes continue its file."""
    out = tmp_path / "coded.jsonl"
    write_notes(tmp_path / "first.jsonl", TEXTS[:2])
    run(tmp_path / "first.jsonl", out)
    before, coded = out.read_bytes(), spy_on_coding(monkeypatch)
    for rank in (1, 0):
        run(notes, out, rank=rank, size=2)
    assert out.read_bytes().startswith(before) and sorted(coded) == ["n2", "n3", "n4"]
    assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == [f"n{number}" for number in range(5)]
    for rank in (0, 1):  # nothing left to code
        assert run(notes, out, rank=rank, size=2).returncode == 0
    assert len(out.read_text().splitlines()) == 5 and len(coded) == 3


def test_notes_that_cannot_be_coded_are_reported_at_the_end(notes, tmp_path, run):
    """Guards: an exit status for one bad note with which torchrun ends all other processes; a file that is never
    written because of it; --strict that sees one process's documents."""
    write_notes(notes, [*TEXTS[:3], "", *TEXTS[3:], " "])
    out = tmp_path / "coded.jsonl"
    statuses = [run(notes, out, rank=rank, size=3) for rank in range(3)]
    assert [done.returncode for done in statuses] == [0, 0, 2]
    assert "minscl: 2 of 7 notes were skipped, the first is n" in statuses[-1].stderr
    assert sum(done.stderr.count("skipped: n") for done in statuses) == 2
    assert len(read_log(out, CodedDocument)) == 5 and names_in(tmp_path) == ["coded.jsonl", "in"]


def test_journals_of_other_settings_are_refused(notes, tmp_path, run):
    """Guards: one file with documents of two systems, by way of a journal."""
    run(notes, tmp_path / "coded.jsonl", rank=0, size=2)
    for size in (1, 2, 3):
        done = run(notes, tmp_path / "coded.jsonl", "--min-score", 0.5, rank=size - 1, size=size)
        assert done.returncode == 2 and "coded.jsonl.rank0-of-2: n" in done.stderr
        assert "was coded with min_score 0.0, now 0.5" in done.stderr and done.stderr.count("\n") == 1


def test_a_stale_end_mark_ends_nothing(notes, tmp_path, run):
    """Guards: a file written without the notes of a process that has not begun yet, because an earlier run's has
    ended."""
    run(notes, tmp_path / "coded.jsonl", rank=0, size=2)
    write_notes(notes, [*TEXTS, "Gout.\n", "Gout and chronic kidney disease, gout and chronic kidney disease.\n"])
    assert "is done" in run(notes, tmp_path / "coded.jsonl", rank=1, size=2).stderr
    assert not (tmp_path / "coded.jsonl").exists()
    assert run(notes, tmp_path / "coded.jsonl", rank=0, size=2).stderr == ""
    assert len(read_log(tmp_path / "coded.jsonl", CodedDocument)) == 7


def test_a_corrected_note_is_not_left_out_by_a_stale_end_mark(notes, tmp_path, run):
    """Guards: a file written without a note that an earlier run had to skip, before the process that has it begins."""
    write_notes(notes, ["", *TEXTS])
    out, numbered = tmp_path / "coded.jsonl", [Note(f"n{number}", text) for number, text in enumerate(["", *TEXTS])]
    skipping = next(rank for rank in (0, 1) if numbered[0] in Process(rank, 2).share(numbered))
    run(notes, out, rank=skipping, size=2)  # the other process dies
    write_notes(notes, ["Gout.", *TEXTS])
    for rank in (1 - skipping, skipping):
        assert run(notes, out, rank=rank, size=2).returncode == 0
    assert [document.id for document in read_log(out, CodedDocument)] == [f"n{number}" for number in range(6)]


@pytest.mark.parametrize("size", [1, 2])
def test_documents_of_notes_that_a_later_run_does_not_name_are_kept(notes, tmp_path, run, size):
    """Guards: what a dead run had coded, deleted by a later one over fewer notes."""
    out = tmp_path / "coded.jsonl"
    run(notes, out, rank=0, size=2)
    before = {document.id for document in read_log(tmp_path / "coded.jsonl.rank0-of-2", CodedDocument)}
    write_notes(notes, TEXTS[:1])
    for rank in range(size):
        assert run(notes, out, rank=rank, size=size).returncode == 0
    assert before - {"n0"}
    assert {document.id for document in read_log(out, CodedDocument)} == before | {"n0"}
    assert names_in(tmp_path) == ["coded.jsonl", "in"]


def test_a_stop_is_no_fault_of_a_note():
    """Guards: SIGTERM while a note is coded, taken for a note that cannot be coded, and a run that goes on."""
    skipped, handler = [], signal.getsignal(signal.SIGTERM)

    def code(note):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    processes.explain_sigterm("rank 0 of 2 is stopped")
    try:
        with pytest.raises(Terminated, match="rank 0 of 2 is stopped"):
            list(code_each_note([Note("a", "HTN.")], code, None, lambda *fault: skipped.append(fault)))
        with pytest.raises(SystemExit) as exit:
            run_command(lambda: code(None))
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert not skipped and exit.value.code == 2


def documents(numbers) -> list[CodedDocument]:
    return [CodedDocument(f"n{number}", TEXTS[number]) for number in numbers]


def by_id(records, path) -> dict[str, CodedDocument]:
    return {document.id: document for document in records}


def two_finished(out) -> list[Shards]:
    """The files of two processes, of which the first is done and the second has coded all it had to."""
    shards = [Shards(str(out), Process(rank, 2)) for rank in (0, 1)]
    for rank, numbers in enumerate([(0, 2), (1, 3)]):
        with AnswerLog(shards[rank].log, CodedDocument) as log:
            log.append(documents(numbers))
    assert shards[0].finish(documents(range(4)), [], by_id) is None
    return shards


def test_two_processes_that_finish_together_write_one_file(tmp_path, monkeypatch):
    """Guards: documents written twice, or by neither; a process that fails because the other has the lock."""
    out = tmp_path / "coded.jsonl"
    first, second = two_finished(out)
    results = []
    with AnswerLog(out, CodedDocument):  # as the other process holds it
        thread = threading.Thread(target=lambda: results.append(second.finish(documents(range(4)), ["x"], by_id)))
        thread.start()
        time.sleep(0.3)
        assert thread.is_alive() and not results
    thread.join(30)
    [(merged, skipped)] = results
    assert list(read_log(out, CodedDocument)) == documents(range(4)) == [merged[f"n{number}"] for number in range(4)]
    assert skipped == ["x"] and names_in(tmp_path) == ["coded.jsonl"]
    first, second = two_finished(tmp_path / "again.jsonl")
    locked_out = Shards._locked_out

    def overtaken(shards):
        monkeypatch.setattr(Shards, "_locked_out", locked_out)
        assert first.finish(documents(range(4)), [], by_id) is not None
        return locked_out(shards)

    monkeypatch.setattr(Shards, "_locked_out", overtaken)
    assert second.finish(documents(range(4)), [], by_id) is None
    assert list(read_log(tmp_path / "again.jsonl", CodedDocument)) == documents(range(4))


def test_a_run_that_holds_the_file_is_waited_for_and_then_named(tmp_path, monkeypatch):
    """Guards: journals removed although their documents could not be written."""
    monkeypatch.setattr("minscl.infer.shards.LOCK_SECONDS", 0.2)
    _, second = two_finished(tmp_path / "coded.jsonl")
    with AnswerLog(tmp_path / "coded.jsonl", CodedDocument), pytest.raises(InputError, match="another run is writing"):
        second.finish(documents(range(4)), [], by_id)
    assert second.finish(documents(range(4)), [], by_id) is not None
    assert list(read_log(tmp_path / "coded.jsonl", CodedDocument)) == documents(range(4))


def test_journals_are_kept_until_the_file_is_read_back(tmp_path, monkeypatch):
    """Guards: everything lost where the file is replaced under the process that appends to it."""
    _, second = two_finished(tmp_path / "coded.jsonl")
    append = AnswerLog.append

    def replaced(log, records):
        append(log, records)
        (tmp_path / "other").write_bytes(b"")
        os.replace(tmp_path / "other", log.path)

    monkeypatch.setattr(AnswerLog, "append", replaced)
    with pytest.raises(InputError, match="replaced by another run"):
        second.finish(documents(range(4)), [], by_id)
    monkeypatch.undo()
    assert second.finish(documents(range(4)), [], by_id) is not None
    assert list(read_log(tmp_path / "coded.jsonl", CodedDocument)) == documents(range(4))


def test_shares_are_balanced_and_complete():
    """Guards: a note in no share or in two, and a process that has the long notes alone."""
    rng = random.Random(0)
    notes = [Note(str(number), "x" * int(rng.expovariate(1 / 3000))) for number in range(400)]
    for size in (1, 2, 8, 50):
        shares = [Process(rank, size).share(notes) for rank in range(size)]
        assert sorted(int(note.id) for share in shares for note in share) == list(range(400))
        assert all(share == sorted(share, key=lambda note: int(note.id)) for share in shares)
        loads = [sum(len(note.text) for note in share) for share in shares]
        assert max(loads) - min(loads) <= max(len(note.text) for note in notes)


@pytest.mark.parametrize(
    "variables, message",
    [
        ({"WORLD_SIZE": "2"}, "RANK is not a number"),
        ({"WORLD_SIZE": "two", "RANK": "0"}, "WORLD_SIZE is not a number"),
        ({"WORLD_SIZE": "2", "RANK": "2"}, "RANK 2: must be below WORLD_SIZE 2"),
        ({"WORLD_SIZE": "2", "RANK": "-1"}, "RANK is not a number"),
        ({"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "x"}, "LOCAL_RANK is not a number"),
        ({"WORLD_SIZE": "2", "RANK": "1", "LOCAL_WORLD_SIZE": "0"}, "LOCAL_WORLD_SIZE 0: must be at least 1"),
    ],
)
def test_half_of_a_launchers_variables_are_named(variables, message):
    """Guards: all processes coding the first share, or a traceback."""
    with pytest.raises(InputError, match=message):
        Process.from_environment(variables)


def test_a_launchers_variables_are_read():
    """Guards: a process that takes another's share or GPU."""
    names = {"WORLD_SIZE": "8", "RANK": "5", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
    assert Process.from_environment(names) == Process(5, 8, 1, 4)
    assert Process.from_environment({"WORLD_SIZE": "8", "RANK": "5"}) == Process(5, 8)  # a job array
    assert Process.from_environment({}) == Process.from_environment({"WORLD_SIZE": "1"}) == Process()


def test_each_process_has_a_device_and_a_part_of_the_machine(monkeypatch):
    """Guards: all processes on one GPU; each with all cores and memory, or with the one core that torchrun sets."""
    threads, process = [], Process(5, 8, 1, 4)
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setattr(processes, "usable_cores", lambda: 32)
    monkeypatch.setattr(processes, "default_cache_bytes", lambda device: 40e9)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert process.choose_device("auto", 0.0) == ("cpu", 10.0) and threads == [8]
    assert process.choose_device("cpu", 3.0) == ("cpu", 3.0)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert process.choose_device("cpu", 0.0) == ("cpu", 10.0) and threads == [8, 8]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert process.choose_device("auto", 0.0) == process.choose_device("cuda", 0.0) == ("cuda:1", 0.0)
    with pytest.raises(InputError, match="process 3 finds 2 GPUs; start one process per GPU"):
        Process(2, 4, 2, 4).choose_device("auto", 0.0)
    with pytest.raises(InputError, match="--device cuda:0: each process takes a GPU of its own; give --device cuda"):
        process.choose_device("cuda:0", 0.0)
    assert Process().choose_device("cuda:0", 0.0) == ("cuda:0", 0.0)


def test_what_several_processes_cannot_do_is_one_line(notes, tmp_path, run):
    """Guards: every process printing all documents, or each writing the same page."""
    text = tmp_path / "note.txt"
    text.write_text(TEXTS[0])
    for path, flags in ((text, ()), (notes, ("--json",)), (notes, ("--html", tmp_path / "page.html"))):
        done = run(path, tmp_path / "coded.jsonl", *flags, rank=0, size=2)
        assert done.returncode == 2 and done.stderr.startswith("minscl: WORLD_SIZE 2: several processes write one file")
        assert done.stderr.count("\n") == 1
    assert names_in(tmp_path) == ["in", "note.txt"]


@pytest.mark.slow
@pytest.mark.long
def test_torchrun_loses_no_finished_note_to_a_kill(tmp_path):
    """Guards: the same with real processes and a model: one is killed, torchrun ends the other, and what both had
    finished is kept by runs of one and of three processes; all files are a single process's, byte for byte."""
    notes, whole = tmp_path / "notes.jsonl", tmp_path / "whole.jsonl"
    write_notes(notes, [f"{number + 1} days: {text}" for number, text in enumerate([*TEXTS[:4]] * 2)])
    out = tmp_path / "killed" / "coded.jsonl"
    alone = [sys.executable, "-m", "minscl.generate", str(notes), "--out"]
    subprocess.run([*alone, str(whole)], check=True, capture_output=True, timeout=300)
    launch = torchrun(2, notes, out)
    journals = [out.with_name(f"coded.jsonl.rank{rank}-of-2") for rank in (0, 1)]
    while launch.poll() is None and not all(path.exists() and path.stat().st_size for path in journals):
        time.sleep(0.01)
    os.kill(worker(launch.pid, rank=1), signal.SIGKILL)
    _, stderr = launch.communicate(timeout=120)
    finished = [document.id for path in journals for document in read_log(path, CodedDocument)]
    assert launch.returncode != 0 and not out.exists() and 2 <= len(finished) < 8
    assert "start again, with any number of processes" in stderr
    shutil.copytree(out.parent, tmp_path / "three")
    subprocess.run([*alone, str(out)], check=True, capture_output=True, timeout=300)
    assert names_in(out.parent) == ["coded.jsonl"] and out.read_bytes() == whole.read_bytes()
    again = torchrun(3, notes, tmp_path / "three" / "coded.jsonl")
    _, stderr = again.communicate(timeout=300)
    assert again.returncode == 0, stderr
    assert names_in(tmp_path / "three") == ["coded.jsonl"]
    assert (tmp_path / "three" / "coded.jsonl").read_bytes() == whole.read_bytes()


def torchrun(size, notes, out) -> subprocess.Popen:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size)]
    command += ["-m", "minscl.generate", str(notes), "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def worker(torchrun_pid: int, rank: int) -> int:
    """The process id of torchrun's process `rank`."""
    for pid in Path(f"/proc/{torchrun_pid}/task/{torchrun_pid}/children").read_text().split():
        if f"RANK={rank}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            return int(pid)
    raise AssertionError("no such process")
