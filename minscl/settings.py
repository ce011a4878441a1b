"""A typed reader of JSON settings: config.json, tokenizer_config.json, adapter_config.json, the state of a checkpoint.

    settings = read_settings(folder / "config.json", "fetch the file again")
    layers = settings.integer("num_hidden_layers", minimum=1, maximum=10_000)
    theta = settings.section("rope_parameters", default={}).number("rope_theta", default=10000.0, above=0)

A value of another type, out of range or not finite raises an InputError that names the file, the key and the value.
null counts as missing. Values of settings files may be shown; records of notes are read by data/record_checks.py, which
never shows content.

Read next: model/config.py, its largest user.
"""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from minscl.errors import InputError, is_text
from minscl.files import read_text

MAX_DEPTH = 64  # of nested lists and objects
MAX_INTEGER = 2**63 - 1  # of a whole number without a maximum of its own
_REQUIRED: Any = object()


class Settings:
    """A JSON object of settings. `source` is what messages call it: the file, and the section within it."""

    def __init__(self, values: dict[str, Any], source: str, remedy: str = "fetch the file again"):
        self.values, self.source, self.remedy = values, source, remedy

    def __contains__(self, key: str) -> bool:
        """Whether `key` has a value other than null."""
        return self.values.get(key) is not None

    def error(self, key: str, expected: str) -> InputError:
        """The error for a value that is not as `expected`, such as "a whole number of at least 1"."""
        shown = "missing" if key not in self.values else show_value(self.values[key])
        return InputError(f"{self.source}: {key} is {shown}, but must be {expected}; {self.remedy}")

    def integer(self, key: str, default=_REQUIRED, *, minimum: int = 0, maximum: int = MAX_INTEGER) -> int:
        """A whole number from `minimum` to `maximum`."""
        if key not in self and default is not _REQUIRED:
            return default
        value: Any = self.values.get(key)
        if type(value) is not int or not minimum <= value <= maximum:
            at_most = "" if maximum == MAX_INTEGER else f" and at most {maximum:,}"
            raise self.error(key, f"a whole number of at least {minimum}{at_most}")
        return value

    def number(
        self,
        key: str,
        default=_REQUIRED,
        *,
        minimum: float = -math.inf,
        above: float = -math.inf,
        maximum: float = math.inf,
    ) -> float:
        """A finite number: at least `minimum`, above `above`, at most `maximum`."""
        if key not in self and default is not _REQUIRED:
            return default
        value: Any = self.values.get(key)
        if type(value) in (int, float) and abs(value) < 1e300 and minimum <= value <= maximum and value > above:
            return value
        limits = {"of at least": minimum, "above": above, "at most": maximum}
        stated = [f"{words} {limit:g}" for words, limit in limits.items() if math.isfinite(limit)]
        raise self.error(key, " ".join(["a number", " and ".join(stated)]).strip())

    def boolean(self, key: str, default=_REQUIRED) -> bool:
        """true or false."""
        if key not in self and default is not _REQUIRED:
            return default
        if type(self.values.get(key)) is not bool:
            raise self.error(key, "true or false")
        return self.values[key]

    def string(self, key: str, default=_REQUIRED, *, choices: Iterable[str] = ()) -> str:
        """A string, one of `choices` if there are any."""
        if key not in self and default is not _REQUIRED:
            return default
        value: Any = self.values.get(key)
        choices = tuple(choices)
        if not isinstance(value, str) or (choices and value not in choices) or not is_text(value):
            raise self.error(key, f"one of {', '.join(choices)}" if choices else "a string")
        return value

    def strings(self, key: str, default=_REQUIRED) -> list[str]:
        """A list of strings."""
        if key not in self and default is not _REQUIRED:
            return default
        value = self.values.get(key)
        if not isinstance(value, list) or not all(isinstance(item, str) and is_text(item) for item in value):
            raise self.error(key, "a list of strings")
        return value

    def section(self, key: str, default=_REQUIRED) -> "Settings":
        """The object under `key` as Settings of its own; `default`: a dict."""
        value = self.values.get(key)
        if key not in self and default is not _REQUIRED:
            value = default
        if not isinstance(value, dict):
            raise self.error(key, "an object")
        return Settings(value, f"{self.source}: {key}", self.remedy)


def read_settings(path: str | Path, remedy: str = "fetch the file again") -> Settings:
    """The JSON object in `path`. Raises InputError with `remedy` where there is none, or it is nested too deeply."""
    text = read_text(path, remedy)
    try:
        value = json.loads(text)
        if not isinstance(value, dict):
            raise InputError(f"{path}: not a JSON object; {remedy}")
        check_structure(value)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise InputError(f"{path}: not JSON that can be used ({reason}); {remedy}") from error
    return Settings(value, str(path), remedy)


def check_structure(value: Any) -> None:
    """Raises ValueError where lists and objects are nested more than MAX_DEPTH deep, or a key is no text."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        if not all(is_text(key) for container in level if isinstance(container, dict) for key in container):
            raise ValueError("a key has an unpaired surrogate")
        level = [
            item
            for container in level
            if isinstance(container, (dict, list))
            for item in (container.values() if isinstance(container, dict) else container)
        ]
        if not level:
            return
    raise ValueError(f"nested more than {MAX_DEPTH} deep")


def show_value(value: Any) -> str:
    """A value of a settings file for a message: short, on one line."""
    if isinstance(value, (dict, list)):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    if type(value) is int and abs(value) > 10**20:
        return "a number of more than 20 digits"
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
