"""Chat formats: messages → a list of special tokens and pieces of text, as each model family was trained to see them.

    llama2    <s>[INST] <<SYS>>\\n…\\n<</SYS>>\\n\\nnote [/INST] answer </s>
    llama3    <|begin_of_text|><|start_header_id|>user<|end_header_id|>\\n\\nnote<|eot_id|>…
    chatml    <|im_start|>user\\nnote<|im_end|>\\n…                     Qwen2, Qwen2.5; Qwen3 in non-thinking mode
    minscl    <|bos|><|user|>note<|end|><|assistant|>…                the embedded model

A `Special` is one token by name; every str is text, so nothing in a note can become a special token. The format is told from
the folder's own chat template; tests hold each against transformers' `apply_chat_template`.

deviates: Llama 3.2's template writes today's date into the prompt. A model trained on Monday must see the same prompt on
Tuesday, so we write the date that template falls back to where there is no clock.

Read next: tokenizer.py.
"""

from dataclasses import dataclass

from minscl.errors import InputError

ROLES = ("system", "user", "assistant")
LLAMA31_DATES = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
QWEN25_SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
QWEN2_SYSTEM = "You are a helpful assistant."
NO_THINKING = ("<think>", "\n\n", "</think>", "\n\n")  # what Qwen3 writes where it is asked not to think


class Special(str):
    """The name of a special token."""


@dataclass(frozen=True)
class ChatFormat:
    """One family's format. `end` closes the assistant's turn; `system` is what stands where no system message is given."""

    name: str
    end: Special
    system: str | None = None
    thinking: bool = False  # Qwen3: an empty thought before the last answer

    def pieces(self, messages, add_generation_prompt: bool) -> list:
        """The conversation as str and Special, neighbouring texts joined. Raises InputError for a role or an order it has no form for."""
        messages = [dict(one) for one in messages]
        for one in messages:
            if one.get("role") not in ROLES:
                raise InputError(f"chat message with role {one.get('role')!r}: use {', '.join(ROLES)}")
        found = _FORMS[self.name](self, messages)
        if add_generation_prompt:
            found += self.opening()
        return _joined(found)

    @property
    def before_answer(self) -> str:
        """The text that an answer continues without a special token between; "" where one stands between."""
        return "]" if self.name == "llama2" else ""

    def opening(self) -> list:
        """The assistant's header, after which the answer begins."""
        if self.name == "llama3":
            return [*_llama3_header("assistant")]
        if self.name == "chatml":
            return [Special("<|im_start|>"), "assistant\n", *(_no_thinking() if self.thinking else ())]
        return [Special("<|assistant|>")] if self.name == "minscl" else []

    def answer(self, text: str) -> list:
        """The assistant's answer up to its end token, as it stands after `opening`."""
        if self.name == "llama2":
            return [f" {text.strip()} ", self.end]
        return [text if self.name == "chatml" else text.strip(), self.end]


def detect(template: str, special: set[str], source: str) -> ChatFormat:
    """The format of a model folder, by its chat template, or by its special tokens where it has none. Raises InputError."""
    seen = template or " ".join(special)
    if "<|start_header_id|>" in seen:
        return ChatFormat("llama3", Special("<|eot_id|>"), LLAMA31_DATES if "Cutting Knowledge Date" in seen else None)
    if "<|im_start|>" in seen:
        system = next((one for one in (QWEN25_SYSTEM, QWEN2_SYSTEM) if one in seen or one[:-1] in seen), None)
        return ChatFormat("chatml", Special("<|im_end|>"), system, thinking="enable_thinking" in seen)
    if "[INST]" in seen and "<<SYS>>" in seen:
        return ChatFormat("llama2", Special("</s>"))
    if "<|assistant|>" in seen and "<|bos|>" in special:
        return ChatFormat("minscl", Special("<|end|>"))
    raise InputError(
        f"{source}: chat format not recognised; supported: Llama 2, Llama 3 (3.1, 3.2, 3.3), ChatML (Qwen2, Qwen2.5, Qwen3): "
        "use the instruction-tuned model's folder, with its chat template"
    )


def _llama2(form: ChatFormat, messages) -> list:
    system, messages = _without_system(messages)
    found = []
    for index, one in enumerate(messages):
        if (one["role"] == "user") != (index % 2 == 0):
            raise InputError("chat messages of Llama 2 must alternate user/assistant, after at most one system message")
        content = one["content"]
        if index == 0 and system is not None:
            content = f"<<SYS>>\n{system}\n<</SYS>>\n\n{content}"
        found += (
            [Special("<s>"), f"[INST] {content.strip()} [/INST]"] if one["role"] == "user" else form.answer(content)
        )
    return found


def _llama3(form: ChatFormat, messages) -> list:
    found = [Special("<|begin_of_text|>")]
    if form.system is not None:  # 3.1 and later: a system turn with the dates, whether or not a message is given
        system, messages = _without_system(messages)
        found += [*_llama3_header("system"), form.system + (system or "").strip(), form.end]
    for one in messages:
        found += [*_llama3_header(one["role"]), one["content"].strip(), form.end]
    return found


def _llama3_header(role: str) -> tuple:
    return Special("<|start_header_id|>"), role, Special("<|end_header_id|>"), "\n\n"


def _chatml(form: ChatFormat, messages) -> list:
    if form.system is not None and messages[:1] and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": form.system}, *messages]
    last_user = max((index for index, one in enumerate(messages) if one["role"] == "user"), default=-1)
    found = []
    for index, one in enumerate(messages):
        thought = (
            _no_thinking()
            if form.thinking and one["role"] == "assistant" and index == len(messages) - 1 > last_user
            else []
        )
        content = (
            one["content"].lstrip("\n") if form.thinking and one["role"] == "assistant" and thought else one["content"]
        )
        found += [Special("<|im_start|>"), f"{one['role']}\n", *thought, content, form.end, "\n"]
    return found


def _no_thinking() -> list:
    return [Special(NO_THINKING[0]), NO_THINKING[1], Special(NO_THINKING[2]), NO_THINKING[3]]


def _minscl(form: ChatFormat, messages) -> list:
    found = [Special("<|bos|>")]
    for one in messages:
        found += [Special(f"<|{one['role']}|>"), one["content"].strip(), form.end]
    return found


_FORMS = {"llama2": _llama2, "llama3": _llama3, "chatml": _chatml, "minscl": _minscl}


def _without_system(messages) -> tuple[str | None, list]:
    """(the leading system message's content or None, the rest)."""
    if messages and messages[0]["role"] == "system":
        return messages[0]["content"], messages[1:]
    return None, messages


def _joined(pieces) -> list:
    """Neighbouring texts as one, empty ones dropped: what stands between two special tokens is tokenised together."""
    found = []
    for one in pieces:
        if isinstance(one, Special) or not found or isinstance(found[-1], Special):
            found.append(one)
        else:
            found[-1] += one
    return [one for one in found if one]
