"""The arrows of the house: model, lora and data never import one another; infer uses model and data; commands import across."""

import ast
from pathlib import Path

import minscl

ROOT = Path(minscl.__file__).parent
ALLOWED = {"model": {"model", "errors"}, "lora": {"lora", "errors"}, "data": {"data", "errors"}, "infer": {"infer", "model", "data", "errors"}}
RUN_TIME = {"torch", "safetensors", "tokenizers", "sentencepiece", "numpy", "tqdm", "minscl"}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module


def test_imports_point_one_way():
    """Guards the reader's path: whoever opens data/ need not open model/."""
    for package, allowed in ALLOWED.items():
        for path in (ROOT / package).glob("*.py"):
            parts = [name.split(".") for name in imported(path) if name.startswith("minscl.")]
            wrong = {part[1] for part in parts} - allowed
            assert not wrong, f"{path} imports minscl.{wrong}"


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
        assert names <= RUN_TIME | {"matplotlib"} | ({"openai"} if path.name == "llm.py" else set()), f"{path} imports {names - RUN_TIME}"
        assert "pickle" not in set(imported(path)) and "torch.load" not in path.read_text(), path


def test_nothing_opens_a_connection():
    """Guards telemetry: no module of the package imports a network library, but for infer/llm.py, which asks the endpoint that the user names."""
    for path in ROOT.rglob("*.py"):
        names = {name.split(".")[0] for name in imported(path) if name != "urllib.parse"}
        assert not names & {"socket", "urllib", "http", "requests", "httpx", "ssl", "ftplib", "smtplib"}, path
