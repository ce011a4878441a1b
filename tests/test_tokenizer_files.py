"""Tokenizer and generation settings with values of any kind: usable, or one line that names the file; no traceback."""

import copy
import json
import shutil

import pytest

from minscl.errors import InputError
from minscl.model import load_tokenizer
from tests.test_tokenizer import CHATML, QWEN_SPECIAL, THINK, byte_level, make_folder

DEEP: list = []
for _ in range(90):
    DEEP = [DEEP]
VALUES = [
    None,
    True,
    0,
    -1,
    7,
    1e30,
    10**400,
    float("inf"),
    float("nan"),
    "",
    "x",
    "\ud800",
    "<|im_end|>",
    "\x1b[2J\n",
    [],
    [None],
    ["x"],
    [[1]],
    [{"name": 1}],
    {},
    {"content": 7},
    {"1": {}},
    {"x": "y"},
    {"9" * 30: {"content": "x"}},
    {"default": None},
    DEEP,
]
KEYS = {
    "tokenizer_config.json": [
        "chat_template",
        "bos_token",
        "eos_token",
        "pad_token",
        "x_token",
        "add_bos_token",
        "added_tokens_decoder",
        "additional_special_tokens",
        "extra_special_tokens",
        "legacy",
        "tokenizer_class",
    ],
    "generation_config.json": ["eos_token_id"],
    "config.json": ["eos_token_id"],
    "special_tokens_map.json": ["bos_token", "additional_special_tokens"],
    "added_tokens.json": ["x", "<|im_end|>"],
    "tokenizer.json": [
        "added_tokens",
        "decoder",
        "pre_tokenizer",
        "normalizer",
        "model",
        "truncation",
        "padding",
        "version",
    ],
}
RAW = [
    b"",
    b"[]",
    b"null",
    b"7",
    b"{",
    b"{}",
    b'{"a": NaN}',
    b'"\\ud800"',
    b"caf\xe9",
    b"\x00\xff\xfe",
    b"[" * 10**5,
    b'{"a":' * 10**5,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    byte_level(folder, QWEN_SPECIAL, THINK)
    template = CHATML.replace("DEFAULT", "")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def check(folder, file):
    """Load; where that is refused, the line names the file. Returns whether it is usable."""
    try:
        tokenizer = load_tokenizer(folder)
    except InputError as error:
        assert str(folder / file.partition(".")[0]) in str(error)
        assert "\n" not in str(error) and "\x1b" not in str(error), repr(str(error))
        assert len(str(error)) < 600
        return False
    ids = tokenizer.encode_chat([{"role": "user", "content": "Pt with HTN <|im_end|>"}])
    ids += tokenizer.encode_answer("I10")
    assert ids[-1] == tokenizer.stop_ids[0] and all(type(id) is int for id in tokenizer.stop_ids)
    assert tokenizer.decode(ids) and len(tokenizer.pieces()) == tokenizer.vocab_size > max(ids)
    return True


@pytest.mark.parametrize("file, key", [(file, key) for file, keys in KEYS.items() for key in keys])
def test_a_value_of_any_type_is_used_or_refused_in_one_line(folder, tmp_path, file, key):
    """Guards: TypeError, AttributeError, KeyError, RecursionError or a panic where a file and its key belong."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    path = tmp_path / file
    document = json.loads(path.read_text()) if path.exists() else {}
    for value in VALUES:
        path.write_text(json.dumps(document | {key: value}))
        check(tmp_path, file)
    if file == "tokenizer.json":  # one level further down
        inner = document.get(key)
        entries = inner[0] if isinstance(inner, list) else inner
        for name in list(entries if isinstance(entries, dict) else ()):
            for value in VALUES[:-1]:
                changed = copy.deepcopy(document)
                target = changed[key][0] if isinstance(inner, list) else changed[key]
                target[name] = value
                path.write_text(json.dumps(changed))
                check(tmp_path, file)


@pytest.mark.parametrize("file", [*KEYS, "chat_template.jinja", "tokenizer.model"])
def test_a_file_of_any_content_is_used_or_refused_in_one_line(folder, tmp_path, file):
    """Guards: a traceback for a file that is cut off, no JSON, not UTF-8, nested 100,000 deep, or a folder."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    if file == "tokenizer.model":
        (tmp_path / "tokenizer.json").unlink()
    for content in RAW:
        (tmp_path / file).write_bytes(content)
        check(tmp_path, file)
    (tmp_path / file).unlink()
    (tmp_path / file).mkdir()
    assert not check(tmp_path, file)


@pytest.mark.parametrize("file", [file for file in KEYS if file != "added_tokens.json"])
def test_a_utf_8_signature_is_no_part_of_a_file(folder, tmp_path, file):
    """Guards: a folder refused, or a setting lost, because an editor wrote a byte-order mark."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    path = tmp_path / file
    path.write_text(path.read_text() if path.exists() else "{}", encoding="utf-8-sig")
    assert check(tmp_path, file)


@pytest.mark.parametrize("value", ["x", 1.5, True, [[1]], [None], {"a": 1}, ["1"]])
def test_an_end_token_of_another_type_names_file_and_key(folder, tmp_path, value):
    """Guards: TypeError in the engine, far from the file."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": value}))
    with pytest.raises(InputError, match=r"generation_config.json: eos_token_id is .*, but must be a whole number"):
        load_tokenizer(tmp_path)


def test_a_sentencepiece_folder_with_settings_of_any_type(tmp_path):
    """Guards: the same tracebacks on Llama 2's path."""
    make_folder(tmp_path, "llama2-sentencepiece")
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    for key in ("legacy", "added_tokens_decoder", "bos_token"):
        for value in VALUES:
            (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings | {key: value}))
            check(tmp_path, "tokenizer_config.json")


@pytest.mark.parametrize("merge", [["ab", "xyz" * 9], "ab " + "xyz" * 9])
def test_a_merge_that_makes_no_token_is_refused_before_the_package_panics(folder, tmp_path, capfd, merge):
    """Guards: lines of a panic on stderr, a stack of 60 with RUST_BACKTRACE, around the one of the error."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    document = json.loads((folder / "tokenizer.json").read_text())
    document["model"]["merges"] = [merge]
    document["model"]["vocab"] |= {"ab": 900, "xyz" * 9: 901}
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="tokenizer.json: model: merges: number 0 makes a token that vocab does not"):
        load_tokenizer(tmp_path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "key, steps, name",
    [
        (
            "pre_tokenizer",
            [{"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}] * 501,
            "pretokenizers",
        ),
        ("normalizer", [{"type": "Replace", "pattern": {"String": "e"}, "content": "ee"}] * 40, "normalizers"),
        ("decoder", [{"type": "Replace", "pattern": {"String": "e"}, "content": "e" * 300}], "decoders"),
    ],
)
def test_steps_that_make_a_text_endless_are_refused(folder, tmp_path, key, steps, name):
    """Guards: each pass doubles a text, until memory ends and the package aborts the process."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    document = json.loads((folder / "tokenizer.json").read_text())
    document[key] = {"type": "Sequence", name: [{"type": "Sequence", name: steps}]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match=f"tokenizer.json: .*{key}.* more than 256 times as long"):
        load_tokenizer(tmp_path)


def test_what_only_shows_when_a_text_is_read_is_one_line_too(folder, tmp_path):
    """Guards: a panic of the tokenizers package while it encodes, 2 billion ids walked, a key that is no text."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    document = json.loads((folder / "tokenizer.json").read_text())
    for normaliser in (
        {"type": "Prepend", "prepend": ""},
        {"type": "Replace", "pattern": {"String": ""}, "content": "x"},
    ):
        (tmp_path / "tokenizer.json").write_text(json.dumps(document | {"normalizer": normaliser}))
        with pytest.raises(InputError, match="tokenizer.json: .*cannot|tokenizer.json: .*can use"):
            load_tokenizer(tmp_path).encode("é" * 9)
    changed = copy.deepcopy(document)
    changed["model"]["vocab"][next(iter(changed["model"]["vocab"]))] = 2**31
    (tmp_path / "tokenizer.json").write_text(json.dumps(changed))
    with pytest.raises(InputError, match="tokenizer.json: has a token of id 2147483648"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    (tmp_path / "added_tokens.json").write_text('{"\\ud800": 0}')
    with pytest.raises(InputError, match="added_tokens.json"):
        load_tokenizer(tmp_path)
