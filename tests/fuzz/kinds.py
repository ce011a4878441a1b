"""What kinds of inputs are made of: a folder of valid files with the function that reads it, or a strategy of values.

Notes in valid files have the phrase MARK. No message may have it, nor a warning: those end up in logs and tickets.

Read next: harness.py, which runs a kind; model_files.py, the first kinds.
"""

import contextlib
import fnmatch
import io
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fuzz.containers import mutate

MARK = "zebra quince"  # in the notes of valid files
NOTE = f"Chief complaint: {MARK}.\nHypertension, on lisinopril. Naïve 日本: pneumonia; no fever.\r\nA1c of 9.4, DM2."


@dataclass(frozen=True)
class FileKind:
    """`write` makes a folder of valid files, `read` reads it. `changed`: patterns of the names of those that are
    changed; `seal`: what follows a change, such as a check sum that fits; `share`: of the inputs of all kinds."""

    name: str
    write: Callable[[Path], object]
    read: Callable[[Path], object]
    changed: tuple[str, ...] = ("*",)
    seal: Callable[[Path], object] | None = None
    share: int = 1


@dataclass(frozen=True)
class ValueKind:
    """`strategy()`: hypothesis' strategy of the values; `read` reads one."""

    name: str
    strategy: Callable[[], Any]
    read: Callable[[Any], object]
    share: int = 1


class FuzzFolder:
    """The working copy of a kind's valid files: `change` makes input N of it, `restore` the valid files again."""

    def __init__(self, kind: FileKind, path: Path):
        self.kind, self.path = kind, path
        path.mkdir(parents=True)
        kind.write(path)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            kind.read(path)  # raises InputError where the valid files are not
        if kind.seal:
            kind.seal(path)
        self._valid = {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}
        self._names = sorted(name for name in self._valid for shape in kind.changed if fnmatch.fnmatch(name, shape))

    def change(self, seed: int, number: int) -> None:
        """Change one or two files; the same for the same seed and number."""
        rng = random.Random(f"{seed} {self.kind.name} {number}")
        for name in rng.sample(self._names, min(len(self._names), rng.choice((1, 1, 1, 2)))):
            (self.path / name).write_bytes(mutate(name, self._valid[name], rng))
        if self.kind.seal:
            self.kind.seal(self.path)

    def restore(self) -> None:
        """Put the valid files back and remove what a reader has written."""
        for file in sorted(self.path.rglob("*"), reverse=True):
            name = str(file.relative_to(self.path))
            if file.is_dir() and not file.is_symlink():
                if not any(valid.startswith(f"{name}/") for valid in self._valid):
                    shutil.rmtree(file)
            elif name not in self._valid:
                file.unlink()
        for name, content in self._valid.items():
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            (self.path / name).write_bytes(content)
