"""A folder's own chat template (Jinja) as a chat format: the prompt that transformers' `apply_chat_template` renders.

    render(messages with a mark in place of each text)   → the template's own text, cut at the marks
    render(the messages)                                 must be the same with the texts put back

The template's own text is cut at the tokenizer's special tokens; a note's text is never searched for them, so nothing
in a note can become a special token. A template that does more with a text than trim it is refused, and so is one whose
answers do not directly follow the generation prompt, such as that of a model that thinks before it answers.

deviates: today's date is a fixed one (sandbox.py).

Read next: sandbox.py, which renders; tokenizer.py.
"""

import functools
import logging
import re
from collections.abc import Collection
from pathlib import Path

from minscl.errors import InputError, printable
from minscl.files import path_kind, read_text
from minscl.model.chat import Special, check_messages, join_texts
from minscl.settings import Settings

MAX_TEMPLATE = 200_000  # bytes; the longest of a model family has some 15,000
REMEDY = "use the chat template of the model's instruction-tuned release"
LOG = logging.getLogger("minscl")
_MARKS = "\ue000{}\ue001"  # private-use characters: no template has a use for them
_MARK = re.compile("\ue000([0-9]+)\ue001")
_EMPTY_THOUGHT = re.compile(r"<think>\s*</think>\s*\Z")


def find_template(folder: Path, settings: Settings) -> tuple[str, str] | None:
    """(template, what messages call it): chat_template.jinja, else tokenizer_config.json's, given as `settings`.

    tokenizer_config.json has one text, or named ones, of which "default" is meant. None where there is no template.
    """
    path = folder / "chat_template.jinja"
    key = "chat_template"
    if path_kind(path) != "missing":
        template, source = read_text(path, REMEDY, limit=MAX_TEMPLATE), str(path)
    elif key not in settings:
        return None
    else:
        value, source = settings.values[key], f"{settings.source}: {key}"
        if isinstance(value, list):
            entries = [entry for entry in value if isinstance(entry, dict) and isinstance(entry.get("name"), str)]
            if len(entries) < len(value):
                raise settings.error(key, "a string, or a list of objects that have a name and a template")
            value = {entry["name"]: entry.get("template") for entry in entries}
        if isinstance(value, dict):
            template = Settings(value, source, REMEDY).string("default")
        else:
            template = settings.string(key)
    if len(template) > MAX_TEMPLATE:
        raise InputError(f"{source}: longer than {MAX_TEMPLATE:,} characters; {REMEDY}")
    return template, source


class TemplateFormat:
    """The chat format that a template writes. Attributes and methods as of chat.ChatFormat.

    `special`: the tokenizer's special tokens; `variables`: the template's, such as bos_token; `source`: what messages
    call the template. Raises InputError for a template that cannot be used, and where jinja2 is not installed.
    """

    name = "template"

    def __init__(self, template: str, variables: dict[str, str], special: Collection[str], source: str):
        self.source = source
        try:
            from minscl.model.sandbox import Template  # jinja2 is optional
        except ImportError as error:
            raise InputError(
                f"{source}: a chat template is rendered by jinja2 3.1.6 or newer, which is not installed: "
                "pip install 'minscl[templates]'"
            ) from error
        # Longest first, as transformers does. Outer spaces of a note's text stand beside the template's: no name may
        # begin or end in them.
        names = sorted((name for name in special if name == name.strip()), key=len, reverse=True)
        self._special = re.compile(f"({'|'.join(map(re.escape, names)) or '(?!)'})")
        self._skeleton = functools.lru_cache(maxsize=256)(self._render_skeleton)
        with self._rendering():
            self._template = Template(template, dict(variables))
        self._read_answer_turn()
        if self._template.asked_for_date:
            LOG.warning("minscl: %s writes today's date; minscl always writes 26 Jul 2024", source)

    def pieces(self, messages, add_generation_prompt: bool) -> list[str]:
        """The conversation as str and Special, adjacent texts joined.

        messages: {"role": system | user | assistant, "content": text} each. Raises InputError for messages that the
        template refuses or whose text it changes.
        """
        text, cores = self._render(messages, add_generation_prompt)
        pieces: list[str] = []
        for index, part in enumerate(_MARK.split(text)):  # text, number of a message, text, …
            pieces += [cores[int(part)]] if index % 2 else self._split(part)
        return join_texts(pieces)

    def answer(self, text: str) -> list[str]:
        """The assistant's answer up to and including its end token, as it follows the generation prompt."""
        rendered, cores = self._render(
            [{"role": "user", "content": "x"}, {"role": "assistant", "content": text}], False
        )
        if not rendered.startswith(self._opening):
            raise self._changed()
        before, _, after = rendered[len(self._opening) :].partition(_MARKS.format(1))
        if not cores[1]:  # an answer of white space alone
            before, after = before[: before.find(self.end)], before[before.find(self.end) :]
        return join_texts([before + cores[1] + after[: after.find(self.end)], self.end])

    def _render(self, messages, add_generation_prompt: bool) -> tuple[str, list[str]]:
        """(the rendered conversation with a mark in place of each message's text, those texts without outer spaces)."""
        messages = check_messages(messages)
        shape, cores = [], []
        for message in messages:
            core = message["content"].strip()
            lead, _, trail = message["content"].partition(core) if core else (message["content"], "", "")
            shape.append((message["role"], lead, trail, bool(core)))
            cores.append(core)
        skeleton = self._skeleton(tuple(shape), add_generation_prompt)
        try:
            text = self._template.render(messages, add_generation_prompt)
        except Exception as error:  # its message may quote the text
            raise self._changed() from error
        if text != _MARK.sub(lambda mark: cores[int(mark[1])], skeleton):
            raise self._changed()
        return skeleton, cores

    def _render_skeleton(self, shape: tuple[tuple[str, str, str, bool], ...], add_generation_prompt: bool) -> str:
        """The conversation with marks for texts. shape: of each message its role, outer spaces, whether it has text."""
        messages = [
            {"role": role, "content": lead + (_MARKS.format(number) if has_text else "") + trail}
            for number, (role, lead, trail, has_text) in enumerate(shape)
        ]
        with self._rendering():
            text = self._template.render(messages, add_generation_prompt)
            text.encode("utf-8")  # UnicodeEncodeError for unpaired surrogates
            if any(int(number) >= len(shape) for number in _MARK.findall(text)):
                raise ValueError("it writes private-use characters")
            return text

    def _rendering(self):
        return _RenderingErrors(self.source)

    def _changed(self) -> InputError:
        return InputError(
            f"{self.source}: the chat template changes or refuses a text other than by trimming it; {REMEDY}"
        )

    def _split(self, text: str) -> list[str]:
        """The template's own text, cut at special tokens."""
        return [Special(part) if index % 2 else part for index, part in enumerate(self._special.split(text))]

    def _read_answer_turn(self) -> None:
        """Find the end token and what precedes an answer, from a conversation that has one."""
        user, assistant = ("user", "", "", True), ("assistant", "", "", True)
        prompt = self._skeleton((user,), True)
        if not _MARK.search(prompt):
            raise InputError(f"{self.source}: the chat template leaves out the user's message; {REMEDY}")
        conversation = self._skeleton((user, assistant), False)
        # Without thinking, Qwen3 has an empty thought in the generation prompt; some templates leave it out afterwards.
        for opening in (prompt, _EMPTY_THOUGHT.sub("", prompt)):
            before, mark, after = conversation.removeprefix(opening).partition(_MARKS.format(1))
            if conversation.startswith(opening) and mark and before in ("", " "):
                break
        else:
            raise InputError(
                f"{self.source}: answers do not directly follow the generation prompt, which ends in "
                f"{_MARK.split(prompt)[-1][-40:]!r}; {REMEDY} that answers without thinking first"
            )
        self._opening = opening
        end = next((piece for piece in self._split(after) if isinstance(piece, Special)), None)
        if end is None or after[: after.find(end)].strip():
            raise InputError(
                f"{self.source}: no special token of the tokenizer ends the assistant's turn; the folder mixes two "
                "models, or its template is not complete"
            )
        self.end = end
        last = self._split(_MARK.split(prompt)[-1])[-1]
        self.text_before_answer = re.findall(r"\S*\s*\Z", last)[0]
        self.before_answer = self.text_before_answer if before else ""


class _RenderingErrors:
    """Turns whatever compiling or rendering without a note's text raises into an InputError that names the template."""

    def __init__(self, source: str):
        self.source = source

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind, error, traceback) -> None:
        if isinstance(error, Exception) and not isinstance(error, InputError):
            reason = printable(str(error).partition("\n")[0] or kind.__name__)[:200]
            raise InputError(f"{self.source}: the chat template cannot be rendered ({reason}); {REMEDY}") from error
