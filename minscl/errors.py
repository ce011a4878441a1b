"""Errors that the user can fix, and what their messages may show.

Every command turns an `InputError` into one line on stderr and exit status 2 (command.run_command). Any module may
import this one; it imports nothing from minscl.
"""

import json
import re
from typing import Any


class InputError(ValueError):
    """Bad input or bad usage. The message is one line that names the file, the key or line and the remedy.

    It never has content of a note or record: those are patients' text, and messages end up in logs and tickets.
    """


class Terminated(BaseException):
    """The process was told to end; its text says what is kept. No Exception, which a handler of errors would take for
    the fault of a note or of a file, and go on."""


# What may change what a terminal shows: control characters, unpaired surrogates, and the characters that end a line or
# reverse the direction of what follows.
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""`text` for a terminal, which a note must not control: escape (ESC, one character) is shown as \x1b (four)."""
    return UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def is_text(text: str) -> bool:
    """Whether `text` can be written as UTF-8: it has no unpaired surrogate, as names and JSON may have."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def describe_value(value: Any) -> str:
    """The type and length of a value out of a record, for messages: its content may be patients' text."""
    if value is None or isinstance(value, bool):
        return str(json.dumps(value))
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return f"a string of {len(value):,} character{'s' * (len(value) != 1)}"
    return f"a list of {len(value):,}" if isinstance(value, (list, tuple)) else "an object"
