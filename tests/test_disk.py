"""minscl writes through disk.py alone: only then can tests/fault_points.py let each operation fail."""

import ast
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

import minscl
from minscl.weights import TYPE_NAMES, write_tensors

ROOT = Path(minscl.__file__).parent
# Functions and methods that change the disk, on whatever they are called.
WRITERS = {
    *("write_text", "write_bytes", "touch", "mkdir", "makedirs", "rmdir", "removedirs", "unlink", "rename", "renames"),
    *(
        "rmtree",
        "copy2",
        "copyfile",
        "copytree",
        "copymode",
        "chmod",
        "chown",
        "fchmod",
        "fchown",
        "fsync",
        "fdatasync",
    ),
    *("ftruncate", "symlink", "symlink_to", "hardlink_to", "mkfifo", "save_file", "serialize_file", "savez", "tofile"),
    *("mkstemp", "mkdtemp", "NamedTemporaryFile", "TemporaryFile", "TemporaryDirectory", "extractall", "FileHandler"),
}
# Those whose names strings, lists and files have too, by their module.
OF_MODULES = {"os": {"replace", "remove", "truncate", "link", "write"}, "shutil": {"copy", "move"}}
EXEMPT = {
    ("command.py", "open"): "the null device in place of closed standard streams",
    ("figures.py", "TemporaryDirectory"): "matplotlib's list of fonts, which it writes by itself",
    ("compiled_file.py", "TemporaryDirectory"): "what the compiler writes by itself, and is read from there",
    ("compiled_file.py", "write_bytes"): "a copy there of what the cache folder has, for torch to load",
    ("__init__.py", "write"): "the message of Ctrl-C while it imports, on stderr",
}


def writing_calls(path: Path) -> set[str]:
    """Names of the functions called in a file that change the disk, or open a file to write it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            function = node.func
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            owner = getattr(getattr(function, "value", None), "id", "")
            changes = owner != "disk" and (name in WRITERS or name in OF_MODULES.get(owner, ()))
            if changes or (name == "open" and opens_to_write(node, owner)):
                found.add(name)
    return found


def opens_to_write(call: ast.Call, owner: str) -> bool:
    """Whether a call of open() may write: flags other than O_RDONLY, a mode with w, a, x or +, or one not known."""
    if owner == "os":
        return "O_RDONLY" not in ast.unparse(call) or "O_CREAT" in ast.unparse(call)
    if owner in ("archive", "tarfile"):  # what is in an archive, to read it
        return False
    modes = [*call.args[1:2], *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
    return any(not isinstance(mode, ast.Constant) or set("wax+") & set(str(mode.value)) for mode in modes)


def test_nothing_writes_but_through_the_layer():
    """Guards a write that no fault is tried on: not fsynced, not replaced at once, public, a traceback on a full
    disk."""
    writers = {}
    for path in ROOT.rglob("*.py"):
        calls = writing_calls(path)
        calls -= {name for file, name in EXEMPT if file == path.name}
        if calls and path != ROOT / "disk.py":
            writers[str(path.relative_to(ROOT))] = sorted(calls)
    assert writers == {}


@pytest.mark.parametrize(
    "line",
    [
        "open(path, 'w')",
        "open(path, mode)",
        "path.open(mode='ab')",
        "os.open(path, os.O_WRONLY)",
        "os.replace(a, b)",
        "path.rename(b)",
        "path.unlink(missing_ok=True)",
        "path.write_text('')",
        "shutil.copy(a, b)",
        "save_file(tensors, path)",
        "os.write(1, b'')",
    ],
)
def test_what_writes_is_recognised(line, tmp_path):
    """Guards a test that would let everything through."""
    (tmp_path / "x.py").write_text(line)
    assert len(writing_calls(tmp_path / "x.py")) == 1
    (tmp_path / "x.py").write_text("open(path); open(path, 'rb'); text.replace(a, b); disk.unlink(path); file.write(b)")
    assert not writing_calls(tmp_path / "x.py")


def test_tensors_are_written_as_safetensors_writes_them():
    """Guards weights that no other software reads: another order, a header that is not padded, transposed tensors."""
    generator = torch.Generator().manual_seed(1)
    for names in ("abcdefghij", "jihgfedcba"):
        tensors = {
            f'model."{name}".é': (torch.rand(3, 2, generator=generator) * 100).to(dtype).t()
            for name, dtype in zip(names, TYPE_NAMES, strict=True)
        }
        tensors |= {"scalar": torch.tensor(3.0), "empty": torch.zeros(0, 3)}
        contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
        for metadata in (None, {"format": "pt"}):
            file = Collected()
            write_tensors(file, tensors, metadata)
            assert file.content == save(contiguous, metadata)


class Collected:
    """A file in memory."""

    content = b""

    def write(self, piece):
        self.content += bytes(piece)
