"""minscl writes through disk.py alone: only then can tests/fault_points.py let each operation fail."""

import ast
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

import minscl
from minscl.weights import TYPE_NAMES, write_tensors

ROOT = Path(minscl.__file__).parent
# Functions and methods that change the disk, whatever they are called on.
WRITERS = {
    *("write_text", "write_bytes", "touch", "mkdir", "makedirs", "rmdir", "removedirs", "unlink", "rename", "renames"),
    *("replace", "remove", "rmtree", "move", "copy", "copy2", "copyfile", "copytree", "copymode", "chmod", "chown"),
    *("fchmod", "fchown", "fsync", "fdatasync", "truncate", "ftruncate", "symlink", "symlink_to", "link", "mkfifo"),
    *("hardlink_to", "save_file", "serialize_file", "savez", "tofile", "mkstemp", "mkdtemp", "NamedTemporaryFile"),
    *("TemporaryFile", "TemporaryDirectory", "extract", "extractall", "make_archive", "FileHandler"),
}
# Of these names, methods of other things: str.replace, dataclasses.replace, list.remove, copy.copy, re.Match.
MODULES = {"os", "shutil", "tempfile", "Path", "np", "numpy"}
AMBIGUOUS = {"replace", "remove", "copy", "move", "truncate", "extract", "link", "rename", "unlink", "write"}
LAYER = {"disk", "temporary"}  # modules whose functions are the layer's
EXEMPT = {
    ("command.py", "open"): "the null device in place of closed standard streams",
    ("figures.py", "TemporaryDirectory"): "matplotlib's list of fonts, which it writes by itself",
    ("__init__.py", "write"): "the message of Ctrl-C while it imports, on stderr",
}


def writing_calls(path: Path) -> set[str]:
    """Names of the functions called in a file that change the disk, or open a file to write it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        owner = getattr(function.value, "id", "?") if isinstance(function, ast.Attribute) else ""
        if (
            name == "open"
            and opens_to_write(node, owner)
            or (name in WRITERS or name == "write")
            and owner not in LAYER
            and (name not in AMBIGUOUS or owner in MODULES or (name in ("rename", "unlink") and owner))
        ):
            found.add(name)
    return found


def opens_to_write(call: ast.Call, owner: str) -> bool:
    """Whether a call of open() may write: a mode that is not a constant without w, a, x and +, or flags of os.open."""
    if owner == "os":
        return "O_RDONLY" not in ast.unparse(call) or any(flag in ast.unparse(call) for flag in ("O_CREAT", "O_TRUNC"))
    if owner in ("zip", "archive", "tarfile", "webbrowser"):
        return False  # read only, and no file
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
