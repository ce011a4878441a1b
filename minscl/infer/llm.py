"""A language model for data expansion (Eq. 7, 8, 9): what is asked of one, and the local decoder.

Read next: endpoint.py, a server instead; engine.py; ../data/spans/asking.py, which calls `ask`.
"""

from collections.abc import Iterator
from typing import Protocol

from minscl.infer import BATCH_SIZE, MAX_ANSWER_TOKENS
from minscl.infer.engine import Engine, Request
from minscl.infer.jobs import exceeds_context, slots_for


class LLM(Protocol):
    """What data expansion asks of a language model."""

    name: str  # stored with each answer, so that two models' answers are not mixed

    def ask(self, prompts: list[str]) -> Iterator[tuple[int, str | None]]:
        """Yields (number of the prompt, answer), each once, as they complete; None for a prompt that is too long."""
        ...

    def token_counts(self) -> list[tuple[str, int]]:
        """(name, number) rows to print after the last answer."""
        ...


class LocalLLM:
    """minscl's own decoder. The prefix that prompts share, such as a note, is computed only once.

    Decodes `batch_size` answers together, or as many as fit into `memory` bytes of keys and values (None: no limit).
    """

    def __init__(self, model, tokenizer, name: str, batch_size: int = BATCH_SIZE, memory: int | None = None):
        self.model = model
        self.tokenizer = tokenizer
        self.name = name.encode("utf-8", "backslashreplace").decode()  # a path that is not UTF-8 cannot be logged
        self.batch_size = batch_size
        self.memory = memory
        self.prompt_tokens = 0  # of all prompts answered so far
        self.computed_tokens = 0  # of these, those that were not in a shared prefix
        self.truncated: set[int] = set()  # numbers of the prompts of the last `ask` whose answers were cut off

    def ask(self, prompts: list[str]) -> Iterator[tuple[int, str | None]]:
        """See LLM.ask. Greedy; an answer has at most MAX_ANSWER_TOKENS tokens."""
        self.truncated = set()
        longest = self.model.config.context_length - MAX_ANSWER_TOKENS
        prompt_ids = {
            number: self.tokenizer.encode_chat([{"role": "user", "content": prompt}], add_generation_prompt=True)
            for number, prompt in enumerate(prompts)
            if not exceeds_context(self.model, self.tokenizer, prompt)
        }
        fitting = [number for number, ids in prompt_ids.items() if len(ids) <= longest]
        yield from ((number, None) for number in range(len(prompts)) if number not in fitting)
        if not fitting:
            return
        length = max(len(prompt_ids[number]) for number in fitting) + MAX_ANSWER_TOKENS
        slots = max(1, slots_for(self.model, length, min(self.batch_size, len(fitting)), self.memory))
        engine = Engine(self.model, slots=slots, length=length, stop_ids=self.tokenizer.stop_ids)
        requests = (Request(prompt_ids[number], MAX_ANSWER_TOKENS) for number in fitting)
        for position, generation in engine.run(requests):
            if not generation.stopped:
                self.truncated.add(fitting[position])
            yield fitting[position], self.tokenizer.decode(generation.ids)
        self.prompt_tokens += engine.prompt_tokens
        self.computed_tokens += engine.computed_tokens

    def token_counts(self) -> list[tuple[str, int]]:
        """See LLM.token_counts: prompt tokens, and how many of them were computed."""
        return [("prompt tokens asked", self.prompt_tokens), ("  of them computed", self.computed_tokens)]
