"""Checks shared by every `from_dict`: keys and value types of a JSON object, errors that name key, value and remedy.

Read next: types.py, the records that use them.
"""

from minscl.errors import InputError

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


def checked_record(record, cls, required: dict, optional: dict) -> dict:
    """Return `record` unchanged after checking its keys and the types of its values.

    `required` and `optional` map each key to its type (or tuple of types); an optional value may also be null. `cls`
    only names the record in messages. Raises InputError for a non-object, an unknown key, a missing key, a wrong type
    and for strings with unpaired surrogates, which cannot be written back as UTF-8.
    """
    name = cls.__name__
    if not isinstance(record, dict):
        raise InputError(f"{name}: {short_repr(record)} is not an object; write {{{', '.join(required)}}}")
    types = {**required, **optional}
    for key in record.keys() - types.keys():
        raise InputError(f"{name}: unknown key {short_repr(key)}; use only {', '.join(types)}")
    for key in required.keys() - record.keys():
        raise InputError(f"{name}: key {key!r} is missing; give {', '.join(required)}")
    for key, value in record.items():
        if value is None and key in optional:
            continue
        expected = types[key]
        bool_as_number = isinstance(value, bool) and expected is not bool  # bool is a subclass of int
        if bool_as_number or not isinstance(value, expected):
            raise InputError(f"{name}: {key} is {short_repr(value)}; it must be a {_JSON_TYPE_NAMES[expected]}")
        if expected is str and not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise InputError(f"{name}: {key} {short_repr(value)} has an unpaired surrogate; write whole characters")
    return record


def short_repr(value) -> str:
    """`repr(value)` for an error message: quoted, on one line, at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def with_optional(record: dict, **optional) -> dict:
    """`record` plus those of the `optional` keys whose value is not None."""
    return {**record, **{key: value for key, value in optional.items() if value is not None}}
