"""Imports go one way: model, lora and data never import one another; only the commands import across."""

import ast
import subprocess
import sys
from pathlib import Path

import minscl

ROOT = Path(minscl.__file__).parent
GROUND = {
    "append_file",
    "collection",
    "disk",
    "errors",
    "figures",
    "files",
    "folders",
    "hardware",
    "settings",
    "temporary",
    "weights",
}
ALLOWED = {  # room → rooms and modules that it may import
    "model": {"model"},
    "lora": {"lora"},
    "data": {"data", "data.icd", "data.assertion"},
    "data.assertion": {"data.assertion"},
    "data.icd": {"data.icd"},
    "data/icd/rules": {"data.icd"},
    "data/icd/official": {"data.icd"},
    "data/icd/lookup": {"data.icd"},
    "data.corpora": {"data.corpora", "data", "data.icd"},
    "data.spans": {"data.spans", "data", "data.icd"},
    "infer": {"infer", "infer.systems", "model", "data", "data.icd", "data.assertion"},
    "infer.systems": {"infer", "infer.systems", "model", "data", "data.icd"},
    "training": {"training", "model", "lora", "data", "data.icd", "config"},  # config: RunConfig, a run's settings
    "heads": {"heads", "training", "model", "lora", "data", "data.icd", "data.spans", "config", "pretrained"},
    "score": {"score", "data", "data.icd"},
    "page": {"page", "infer", "data", "data.icd"},
}
RUN_TIME = {"torch", "safetensors", "tokenizers", "sentencepiece", "numpy", "tqdm", "minscl"}
OPTIONAL = {
    "figures.py": {"matplotlib"},
    "gguf_export.py": {"gguf"},
    "training/loss_plot.py": {"PIL"},
    "training/tensorboard.py": {"tensorboard"},
    "infer/endpoint.py": {"openai"},
    "model/sandbox.py": {"jinja2"},
    "page/server.py": {"starlette"},
    "page/guard.py": {"starlette"},
    "review.py": {"uvicorn"},
}
LISTENS = {"review.py": {"socket"}}  # on 127.0.0.1
NETWORK = {"socket", "urllib", "http", "requests", "httpx", "ssl", "ftplib", "smtplib"}


def imports_of(path):
    """Names of the modules that a file imports anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module


def room(module: str) -> str:
    """The room of a module: "minscl.data.icd.codebook" → "data.icd"; outside all rooms, the module itself."""
    parts = module.split(".")[1:]
    inner = ".".join(parts[:2])
    return inner if inner in ALLOWED else parts[0]


def rooms_of(path) -> set[str]:
    """The rooms of minscl that a file imports."""
    return {room(name) for name in imports_of(path) if name.startswith("minscl.")}


def test_imports_point_one_way():
    """Guards the reader's path: whoever opens data/ need not open model/, and data/icd stands alone."""
    for package, allowed in ALLOWED.items():
        for path in (ROOT / package.replace(".", "/")).glob("*.py"):
            forbidden = rooms_of(path) - allowed - GROUND
            assert not forbidden, f"{path} imports minscl.{forbidden}"


def test_the_ground_imports_nothing_and_no_command_imports_another():
    """Guards cycles: errors and hardware stand below everything, flags and settings above them, commands on top."""
    assert rooms_of(ROOT / "errors.py") == rooms_of(ROOT / "collection.py") == set()
    assert rooms_of(ROOT / "disk.py") == set() and rooms_of(ROOT / "temporary.py") <= {"disk"}
    assert rooms_of(ROOT / "files.py") <= {"disk", "errors", "temporary"}
    assert rooms_of(ROOT / "append_file.py") <= {"disk", "errors", "files", "temporary"}
    assert rooms_of(ROOT / "folders.py") <= {"disk", "files", "temporary"}
    assert rooms_of(ROOT / "settings.py") <= {"errors", "files"}
    assert rooms_of(ROOT / "figures.py") <= {"errors", "files"}
    assert rooms_of(ROOT / "hardware.py") <= {"errors"}
    assert rooms_of(ROOT / "weights.py") <= {"errors", "files", "settings"}
    assert rooms_of(ROOT / "cli.py") <= {"errors", "files", "settings"}
    assert rooms_of(ROOT / "command.py") <= {"errors"}
    assert rooms_of(ROOT / "config.py") <= {"errors", "cli"}
    commands = {path.stem for path in ROOT.glob("*.py") if '\nif __name__ == "__main__":' in path.read_text()}
    assert {"train", "generate"} <= commands
    for path in ROOT.rglob("*.py"):
        assert not rooms_of(path) & commands, f"{path} imports the command {rooms_of(path) & commands}"


def test_commands_that_need_no_torch_start_without_it():
    """Guards two seconds at every start of evaluate, expand and review."""
    for module in ("minscl.evaluate", "minscl.expand", "minscl.review"):
        subprocess.run([sys.executable, "-c", f"import sys, {module}; assert 'torch' not in sys.modules"], check=True)
    code = "import sys, minscl.infer.endpoint; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_run_time_needs_only_the_named_packages():
    """Guards an optional package creeping into the run-time path, and any pickle."""
    for path in ROOT.rglob("*.py"):
        packages = {name.split(".")[0] for name in imports_of(path)} - set(sys.stdlib_module_names)
        optional = OPTIONAL.get(path.relative_to(ROOT).as_posix(), set())
        assert packages <= RUN_TIME | optional, f"{path} imports {packages - RUN_TIME}"
        assert "pickle" not in set(imports_of(path)) and "torch.load" not in path.read_text(), path


def test_nothing_opens_a_connection():
    """Guards telemetry: only infer/endpoint.py connects, by the openai package, to the endpoint that the user names;
    the review listens."""
    for path in ROOT.rglob("*.py"):
        packages = {name.split(".")[0] for name in imports_of(path) if name != "urllib.parse"}
        assert packages & NETWORK <= LISTENS.get(path.relative_to(ROOT).as_posix(), set()), path
