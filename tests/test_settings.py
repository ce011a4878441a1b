"""The typed reader of JSON settings: a wrong type, a value out of range or not finite is one line with file and key."""

import json

import pytest

from minscl.errors import InputError
from minscl.settings import Settings, read_settings

ODD = [None, True, "", "64", 1.5, -1, 0, 10**400, float("inf"), float("nan"), 1e308, [], {}, [1], {"a": 1}, "\ud800"]
READERS = {
    "integer": (lambda settings: settings.integer("key", minimum=1, maximum=100), [7, 100]),
    "number": (lambda settings: settings.number("key", above=0, maximum=10), [0.5, 7, 10]),
    "boolean": (lambda settings: settings.boolean("key"), [True, False]),
    "string": (lambda settings: settings.string("key", choices=("silu", "gelu")), ["silu"]),
    "strings": (lambda settings: settings.strings("key"), [["a", "b"], []]),
    "section": (lambda settings: settings.section("key").values, [{"a": 1}, {}]),
}


@pytest.mark.parametrize("reader", READERS)
def test_only_values_of_the_right_type_pass(reader):
    """Guards a wrong type that is found deep in the arithmetic, as a traceback or, worse, as another result."""
    read, valid = READERS[reader]
    for value in valid:
        assert read(Settings({"key": value}, "config.json")) == value
    for value in ODD:
        if any(type(value) is type(right) and value == right for right in valid):
            continue
        if reader == "number" and value == 1.5:
            continue
        with pytest.raises(InputError, match="config.json: key is ") as error:
            read(Settings({"key": value}, "config.json"))
        assert "\n" not in str(error.value) and len(str(error.value)) < 300
    with pytest.raises(InputError, match="key is missing"):
        read(Settings({}, "config.json"))


def test_null_counts_as_missing():
    """Guards config.json's many nulls, which mean "the default"."""
    settings = Settings({"key": None}, "config.json")
    assert settings.integer("key", 3) == settings.number("key", 3) == 3
    assert settings.string("other", "x") == "x" and "key" not in settings
    assert settings.section("key", {"a": 1}).integer("a") == 1


@pytest.mark.parametrize(
    "content",
    [b"[]", b"{", b"\xff", b"", b'{"a": ' + b"9" * 5000 + b"}", b'{"a": ' + b"[" * 90 + b"]" * 90 + b"}"]
    + [b"[" * 100_000, b'{"a": ' * 5000 + b"1" + b"}" * 5000],
    ids=["list", "cut", "not UTF-8", "empty", "digits", "deep", "deeper", "deep objects"],
)
def test_files_that_hold_no_settings_are_one_line(content, tmp_path):
    """Guards a RecursionError, and a ValueError about digits."""
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="config.json: .*; (fetch it|convert it)"):
        read_settings(path, "fetch it")


def test_a_signature_is_no_content(tmp_path):
    """Guards a config.json saved by a Windows editor."""
    (tmp_path / "x").write_bytes(b"\xef\xbb\xbf" + json.dumps({"a": 1}).encode())
    assert read_settings(tmp_path / "x").values == {"a": 1}
