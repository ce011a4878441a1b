"""The command line of every command: flags declared in one frozen dataclass, checked, with one-line errors.

    @dataclass(frozen=True)
    class ExportConfig:
        model: str = flag("models/base", "base model folder")
        out: str = path_flag("folder to write")

    def main(argv: list[str] | None = None) -> int:
        config = parse_flags(ExportConfig, "export", "Merge an adapter into its base model.", argv)
        ...

A field's default is the flag's default and decides its type: a str, int or float takes one value, False makes a switch,
() makes a flag that may be repeated, None one that may be left out and takes what the field's type, `int | None`, says.
So each default is written once, and `--help` is generated from it. So are the checks: a number's range, and the role of
a path. No command writes over its inputs (check_outputs).

Read next: command.py, which runs a command; export.py, the shortest one.
"""

import argparse
import dataclasses
import math
import os
import re
import typing
from collections.abc import Iterable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn, Protocol, TypeVar

from minscl.errors import InputError, is_text
from minscl.files import output_path, path_kind, same_file
from minscl.settings import MAX_INTEGER

# An output inside a folder of notes or charts may replace a file of these kinds, which no command reads from there.
OUTPUT_SUFFIXES = (".jsonl", ".html", ".png", ".svg", ".pdf")
Role = Literal["", "input", "output", "output folder"]  # of a path


class Dataclass(Protocol):
    """Any dataclass, for type checkers."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]


Config = TypeVar("Config", bound=Dataclass)


def flag(
    default: Any,
    help: str,
    *,
    choices: Iterable[str] = (),
    metavar: str = "",
    minimum: float = -math.inf,
    above: float = -math.inf,
    maximum: float = math.inf,
    below: float = math.inf,
    role: Role = "",
    alone: str = "",
) -> Any:
    """A dataclass field that is also a flag: `--batch-size` for `batch_size`. Its type is that of `default`.

    A number must be finite, at least `minimum`, above `above`, at most `maximum` and below `below` (check_ranges).
    `alone`: what the flag without a value means; "": it needs one.
    """
    limits = {"at least": minimum, "above": above, "at most": maximum, "below": below}
    metadata = {"help": help, "choices": tuple(choices), "metavar": metavar, "limits": limits, "role": role}
    metadata["alone"] = alone
    return field(default=default, metadata=metadata)


def path_flag(help: str, role: Role = "") -> Any:
    """A required flag that names a file or folder."""
    return field(default="", metadata={"help": help, "metavar": "PATH", "required": True, "role": role})


def positional(help: str, metavar: str, role: Role = "", count: Literal["+", "*"] = "+") -> Any:
    """One or more positional arguments, as a tuple of str; with `count` "*" there may be none."""
    return field(default=(), metadata={"help": help, "metavar": metavar, "positional": count, "role": role})


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises InputError on a usage error instead of printing the usage; so do its subparsers."""

    def error(self, message: str) -> NoReturn:
        """Called by argparse on a usage error; raises InputError."""
        shown = re.sub(r"://\S*", "://...", message)  # an address may hold a password
        shown = shown if len(shown) <= 300 else f"{shown[:300]}..."
        raise InputError(f"{shown}; see {self.prog} --help")


def parse_flags(config_class: type[Config], command: str, description: str, argv: list[str] | None = None) -> Config:
    """Parse `argv` (None: sys.argv[1:]) into a `config_class`. Raises InputError for flags that cannot be parsed."""
    parser = Parser(prog=f"python -m minscl.{command}", description=description)
    add_flags(parser, config_class)
    return make_config(config_class, vars(parser.parse_args(argv)))


def add_flags(parser: argparse.ArgumentParser, config_class: type[Dataclass]) -> None:
    """Add one flag per field of the dataclass `config_class`: type and default from the field, help from its metadata.

    A flag that is not on the command line has no parsed value, so the default of the dataclass or preset applies.
    """
    for item in dataclasses.fields(config_class):
        if "help" not in item.metadata:
            continue
        name, default = flag_name(item.name), item.default
        help = item.metadata["help"].replace("%", "%%")
        if item.metadata.get("choices"):
            help += f": {', '.join(filter(None, item.metadata['choices']))}"
        if not isinstance(default, bool) and default not in ("", (), None):
            help += f" (default: {default})"
        metavar = item.metadata.get("metavar") or item.name.upper()
        if item.metadata.get("positional"):
            parser.add_argument(item.name, nargs=item.metadata["positional"], help=help, metavar=metavar)
        elif isinstance(default, bool):
            parser.add_argument(name, action="store_true", default=argparse.SUPPRESS, help=help)
        elif isinstance(default, tuple):
            parser.add_argument(name, action="append", default=argparse.SUPPRESS, help=help, metavar=metavar)
        else:
            kind = typing.get_args(item.type)[0] if default is None else type(default)  # of a field `int | None`
            alone = item.metadata.get("alone")
            values = {"nargs": "?", "const": alone} if alone else {}
            parser.add_argument(name, type=kind, default=argparse.SUPPRESS, help=help, metavar=metavar, **values)


def make_config(config_class: type[Config], values: Mapping[str, Any]) -> Config:
    """A `config_class` of parsed `values`.

    Raises InputError for a missing path, a name that is not UTF-8, a value outside the choices or the range, and a path
    that would be both read and written.
    """
    for item in dataclasses.fields(config_class):
        value = values.get(item.name, item.default)
        name = shown_name(item)
        if item.metadata.get("required") and not value:
            raise InputError(f"{name} is missing: {item.metadata['help']}; give {name} PATH")
        for text in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(text, str) and not is_text(text):
                shown = f" {text}" if item.metadata.get("role") else ""  # an address may hold a password
                raise InputError(f"{name}{shown}: not UTF-8; rename the file, or type it again")
            if isinstance(text, str) and item.metadata.get("role") and ("\n" in text or "\r" in text):
                raise InputError(f"{name}: a path with a line break, which would look like two lines; rename the file")
        choices = item.metadata.get("choices")
        if choices and value not in choices:
            raise InputError(f"{name} {value}: use {', '.join(filter(None, choices))}")
    config = config_class(
        **{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    )
    check_ranges(config)
    check_outputs(config)
    return config


def check_ranges(config: Dataclass) -> None:
    """Raises InputError naming the first flag of `config` whose number is not finite or outside its range."""
    for item in dataclasses.fields(config):
        value, limits = getattr(config, item.name), item.metadata.get("limits", {})
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        tests = {"at least": value.__ge__, "above": value.__gt__, "at most": value.__le__, "below": value.__lt__}
        stated = [f"{words} {limit:.10g}" for words, limit in limits.items() if math.isfinite(limit)]
        usual = abs(value) <= MAX_INTEGER if isinstance(value, int) else math.isfinite(value)
        if not usual or not all(tests[words](limit) for words, limit in limits.items() if math.isfinite(limit)):
            shown = value if abs(value) < 1e20 else f"{value:.0e}" if isinstance(value, float) else "(huge)"
            if not usual and (isinstance(value, float) or not math.isfinite(limits["at most"])):
                stated.append("finite" if isinstance(value, float) else f"of at most {len(str(MAX_INTEGER))} digits")
            raise InputError(f"{flag_name(item.name)} {shown}: must be {' and '.join(stated)}")


def check_outputs(config: Dataclass) -> None:
    """Raises InputError where an output of `config` is one of its inputs, a file of an input folder, or another output.

    Also where it cannot be written, so that no command works for hours first. A path's role is declared with its flag.
    """
    inputs, outputs = _paths(config, "input"), [*_paths(config, "output"), *_paths(config, "output folder")]
    for _, path in _paths(config, "output"):
        output_path(path)
    for number, (name, path) in enumerate(outputs):
        for other, other_path in [*inputs, *outputs[:number]]:
            if same_file(path, other_path):
                raise InputError(f"{name} {path}: is also {other}'s, and would be written over; name another file")
        for other, folder in inputs:
            if path_kind(path) == "file" and _is_read_from(folder, path):
                raise InputError(f"{name} {path}: a file of {other} {folder}; name another file")


def _paths(config: Dataclass, role: Role) -> list[tuple[str, str]]:
    """(flag, path) of every path that has this role; a comma-separated list counts as its parts."""
    paths = []
    for item in dataclasses.fields(config):
        if item.metadata.get("role") == role:
            name, value = shown_name(item), getattr(config, item.name)
            texts = [value] if isinstance(value, str) else value
            paths += [(name, part) for text in texts for part in {text, *map(str.strip, text.split(","))} if part]
    return paths


def _is_read_from(folder: str, path: str) -> bool:
    """Whether the file `path` is in `folder`, at any depth or behind a link, under a name of a kind that is read.

    From a folder of notes or charts no OUTPUT_SUFFIXES are read; a model's folder is never written to.
    """
    is_model = any(path_kind(Path(folder, name)) == "file" for name in ("config.json", "adapter_config.json"))
    return any(
        (is_model or Path(name).suffix.lower() not in OUTPUT_SUFFIXES) and same_file(os.path.join(parent, name), path)
        for parent, _, names in os.walk(folder)
        for name in names
    )


def flag_name(field_name: str) -> str:
    """The flag of a field: "batch_size" → "--batch-size"."""
    return "--" + field_name.replace("_", "-")


def shown_name(item: dataclasses.Field[Any]) -> str:
    """What messages call a field: its flag, or the metavar of a positional argument."""
    return item.metadata["metavar"] if item.metadata.get("positional") else flag_name(item.name)


def require(path: str, flag: str) -> Path:
    """`path` if it exists. Raises InputError that names `flag` and the command that makes such a file or folder."""
    if path_kind(path) != "missing":
        return Path(path)
    name = Path(path).name
    organisation = "Qwen" if name.startswith("Qwen") else "meta-llama"
    remedy = {
        "--model": f"fetch it once: hf download {organisation}/{name} --local-dir {path} (or name another folder)",
        "--documents": "make it: python -m minscl.expand documents codiesp FOLDER --split train --language en "
        f"--out {path} (or name another file; minscl/demo/documents.jsonl is one)",
        "--spans": f"make it: python -m minscl.expand gold --out {path} (or name another file)",
    }.get(flag, "name a file or folder that exists")
    raise InputError(f"{flag} {path}: no such file or folder; {remedy}")
