"""Text ↔ token ids: `tokenizer.json` through the tokenizers package, `tokenizer.model` through sentencepiece.

User text never becomes a special token. The tokenizers package finds special tokens anywhere in a text, so a second copy of the
tokenizer without them encodes all text; special tokens enter by name alone, from chat.py.

Read next: chat.py; decoder.py.
"""

import json
from pathlib import Path

import sentencepiece
import tokenizers

from minscl.errors import InputError
from minscl.model.chat import ChatFormat, Special, detect


class Tokenizer:
    """`encode` and `decode` text; `encode_chat` a conversation. `stop_ids`: the tokens that end an answer. `chat`: its ChatFormat."""

    def __init__(self, backend, chat: ChatFormat, stop_ids: tuple[int, ...]):
        self._backend, self.chat, self.stop_ids = backend, chat, stop_ids
        self.vocab_size = backend.vocab_size

    def encode(self, text: str) -> list[int]:
        """Ids of plain text: no beginning-of-text token, and whatever the text says, no special token."""
        return self._backend.encode(text, first=True)

    def decode(self, ids, skip_special: bool = True) -> str:
        """Text of ids. Special tokens are left out, or shown by name."""
        return self._backend.decode(list(ids), skip_special)

    def pieces(self) -> list[bytes | None]:
        """By id: the bytes that a token adds inside a text; None for special tokens, which add none."""
        return self._backend.pieces()

    def encode_chat(self, messages, add_generation_prompt: bool = True) -> list[int]:
        """Ids of messages ({"role": system | user | assistant, "content": text}), with the assistant's header at the end if asked."""
        return self._ids(self.chat.pieces(messages, add_generation_prompt))

    def encode_answer(self, text: str) -> list[int]:
        """Ids of an assistant's answer after `encode_chat(..., add_generation_prompt=True)`, its end token included."""
        return self._ids(self.chat.answer(text), before=self.chat.before_answer)

    def encode_answer_start(self, text: str) -> list[int]:
        """Ids of the beginning of an answer, to be continued: the same tokens as in the whole answer."""
        return self._ids([f" {text}" if self.chat.before_answer else text], before=self.chat.before_answer)

    def _ids(self, pieces, before: str | None = None) -> list[int]:
        """`before`: None at the beginning of the text; "" after a special token; else the text that the first piece continues."""
        found = []
        for one in pieces:
            if isinstance(one, Special):
                found.append(self._backend.special[one])
            elif before:  # no token of these families spans the border, which is before a space
                found += self._backend.encode(before + one, False)[len(self._backend.encode(before, False)) :]
            else:
                found += self._backend.encode(one, first=before is None)
            before = ""
        return found


class _Fast:
    """tokenizer.json."""

    def __init__(self, path: Path):
        try:
            plain = json.loads(path.read_text(encoding="utf-8"))
            self._whole = tokenizers.Tokenizer.from_str(json.dumps(plain))
            added = plain.pop("added_tokens", None) or []
            self.special = {one["content"]: one["id"] for one in added}
            plain.update(added_tokens=[], post_processor=None, truncation=None, padding=None)
            self._first = tokenizers.Tokenizer.from_str(json.dumps(plain))
            self._later = self._first
            if (plain.get("pre_tokenizer") or {}).get(
                "prepend_scheme"
            ) == "first":  # Llama 2, newer: no space after a special token
                plain["pre_tokenizer"]["prepend_scheme"] = "never"
                self._later = tokenizers.Tokenizer.from_str(json.dumps(plain))
        except Exception as error:  # the package raises bare Exception for a file it cannot read
            raise InputError(
                f"{path}: not a tokenizer.json that the tokenizers package reads ({error}); fetch the file again"
            ) from error
        self._special_ids = frozenset(self.special.values())
        self.vocab_size = self._whole.get_vocab_size()

    def encode(self, text: str, first: bool) -> list[int]:
        ids = (self._first if first else self._later).encode(text, add_special_tokens=False).ids
        if self._special_ids.isdisjoint(ids):
            return ids
        for name in self.special:  # the vocabulary itself holds the name as a word: break the word
            if name in text:
                before, _, after = text.partition(name)
                return [id for piece in (before + name[:1], name[1:] + after) for id in self.encode(piece, first)]
        return [id for id in ids if id not in self._special_ids]  # unknown-token ids stand for no text

    def decode(self, ids: list[int], skip_special: bool) -> str:
        return self._whole.decode(ids, skip_special_tokens=skip_special)

    def pieces(self) -> list[bytes | None]:
        kinds = json.loads(self._whole.to_str())["decoder"] or {}
        names = {one["type"] for one in kinds.get("decoders", [kinds]) if one}
        read = _byte_level if "ByteLevel" in names else _marked
        found = (self._whole.id_to_token(one) for one in range(self.vocab_size))
        return [None if name is None or one in self._special_ids else read(name) for one, name in enumerate(found)]


class _SentencePiece:
    """tokenizer.model: Llama 2. `every`: each text after a special token gets a space before its first word ("legacy"), not only the first."""

    def __init__(self, path: Path, every: bool):
        self._every = every
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
        except (OSError, RuntimeError) as error:
            raise InputError(f"{path}: not a sentencepiece model; fetch the file again") from error
        self.vocab_size = self._processor.vocab_size()
        pieces = range(self.vocab_size)
        self.special = {self._processor.id_to_piece(one): one for one in pieces if self._processor.is_control(one)}

    def encode(self, text: str, first: bool) -> list[int]:
        if first or self._every:
            return self._processor.encode(text)
        return self._processor.encode("\n" + text)[
            len(self._processor.encode("\n")) :
        ]  # sentencepiece has no switch for its space

    def pieces(self) -> list[bytes | None]:
        processor = self._processor
        return [
            None if processor.is_control(one) or processor.is_unknown(one) else _marked(processor.id_to_piece(one))
            for one in range(self.vocab_size)
        ]

    def decode(self, ids: list[int], skip_special: bool) -> str:
        if skip_special:
            return self._processor.decode([one for one in ids if not self._processor.is_control(one)])
        pieces = [self._processor.id_to_piece(one) if self._processor.is_control(one) else one for one in ids]
        text, waiting = "", []
        for one in [*pieces, ""]:
            if isinstance(one, int):
                waiting.append(one)
            else:
                text, waiting = text + (self._processor.decode(waiting) if waiting else "") + one, []
        return text


def _marked(name: str) -> bytes:
    """A token of sentencepiece's kind: ▁ is a space, <0x0A> a byte."""
    if len(name) == 6 and name.startswith("<0x") and name.endswith(">"):
        return bytes([int(name[3:5], 16)])
    return name.replace("▁", " ").encode("utf-8")


def _byte_level(name: str) -> bytes:
    """A token of GPT-2's kind: each letter stands for a byte."""
    return bytes(_BYTE[letter] for letter in name)


def _byte_letters() -> dict[str, int]:
    """GPT-2's alphabet: printable bytes are themselves, the others the letters from 256 on, in order."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + number): byte for number, byte in enumerate(others)}


_BYTE = _byte_letters()


def load_tokenizer(folder) -> Tokenizer:
    """The tokenizer of a model folder. Raises InputError for a missing or damaged file and for an unknown chat format."""
    folder = Path(folder)
    if (folder / "tokenizer.json").exists():
        backend = _Fast(folder / "tokenizer.json")
    elif (folder / "tokenizer.model").exists():
        backend = _SentencePiece(
            folder / "tokenizer.model", _json(folder / "tokenizer_config.json").get("legacy") is not False
        )
    else:
        raise InputError(f"{folder}: no tokenizer.json and no tokenizer.model; fetch one of them")
    template = _chat_template(folder)
    chat = detect(template, set(backend.special), str(folder))
    if chat.end not in backend.special:
        raise InputError(
            f"{folder}: the chat template is {chat.name}'s, but the tokenizer has no {chat.end}; the folder mixes two models"
        )
    return Tokenizer(backend, chat, _stop_ids(folder, backend.special[chat.end]))


def _chat_template(folder: Path) -> str:
    """The template's text: chat_template.jinja, or tokenizer_config.json's (one text, or a list of named ones)."""
    if (folder / "chat_template.jinja").exists():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    found = _json(folder / "tokenizer_config.json").get("chat_template") or ""
    if isinstance(found, list):
        named = {one.get("name"): one.get("template") for one in found}
        found = named.get("default") or ""
    return found


def _stop_ids(folder: Path, end: int) -> tuple[int, ...]:
    """From generation_config.json, else config.json, else the chat format's end token."""
    for name in ("generation_config.json", "config.json"):
        found = _json(folder / name).get("eos_token_id")
        if found is not None:
            return tuple(found) if isinstance(found, list) else (found,)
    return (end,)


def _json(path: Path) -> dict:
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); fetch the file again") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: holds no JSON object; fetch the file again")
    return found
