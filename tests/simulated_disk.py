"""A disk whose power may fail at any moment, and one that fails at a chosen operation, in place of minscl/disk.py.

`SimulatedDisk` photographs a folder before every operation of a run, as a kill and as a power failure would leave it.
That is simulated strictly. Of a file: what it had at its last fsync, or that and half of what was written since. Of a
folder: the entries at its last fsync, or those of now. `FailingDisk` raises an OSError.

Read next: fault_points.py, which goes on from there.
"""

import contextlib
import errno
import inspect
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from minscl import append_file, disk

OPERATIONS = [name for name, _ in inspect.getmembers(disk, inspect.isfunction)]
FULL_DISK = {"open_new", "write", "make_folder"}  # what goes on failing while the disk is full
REMOVALS = {"unlink", "remove_folder"}
TEMPORARY = re.compile(r"\.minscl-.*\.(tmp|previous)")
Tree = dict[str, bytes | None]  # path below root → content, None: a folder


@dataclass
class Node:
    """A file or folder: `entries` of a folder now; `synced` at its last fsync, entries or content."""

    is_folder: bool
    entries: dict[str, "Node"] = field(default_factory=dict)
    synced: dict[str, "Node"] | bytes = b""


@dataclass(frozen=True)
class Crash:
    """What a crash before operation `number` leaves; `kind`: killed, lost, torn or empty."""

    number: int
    kind: str
    tree: Tree
    acknowledged: tuple


class SimulatedDisk:
    """Records what the operations of a run would leave of `root` if the machine ended before each."""

    def __init__(self, root: Path):
        self.root = root
        self.tree = self._read(root)
        self.operations: list[str] = []
        self.crashes: list[Crash] = []
        self.versions: dict[str, set[bytes]] = {}  # of each file: every content that it had as a whole
        self.grows: set[str] = set()  # files that are appended to
        self._acknowledged: tuple = ()
        self._nodes: dict[int, tuple[Node, Path]] = {}  # of open descriptors
        self._remember_versions()

    def _read(self, path: Path) -> Node:
        if path.is_dir():
            entries = {child.name: self._read(child) for child in path.iterdir()}
            return Node(True, entries, dict(entries))
        return Node(False, synced=path.read_bytes())

    def acknowledge(self, what: object) -> None:
        """The user was told that `what` is kept."""
        self._acknowledged += (what,)

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Operations of minscl are recorded; at the end, what is on the disk must be there to stay."""
        append = append_file.AppendFile.append

        def acknowledged_append(file, content: bytes) -> None:
            append(file, content)
            name = str(Path(os.path.realpath(file.path)).relative_to(self.root))
            assert self.lost()[name] == self.live()[name], f"{name}: appended, and a power failure would lose it"

        with pytest.MonkeyPatch.context() as patch:
            for name in OPERATIONS:
                patch.setattr(disk, name, self._record(name, getattr(disk, name)))
            patch.setattr(append_file.AppendFile, "append", acknowledged_append)
            yield
        self._photograph()
        lost = self.live().items() - self.lost().items()  # what was removed may come back
        assert not lost, f"the run has ended, and a power failure would lose {sorted(name for name, _ in lost)}"

    def _record(self, name: str, original: Callable) -> Callable:
        def call(*arguments):
            self._photograph()
            self.operations.append(name)
            if name == "write" and len(arguments[1]) > 1:
                descriptor, content = arguments[0], memoryview(arguments[1])
                half = original(descriptor, content[: len(content) // 2])
                self._photograph()
                return half + original(descriptor, content[half:])
            result = original(*arguments)
            self._follow(name, arguments, result)
            if name in ("rename", "exchange", "fsync", "open_append"):
                self._remember_versions()
            return result

        return call

    def _find(self, path: Path) -> Node:
        node = self.tree
        for part in Path(path).relative_to(self.root).parts:
            node = node.entries[part]
        return node

    def _follow(self, name: str, arguments: tuple, result: object) -> None:
        """Do to the nodes what an operation has done to the disk."""
        path = Path(arguments[0]) if isinstance(arguments[0], str | Path) else None
        if name in ("open_new", "open_append"):
            entries = self._find(path.parent).entries
            self._nodes[result] = entries.setdefault(path.name, Node(False)), path
            if name == "open_append":
                self.grows.add(str(path.relative_to(self.root)))
        elif name == "make_folder":
            self._find(path.parent).entries[path.name] = Node(True, {}, {})
        elif name in REMOVALS:
            del self._find(path.parent).entries[path.name]
        elif name == "fsync":
            node, _ = self._nodes[arguments[0]]
            node.synced = os.pread(arguments[0], 10**9, 0)
        elif name == "fsync_folder" and path != self.root.parent:
            node = self._find(path)
            node.synced = dict(node.entries)
        elif name in ("rename", "exchange"):
            target = Path(arguments[1])
            old, new = self._find(path.parent).entries, self._find(target.parent).entries
            moved, replaced = old.pop(path.name), new.get(target.name)
            new[target.name] = moved
            if name == "exchange":
                old[path.name] = replaced

    def _remember_versions(self) -> None:
        for name, content in self.live().items():
            if content is not None and not TEMPORARY.search(name):
                self.versions.setdefault(name, set()).add(content)

    def _photograph(self) -> None:
        number = len(self.operations)
        for kind, tree in (
            ("killed", self.live()),
            ("lost", self.lost()),
            ("torn", self.torn(2)),
            ("empty", self.torn(0)),
        ):
            self.crashes.append(Crash(number, kind, tree, self._acknowledged))

    def live(self) -> Tree:
        """What is there, and what a kill of the process leaves."""
        return read_tree(self.root)

    def lost(self) -> Tree:
        """What a power failure leaves that drops all that was not fsynced."""
        return dict(self._walk(self.tree, "", lambda node: node.synced, lambda node, name: node.synced))

    def torn(self, parts: int) -> Tree:
        """Folders as they are now, but of what was not fsynced in a file only one of so many parts; 0: nothing."""

        def content(node: Node, name: str) -> bytes:
            now, before = (self.root / name).read_bytes(), node.synced
            if not now.startswith(before):  # cut
                return before
            unsynced = now[len(before) :]
            return before + (unsynced[: len(unsynced) // parts] if parts else b"")

        return dict(self._walk(self.tree, "", lambda node: node.entries, content))

    def _walk(self, node: Node, name: str, entries: Callable, content: Callable) -> Iterator[tuple[str, bytes | None]]:
        for child, below in entries(node).items():
            path = f"{name}/{child}".lstrip("/")
            yield path, None if below.is_folder else content(below, path)
            if below.is_folder:
                yield from self._walk(below, path, entries, content)


class FailingDisk:
    """Fails at operation `number` with the error `code`; a full disk stays full."""

    def __init__(self, number: int, code: int):
        self.number, self.code, self.count = number, code, 0

    @contextlib.contextmanager
    def failing(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for name in OPERATIONS:
                patch.setattr(disk, name, self._failing(name, getattr(disk, name)))
            yield

    def _failing(self, name: str, original: Callable) -> Callable:
        def call(*arguments):
            number, self.count = self.count, self.count + 1
            is_full = self.code == errno.ENOSPC and name in FULL_DISK
            if number == self.number or (number > self.number and is_full):
                if name == "write" and len(arguments[1]) > 1:  # as much as there was space for
                    original(arguments[0], arguments[1][: len(arguments[1]) // 2])
                raise OSError(self.code, os.strerror(self.code), None)
            return original(*arguments)

        return call


def read_tree(root: Path) -> Tree:
    """All files and folders below `root`."""
    paths = sorted(root.rglob("*"))
    return {str(path.relative_to(root)): None if path.is_dir() else path.read_bytes() for path in paths}


def write_tree(root: Path, tree: Tree) -> None:
    """Make `root` hold exactly `tree`."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for name, content in sorted(tree.items()):
        (root / name).mkdir() if content is None else (root / name).write_bytes(content)


def without_random_names(tree: Tree) -> tuple:
    """The tree with temporary files numbered, so that equal states compare equal."""
    names = dict.fromkeys(match[0] for match in map(TEMPORARY.search, tree) if match)
    numbered = {name: f"temporary-{number}" for number, name in enumerate(names)}
    return tuple(
        sorted(
            (TEMPORARY.sub(lambda match: numbered[match[0]], name), content or b"") for name, content in tree.items()
        )
    )
