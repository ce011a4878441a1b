"""Checks shared by every `from_dict`: keys and value types of a JSON object.

Messages name key, type and remedy, never a value: records hold patients' text.

Read next: types.py, the records that use them.
"""

import os
import re

from minscl.errors import InputError, describe_value, is_text

_JSON_TYPE_NAMES = {
    str: "string",
    int: "whole number",
    float: "number",
    (int, float): "number",
    bool: "true or false value",
    list: "list",
    dict: "JSON object",
    type(None): "null where grounded is false",
}
MAX_CHARACTERS = 64 * 10**6  # of a string; tokenising one takes a hundred times the memory
_LARGEST_NUMBER = 2**53  # up to which whole numbers are exact in every program that reads JSON
_SHOWN_KEY_LENGTH = 30  # characters; a longer key is not a misspelt one but text


def checked_record(record, cls, required: dict, optional: dict) -> dict:
    """Return `record` unchanged after checking its keys and the types of its values.

    `required` and `optional` map each key to its type (or tuple of types); an optional value may also be null. `cls`
    only names the record in messages. Raises InputError for a non-object, an unknown key, a missing key, a wrong type
    and for strings with unpaired surrogates, which cannot be written back as UTF-8.
    """
    name = cls.__name__
    if not isinstance(record, dict):
        raise InputError(f"{name}: {describe_value(record)}, not an object; write {{{', '.join(required)}}}")
    for key in record:
        if key not in required and key not in optional:
            raise InputError(f"{name}: unknown key {show_key(key)}; use only {', '.join([*required, *optional])}")
    for key in required:
        if key not in record:
            raise InputError(f"{name}: key {key!r} is missing; give {', '.join(required)}")
    for key, value in record.items():
        if value is None and key in optional:
            continue
        expected = required.get(key) or optional[key]
        bool_as_number = isinstance(value, bool) and expected is not bool  # bool is a subclass of int
        if bool_as_number or not isinstance(value, expected):
            raise InputError(f"{name}: {key} is {describe_value(value)}; it must be a {_JSON_TYPE_NAMES[expected]}")
        if isinstance(value, (int, float)) and not abs(value) <= _LARGEST_NUMBER:
            raise InputError(f"{name}: {key} is out of range; correct it")
        if isinstance(value, str) and len(value) > MAX_CHARACTERS:
            raise InputError(f"{name}: {key} has {len(value):,} characters, more than any note; split it")
        if expected is str and not is_text(value):
            raise InputError(f"{name}: {key} has an unpaired surrogate; write whole characters")
    return record


def checked_texts(values, cls, key: str) -> tuple[str, ...] | None:
    """The list of strings `values`, already known to be a list or null, as a tuple. Raises InputError."""
    for value in values or ():
        checked_record({key: value}, cls, {key: str}, {})
    return None if values is None else tuple(values)


def show_key(key: str) -> str:
    """A key of a record for a message: quoted if it is a word, else only described."""
    return repr(key) if len(key) <= _SHOWN_KEY_LENGTH and key.isidentifier() else describe_value(key)


def show_code(text: str) -> str:
    """A code of a record for a message: itself if it can be one of any code system, else only described."""
    return text if re.fullmatch(r"[A-Za-z0-9.+/-]{1,10}", text) and re.search(r"[0-9]", text) else describe_value(text)


def show_id(text: str) -> str:
    """An id of a record for a message: itself if it is the path of a file or one word, else only described."""
    is_id = re.fullmatch(r"[\w.:/#-]{1,60}", text) or (len(text) < 1000 and os.path.exists(text))
    return text if is_id else describe_value(text)


def with_optional(record: dict, **optional) -> dict:
    """`record` plus those of the `optional` keys whose value is not None."""
    return {**record, **{key: value for key, value in optional.items() if value is not None}}
