"""Notes stay where they belong: no command connects to anything, and text of notes is in the outputs alone.

Every command runs once, in this process, in a folder of its own with its own home, cache and temporary files.
"""

import functools
import socket
import stat
import sys
import tempfile
from pathlib import Path

import pytest

from minscl import evaluate, expand, export, generate, review, train
from minscl.config import HEADS, SCL
from minscl.data.icd import CodeBook
from minscl.data.icd.cache import write_cache
from minscl.infer.systems import DIALOGUES, SYSTEMS
from minscl.infer.systems.lookup import LOOKUP
from minscl.page import code_set
from tests.command_runs import BAD_RUNS, MARK, RUNS, write_inputs
from tests.conftest import call_command
from tests.fuzz import corpora
from tests.official_archives import SMALL, zip_of

MARKS = (MARK, corpora.MARK)  # the second one is in the corpora
PARAMETERS = [
    pytest.param(name, marks=[pytest.mark.long, pytest.mark.slow] if run.is_long else pytest.mark.slow)
    for name, run in RUNS.items()
]
NEEDS = {  # run → those before it, whose outputs it reads
    "generate --out, resumed": "generate --html --out",
    "train --resume": "train",
    "generate --system plm-icd": "train --system plm-icd",
    "export": "train",
}


class Network:
    """An audit hook: while `is_forbidden`, whatever a socket does is kept in `events` and raises."""

    def __init__(self):
        self.is_forbidden, self.events = False, []
        sys.addaudithook(self.hook)

    def hook(self, event, arguments):
        if self.is_forbidden and event.startswith("socket."):
            self.events.append((event, str(arguments[:2])))
            raise ConnectionRefusedError(f"{event} is forbidden here")


@functools.cache
def network() -> Network:
    return Network()  # a hook cannot be removed, so there is one


@pytest.fixture(scope="module")
def world(training_folder, fast_measurement, generate, packed_code_set, tmp_path_factory):
    """(folder, run): run(command, *arguments) without network; HOME, cache and temporary files are in the folder."""
    folder = tmp_path_factory.mktemp("world")
    write_inputs(folder, training_folder)
    (folder / "2027.zip").write_bytes(zip_of(SMALL))
    hook = network()

    def run(command, *arguments):
        hook.is_forbidden, before = True, len(hook.events)
        try:
            done = call_command(command.main, *arguments, cwd=folder)
        finally:
            hook.is_forbidden = False
        assert hook.events[before:] == []
        return done

    with pytest.MonkeyPatch.context() as patch:
        for variable, name in (("HOME", "home"), ("XDG_CACHE_HOME", "cache"), ("TMPDIR", "tmp")):
            (folder / name).mkdir()
            patch.setenv(variable, str(folder / name))
        patch.setattr(tempfile, "tempdir", None)  # TMPDIR is asked again
        write_cache(code_set.cache_file(CodeBook.load()), packed_code_set)  # which takes seconds
        yield folder, run


@pytest.fixture(scope="module")
def run_once(world):
    """run_once(name): the finished command of RUNS, and the new files that it wrote."""
    folder, run = world
    finished = {}

    def run_once(name):
        if name in NEEDS:
            run_once(NEEDS[name])
        if name not in finished:
            before = contents(folder)
            done = run(RUNS[name].command, *RUNS[name].arguments)
            changed = {path for path, content in contents(folder).items() if before.get(path) != content}
            finished[name] = done, changed
        return finished[name]

    return run_once


def name_of(argument) -> str:
    """A test's name: "minscl.train" or the words of the command line."""
    return " ".join(argument) if isinstance(argument, tuple) else argument.__name__.rpartition(".")[2]


def contents(folder: Path) -> dict[Path, tuple]:
    """Path → what tells that a file has changed."""
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in paths}


def test_the_guard_sees_a_connection(world):
    """Guards the tests below: a hook that is not called, or whose events are not looked at."""

    class Caller:
        @staticmethod
        def main(argv):
            socket.create_connection(("127.0.0.1", 9))

    with pytest.raises(AssertionError, match="socket"):
        world[1](Caller)


def test_every_command_and_system_is_run():
    """Guards a command that nobody has added here."""
    lines = [" ".join(run.arguments) for run in RUNS.values()]
    for words in expand.COMMANDS:
        assert any(line.startswith(" ".join(words)) for line in lines), words
    for system in (*SYSTEMS, *DIALOGUES, LOOKUP, HEADS[0]):  # SCL is the default; the heads differ in nothing here
        assert system == SCL or any(f"--system {system}" in line for line in lines), system


@pytest.mark.parametrize("name", PARAMETERS)
def test_no_command_opens_a_connection(name, run_once):
    """Guards telemetry, a model looked for on a hub, a look-up of a host name, by minscl or a package that it uses."""
    done, _ = run_once(name)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", PARAMETERS)
def test_text_of_notes_is_in_the_outputs_alone(name, run_once, world):
    """Guards: notes in run.json, metrics, checkpoints, adapters, caches, temporary files or messages, and outputs with
    notes that other users of the machine can read."""
    folder, _ = world
    done, changed = run_once(name)
    assert not any(mark in done.stderr for mark in MARKS)
    holding = {path for path in changed if any(mark.encode() in path.read_bytes() for mark in MARKS)}
    allowed = {path for shape in RUNS[name].notes_in for path in folder.glob(shape)}
    assert holding <= allowed
    assert [path for path in allowed & changed if stat.S_IMODE(path.stat().st_mode) != 0o600] == []
    left = [path for name in ("tmp", "home") for path in (folder / name).rglob("*") if path.is_file()]
    assert left == []  # torch makes an empty folder


def test_an_output_keeps_the_mode_that_it_has(world):
    """Guards: a file that its owner shares with a group made private, or a private one opened."""
    folder, run = world
    for mode in (0o640, 0o600):
        path = folder / f"shared-{mode:o}.jsonl"
        path.touch()
        path.chmod(mode)
        done = run(expand, "notes", "documents", "--documents", "gold.jsonl", "--out", path.name)
        assert done.returncode == 0 and stat.S_IMODE(path.stat().st_mode) == mode, done.stderr


@pytest.mark.parametrize("command, arguments", [(bad[0], bad[1:]) for bad in BAD_RUNS], ids=name_of)
def test_bad_input_is_refused_without_its_text(command, arguments, world):
    """Guards: a message with the line, key, value or quotation that it complains of; a file left behind."""
    folder, run = world
    before = contents(folder)
    done = run(command, *arguments)
    assert done.returncode == 2 and done.stderr.startswith("minscl: ") and done.stderr.count("\n") == 1, done.stderr
    assert MARK not in done.stderr + done.stdout
    assert contents(folder) == before


@pytest.mark.parametrize("command", [evaluate, expand, export, generate, review, train], ids=name_of)
def test_help_connects_to_nothing(command, world):
    """Guards: a look-up for newer versions, a listening socket, before the flags are read."""
    assert world[1](command, "--help").returncode == 0


def test_the_review_keeps_notes_in_its_private_files(world):
    """Guards: the folder of a review readable by others; text in what the browser is started with."""
    from minscl.page.journal import ReviewFolder
    from minscl.review import read_documents

    folder, _ = world
    documents = read_documents((str(folder / "gold.jsonl"),), CodeBook.load())
    with ReviewFolder(folder / "review", documents):
        pass
    for path in (folder / "review").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
