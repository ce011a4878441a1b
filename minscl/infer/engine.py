"""Continuous batching: a prompt is admitted as soon as an answer finishes, and a shared prefix is computed once.

    step    1. admit: free slots take waiting prompts; a prefix that some slot has already read is reused, the rest is
               computed without padding (prefill)
            2. decode: every sequence's pending tokens and its draft, in one pass for all
            3. settle: each sequence appends what its logits choose; finished ones are returned and their slots freed

So the instruction that all prompts share is computed once, and so is a note that many questions are asked about
(data/spans/silver.py). Slots do not attend to one another: a sequence's tokens are those it would get alone, up to
rounding where two logits tie.

Letters: V vocabulary.
Read next: sequence.py, what becomes of the logits; passes.py, where they come from; then cache.py.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from minscl.errors import InputError
from minscl.infer.cache import KVCache
from minscl.infer.compiled_step import CompiledStep
from minscl.infer.cuda_graph import Graphs
from minscl.infer.passes import decode_step, prefill
from minscl.infer.sequence import Generation, NotFinite, Sequence, Summary, common_prefix_length, summarise

MIN_SHARED_PREFIX = 16  # tokens; prompts that share fewer are prefilled together
OnTokens = Callable[[int, list[int]], None]


@dataclass(frozen=True)
class Request:
    """Prompt ids and the answer's limit, stop token included; `guide`, `drafter` and `sampler` as for Sequence.

    name: what errors call the prompt, such as the id of its note.
    """

    prompt: list[int]
    max_new_tokens: int
    guide: Any = None
    drafter: Any = None
    sampler: Any = None
    name: str = "a prompt"


class Engine:
    """Decodes `slots` sequences at a time, each of at most `length` tokens, prompt and answer.

    compile: "on", "off" or "kept". On a CPU, decoding passes of few tokens are compiled (compiled_step.py), or only
    what is on disk is used ("kept"); the projections must then be fused. On a GPU those of one token per slot are
    recorded as CUDA graphs (cuda_graph.py).
    on_tokens: called after each pass with the index of a request and the ids of its answer so far, for an answer to be
    shown as it grows; an exception that it raises ends the run.
    `prompt_tokens` counts the tokens of all prompts, `computed_tokens` those of them that were not shared.
    """

    def __init__(
        self,
        model,
        *,
        slots: int,
        length: int,
        stop_ids,
        compile: str = "off",
        on_tokens: OnTokens | None = None,
    ):
        weight = model.model.embed_tokens.weight
        on_cpu, compiles = weight.device.type == "cpu", compile != "off"
        grows = on_cpu and (compiles or weight.dtype != torch.float32)
        with torch.inference_mode():
            self.cache = KVCache(model.config, slots, length, device=weight.device, dtype=weight.dtype, grows=grows)
        self.model, self.stop_ids, self.on_tokens = model, frozenset(stop_ids), on_tokens
        self.graphs = Graphs(model, self.cache) if compiles and not on_cpu else None
        self.compiled_step = CompiledStep(model, self.cache, compile == "on") if compiles and on_cpu else None
        self.active: dict[int, tuple[int, Sequence]] = {}  # slot → (index of its request, its sequence)
        self.waiting: tuple[int, Sequence] | None = None  # fetched from the requests, not yet admitted
        self.prompt_tokens = self.computed_tokens = 0

    def run(self, requests: Iterable[Request]) -> Iterator[tuple[int, Generation]]:
        """Yields (index of the request, its answer) as they finish; fetches the next request when a slot is free.

        Raises InputError, naming the request, where the model's logits are not finite.
        """
        indexed, training = enumerate(requests), self.model.training
        self.model.eval()  # dropout off
        try:
            while True:
                yield from self._admit(indexed)
                if not self.active:
                    return
                yield from self._decode()
        finally:
            self.model.train(training)

    def _admit(self, requests: Iterator[tuple[int, Request]]) -> list[tuple[int, Generation]]:
        """Prefill waiting prompts into free slots; returns those that finish at once and refills their slots."""
        finished = []
        with torch.inference_mode():
            while shared := self._assign_slots(requests):
                unread = {slot: self.active[slot][1].pending[count:] for slot, count in shared.items()}
                logits = prefill(self.model, unread, self.cache)
                finished += self._settle({slot: row[None] for slot, row in logits.items()})
        return finished

    def _assign_slots(self, requests: Iterator[tuple[int, Request]]) -> dict[int, int]:
        """Assign free slots to waiting requests: slot → how many tokens of the prompt it already holds.

        Stops before a prompt that shares a prefix with one assigned here: that one is prefilled first, then copied.
        """
        assigned: dict[int, int] = {}
        while len(self.active) < len(self.cache.ids):
            if self.waiting is None:
                if (item := next(requests, None)) is None:
                    break
                index, request = item
                self.waiting = index, self._sequence(request)
            prompt = self.waiting[1].pending
            shared = [min(common_prefix_length(prompt, ids), len(prompt) - 1) for ids in self.cache.ids]
            source = max(range(len(shared)), key=lambda slot: (shared[slot], slot not in self.active))
            threshold = shared[source] + MIN_SHARED_PREFIX
            if any(common_prefix_length(prompt, self.active[slot][1].pending) >= threshold for slot in assigned):
                break
            free = [slot for slot in range(len(shared)) if slot not in self.active]
            slot = source if source in free else min(free, key=lambda slot: (shared[slot], slot))
            self.cache.copy(source, slot, shared[source])
            self.active[slot], self.waiting, assigned[slot] = self.waiting, None, shared[source]
            self.prompt_tokens += len(prompt)
            self.computed_tokens += len(prompt) - shared[source]
        return assigned

    def _sequence(self, request: Request) -> Sequence:
        return Sequence(
            request.prompt,
            request.max_new_tokens,
            self.stop_ids,
            guide=request.guide,
            drafter=request.drafter,
            sampler=request.sampler,
            name=request.name,
        )

    def _decode(self) -> list[tuple[int, Generation]]:
        """One pass for all active sequences: their pending tokens and drafts."""
        with torch.inference_mode():
            self._compact()
            sequences = [self.active[slot][1] for slot in range(len(self.active))]
            pending, drafts = [s.pending for s in sequences], [s.draft for s in sequences]
            logits, summary = None, None
            if self.graphs and max(map(len, pending)) == 1 and not any(drafts):
                logits = self.graphs([token for [token] in pending])
            elif self.compiled_step and (computed := self.compiled_step(pending, drafts)):
                logits, summary = computed
            if logits is None:
                logits = decode_step(self.model, pending, drafts, self.cache)
            return self._settle(dict(enumerate(logits)), summary)

    def _compact(self) -> None:
        """Move the last sequences into free slots before them, so that a pass has no idle rows."""
        for slot in range(len(self.active)):
            if slot not in self.active:
                last = max(self.active)
                self.cache.copy(last, slot, len(self.cache.ids[last]))
                self.active[slot] = self.active.pop(last)

    def _settle(self, logits: dict[int, torch.Tensor], summary: Summary | None = None) -> list[tuple[int, Generation]]:
        """Slot → logits (1 + draft, V): let the sequences append their tokens; returns the finished ones.

        summary: of all rows, slot after slot; None: computed here.
        """
        sequences = [self.active[slot][1] for slot in logits]
        for sequence in sequences:
            sequence.prepare()
        rows, finished, start = list(logits.values()), [], 0
        dtype = self.model.model.embed_tokens.weight.dtype
        if summary is None:
            stacked = torch.cat(rows) if len(rows) > 1 else rows[0]  # (all rows, V)
            summary = summarise(stacked, any(sequence.takes_largest for sequence in sequences))
        log_sums, largest = summary
        for slot, own in logits.items():
            index, sequence = self.active[slot]
            stop = start + len(own)
            try:
                accepted = sequence.accept(own, Summary(log_sums[start:stop], largest[start:stop]))
            except NotFinite:
                raise InputError(not_finite_message(sequence.name, dtype)) from None
            start = stop
            self.cache.rollback(slot, len(own) - 1 - accepted)
            if self.on_tokens:
                self.on_tokens(index, sequence.ids)
            if sequence.done:
                finished.append((index, sequence.generation))
                del self.active[slot]
        return finished


def not_finite_message(name: str, dtype: torch.dtype) -> str:
    """What is wrong, and the likely remedy, where logits are not finite with weights of `dtype`."""
    if dtype == torch.float16:
        return (
            f"{name}: the model's logits are not finite: its activations exceed float16's largest number, 65,504; "
            "use --dtype float32 or bfloat16"
        )
    return (
        f"{name}: the model's logits are not finite (in {str(dtype).removeprefix('torch.')}): the weights or the "
        "adapter are damaged; leave the adapter out (--adapter none) to see which, and fetch that again"
    )
