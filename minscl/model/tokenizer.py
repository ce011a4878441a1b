"""Text ↔ token ids, and conversations → token ids, of a Hugging Face folder.

Special tokens never come from user text: token_backends.py encodes text without them, and they are added only by name,
by the chat format. Answers end at the token that the chat format puts after them, whatever else the folder says.

Read next: chat_template.py, the folder's own chat format; token_backends.py.
"""

import functools
from collections.abc import Collection
from pathlib import Path

from minscl.errors import InputError
from minscl.files import path_kind
from minscl.model.chat import MINSCL_TEMPLATE, Chat, Special, detect_format
from minscl.model.chat_template import TemplateFormat, find_template
from minscl.model.token_backends import SentencePiece, TokenizerJson
from minscl.model.token_settings import read_optional, read_token_settings


class Tokenizer:
    """Text and conversations ↔ ids.

    chat: the chat format. stop_ids: the tokens that end an answer, the chat format's first. vocab_size: one more than
    the largest id.
    """

    def __init__(self, backend: TokenizerJson | SentencePiece, chat: Chat, stop_ids: tuple[int, ...]):
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

        add_generation_prompt: end with the assistant's header. Raises InputError as Chat.pieces does.
        """
        return self._ids(self.chat.pieces(messages, add_generation_prompt))

    def encode_answer(self, text: str) -> list[int]:
        """Ids of an assistant's answer after `encode_chat(..., add_generation_prompt=True)`, end token included."""
        return self._ids(self.chat.answer(text), before=self.chat.text_before_answer)

    def encode_answer_start(self, text: str) -> list[int]:
        """Ids of the beginning of an answer, to be continued: the same tokens as in the whole answer."""
        return self._ids([f" {text}" if self.chat.before_answer else text], before=self.chat.text_before_answer)

    def encode_inside(self, text: str) -> list[int]:
        """Ids of a part of a text: `text`, which begins with a space, follows a letter."""
        return self._backend.encode("a" + text, first=False)[len(self._letter) :]

    @functools.cached_property
    def _letter(self) -> list[int]:
        return self._backend.encode("a", first=False)

    def _ids(self, pieces: list[str], before: str | None = None) -> list[int]:
        """before: None at the beginning of the text, "" after a special token, else the text that `pieces` continue."""
        ids: list[int] = []
        for piece in self._strip_texts(pieces):
            if isinstance(piece, Special):
                ids.append(self._backend.control[piece])
            else:
                ids += self._encode_after(before, piece)
            before = ""
        return ids

    def _encode_after(self, before: str | None, text: str) -> list[int]:
        """Ids of `text` where it follows `before`, as for _ids."""
        if before:
            context = self._backend.encode(before, first=False)
            ids = self._backend.encode(before + text, first=False)
            if ids[: len(context)] == context:
                return ids[len(context) :]
        return self._backend.encode(text, first=before is None)

    def _strip_texts(self, pieces: list[str]) -> list[str]:
        """`pieces` without the spaces that a special token takes from the text beside it (lstrip, rstrip)."""
        if self._backend.strips.keys().isdisjoint(pieces):
            return pieces
        stripped = list(pieces)
        for index, piece in enumerate(pieces):
            if isinstance(piece, Special):
                left, right = self._backend.strips.get(piece, (False, False))
                if left and index and not isinstance(pieces[index - 1], Special):
                    stripped[index - 1] = stripped[index - 1].rstrip()
                if right and index + 1 < len(pieces) and not isinstance(pieces[index + 1], Special):
                    stripped[index + 1] = stripped[index + 1].lstrip()
        return stripped


def load_tokenizer(folder) -> Tokenizer:
    """The tokenizer of a model folder.

    Raises InputError naming the file for a missing or damaged file, a chat template that cannot be used and an unknown
    chat format.
    """
    folder = Path(folder)
    config = read_optional(folder / "tokenizer_config.json")
    settings = read_token_settings(folder, config)
    template = find_template(folder, config)
    backend: TokenizerJson | SentencePiece
    if path_kind(folder / "tokenizer.json") != "missing":
        backend = TokenizerJson(folder / "tokenizer.json", settings, template[0] if template else "")
    elif path_kind(folder / "tokenizer.model") != "missing":
        backend = SentencePiece(folder / "tokenizer.model", settings)
    else:
        raise InputError(f"{folder}: no tokenizer.json and no tokenizer.model; fetch one of them")
    chat: Chat
    if template is None or template[0] == MINSCL_TEMPLATE:
        chat = detect_format(backend.control, str(folder))
    else:
        chat = TemplateFormat(template[0], settings.named, backend.control, template[1])
    stop_ids = _stop_ids(folder, backend.control[chat.end], backend.control.values())
    tokenizer = Tokenizer(backend, chat, stop_ids)
    if template is not None:
        _check_answer(tokenizer, template[1])
    return tokenizer


def _check_answer(tokenizer: Tokenizer, source: str) -> None:
    """Raises InputError where an answer in a conversation has other tokens than training and generation give it."""
    user, answer = {"role": "user", "content": "Note: HTN."}, "Evidence:\n1. HTN"
    ids = tokenizer.encode_answer(answer)
    whole = tokenizer.encode_chat([user, {"role": "assistant", "content": answer}], add_generation_prompt=False)
    if not any(whole[start : start + len(ids)] == ids for start in range(len(whole))):
        raise InputError(
            f"{source}: the tokens of an answer merge with those of the generation prompt; use the chat template of "
            "the model's instruction-tuned release"
        )


def _stop_ids(folder: Path, end: int, special_ids: Collection[int]) -> tuple[int, ...]:
    """The chat format's end token, which training writes, and the special tokens that the folder names as ends.

    eos_token_id of generation_config.json, else of config.json: a whole number or a list of them. The id of an ordinary
    token is left out: a word or a line break must not end an answer.
    """
    for name in ("generation_config.json", "config.json"):
        settings = read_optional(folder / name)
        if "eos_token_id" in settings:
            value = settings.values["eos_token_id"]
            ids = value if isinstance(value, list) else [value]
            if any(type(id) is not int for id in ids):
                raise settings.error("eos_token_id", "a whole number or a list of whole numbers")
            return tuple(dict.fromkeys([end, *(id for id in ids if id in special_ids)]))
    return (end,)
