"""Every operation on the disk fails in turn: no space, an I/O error, a kill, a power failure.

A scenario writes below `root`. `try_points` runs it on a SimulatedDisk and goes on from what each crash leaves, and on
a FailingDisk for each operation. It requires: what was there is whole, or the new is; one clear line; no temporary
file; and going on ends with the bytes of a run that nothing disturbed.
"""

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from minscl.errors import InputError
from tests.simulated_disk import (
    REMOVALS,
    TEMPORARY,
    FailingDisk,
    SimulatedDisk,
    Tree,
    read_tree,
    without_random_names,
    write_tree,
)

NO_SPACE = {"open_new", "open_append", "write", "fsync", "fsync_folder", "rename", "exchange", "make_folder"}

ABSENT = b"absent"  # what Scenario.normalise makes of a file that may or may not be there at the end


def ignore_nothing(name: str, content: bytes) -> bytes:
    return content


@dataclass
class Scenario:
    """`run(root, acknowledge)` writes below `root`, whose state at the beginning `prepare(root)` makes.

    It calls `acknowledge(what)` where a user is told that something is kept. `go_on(root)` does again what the user
    does after any end, by default `run`; `check(root, acknowledged)` raises where `root` has lost something.
    `normalise(name, content)`: a file without what differs between any two runs.
    """

    run: Callable[[Path, Callable], object]
    prepare: Callable[[Path], object] = lambda root: None
    go_on: Callable[[Path], object] | None = None
    check: Callable[[Path, tuple], object] = lambda root, acknowledged: None
    normalise: Callable[[str, bytes], bytes] = ignore_nothing

    def continue_(self, root: Path) -> None:
        self.go_on(root) if self.go_on else self.run(root, lambda what: None)


@dataclass
class Count:
    """What try_points has tried."""

    operations: int = 0
    points: int = 0  # (operation, fault)
    states: int = 0  # different ones that crashes left

    def __add__(self, other: "Count") -> "Count":
        return Count(self.operations + other.operations, self.points + other.points, self.states + other.states)


def try_points(scenario: Scenario, root: Path, stride: int = 1) -> Count:
    """Try every `stride`-th operation of the scenario with every fault."""
    trial = Trial(scenario, root)
    return trial.crash(stride) + trial.fail(stride)


class Trial:
    """A scenario, run once without a fault: what its files were at the beginning, on the way and at the end."""

    def __init__(self, scenario: Scenario, root: Path):
        self.scenario, self.root = scenario, Path(os.path.realpath(root))
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir()
        scenario.prepare(self.root)
        self.start = read_tree(self.root)
        self.disk = SimulatedDisk(self.root)
        with self.disk.recording():
            scenario.run(self.root, self.disk.acknowledge)
        self.end = self._normalised(read_tree(self.root))
        self.versions = {
            name: {scenario.normalise(name, content) for content in contents}
            for name, contents in self.disk.versions.items()
        }

    def crash(self, stride: int) -> Count:
        """Go on from what is left by a kill or a power failure before each operation."""
        tried: set[tuple] = set()
        crashes = [crash for crash in self.disk.crashes if crash.number % stride == 0]
        for crash in crashes:
            state = without_random_names(crash.tree), crash.acknowledged
            if state in tried:
                continue
            tried.add(state)
            place = f"{crash.kind} before operation {crash.number} of {self._operation(crash.number)}"
            write_tree(self.root, crash.tree)
            self._check_whole(crash.tree, place)
            self.scenario.check(self.root, crash.acknowledged)
            self._go_on(place)
        return Count(points=len({(crash.number, crash.kind) for crash in crashes}), states=len(tried))

    def fail(self, stride: int) -> Count:
        """Run again and fail at each operation, then go on."""
        points = 0
        numbers = range(0, len(self.disk.operations), stride)
        for number in numbers:
            for code in (errno.ENOSPC, errno.EIO):
                name = self.disk.operations[number]
                if code == errno.ENOSPC and name not in NO_SPACE:
                    continue
                points += 1
                self._fail_at(number, name, code)
        return Count(operations=len(numbers), points=points)

    def _fail_at(self, number: int, name: str, code: int) -> None:
        place = f"{errno.errorcode[code]} at operation {number} ({name})"
        write_tree(self.root, self.start)
        acknowledged: list = []
        try:
            with FailingDisk(number, code).failing():
                self.scenario.run(self.root, acknowledged.append)
        except InputError as error:
            line = str(error)
            assert "\n" not in line and str(self.root) in line and "; " in line, f"{place}: {line!r}"
            assert not TEMPORARY.search(line), f"{place}: names a temporary file: {line!r}"
        tree = read_tree(self.root)
        left = [path for path in tree if TEMPORARY.search(path)]
        assert name in REMOVALS or not left, f"{place}: leaves {left}"
        self._check_whole(tree, place)
        self.scenario.check(self.root, tuple(acknowledged))
        self._go_on(place)

    def _operation(self, number: int) -> str:
        return f"{len(self.disk.operations)} ({[*self.disk.operations, 'end'][number]})"

    def _check_whole(self, tree: Tree, place: str) -> None:
        """Every file has one of the contents that it had as a whole; of one that grows, the last piece may be torn."""
        for name, content in tree.items():
            if content is None or TEMPORARY.search(name):
                continue
            versions = self.versions.get(name, set())
            content = self.scenario.normalise(name, content)
            is_torn = name in self.disk.grows and (
                any(content.startswith(version) for version in versions)
                and any(version.startswith(content) for version in versions)
            )
            assert content in versions or is_torn, f"{place}: {name} is neither the old file nor the new one"

    def _go_on(self, place: str) -> None:
        try:
            self.scenario.continue_(self.root)
        except InputError as error:
            raise AssertionError(f"{place}: cannot go on: {error}") from error
        end = self._normalised(read_tree(self.root))
        different = [name for name in {*end, *self.end} if end.get(name, ABSENT) != self.end.get(name, ABSENT)]
        assert not different, f"{place}: after going on, {sorted(different)} differ"

    def _normalised(self, tree: Tree) -> Tree:
        return {name: content and self.scenario.normalise(name, content) for name, content in tree.items()}
