"""Flags made from a dataclass, and what every command does with a wrong one."""

import json
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pytest

import minscl
from minscl.cli import flag, flag_name, parse_flags, path_flag, positional, require
from minscl.command import print_json, run_command
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
    copies: int = flag(2, "printed copies", maximum=2**32 - 1)
    scale: float = flag(1.5, "100% of the page")
    margin: float = flag(0.0, "white edge")
    paper: str = flag("a4", "size", choices=("a4", "letter"))
    ink: str = flag("", "colour", choices=("", "black"))
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
        ("a.txt --out x --ink blue", "--ink blue: use black"),
        ("a.txt --out x --copies 5000000000", "--copies 5000000000: must be at most 4294967295"),
    ],
)
def test_bad_usage_names_the_value_and_the_remedy(words, message):
    """Guards a traceback, a silent default, a usage text of ten lines, an empty choice and a rounded limit."""
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
    [
        ("--model", "hf download Qwen/Qwen2.5"),
        ("--spans", "minscl.expand gold"),
        ("--adapter", "name a file or folder"),
    ],
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


def test_a_message_of_megabytes_is_shortened(capsys):
    """Guards: a name or value out of a damaged file that fills the terminal or the log. Beginning and end, which name
    the file and the remedy, stay."""
    with pytest.raises(SystemExit):
        run_command(lambda: (_ for _ in ()).throw(InputError(f"model.safetensors: {'a' * 10**6}; fetch it again")))
    message = capsys.readouterr().err
    assert len(message) < 1300 and message.startswith("minscl: model.safetensors: aaa")
    assert message.endswith("a; fetch it again\n") and " ... " in message


def test_a_reader_that_goes_away_is_no_failure():
    """Guards a traceback from `minscl ... | head -1`."""
    code = "from minscl.command import run_command; run_command(lambda: print('x\\n' * 100000) or 0)"
    command = f'{sys.executable} -c "{code}" | head -1; echo ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.stdout == "x\n0\n" and done.stderr == ""


@dataclass(frozen=True)
class CopyConfig:
    """Flags of an invented command that reads files and writes others."""

    files: tuple = positional("files to copy", "FILE", role="input")
    folder: str = flag("", "folder to read", role="input")
    lists: str = flag("", "comma-separated files", role="input")
    out: str = path_flag("file to write", role="output")
    html: str = flag("", "another file to write", role="output")
    rate: float = flag(0.5, "a share", above=0, maximum=1)
    copies: int = flag(2, "printed copies", minimum=1)


def copy(*argv):
    return parse_flags(CopyConfig, "copy", "Copy files.", [str(word) for word in argv])


@pytest.mark.parametrize(
    "words",
    ["--rate 0", "--rate 1.1", "--rate nan", "--rate inf", "--rate 1e400", "--copies 0", f"--copies {10**40}"],
)
def test_numbers_out_of_range_are_refused(words):
    """Guards a NaN that passes every comparison, and a number that overflows deep in the arithmetic."""
    name = words.split()[0]
    with pytest.raises(InputError, match=f"^{name} .*: must be") as error:
        copy("a.txt", "--out", "x", *words.split())
    assert len(str(error.value)) < 150


def test_no_command_writes_over_what_it_reads(tmp_path):
    """Guards a note, gold or a model file lost to --out: the same name, a link to it, another spelling, two outputs."""
    note, folder = tmp_path / "note.txt", tmp_path / "model"
    note.write_text("x")
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (tmp_path / "link").symlink_to(note)
    (tmp_path / "hard").hardlink_to(note)
    (tmp_path / "dangling").symlink_to(tmp_path / "new")
    for out in (note, tmp_path / "link", tmp_path / "hard", tmp_path / "model" / ".." / "note.txt"):
        with pytest.raises(InputError, match="is also FILE's"):
            copy("other", note, "--out", out)
    with pytest.raises(InputError, match="is also --lists's"):
        copy("other", "--lists", f"a, {note}", "--out", note)
    with pytest.raises(InputError, match="is also --out's"):
        copy("other", "--out", tmp_path / "new", "--html", tmp_path / "dangling")
    (folder / "x.jsonl").write_text("{}")
    for name in ("config.json", "x.jsonl"):
        with pytest.raises(InputError, match="a file of --folder"):
            copy("other", "--folder", folder, "--out", folder / name)
    (folder / "a.txt").symlink_to(note)
    with pytest.raises(InputError, match="a file of --folder"):
        copy("other", "--folder", folder, "--out", note)
    assert copy(note, "--folder", tmp_path, "--out", tmp_path / "new.jsonl").out == str(tmp_path / "new.jsonl")


def test_an_output_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    """Guards hours of coding whose result then finds a folder, a pipe or a file in its way. Nothing is created."""
    (tmp_path / "file").write_text("x")
    for out in (tmp_path, "/dev/full", tmp_path / "file" / "x", tmp_path / ("x" * 300)):
        with pytest.raises(InputError, match=re.escape(str(out))):
            copy("a.txt", "--out", out)
    copy("a.txt", "--out", tmp_path / "new" / "x.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_name_that_is_not_utf8_is_one_line(tmp_path):
    """Guards the UnicodeEncodeError of writing such a name into JSON, after the work is done."""
    with pytest.raises(InputError, match="not UTF-8"):
        copy("a\udcff.txt", "--out", "x")


def test_a_path_with_a_line_break_is_refused():
    """Guards a name that writes a line of its own into a log."""
    with pytest.raises(InputError, match="--out: a path with a line break"):
        copy("a.txt", "--out", "y\nminscl: error: fake")


SHELL = {  # what the shell does with a command's streams → (what main prints, exit status, stderr)
    "> /dev/full": ("é", 2, "log\nminscl: standard output: No space left on device; nothing else is written\n"),
    "2>&- | cat": ("é", 0, ""),
    "<&- >&- 2>&-": ("é", 0, ""),
}


@pytest.mark.parametrize("redirection", SHELL)
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
def test_odd_streams_are_no_traceback(redirection, encoding, tmp_path):
    """Guards a full or closed stream, messages on stdout where stderr is closed, and an encoding that lacks letters."""
    text, status, stderr = SHELL[redirection]
    script = tmp_path / "x.py"
    script.write_text(
        "import sys\nfrom minscl.command import run_command\n"
        f"def main():\n    print('log', file=sys.stderr)\n    print({text!r})\n    return 0\nrun_command(main)\n"
    )
    command = f"PYTHONIOENCODING={encoding} {sys.executable} {script} {redirection}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, encoding=encoding)
    assert (done.returncode, done.stderr) == (status, stderr)


def test_control_sequences_do_not_reach_the_terminal(capsys):
    """Guards a file name or id that clears the screen or rewrites what stands above."""

    def fail():
        raise InputError("a\x1b[2J\u202e.txt: no such file")

    with pytest.raises(SystemExit):
        run_command(fail)
    assert capsys.readouterr().err == "minscl: a\\x1b[2J\\u202e.txt: no such file\n"


def test_what_is_printed_is_escaped_and_json_stays_json(capsys):
    """Guards control sequences in file names, system names and quotations, on both streams."""
    text = "a\x1b[2J\x9b\u202e\u2028b"

    def main():
        print(text, "c\td\r")
        print(text, file=sys.stderr)
        sys.stderr.write("\r50%")  # a progress bar
        sys.stderr.write("\x1b[A")
        print_json({"x": text})
        return 0

    with pytest.raises(SystemExit):
        run_command(main)
    out, err = capsys.readouterr()
    shown = r"a\x1b[2J\x9b\u202e\u2028b"
    lines = out.split("\n")
    assert lines[0] == shown + " c\td\\r" and err.startswith(f"{shown}\n\r50%\x1b[A")
    assert json.loads(lines[1]) == {"x": text} and lines[1].isprintable()


def test_a_mistyped_flag_does_not_show_an_address():
    """Guards a password in an address that follows a flag with a typing error."""
    with pytest.raises(InputError) as error:
        copy("a.txt", "--out", "x", "--endpont", "http://user:secret@127.0.0.1/v1")
    assert "secret" not in str(error.value) and "--endpont" in str(error.value)


def test_ctrl_c_during_imports_is_one_line():
    """Guards the traceback of an import, in the two seconds in which torch is loaded."""
    command = [sys.executable, "-X", "importtime", "-m", "minscl.evaluate", "--gold", "x", "--pred", "y"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    for line in process.stderr:  # -X importtime tells when a module has been imported
        if line.rstrip().endswith("minscl"):
            process.send_signal(signal.SIGINT)
            break
    rest = process.communicate(timeout=60)[0], process.stderr
    assert process.returncode == 130 and rest[0] == ""


@pytest.mark.parametrize(
    "command", [name if name == "generate" else pytest.param(name, marks=pytest.mark.long) for name in COMMANDS]
)
@pytest.mark.slow
def test_every_command_refuses_an_unknown_flag_in_one_line(command):
    """Guards a flag that is ignored, and argparse's usage text in place of one line. As a user runs it."""
    words = {"expand": ["gold", "--out", "x"], "generate": ["note.txt"]}.get(command, [])
    done = run("-m", f"minscl.{command}", *words, "--no-such-flag")
    assert done.returncode == 2 and done.stdout == "", done.stderr
    assert done.stderr.startswith("minscl: ") and "--no-such-flag" in done.stderr and done.stderr.count("\n") == 1
