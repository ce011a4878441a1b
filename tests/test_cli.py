"""Flags made from a dataclass, and what every command does with a wrong one."""

import re
import subprocess
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pytest

import minscl
from minscl.cli import flag, flag_name, parse_flags, path_flag, positional, require, run_command
from minscl.config import PRESETS, RunConfig, parse_run
from minscl.errors import InputError

COMMANDS = sorted(
    path.stem for path in Path(minscl.__file__).parent.glob("*.py") if "\n    run_command(main)\n" in path.read_text()
)


@dataclass(frozen=True)
class PrintConfig:
    """Flags of an invented command, one of each kind."""

    files: tuple = positional("files to print", "FILE")
    out: str = path_flag("folder to write")
    copies: int = flag(2, "printed copies")
    scale: float = flag(1.5, "100% of the page")
    margin: float = flag(0.0, "white edge")
    paper: str = flag("a4", "size", choices=("a4", "letter"))
    tray: tuple = flag((), "tray to take paper from; may be repeated")
    two_sided: bool = flag(False, "print on both sides")
    internal: int = 7  # no flag


def parse(*argv):
    return parse_flags(PrintConfig, "print", "Print files.", [*argv])


def run(*argv):
    return subprocess.run([sys.executable, *argv], capture_output=True, text=True, timeout=120)


def test_flags_are_the_fields():
    """Guards: a default that differs from the dataclass's, a wrong type, the second --tray replacing the first."""
    assert parse("a.txt", "--out", "x") == PrintConfig(files=("a.txt",), out="x")
    words = "a.txt b.txt --out x --copies 3 --scale 2 --paper letter --tray top --tray side --two-sided"
    assert parse(*words.split()) == PrintConfig(
        files=("a.txt", "b.txt"), out="x", copies=3, scale=2.0, paper="letter", tray=("top", "side"), two_sided=True
    )


@pytest.mark.parametrize(
    "words, message",
    [
        ("a.txt", "--out is missing: folder to write; give --out PATH"),
        ("a.txt --out x --paper a3", "--paper a3: use a4, letter"),
        ("a.txt --out x --copies many", "invalid int value: 'many'; see python -m minscl.print --help"),
        ("a.txt --out x --internal 8", "unrecognized arguments: --internal"),
        ("--out x", "required: FILE"),
    ],
)
def test_bad_usage_names_the_value_and_the_remedy(words, message):
    """Guards a traceback, a silent default, and a usage text of ten lines."""
    with pytest.raises(InputError) as error:
        parse(*words.split())
    assert message in str(error.value)


def test_help_shows_each_default_once(capsys, monkeypatch):
    """Guards a default written out in the help text too, where it would be forgotten when the field changes."""
    monkeypatch.setenv("COLUMNS", "1000")  # so that argparse wraps no line
    with pytest.raises(SystemExit) as exit:
        parse("--help")
    text = capsys.readouterr().out
    assert exit.value.code == 0 and text.count("default: ") == 4
    for line in (
        "printed copies (default: 2)",
        "100% of the page (default: 1.5)",
        "white edge (default: 0.0)",
        "size: a4, letter (default: a4)",
    ):
        assert text.count(line) == 1
    assert "internal" not in text


def test_help_of_train_shows_each_default_once(capsys, monkeypatch):
    """Guards a flag of RunConfig that --help leaves out, or whose default it gives twice."""
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit):
        parse_run(["--help"])
    lines = re.sub(r"\n {10,}", " ", capsys.readouterr().out).splitlines()  # a long flag's help is on the next line
    for field in fields(RunConfig):
        [line] = [line for line in lines if line.split()[:1] == [flag_name(field.name)]]
        shown = not isinstance(field.default, bool) and field.default != ""
        assert line.count("default: ") == shown and (f"(default: {field.default})" in line) == shown, line


def test_a_flag_overrides_the_preset():
    """Guards a preset that wins over the command line, and one that is lost with the first flag."""
    assert parse_run(["--cfg", "qwen3b", "--lr", "0.5"]) == replace(PRESETS["qwen3b"], lr=0.5)
    assert parse_run([]) == PRESETS["tiny"]
    with pytest.raises(InputError, match="--cfg"):
        parse_run(["--cfg", "gpt2"])


@pytest.mark.parametrize(
    "flag, remedy",
    [("--model", "hf download Qwen/Qwen2.5"), ("--spans", "minscl.expand gold"), ("--adapter", "name a file that")],
)
def test_a_missing_path_names_its_remedy(flag, remedy, tmp_path):
    path = tmp_path / "Qwen2.5"
    with pytest.raises(InputError, match=f"{flag} {path}: no such file or folder; .*{re.escape(remedy)}"):
        require(str(path), flag)
    path.mkdir()
    assert require(str(path), flag) == path


@pytest.mark.parametrize("error, status", [(InputError("a\nb"), 2), (KeyboardInterrupt(), 130)])
def test_errors_are_one_line_and_an_exit_status(error, status, capsys):
    """Guards a traceback, and a message of several lines that a script would read as several errors."""

    def fail():
        raise error

    with pytest.raises(SystemExit) as exit:
        run_command(fail)
    assert exit.value.code == status
    assert capsys.readouterr().err == ("minscl: a b\n" if status == 2 else "minscl: interrupted\n")


def test_a_reader_that_goes_away_is_no_failure():
    """Guards a traceback from `minscl ... | head -1`."""
    code = "from minscl.cli import run_command; run_command(lambda: print('x\\n' * 100000) or 0)"
    command = f'{sys.executable} -c "{code}" | head -1; echo ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.stdout == "x\n0\n" and done.stderr == ""


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.slow
def test_every_command_refuses_an_unknown_flag_in_one_line(command):
    """Guards a flag that is ignored, and argparse's usage text in place of one line. As a user runs it."""
    words = {"expand": ["gold", "--out", "x"], "generate": ["note.txt"]}.get(command, [])
    done = run("-m", f"minscl.{command}", *words, "--no-such-flag")
    assert done.returncode == 2 and done.stdout == "", done.stderr
    assert done.stderr.startswith("minscl: ") and "--no-such-flag" in done.stderr and done.stderr.count("\n") == 1
