"""The command line of every command: flags declared in one frozen dataclass, one-line errors, exit status.

    @dataclass(frozen=True)
    class ExportConfig:
        model: str = flag("models/base", "base model folder")
        out: str = path_flag("folder to write")

    def main(argv: list[str] | None = None) -> int:
        config = parse_flags(ExportConfig, "export", "Merge an adapter into its base model.", argv)
        ...

    if __name__ == "__main__":
        run_command(main)

A field's default is the flag's default and decides its type: a str, int or float takes one value, False makes a switch,
() makes a flag that may be repeated. So each default is written once, and `--help` is generated from it.

Read next: config.py, the flags of training; export.py, the shortest command.
"""

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, ClassVar, NoReturn, Protocol, TypeVar

from minscl.errors import InputError


class Dataclass(Protocol):
    """Any dataclass, for type checkers."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]


Config = TypeVar("Config", bound=Dataclass)


def flag(default: Any, help: str, *, choices: Iterable[str] = (), metavar: str = "") -> Any:
    """A dataclass field that is also a flag: `--batch-size` for `batch_size`. Its type is that of `default`."""
    return field(default=default, metadata={"help": help, "choices": tuple(choices), "metavar": metavar})


def path_flag(help: str) -> Any:
    """A required flag that names a file or folder."""
    return field(default="", metadata={"help": help, "metavar": "PATH", "required": True})


def positional(help: str, metavar: str) -> Any:
    """One or more positional arguments, as a tuple of str."""
    return field(default=(), metadata={"help": help, "metavar": metavar, "positional": True})


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises InputError on a usage error instead of printing the usage; so do its subparsers."""

    def error(self, message: str) -> NoReturn:
        """Called by argparse on a usage error; raises InputError."""
        raise InputError(f"{message}; see {self.prog} --help")


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
            help += f": {', '.join(item.metadata['choices'])}"
        if not isinstance(default, bool) and default not in ("", ()):
            help += f" (default: {default})"
        metavar = item.metadata.get("metavar") or item.name.upper()
        if item.metadata.get("positional"):
            parser.add_argument(item.name, nargs="+", help=help, metavar=metavar)
        elif isinstance(default, bool):
            parser.add_argument(name, action="store_true", default=argparse.SUPPRESS, help=help)
        elif isinstance(default, tuple):
            parser.add_argument(name, action="append", default=argparse.SUPPRESS, help=help, metavar=metavar)
        else:
            parser.add_argument(name, type=type(default), default=argparse.SUPPRESS, help=help, metavar=metavar)


def make_config(config_class: type[Config], values: Mapping[str, Any]) -> Config:
    """A `config_class` of parsed `values`. Raises InputError for a missing path or a value outside the choices."""
    for item in dataclasses.fields(config_class):
        value = values.get(item.name, item.default)
        name = flag_name(item.name)
        if item.metadata.get("required") and not value:
            raise InputError(f"{name} is missing: {item.metadata['help']}; give {name} PATH")
        choices = item.metadata.get("choices")
        if choices and value not in choices:
            raise InputError(f"{name} {value}: use {', '.join(choices)}")
    return config_class(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def flag_name(field_name: str) -> str:
    """The flag of a field: "batch_size" → "--batch-size"."""
    return "--" + field_name.replace("_", "-")


def require(path: str, flag: str) -> Path:
    """`path` if it exists. Raises InputError that names `flag` and the command that makes such a file or folder."""
    if Path(path).exists():
        return Path(path)
    name = Path(path).name
    organisation = "Qwen" if name.startswith("Qwen") else "meta-llama"
    remedy = {
        "--model": f"fetch it once: hf download {organisation}/{name} --local-dir {path} (or name another folder)",
        "--documents": f"make invented ones: python -m study.notes --split train --out {path} (or name another file)",
        "--spans": f"make it: python -m minscl.expand gold --out {path} (or name another file)",
    }.get(flag, "name a file that exists")
    raise InputError(f"{flag} {path}: no such file or folder; {remedy}")


def format_counts(rows: Iterable[tuple[str, int]]) -> str:
    """(name, number) rows as aligned lines."""
    rows = list(rows)
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"{name:{width}}  {number:>7,}" for name, number in rows)


def run_command(main: Callable[[], int]) -> NoReturn:
    """Run `main()` and exit with its status; an InputError prints one line and exits with 2, Ctrl-C exits with 130."""
    try:
        sys.exit(main())
    except InputError as error:
        print(f"minscl: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("minscl: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of stdout (head, less) has closed it: not an error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
