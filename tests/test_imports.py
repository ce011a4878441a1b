"""The arrows of the house: model, lora and data never import one another; infer uses model and data; commands import across."""

import ast
from pathlib import Path

import minscl

ROOT = Path(minscl.__file__).parent
GROUND = {"errors", "hardware"}
ALLOWED = {  # room → rooms that it may import
    "model": {"model"},
    "lora": {"lora"},
    "data": {"data", "data.icd"},
    "data.icd": {"data.icd"},
    "data.corpora": {"data.corpora", "data", "data.icd"},
    "data.spans": {"data.spans", "data", "data.icd"},
    "infer": {"infer", "infer.systems", "model", "data", "data.icd"},
    "infer.systems": {"infer", "infer.systems", "model", "data", "data.icd"},
    "training": {"training", "model", "lora", "data", "data.icd"},
    "score": {"score", "data", "data.icd"},
}
RUN_TIME = {"torch", "safetensors", "tokenizers", "sentencepiece", "numpy", "tqdm", "minscl"}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module


def room(module: str) -> str:
    """The room of a module: "minscl.data.icd.codebook" → "data.icd"; the module itself where it lies outside all rooms."""
    parts = module.split(".")[1:]
    inner = ".".join(parts[:2])
    return inner if inner in ALLOWED else parts[0]


def test_imports_point_one_way():
    """Guards the reader's path: whoever opens data/ need not open model/, and data/icd stands alone."""
    for package, allowed in ALLOWED.items():
        for path in (ROOT / package.replace(".", "/")).glob("*.py"):
            wrong = {room(name) for name in imported(path) if name.startswith("minscl.")} - allowed - GROUND
            assert not wrong, f"{path} imports minscl.{wrong}"


def test_the_ground_imports_nothing_and_no_command_imports_another():
    """Guards cycles: errors and hardware stand below everything, commands above it."""
    assert {room(name) for name in imported(ROOT / "errors.py") if name.startswith("minscl.")} == set()
    assert {room(name) for name in imported(ROOT / "hardware.py") if name.startswith("minscl.")} <= {"errors"}
    commands = {path.stem for path in ROOT.glob("*.py") if 'if __name__ == "__main__":' in path.read_text()}
    for path in ROOT.rglob("*.py"):
        wrong = {room(name) for name in imported(path) if name.startswith("minscl.")} & commands
        assert not wrong, f"{path} imports the command {wrong}"


def test_commands_that_need_no_torch_start_without_it():
    """Guards two seconds at every start of evaluate and expand."""
    import subprocess
    import sys

    for module in ("minscl.evaluate", "minscl.expand"):
        subprocess.run([sys.executable, "-c", f"import sys, {module}; assert 'torch' not in sys.modules"], check=True)


def test_run_time_needs_only_the_named_packages():
    """Guards an optional package creeping into the run-time path, and any pickle."""
    import sys

    for path in ROOT.rglob("*.py"):
        names = {name.split(".")[0] for name in imported(path)} - set(sys.stdlib_module_names)
        assert names <= RUN_TIME | {"matplotlib"} | ({"openai"} if path.name == "llm.py" else set()), (
            f"{path} imports {names - RUN_TIME}"
        )
        assert "pickle" not in set(imported(path)) and "torch.load" not in path.read_text(), path


def test_nothing_opens_a_connection():
    """Guards telemetry: no module of the package imports a network library, but for infer/llm.py, which asks the endpoint that the user names."""
    for path in ROOT.rglob("*.py"):
        names = {name.split(".")[0] for name in imported(path) if name != "urllib.parse"}
        assert not names & {"socket", "urllib", "http", "requests", "httpx", "ssl", "ftplib", "smtplib"}, path
