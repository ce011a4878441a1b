"""Prompts of the local decoder asked of a server: as token ids, through the completions API of OpenAI's servers.

A chat request would be rendered by the server's own template and tokenised again, the names of special tokens in a note
would become those tokens, and there is no place for the beginning of an answer ("+ Evid."). So the prompt is what the
local decoder reads, token for token. Servers differ in what they take; before the first note, a few requests of a token
each, without patients' text, find out:

    the prompt    token ids (vLLM, SGLang, llama.cpp), else text, if the server counts as many tokens as it has
    the answer    its tokens and their probabilities, else its text alone, without scores
    the grammar   structured_outputs (vLLM), guided_grammar (vLLM before 0.12), ebnf (SGLang), grammar (llama.cpp)

Read next: endpoint.py, the connection; served.py, which codes notes so; server_grammar.py.
"""

import functools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from minscl.errors import InputError
from minscl.infer.endpoint import EndpointLLM, is_too_long, reply_errors, without_surrogates
from minscl.infer.sequence import Generation

PROBE = "Hypertension."  # the note of the requests that find out what the server takes
PROBE_ANSWER = "minscl-probe"  # no model writes it unless a grammar makes it
PROBE_TOKENS = 32  # of an answer under a grammar; PROBE_ANSWER has fewer with any tokenizer
GRAMMAR_FIELDS = ("structured_outputs", "guided_grammar", "ebnf", "grammar")
# What the servers' own settings must not change: answers are greedy, and without a penalty for what was written before,
# which a folder's generation_config.json may ask for.
NO_PENALTY = {"repetition_penalty": 1.0, "repeat_penalty": 1.0}


@dataclass(frozen=True)
class Form:
    """How the server takes prompts: as `ids` or as text, without its first `cut` tokens; with `extra` fields."""

    ids: bool
    cut: int = 0
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Completion:
    """A server's reply: the text, its tokens and their probabilities if it gives them, and the prompt's token count."""

    text: str
    stopped: bool
    ids: tuple[int, ...] | None
    probabilities: tuple[float, ...] | None
    prompt_tokens: int | None


class CompletionServer:
    """The completions API of `llm`'s server; `tokenizer` is that of the folder which it serves."""

    def __init__(self, llm: EndpointLLM, tokenizer):
        self.llm, self.tokenizer = llm, tokenizer

    def ask(
        self, prompts: Sequence[tuple[list[int], int]], grammar: str = ""
    ) -> Iterator[tuple[int, Generation | InputError]]:
        """Yields (number of the prompt, answer) as they complete; prompts are (token ids, max_new_tokens). Greedy.

        In place of an answer, an InputError for a prompt that the server alone cannot read. `grammar`: in GBNF, for a
        server with a grammar_field. Raises InputError as EndpointLLM.run does, and where the server cannot be asked so.
        """
        form = self.form  # before any thread needs it
        extra = grammar_extra(self.grammar_field, grammar) if grammar else {}
        return self.llm.run(prompts, lambda prompt: self._answer(form, *prompt, extra))

    @functools.cached_property
    def form(self) -> Form:
        """How the server takes prompts. Raises InputError where it takes no form whose tokens are known for certain."""
        ids = self._probe_ids()
        begins_special = self.tokenizer.pieces()[ids[0]] is None  # which a server may add to a text by itself
        tokens = {"logprobs": 1, "return_token_ids": True, "stop_token_ids": list(self.tokenizer.stop_ids)}
        with self.llm.one_line():
            for as_ids, cut in [(True, 0), (False, 0), (False, 1)][: 3 if begins_special else 2]:
                for extra in ({**tokens, **NO_PENALTY}, {"logprobs": 1}, {}):
                    form = Form(as_ids, cut, extra)
                    try:
                        completion = self._complete(form, ids, 1, {})
                    except (self.llm.openai.BadRequestError, self.llm.openai.UnprocessableEntityError):
                        continue
                    if completion.prompt_tokens in (None, len(ids)):
                        return form
                    break
        raise InputError(
            f"--endpoint {self.llm.url}: takes no prompt with the tokens of --model; is {self.llm.model} the name of "
            "its model, and --model the folder that it serves?"
        )

    @functools.cached_property
    def grammar_field(self) -> str:
        """The field of a request in which the server takes a grammar, and keeps to it; "" if none."""
        for name in GRAMMAR_FIELDS:
            extra = grammar_extra(name, f'root ::= "{PROBE_ANSWER}"')
            with self.llm.one_line():
                try:
                    completion = self._complete(self.form, self._probe_ids(), PROBE_TOKENS, extra)
                except (self.llm.openai.BadRequestError, self.llm.openai.UnprocessableEntityError):
                    continue
            if completion.text.strip() == PROBE_ANSWER:
                return name
        return ""

    def _probe_ids(self) -> list[int]:
        return self.tokenizer.encode_chat([{"role": "user", "content": PROBE}], add_generation_prompt=True)

    def _answer(self, form: Form, ids: list[int], max_new_tokens: int, extra: dict) -> Generation | InputError:
        with self.llm.one_line():
            try:
                completion = self._complete(form, ids, max_new_tokens, extra)
            except self.llm.openai.BadRequestError as error:
                if is_too_long(error):
                    return InputError(
                        f"a prompt of {len(ids):,} tokens and an answer of {max_new_tokens:,} are more than the "
                        "server's context holds; split the note, or start the server with a longer context"
                    )
                raise
        if completion.prompt_tokens not in (None, len(ids)):
            return InputError(
                f"the server reads {completion.prompt_tokens:,} tokens in a prompt of {len(ids):,}; the note may name "
                "special tokens, so use a server that takes token ids"
            )
        return self._generation(completion)

    def _complete(self, form: Form, ids: list[int], max_tokens: int, extra: dict[str, Any]) -> Completion:
        """One request. Raises what the client library raises, and InputError for a reply that is no completion."""
        reply = self.llm.client.completions.with_raw_response.create(
            model=self.llm.model,
            prompt=ids if form.ids else self.tokenizer.decode(ids[form.cut :], skip_special=False),
            temperature=0.0,
            frequency_penalty=0.0,
            max_tokens=max_tokens,
            extra_body=form.extra | extra,
        )
        return read_completion(reply.http_response.content, self.llm.max_characters)

    def _generation(self, completion: Completion) -> Generation:
        """The reply as the local decoder's; without the server's token ids the tokenizer's, without probabilities.

        Raises InputError where the tokens are not those of the text: the server's model is not the folder's.
        """
        ids, probabilities = list(completion.ids or ()), list(completion.probabilities or ())
        if not ids:
            ids = self.tokenizer.encode_answer_start(completion.text)
            return Generation(ids, [], completion.stopped, forwards=0)
        while ids and ids[-1] in self.tokenizer.stop_ids:
            ids.pop()
        known = all(token < self.tokenizer.vocab_size for token in ids)
        if (
            not known
            or completion.stopped
            and without_space(self.tokenizer.decode(ids)) != without_space(completion.text)
        ):
            raise InputError(
                f"--endpoint {self.llm.url}: the tokens of {self.llm.model} are not those of --model; name the folder "
                "that the server serves"
            )
        return Generation(ids, probabilities[: len(ids)], completion.stopped, forwards=0)


def grammar_extra(name: str, grammar: str) -> dict[str, Any]:
    """The field `name` of a request with `grammar`."""
    return {name: {"grammar": grammar} if name == "structured_outputs" else grammar}


def read_completion(reply: bytes, max_characters: int) -> Completion:
    """The completion in a reply. Raises InputError, without its text in it, for one that is no completion."""
    with reply_errors(reply, "completion"):
        record = json.loads(reply)
        choice = record["choices"][0]
        text, reason, usage = choice["text"], choice.get("finish_reason"), record.get("usage") or {}
        ids, probabilities = read_tokens(choice)
        prompt_tokens = usage.get("prompt_tokens")
        if not isinstance(text, str):
            raise TypeError
    return Completion(
        without_surrogates(text[:max_characters]),
        reason != "length" and len(text) <= max_characters,
        ids,
        probabilities,
        prompt_tokens if type(prompt_tokens) is int else None,
    )


def read_tokens(choice: dict[str, Any]) -> tuple[tuple[int, ...] | None, tuple[float, ...] | None]:
    """(token ids of an answer, their probabilities); None where the server gives none, or not one for each token."""
    logprobs = choice.get("logprobs") or {}
    ids, logs = choice.get("token_ids"), logprobs.get("token_logprobs")  # vLLM, SGLang
    if content := logprobs.get("content"):  # llama.cpp
        ids, logs = [token.get("id") for token in content], [token.get("logprob") for token in content]
    if not isinstance(ids, list) or not all(type(token) is int and token >= 0 for token in ids):
        return None, None
    if not isinstance(logs, list) or len(logs) != len(ids):
        return tuple(ids), None
    if not all(type(log) in (int, float) and not math.isnan(log) for log in logs):
        return tuple(ids), None
    return tuple(ids), tuple(math.exp(min(log, 0.0)) for log in logs)


def without_space(text: str) -> str:
    """`text` without white space, which detokenisers treat in ways of their own."""
    return "".join(text.split())
