"""What the settings files beside a tokenizer say of its tokens: tokenizer_config.json, and two older files.

As transformers reads them: tokenizer_config.json's `added_tokens_decoder`; without it, special_tokens_map.json (which
replaces the names of tokenizer_config.json) and added_tokens.json.

Read next: token_backends.py.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken

from minscl.errors import InputError
from minscl.files import path_kind
from minscl.settings import Settings, read_settings

NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
LISTS = ("additional_special_tokens", "extra_special_tokens")
FLAGS = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": True, "special": False}
# The names that transformers' classes give to tokens where tokenizer_config.json does not.
_CLASS_NAMES = {
    "Llama": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
    "Qwen": dict.fromkeys(("eos_token", "pad_token", "unk_token"), "<|endoftext|>"),
}


@dataclass(frozen=True)
class TokenSettings:
    """named: bos_token, eos_token and others, which chat templates use as variables. special: names of other special
    tokens. added: id → token, from the file `source`; has_flags: whether that states their flags. legacy: as of
    token_backends.SentencePiece.
    """

    named: dict[str, str]
    special: tuple[str, ...]
    added: dict[int, AddedToken]
    has_flags: bool
    legacy: bool
    source: str


def read_optional(path: Path) -> Settings:
    """The JSON object in `path`; empty where there is no such file."""
    return Settings({}, str(path)) if path_kind(path) == "missing" else read_settings(path)


def read_token_settings(folder: Path, config: Settings) -> TokenSettings:
    """The settings in `folder`, whose tokenizer_config.json is `config`. Raises InputError naming the file and key."""
    tokenizer_class = config.string("tokenizer_class", default="")
    names = next((names for family, names in _CLASS_NAMES.items() if tokenizer_class.startswith(family)), {})
    named = {key: name for key, name in names.items() if key not in config.values} | _named(config)
    special = _special(config)
    source, has_flags = config.source, "added_tokens_decoder" in config
    if has_flags:
        added = _added_tokens_decoder(config.section("added_tokens_decoder"), set(named.values()))
    else:
        older = read_optional(folder / "special_tokens_map.json")
        named |= _named(older)
        special += _special(older)
        source = str(folder / "added_tokens.json")
        added = _added_tokens(read_optional(folder / "added_tokens.json"), {*named.values(), *special})
    legacy = config.boolean("legacy", default=True)
    return TokenSettings(named, tuple(special), added, has_flags, legacy, source)


def _named(settings: Settings) -> dict[str, str]:
    """The *_token settings: each a name, or an object with the name as its content."""
    named = {key: _name(settings, key, settings.values[key]) for key in NAMES if key in settings}
    others = {key: value for key, value in settings.values.items() if key.endswith("_token") and isinstance(value, str)}
    return others | named


def _special(settings: Settings) -> list[str]:
    """Names of further special tokens: lists, or an object of named ones."""
    names: list[str] = []
    for key in LISTS:
        if key in settings:
            value = settings.values[key]
            if not isinstance(value, (list, dict)):
                raise settings.error(key, "a list of tokens")
            entries = value.values() if isinstance(value, dict) else value
            names += [_name(settings, key, entry) for entry in entries]
    return names


def _name(settings: Settings, key: str, value: Any) -> str:
    """A token's name: `value`, or its content."""
    name = value.get("content") if isinstance(value, dict) else value
    if not isinstance(name, str):
        raise settings.error(key, "a token's name, or an object with its content")
    return Settings({key: name}, settings.source, settings.remedy).string(key)


def _added_tokens_decoder(section: Settings, named: set[str]) -> dict[int, AddedToken]:
    """tokenizer_config.json's: id → {content, lstrip, rstrip, single_word, normalized, special}."""
    added: dict[int, AddedToken] = {}
    for key in section.values:
        if not (key.isascii() and key.isdigit() and len(key) < 10):
            raise InputError(f"{section.source}: {key[:20]!r} is not the id of a token; {section.remedy}")
        entry = section.section(key)
        flags = {name: entry.boolean(name, default=default) for name, default in FLAGS.items()}
        content = entry.string("content")
        added[int(key)] = AddedToken(content, **flags | {"special": flags["special"] or content in named})
    return added


def _added_tokens(settings: Settings, special: set[str]) -> dict[int, AddedToken]:
    """added_tokens.json's: name → id."""
    return {
        settings.integer(name, maximum=10**9): AddedToken(name, special=name in special, normalized=name not in special)
        for name in settings.values
    }
