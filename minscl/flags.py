"""Flags that a command checks before it reads anything, and counts as a table; for commands of many files.

Read next: expand.py.
"""

from dataclasses import field, fields

from minscl.errors import InputError


def file_flag(help, default=""):
    return field(default=default, metadata={"help": help, "metavar": "PATH", "needed": default == ""})


def choice_flag(default, choices, help):
    return field(default=default, metadata={"help": f"{help}: {', '.join(choices)}", "choices": tuple(choices)})


class Checked:
    """Flags that name a file must be given, and flags with choices hold one of them."""

    def __post_init__(self):
        for item in fields(self):
            flag, value = "--" + item.name.replace("_", "-"), getattr(self, item.name)
            if item.metadata.get("needed") and not value:
                raise InputError(f"{flag} is missing: {item.metadata['help']}; give {flag} PATH")
            if value not in item.metadata.get("choices", (value,)):
                raise InputError(f"{flag} {value}: use {', '.join(item.metadata['choices'])}")


def columns(rows) -> str:
    """(name, number) rows as lines a person reads."""
    rows = list(rows)
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"{name:{width}}  {number:>7,}" for name, number in rows)
