"""Chat formats: messages → special tokens and pieces of text, in the format that each model family was trained on.

    llama2    <s>[INST] <<SYS>>\\n…\\n<</SYS>>\\n\\nnote [/INST] answer </s>
    llama3    <|begin_of_text|><|start_header_id|>user<|end_header_id|>\\n\\nnote<|eot_id|>…
    chatml    <|im_start|>user\\nnote<|im_end|>\\n…                     Qwen2, Qwen2.5; Qwen3 in non-thinking mode
    minscl    <|bos|><|user|>note<|end|><|assistant|>…                the embedded model

A `Special` is a special token by name; every str is plain text, so nothing in a note can become a special token. The
format is detected from the folder's chat template; tests hold each against transformers' `apply_chat_template`.

deviates: Llama 3.2's template writes today's date into the prompt. A prompt must not change from day to day, so the
date is the fallback of that template.

Read next: tokenizer.py.
"""

from dataclasses import dataclass

from minscl.errors import InputError

ROLES = ("system", "user", "assistant")
LLAMA31_DATES = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
QWEN25_SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
QWEN2_SYSTEM = "You are a helpful assistant."
NO_THINKING = ("<think>", "\n\n", "</think>", "\n\n")  # what Qwen3's template writes in non-thinking mode


class Special(str):
    """The name of a special token."""


@dataclass(frozen=True)
class ChatFormat:
    """One family's format. end: closes the assistant's turn. system: the default system message, None for none."""

    name: str
    end: Special
    system: str | None = None
    thinking: bool = False  # Qwen3: an empty thought before the last answer

    def pieces(self, messages, add_generation_prompt: bool) -> list[str]:
        """The conversation as str and Special, adjacent texts joined.

        messages: {"role": system | user | assistant, "content": text} each. Raises InputError for another role, or an
        order of roles that the format does not have.
        """
        messages = [dict(message) for message in messages]
        for message in messages:
            if message.get("role") not in ROLES:
                raise InputError(f"chat message with role {message.get('role')!r}: use {', '.join(ROLES)}")
        pieces = _RENDERERS[self.name](self, messages)
        if add_generation_prompt:
            pieces += self.answer_header()
        return _join_texts(pieces)

    @property
    def before_answer(self) -> str:
        """The text that directly precedes an answer; "" where a special token precedes it."""
        return "]" if self.name == "llama2" else ""

    def answer_header(self) -> list[str]:
        """The assistant's header, after which the answer begins."""
        if self.name == "llama3":
            return [*_llama3_header("assistant")]
        if self.name == "chatml":
            return [Special("<|im_start|>"), "assistant\n", *(_no_thinking() if self.thinking else ())]
        return [Special("<|assistant|>")] if self.name == "minscl" else []

    def answer(self, text: str) -> list[str]:
        """The assistant's answer up to and including its end token, as it follows `answer_header`."""
        if self.name == "llama2":
            return [f" {text.strip()} ", self.end]
        return [text if self.name == "chatml" else text.strip(), self.end]


def detect_format(template: str, special: set[str], source: str) -> ChatFormat:
    """The chat format of a model folder, from its chat template, or its special tokens where it has no template.

    Raises InputError, naming `source`, for any other format.
    """
    text = template or " ".join(special)
    if "<|start_header_id|>" in text:
        return ChatFormat("llama3", Special("<|eot_id|>"), LLAMA31_DATES if "Cutting Knowledge Date" in text else None)
    if "<|im_start|>" in text:
        defaults = (QWEN25_SYSTEM, QWEN2_SYSTEM)
        system = next((default for default in defaults if default in text or default[:-1] in text), None)
        return ChatFormat("chatml", Special("<|im_end|>"), system, thinking="enable_thinking" in text)
    if "[INST]" in text and "<<SYS>>" in text:
        return ChatFormat("llama2", Special("</s>"))
    if "<|assistant|>" in text and "<|bos|>" in special:
        return ChatFormat("minscl", Special("<|end|>"))
    raise InputError(
        f"{source}: chat format not recognised; supported: Llama 2, Llama 3 (3.1, 3.2, 3.3), ChatML (Qwen2, Qwen2.5, "
        "Qwen3): use the instruction-tuned model's folder, with its chat template"
    )


def _llama2(chat: ChatFormat, messages) -> list[str]:
    system, messages = _split_system(messages)
    pieces: list[str] = []
    for index, message in enumerate(messages):
        if (message["role"] == "user") != (index % 2 == 0):
            raise InputError("chat messages of Llama 2 must alternate user/assistant, after at most one system message")
        content = message["content"]
        if index == 0 and system is not None:
            content = f"<<SYS>>\n{system}\n<</SYS>>\n\n{content}"
        if message["role"] == "user":
            pieces += [Special("<s>"), f"[INST] {content.strip()} [/INST]"]
        else:
            pieces += chat.answer(content)
    return pieces


def _llama3(chat: ChatFormat, messages) -> list[str]:
    pieces: list[str] = [Special("<|begin_of_text|>")]
    if chat.system is not None:  # 3.1 and later: a system turn with the dates, even without a system message
        system, messages = _split_system(messages)
        pieces += [*_llama3_header("system"), chat.system + (system or "").strip(), chat.end]
    for message in messages:
        pieces += [*_llama3_header(message["role"]), message["content"].strip(), chat.end]
    return pieces


def _llama3_header(role: str) -> tuple[str, ...]:
    return Special("<|start_header_id|>"), role, Special("<|end_header_id|>"), "\n\n"


def _chatml(chat: ChatFormat, messages) -> list[str]:
    if chat.system is not None and messages[:1] and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": chat.system}, *messages]
    last_user = max((index for index, message in enumerate(messages) if message["role"] == "user"), default=-1)
    pieces: list[str] = []
    for index, message in enumerate(messages):
        role, content, thought = message["role"], message["content"], []
        if chat.thinking and role == "assistant" and index == len(messages) - 1 > last_user:
            content, thought = content.lstrip("\n"), _no_thinking()
        pieces += [Special("<|im_start|>"), f"{role}\n", *thought, content, chat.end, "\n"]
    return pieces


def _no_thinking() -> list[str]:
    return [Special(NO_THINKING[0]), NO_THINKING[1], Special(NO_THINKING[2]), NO_THINKING[3]]


def _minscl(chat: ChatFormat, messages) -> list[str]:
    pieces: list[str] = [Special("<|bos|>")]
    for message in messages:
        pieces += [Special(f"<|{message['role']}|>"), message["content"].strip(), chat.end]
    return pieces


_RENDERERS = {"llama2": _llama2, "llama3": _llama3, "chatml": _chatml, "minscl": _minscl}


def _split_system(messages) -> tuple[str | None, list]:
    """(the leading system message's content or None, the other messages)."""
    if messages and messages[0]["role"] == "system":
        return messages[0]["content"], messages[1:]
    return None, messages


def _join_texts(pieces: list[str]) -> list[str]:
    """Adjacent texts joined, empty ones dropped: text between two special tokens is tokenised as a whole."""
    joined: list[str] = []
    for piece in pieces:
        if isinstance(piece, Special) or not joined or isinstance(joined[-1], Special):
            joined.append(piece)
        else:
            joined[-1] += piece
    return [piece for piece in joined if piece]
