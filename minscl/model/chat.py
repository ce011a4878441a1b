"""Chat formats: messages → special tokens and pieces of text, in the format that each model family was trained on.

A folder with a chat template is read by chat_template.py, which renders the template. The formats of this file are for
folders without one, which base models of these families have, and for the embedded model:

    llama3    <|begin_of_text|><|start_header_id|>user<|end_header_id|>\\n\\nnote<|eot_id|>…
    chatml    <|im_start|>user\\nnote<|im_end|>\\n…                     Qwen2, Qwen2.5, Qwen3
    minscl    <|bos|><|user|>note<|end|><|assistant|>…                the embedded model

A `Special` is a special token by name; every str is plain text, so nothing in a note can become a special token.

Read next: chat_template.py; tokenizer.py.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from minscl.errors import InputError

ROLES = ("system", "user", "assistant")
MINSCL_TEMPLATE = (  # the embedded model's chat template says what the format "minscl" does
    "{{ '<|bos|>' }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] | trim + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
# format → (the special tokens by which a folder without a chat template is recognised, the end of a turn)
_FORMATS = {
    "llama3": (("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>"), "<|eot_id|>"),
    "chatml": (("<|im_start|>",), "<|im_end|>"),
    "minscl": (("<|bos|>", "<|system|>", "<|user|>", "<|assistant|>"), "<|end|>"),
}


class Special(str):
    """The name of a special token."""


class Chat(Protocol):
    """What Tokenizer and grounded decoding need of a chat format.

    end: the special token that closes the assistant's turn. text_before_answer: the last word of text directly before
    an answer; "" where a special token, or text that no token of an answer can join, precedes it. before_answer: the
    same where the answer begins with a space, else "".
    """

    @property
    def end(self) -> Special: ...
    @property
    def before_answer(self) -> str: ...
    @property
    def text_before_answer(self) -> str: ...

    def pieces(self, messages, add_generation_prompt: bool) -> list[str]:
        """The conversation as str and Special. Raises InputError for messages that the format does not have."""
        ...

    def answer(self, text: str) -> list[str]:
        """The assistant's answer up to and including its end token, as it follows the generation prompt."""
        ...


@dataclass(frozen=True)
class ChatFormat:
    """One family's format. end: closes the assistant's turn."""

    name: str
    end: Special
    before_answer: str = ""
    text_before_answer: str = ""

    def pieces(self, messages, add_generation_prompt: bool) -> list[str]:
        """The conversation as str and Special, adjacent texts joined.

        messages: {"role": system | user | assistant, "content": text} each. Raises InputError for other messages.
        """
        pieces: list[str] = [Special(name) for name in _FORMATS[self.name][0][:1] if self.name != "chatml"]
        for message in check_messages(messages):
            pieces += [*self._header(message["role"]), self._content(message["content"]), self.end]
            pieces += ["\n"] if self.name == "chatml" else []
        if add_generation_prompt:
            pieces += self._header("assistant")
        return join_texts(pieces)

    def answer(self, text: str) -> list[str]:
        """The assistant's answer up to and including its end token."""
        return [self._content(text), self.end]

    def _content(self, text: str) -> str:
        return text if self.name == "chatml" else text.strip()

    def _header(self, role: str) -> list[str]:
        if self.name == "llama3":
            return [Special("<|start_header_id|>"), role, Special("<|end_header_id|>"), "\n\n"]
        return [Special("<|im_start|>"), f"{role}\n"] if self.name == "chatml" else [Special(f"<|{role}|>")]


def detect_format(special: Collection[str], source: str) -> ChatFormat:
    """The chat format of a model folder without a chat template, from its special tokens.

    Raises InputError, naming `source`, for any other tokens.
    """
    for name, (tokens, end) in _FORMATS.items():
        if {*tokens, end} <= set(special):
            return ChatFormat(name, Special(end))
    raise InputError(
        f"{source}: no chat template, and not the special tokens of Llama 3 or ChatML (Qwen); use the "
        "instruction-tuned model's folder, with its chat_template.jinja or tokenizer_config.json"
    )


def check_messages(messages) -> list[dict[str, str]]:
    """Copies of the messages. Raises InputError for another role, or content that is not text."""
    copies = [dict(message) for message in messages]
    for message in copies:
        if message.get("role") not in ROLES:
            raise InputError(f"chat message with role {message.get('role')!r}: use {', '.join(ROLES)}")
        if not isinstance(message.get("content"), str):
            raise InputError(f"chat message of role {message['role']}: its content must be a text")
    return copies


def join_texts(pieces: Sequence[str]) -> list[str]:
    """Adjacent texts joined, empty ones dropped: text between two special tokens is tokenised as a whole."""
    joined: list[str] = []
    for piece in pieces:
        if isinstance(piece, Special) or not joined or isinstance(joined[-1], Special):
            joined.append(piece)
        else:
            joined[-1] += piece
    return [piece for piece in joined if piece]
