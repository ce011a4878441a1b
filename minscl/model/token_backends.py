"""The two tokenizers behind model.Tokenizer: tokenizer.json by tokenizers, tokenizer.model by sentencepiece.

Three kinds of tokens. Ordinary ones are the model's vocabulary. Added tokens that are not special are words: encoded
wherever they occur, as in transformers. Control tokens never come from text: the special tokens, and the words with
which the chat template marks its structure, such as <think> (transformers' `sanitize_control_tokens` has the same set).

Read next: token_bytes.py, what their names mean; tokenizer.py.
"""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import sentencepiece
import tokenizers

from minscl.errors import InputError, printable
from minscl.files import read_bytes
from minscl.model.token_bytes import from_byte_level, from_sentencepiece
from minscl.model.token_settings import TokenSettings
from minscl.settings import read_settings

CONVERT = "save the tokenizer as tokenizer.json: transformers.AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)"
MAX_VOCABULARY = 10**7  # the largest of a model family has 260,000


class TokenizerJson:
    """tokenizer.json. `template`: the text of the chat template; the words it names are control tokens.

    control: name → id of the control tokens. strips: of those that take the spaces beside them, (left, right).
    vocab_size: one more than the largest id of all.
    """

    def __init__(self, path: Path, settings: TokenSettings, template: str):
        self._path = path
        document = read_settings(path)
        model = document.section("model")
        if model.string("continuing_subword_prefix", default=""):  # WordPiece's; some make the tokenizers package panic
            raise model.error("continuing_subword_prefix", "empty, as in byte-level BPE and sentencepiece's")
        self._whole = _load(json.dumps(document.values), path)
        self._add_tokens(settings, path)
        added = self._whole.get_added_tokens_decoder()
        names = {*settings.named.values(), *settings.special}
        self.control: dict[str, int] = {
            token.content: id
            for id, token in added.items()
            if token.special or token.content in names or _is_markup(token.content) and token.content in template
        }
        self.strips = {
            token.content: (token.lstrip, token.rstrip)
            for token in added.values()
            if token.content in self.control and (token.lstrip or token.rstrip)
        }
        self._control_ids = frozenset(self.control.values())
        self.vocab_size = 1 + max(self._whole.get_vocab().values(), default=-1)
        if self.vocab_size > MAX_VOCABULARY:
            raise InputError(f"{path}: has a token of id {self.vocab_size - 1}; fetch the file again")
        self._read_text_tokenizers(path)

    def _add_tokens(self, settings: TokenSettings, path: Path) -> None:
        """Add what tokenizer_config.json and added_tokens.json say, as transformers does."""
        for id, token in sorted(settings.added.items()):
            present = self._whole.get_added_tokens_decoder().get(id)
            if present is None or settings.has_flags and repr(present) != repr(token):
                self._whole.add_tokens([token])
            if self._whole.token_to_id(token.content) != id:
                raise InputError(
                    f"{settings.source}: token {printable(token.content)!r} has id {id}, "
                    f"but {self._whole.token_to_id(token.content)} in {path.name}; the folder mixes two models"
                )
        added = {token.content for token in self._whole.get_added_tokens_decoder().values()}
        self._whole.add_special_tokens(
            [
                name
                for name in dict.fromkeys([*settings.named.values(), *settings.special])
                if len(name) > 1 and name not in added and self._whole.token_to_id(name) is not None
            ]
        )

    def _read_text_tokenizers(self, path: Path) -> None:
        """_first and _later: copies that encode text. Control tokens are special there, and special ones not read."""
        document = json.loads(self._whole.to_str())
        for entry in document["added_tokens"]:
            entry["special"] = entry["content"] in self.control
        document.update(post_processor=None, truncation=None, padding=None)
        self._first = self._later = _load(json.dumps(document), path)
        # Llama 2's newer conversion: no space is put before text that follows a special token.
        if (document["pre_tokenizer"] or {}).get("prepend_scheme") == "first":
            document["pre_tokenizer"]["prepend_scheme"] = "never"
            self._later = _load(json.dumps(document), path)
        for tokenizer in (self._first, self._later):
            tokenizer.encode_special_tokens = True

    def encode(self, text: str, first: bool) -> list[int]:
        """Ids of `text`; first: whether it begins the whole text or follows a special token."""
        tokenizer = self._first if first else self._later

        def encode(part: str) -> list[int]:
            with _package_errors(self._path):
                return tokenizer.encode(part, add_special_tokens=False).ids

        return _without_control(encode, text, self.control, self._control_ids)

    def decode(self, ids: list[int], skip_special: bool) -> str:
        """As Tokenizer.decode."""
        return self._whole.decode(ids, skip_special_tokens=skip_special)

    def names(self) -> list[str | None]:
        """By id: the token's name in tokenizer.json; None for an id without a token."""
        return [self._whole.id_to_token(id) for id in range(self.vocab_size)]

    def added(self) -> frozenset[int]:
        """Ids of the tokens that are added to the model's vocabulary, control tokens among them."""
        return frozenset(self._whole.get_added_tokens_decoder())

    def starts_with(self, id: int) -> bool:
        """Whether tokenizer.json puts the token `id` before every text."""
        return self._whole.encode("a").ids[:1] == [id]

    def pieces(self) -> list[bytes | None]:
        """As Tokenizer.pieces."""
        decoder = json.loads(self._whole.to_str())["decoder"] or {}
        types = {step["type"] for step in decoder.get("decoders", [decoder]) if step}
        to_bytes = from_byte_level if "ByteLevel" in types else from_sentencepiece
        pieces: list[bytes | None] = []
        for id in range(self.vocab_size):
            name = self._whole.id_to_token(id)
            pieces.append(None if name is None or id in self._control_ids else to_bytes(name))
        return pieces


class SentencePiece:
    """tokenizer.model: Llama 2. Attributes as of TokenizerJson.

    legacy: every text that follows a special token gets a space before its first word, not only the first text.
    """

    def __init__(self, path: Path, settings: TokenSettings):
        self._legacy = settings.legacy
        content = read_bytes(path, "fetch the file again")
        try:
            if not content:
                raise ValueError("an empty file")
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=content)
            size: int = self._processor.vocab_size()
            names = [self._processor.id_to_piece(id) for id in range(size)]  # UnicodeDecodeError in a damaged file
        except Exception as error:
            raise InputError(f"{path}: not a sentencepiece model; fetch the file again") from error
        self.control: dict[str, int] = {name: id for id, name in enumerate(names) if self._processor.is_control(id)}
        self.strips: dict[str, tuple[bool, bool]] = {}
        for id, token in settings.added.items():
            known = id < size and names[id] == token.content
            if not token.special and not (known and self._processor.is_unknown(id)) or id < size and not known:
                raise InputError(
                    f"{settings.source}: token {printable(token.content)!r} is added beside {path.name}, which minscl "
                    f"does not read together; {CONVERT}"
                )
            self.control[token.content] = id
        self._names = {id: name for name, id in self.control.items()}
        self._control_ids = frozenset(self._names)
        self.vocab_size = 1 + max([size - 1, *self._names])

    def encode(self, text: str, first: bool) -> list[int]:
        """Ids of `text`; first: whether it begins the whole text or follows a special token."""
        encode = self._processor.encode if first or self._legacy else self._encode_later
        return _without_control(encode, text, self.control, self._control_ids)

    def _encode_later(self, text: str) -> list[int]:
        # sentencepiece always adds a space in front, so encode a line break first and cut both off
        return self._processor.encode("\n" + text)[len(self._processor.encode("\n")) :]

    def pieces(self) -> list[bytes | None]:
        """As Tokenizer.pieces."""
        processor = self._processor
        return [
            None
            if id in self._names or id >= len(processor) or processor.is_unknown(id)
            else from_sentencepiece(processor.id_to_piece(id))
            for id in range(self.vocab_size)
        ]

    def decode(self, ids: list[int], skip_special: bool) -> str:
        """As Tokenizer.decode."""
        if skip_special:
            return self._processor.decode([id for id in ids if id not in self._names])
        text = ""
        pending: list[int] = []
        for id in ids:
            if id in self._names:
                text += (self._processor.decode(pending) if pending else "") + self._names[id]
                pending = []
            else:
                pending.append(id)
        return text + (self._processor.decode(pending) if pending else "")


def _load(document: str, path: Path) -> tokenizers.Tokenizer:
    """The tokenizer that a tokenizer.json describes. Raises InputError naming `path`."""
    with _package_errors(path):
        tokenizer = tokenizers.Tokenizer.from_str(document)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@contextlib.contextmanager
def _package_errors(path: Path) -> Iterator[None]:
    """Turns what the tokenizers package raises into an InputError: a bare Exception, or a panic, which is none."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        reason = printable(str(error))[:200]
        raise InputError(
            f"{path}: not a tokenizer.json that the tokenizers package can use ({reason}); fetch the file again"
        ) from error


def _without_control(
    encode: Callable[[str], list[int]], text: str, control: Mapping[str, int], control_ids: frozenset[int]
) -> list[int]:
    """encode(text); in parts where a control token comes of it because its name is also a word of the vocabulary."""
    ids = encode(text)
    if control_ids.isdisjoint(ids):
        return ids
    for name in control:
        if name in text and len(name) > 1:
            before, _, after = text.partition(name)
            parts = (before + name[:1], name[1:] + after)
            return [id for part in parts for id in _without_control(encode, part, control, control_ids)]
    return [id for id in ids if id not in control_ids]  # unknown-token ids represent no text


def _is_markup(name: str) -> bool:
    """Whether a token's name could mark the structure of a conversation: <think>, not HFrEF or a line break."""
    return not name.isalnum() and not name.isspace()
