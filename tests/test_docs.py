"""The commands in the documentation: their flags exist, and a page's commands find the files that they read.

Nothing is run: each command's own parser reads the line.
"""

import re
import shlex
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from minscl import expand
from minscl.cli import parse_flags
from minscl.config import DEMO, parse_run
from minscl.errors import InputError
from minscl.evaluate import EvaluateConfig
from minscl.export import ExportConfig
from minscl.generate_config import GenerateConfig
from minscl.review import ReviewConfig

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
RECIPE = "docs/recipe.md"
DOWNLOADED = {"codiesp.zip", "codes.tsv", "models/Llama-3.1-8B-Instruct", "aci-bench"}  # by hand or by git, curl and hf


def shell_lines(page):
    """The lines of a page's code blocks, continued ones joined, without comments."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [re.sub(r"\s+#.*", "", line) for line in lines]


def commands(page):
    """(name, arguments) of each minscl command of a page; optional flags in brackets are read as given."""
    found = (re.search(r"python -m minscl\.(\w+)(.*)", line) for line in shell_lines(page))
    for match in filter(None, found):
        arguments = re.sub(r"[\[\]]", "", match[2])
        if "…" not in arguments:
            yield match[1], shlex.split(arguments)


def parse(name, arguments):
    """The settings that a command makes of its arguments. Raises InputError for a flag that it does not have."""
    if name == "train":
        return parse_run(arguments)
    if name == "expand":
        parsed = []
        table = {words: (help, config, parsed.append) for words, (help, config, _) in expand.COMMANDS.items()}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(expand, "COMMANDS", table)
            expand.main(arguments)
        return parsed[0]
    others = {"generate": GenerateConfig, "evaluate": EvaluateConfig, "export": ExportConfig, "review": ReviewConfig}
    return parse_flags(others[name], name, "", arguments)


def paths(config, role):
    """The paths that a command reads or writes (`role`: "input" or "output"), comma-separated lists split."""
    for item in fields(config):
        if item.metadata.get("role", "").startswith(role):
            value = getattr(config, item.name)
            yield from (path for text in ([value] if isinstance(value, str) else value) for path in text.split(","))


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_parses(page, tmp_path, monkeypatch):
    """Guards a flag, preset or sub-command that was renamed or removed and still stands in the documentation."""
    monkeypatch.chdir(tmp_path)  # relative outputs are checked to be writable
    for name, arguments in commands(page):
        try:
            parse(name, arguments)
        except InputError as error:
            pytest.fail(f"{page}: {name} {shlex.join(arguments)}: {error}")


def test_a_wrong_flag_in_a_command_is_noticed(tmp_path, monkeypatch):
    """Guards a check that reads no command, or lets every flag pass."""
    monkeypatch.chdir(tmp_path)
    lines = list(commands(RECIPE))
    assert {name for name, _ in lines} == {"expand", "train", "generate", "evaluate", "export"} and len(lines) > 20
    for name, arguments in dict(lines).items():  # the last line of each command
        with pytest.raises(InputError):
            parse(name, [*arguments, "--no-such-flag"])


def test_the_recipe_writes_what_it_reads(tmp_path, monkeypatch):
    """Guards a step of docs/recipe.md whose input no step before it writes: a misspelt or forgotten file."""
    monkeypatch.chdir(tmp_path)
    written = set(DOWNLOADED)
    for line in shell_lines(RECIPE):
        written.update(re.findall(r"(?<![<0-9])> *([\w./-]+)", line))
        if command := re.search(r"python -m minscl\.(\w+)(.*)", line):
            config = parse(command[1], shlex.split(command[2]))
            server = {config.model} if getattr(config, "endpoint", "") else set()  # the name of its model, no folder
            for path in {*paths(config, "input")} - server - {""}:
                assert path in written or path.split("/")[0] in written or (ROOT / path).exists(), f"{line}: {path}"
            written.update(paths(config, "output"))


def test_the_forecast_of_the_recipe_runs(tmp_path, monkeypatch, capsys):
    """Guards the program in docs/recipe.md against names of the package that move, and --recompute on needing more."""
    [program] = re.findall(r"<<'END'\n(.*?)^END$", (ROOT / RECIPE).read_text(), re.DOTALL | re.MULTILINE)
    for name in ("documents.jsonl", "spans.jsonl"):
        longest = sorted((DEMO / name).read_text().splitlines(keepends=True), key=len)[-4:]
        (tmp_path / name).write_text("".join(longest))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["-", str(DEMO), "documents.jsonl", "spans.jsonl", "1e11"])
    exec(compile(program, RECIPE, "exec"), {})
    gigabytes = [
        float(number) for number in re.findall(r"^\d{4}.* ([\d.]+) GiB$", capsys.readouterr().out, re.MULTILINE)
    ]
    assert len(gigabytes) == 6
    assert all(recomputed < kept for kept, recomputed in zip(gigabytes[::2], gigabytes[1::2], strict=True))
