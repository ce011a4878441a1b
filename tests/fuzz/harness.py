"""Runs the inputs of one kind in a process of its own, and survives whatever they do to it.

An input fails if the reader raises anything but InputError, uses more than CPU_SECONDS or MEMORY_BYTES, ends the
process, shows text of a note, or lets compiled code write to stderr. The process is watched from outside: code that no
signal reaches is killed after WALL_SECONDS, and the kind goes on with the next input.

Read next: __main__.py.
"""

import io
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import hypothesis

from minscl.errors import InputError
from tests.fuzz.kinds import MARK, FileKind, FuzzFolder, ValueKind

CPU_SECONDS = 5  # of an input, so that a busy machine changes nothing
WALL_SECONDS = 60  # without a new input, for code that does not return to Python, or waits
MEMORY_BYTES = 2**30  # of address space, beyond what the process has at its start
MAX_DEATHS = 20  # of processes, after which a kind is given up
MAX_STORED = 5  # failures of a kind that are stored with their files
CONTEXT = multiprocessing.get_context("fork")  # modules and the code set are loaded once, before


class TimeLimit(BaseException):
    """Raised by a timer; no reader catches it as an Exception."""


@dataclass
class Report:
    """What became of the inputs of a kind. `failures`: (number of the input, what it did)."""

    name: str
    accepted: int = 0
    refused: int = 0
    lost: int = 0  # of processes that died: tried, and neither told
    failures: list[tuple[int, str]] = field(default_factory=list)
    seconds: float = 0.0
    slowest: float = 0.0  # CPU seconds of an input
    memory: int = 0  # bytes, by which the resident set grew at most

    @property
    def inputs(self) -> int:
        """How many inputs were tried."""
        return self.accepted + self.refused + self.lost + len(self.failures)


class KindRun:
    """The inputs of a kind, tried in a process that is started again after an input that ends it. `report` grows."""

    def __init__(self, kind: FileKind | ValueKind, seed: int, inputs: int, folder: Path, failures: Path):
        """`folder`: for working files; `failures`: where failing files are kept."""
        self.kind, self.seed, self.inputs, self.failures = kind, seed, inputs, failures
        self.folder = FuzzFolder(kind, folder / "files" / kind.name) if isinstance(kind, FileKind) else None
        self.report, self._deaths, self._begin = Report(kind.name), 0, time.time()
        self._position = CONTEXT.Value("q", 0)  # the input that is being tried
        self._start()

    def _start(self) -> None:
        self._receiver, sender = CONTEXT.Pipe(duplex=False)
        arguments = (self.folder or self.kind, self.seed, self.inputs, self.failures, self._position, sender)
        self._process = CONTEXT.Process(target=_work, args=arguments)
        self._process.start()
        sender.close()
        self._first = self._last = self._position.value
        self._since = time.time()

    def is_finished(self) -> bool:
        """Look after the process; whether all inputs have been tried."""
        if self._receiver.poll() or not self._process.is_alive():
            return self._end(f"the process ended with status {self._process.exitcode}")
        if self._position.value != self._last:
            self._last, self._since = self._position.value, time.time()
        elif time.time() - self._since > WALL_SECONDS:
            self._process.kill()
            self._process.join()
            return self._end(f"hang: no answer in {WALL_SECONDS} s")
        return False

    def _end(self, fault: str) -> bool:
        """Take the process's report; where there is none, keep the input that ended it and go on after it."""
        try:
            part = self._receiver.recv() if self._receiver.poll() else None
        except EOFError:
            part = None
        self._process.join()
        report, number = self.report, self._position.value
        if part:
            report.accepted += part.accepted
            report.refused += part.refused
            report.failures += part.failures
            report.slowest, report.memory = part.slowest, part.memory
        else:
            self._deaths += 1
            report.lost += number - self._first
            report.failures.append((number, fault))
            if self.folder:
                _store(self.folder, self.seed, number, self.failures, fault)
            self._position.value = number + 1
            if number + 1 < self.inputs and self._deaths < MAX_DEATHS:
                self._start()
                return False
        report.seconds = time.time() - self._begin
        return True


def _work(source: FuzzFolder | ValueKind, seed: int, inputs: int, failures: Path, position, sender) -> None:
    """In the process: limits, then every input from `position` on; sends a Report."""
    own = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (own + MEMORY_BYTES, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, _raise_time_limit)
    sys.stdout = io.StringIO()
    with tempfile.NamedTemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        _native_stderr.append(open(file.name, "rb"))  # noqa: SIM115 (to the end of the process)
    os.chdir("/")  # so that a name out of a file is none of this folder
    before = _resident()
    report = Report("")
    if isinstance(source, ValueKind):
        _try_values(source, seed, inputs, report, position)
    else:
        _try_files(source, seed, inputs, failures, report, position)
    report.memory = max(0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before)
    sender.send(report)
    sender.close()


def _try_files(folder: FuzzFolder, seed: int, inputs: int, failures: Path, report: Report, position) -> None:
    while position.value < inputs:
        folder.restore()
        folder.change(seed, position.value)
        if fault := fault_of(folder.kind.read, folder.path, report):
            report.failures.append((position.value, fault))
            if len(report.failures) <= MAX_STORED:
                _store(folder, seed, position.value, failures, fault)
        position.value += 1


def _try_values(kind: ValueKind, seed: int, inputs: int, report: Report, position) -> None:
    """Values drawn by hypothesis, which shrinks the first that fails and ends there."""

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=inputs,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
    )
    @hypothesis.given(kind.strategy())
    def check(value) -> None:
        position.value += 1
        if fault := fault_of(kind.read, value, report):
            raise AssertionError(fault)

    try:
        check()
    except AssertionError as error:
        notes = "\n".join(getattr(error, "__notes__", ()))
        report.failures.append((position.value, f"{error}\n{notes}"[:4000]))


def fault_of(read, argument, report: Report) -> str | None:
    """What is wrong with `read(argument)`: None if it returns, or raises InputError, as it should."""
    sys.stderr = said = io.StringIO()
    start, message = time.process_time(), ""
    _expired.clear()
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        read(argument)
        report.accepted += 1
    except InputError as error:
        message = str(error)
        report.refused += 1
    except TimeLimit:
        return f"hang: over {CPU_SECONDS} s of CPU time"
    except BaseException as error:
        return _describe(error)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stderr = sys.__stderr__
        report.slowest = max(report.slowest, time.process_time() - start)
    if _expired:  # and some reader took it for a fault of the file
        return f"hang: over {CPU_SECONDS} s of CPU time"
    if MARK in message or MARK in said.getvalue():
        return f"text of a note is shown: {message or said.getvalue()}"[:1000]
    if written := _native_stderr[-1].read():  # by compiled code: Python's own stderr is `said`
        return f"compiled code writes to stderr: {written.decode(errors='replace')[:300]}"
    return None


_expired: list[bool] = []
_native_stderr: list[IO[bytes]] = []  # reads what is written to descriptor 2


def _raise_time_limit(*_) -> None:
    _expired.append(True)
    raise TimeLimit


def _describe(error: BaseException) -> str:
    """The exception and where it was raised, innermost frames of minscl."""
    frames = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    own = [frame.partition("/minscl/")[2] for frame in frames if "/minscl/" in frame][-3:]
    return f"{type(error).__name__}: {str(error)[:200]} at {' < '.join(reversed(own)) or frames[-1]}"


def _store(folder: FuzzFolder, seed: int, number: int, failures: Path, fault: str) -> None:
    """Keep the input, made anew from its seed: the reader may have changed its files."""
    folder.restore()
    folder.change(seed, number)
    target = failures / f"{folder.kind.name}-{number}"
    shutil.copytree(folder.path, target, dirs_exist_ok=True)
    (failures / f"{folder.kind.name}-{number}.txt").write_text(fault, errors="backslashreplace")


def _resident() -> int:
    """Bytes of memory that the process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
