"""Text ↔ token ids: `tokenizer.json` through the tokenizers package, `tokenizer.model` through sentencepiece.

Special tokens never come from user text. The tokenizers package recognises special tokens anywhere in a text, so a
second copy of the tokenizer without them encodes all text; special tokens are added only by name, from chat.py.

Read next: chat.py; decoder.py.
"""

import json
from pathlib import Path

import sentencepiece
import tokenizers

from minscl.errors import InputError, read_json_object
from minscl.model.chat import ChatFormat, Special, detect_format


class Tokenizer:
    """Text and conversations ↔ ids. stop_ids: the tokens that end an answer. chat: the ChatFormat."""

    def __init__(self, backend: "_TokenizerJson | _SentencePiece", chat: ChatFormat, stop_ids: tuple[int, ...]):
        self._backend, self.chat, self.stop_ids = backend, chat, stop_ids
        self.vocab_size = backend.vocab_size

    def encode(self, text: str) -> list[int]:
        """Ids of plain text: no beginning-of-text token and, whatever the text says, no special token."""
        return self._backend.encode(text, first=True)

    def decode(self, ids, skip_special: bool = True) -> str:
        """Text of ids. Special tokens are left out, or shown by name."""
        return self._backend.decode(list(ids), skip_special)

    def pieces(self) -> list[bytes | None]:
        """By id: the bytes that a token adds inside a text; None for special tokens, which add none."""
        return self._backend.pieces()

    def encode_chat(self, messages, add_generation_prompt: bool = True) -> list[int]:
        """Ids of messages ({"role": system | user | assistant, "content": text} each).

        add_generation_prompt: end with the assistant's header. Raises InputError as ChatFormat.pieces does.
        """
        return self._ids(self.chat.pieces(messages, add_generation_prompt))

    def encode_answer(self, text: str) -> list[int]:
        """Ids of an assistant's answer after `encode_chat(..., add_generation_prompt=True)`, end token included."""
        return self._ids(self.chat.answer(text), before=self.chat.before_answer)

    def encode_answer_start(self, text: str) -> list[int]:
        """Ids of the beginning of an answer, to be continued: the same tokens as in the whole answer."""
        return self._ids([f" {text}" if self.chat.before_answer else text], before=self.chat.before_answer)

    def _ids(self, pieces: list[str], before: str | None = None) -> list[int]:
        """before: None at the beginning of the text, "" after a special token, else the text that `pieces` continue."""
        ids: list[int] = []
        for piece in pieces:
            if isinstance(piece, Special):
                ids.append(self._backend.special[piece])
            elif before:  # no token of these families spans the border, which is before a space
                count = len(self._backend.encode(before, False))
                ids += self._backend.encode(before + piece, False)[count:]
            else:
                ids += self._backend.encode(piece, first=before is None)
            before = ""
        return ids


class _TokenizerJson:
    """tokenizer.json, through the tokenizers package."""

    def __init__(self, path: Path):
        settings = read_json_object(path)
        try:
            self._whole = tokenizers.Tokenizer.from_str(json.dumps(settings))
            added = settings.pop("added_tokens", None) or []
            self.special: dict[str, int] = {token["content"]: token["id"] for token in added}
            settings.update(added_tokens=[], post_processor=None, truncation=None, padding=None)
            self._first = tokenizers.Tokenizer.from_str(json.dumps(settings))
            self._later = self._first
            # Llama 2's newer conversion: no space is put before text that follows a special token
            if (settings.get("pre_tokenizer") or {}).get("prepend_scheme") == "first":
                settings["pre_tokenizer"]["prepend_scheme"] = "never"
                self._later = tokenizers.Tokenizer.from_str(json.dumps(settings))
        except Exception as error:  # the package raises bare Exception for a file it cannot read
            raise InputError(
                f"{path}: not a tokenizer.json that the tokenizers package reads ({error}); fetch the file again"
            ) from error
        self._special_ids = frozenset(self.special.values())
        self.vocab_size = self._whole.get_vocab_size()

    def encode(self, text: str, first: bool) -> list[int]:
        """Ids of `text`; first: whether it begins the whole text or follows a special token."""
        ids = (self._first if first else self._later).encode(text, add_special_tokens=False).ids
        if self._special_ids.isdisjoint(ids):
            return ids
        for name in self.special:  # the name is also an ordinary word of the vocabulary: split it
            if name in text:
                before, _, after = text.partition(name)
                return [id for part in (before + name[:1], name[1:] + after) for id in self.encode(part, first)]
        return [id for id in ids if id not in self._special_ids]  # unknown-token ids represent no text

    def decode(self, ids: list[int], skip_special: bool) -> str:
        """As Tokenizer.decode."""
        return self._whole.decode(ids, skip_special_tokens=skip_special)

    def pieces(self) -> list[bytes | None]:
        """As Tokenizer.pieces."""
        decoder = json.loads(self._whole.to_str())["decoder"] or {}
        types = {step["type"] for step in decoder.get("decoders", [decoder]) if step}
        to_bytes = _from_byte_level if "ByteLevel" in types else _from_sentencepiece
        pieces: list[bytes | None] = []
        for id in range(self.vocab_size):
            name = self._whole.id_to_token(id)
            pieces.append(None if name is None or id in self._special_ids else to_bytes(name))
        return pieces


class _SentencePiece:
    """tokenizer.model: Llama 2.

    legacy: every text that follows a special token gets a space before its first word, not only the first text.
    """

    def __init__(self, path: Path, legacy: bool):
        self._legacy = legacy
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
        except (OSError, RuntimeError) as error:
            raise InputError(f"{path}: not a sentencepiece model; fetch the file again") from error
        self.vocab_size: int = self._processor.vocab_size()
        control = [id for id in range(self.vocab_size) if self._processor.is_control(id)]
        self.special: dict[str, int] = {self._processor.id_to_piece(id): id for id in control}

    def encode(self, text: str, first: bool) -> list[int]:
        """Ids of `text`; first: whether it begins the whole text or follows a special token."""
        if first or self._legacy:
            return self._processor.encode(text)
        # sentencepiece always adds a space in front, so encode a line break first and cut both off
        return self._processor.encode("\n" + text)[len(self._processor.encode("\n")) :]

    def pieces(self) -> list[bytes | None]:
        """As Tokenizer.pieces."""
        processor = self._processor
        return [
            None
            if processor.is_control(id) or processor.is_unknown(id)
            else _from_sentencepiece(processor.id_to_piece(id))
            for id in range(self.vocab_size)
        ]

    def decode(self, ids: list[int], skip_special: bool) -> str:
        """As Tokenizer.decode."""
        if skip_special:
            return self._processor.decode([id for id in ids if not self._processor.is_control(id)])
        text = ""
        pending: list[int] = []
        for id in ids:
            if self._processor.is_control(id):
                text += (self._processor.decode(pending) if pending else "") + self._processor.id_to_piece(id)
                pending = []
            else:
                pending.append(id)
        return text + (self._processor.decode(pending) if pending else "")


def _from_sentencepiece(name: str) -> bytes:
    """The bytes of a sentencepiece token: ▁ is a space, <0x0A> a byte."""
    if len(name) == 6 and name.startswith("<0x") and name.endswith(">"):
        return bytes([int(name[3:5], 16)])
    return name.replace("▁", " ").encode("utf-8")


def _from_byte_level(name: str) -> bytes:
    """The bytes of a GPT-2 style token: each letter represents a byte."""
    return bytes(_BYTES[letter] for letter in name)


def _byte_level_alphabet() -> dict[str, int]:
    """GPT-2's alphabet, letter → byte: printable bytes are themselves, the others the letters from 256 on, in order."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + index): byte for index, byte in enumerate(others)}


_BYTES = _byte_level_alphabet()


def load_tokenizer(folder) -> Tokenizer:
    """The tokenizer of a model folder. Raises InputError for a missing or damaged file and an unknown chat format."""
    folder = Path(folder)
    backend: _TokenizerJson | _SentencePiece
    if (folder / "tokenizer.json").exists():
        backend = _TokenizerJson(folder / "tokenizer.json")
    elif (folder / "tokenizer.model").exists():
        legacy = _settings(folder / "tokenizer_config.json").get("legacy") is not False
        backend = _SentencePiece(folder / "tokenizer.model", legacy)
    else:
        raise InputError(f"{folder}: no tokenizer.json and no tokenizer.model; fetch one of them")
    chat = detect_format(_chat_template(folder), set(backend.special), str(folder))
    if chat.end not in backend.special:
        raise InputError(
            f"{folder}: the chat template is {chat.name}'s, but the tokenizer has no {chat.end}; "
            "the folder mixes two models"
        )
    return Tokenizer(backend, chat, _stop_ids(folder, backend.special[chat.end]))


def _chat_template(folder: Path) -> str:
    """The template's text: chat_template.jinja, or tokenizer_config.json's (one text, or a list of named ones)."""
    if (folder / "chat_template.jinja").exists():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    template = _settings(folder / "tokenizer_config.json").get("chat_template") or ""
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template}
        template = named.get("default") or ""
    return template


def _stop_ids(folder: Path, end: int) -> tuple[int, ...]:
    """From generation_config.json, else config.json, else the chat format's end token."""
    for name in ("generation_config.json", "config.json"):
        ids = _settings(folder / name).get("eos_token_id")
        if ids is not None:
            return tuple(ids) if isinstance(ids, list) else (ids,)
    return (end,)


def _settings(path: Path) -> dict:
    """The JSON object in `path`; empty where there is no such file."""
    return read_json_object(path) if path.exists() else {}
