"""Many answers at once: a prompt is admitted whenever an answer before it is finished, and what prompts share is read once.

    step    1. admit: free slots take waiting prompts; each keeps the part that some slot has already read, the rest is read without padding
            2. read: every answer's new tokens and its draft, one pass for all
            3. settle: each answer writes what its logits choose; finished ones are given out and their slots are free

So the common instruction is computed once, and a note about which many questions are asked (silver.py) is computed once too. Slots never see one
another: an answer's tokens are those it gets alone, up to rounding where two logits tie.

Letters: B slots in use, T new tokens, C hidden, V vocabulary.
Read next: cache.py.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from minscl.infer.cache import KVCache
from minscl.infer.cuda_graph import prepared
from minscl.infer.sequence import Answer, Generation, choose, common_prefix_length

PASS = 2048  # prompt tokens read in one pass; on a CPU more are slower, since what is computed of them leaves the cache
PAIRS = (
    2**26
)  # of a token and one that it may see, in a pass: with long notes a pass reads less, so that masks stay small
WORTH_SHARING = 16  # tokens; prompts that begin with fewer in common are read side by side


@dataclass(frozen=True)
class Request:
    """A prompt as token ids and the most tokens of its answer, the stop token included; `guide`, `drafter` and `sampler` as for Answer."""

    prompt: list[int]
    max_new_tokens: int
    guide: Any = None
    drafter: Any = None
    sampler: Any = None


class Engine:
    """`slots` answers at a time, each with its prompt within `length` tokens. `computed` and `asked` count prompt tokens, read and in all.

    `compile`: passes of one token a slot are prepared beforehand (compiled.py).
    """

    def __init__(self, model, *, slots: int, length: int, stop_ids, compile: bool = False):
        weight = model.model.embed_tokens.weight
        grows = weight.device.type == "cpu" and weight.dtype != torch.float32 and not compile
        with torch.inference_mode():
            self.cache = KVCache(model.config, slots, length, device=weight.device, dtype=weight.dtype, grows=grows)
        self.model, self.stop_ids = model, frozenset(stop_ids)
        self.prepared = prepared(model, self.cache) if compile else None
        self.live: dict[int, tuple[int, Answer]] = {}  # slot → number of its request, and its answer
        self.waiting: tuple[int, Answer] | None = None  # taken from the requests, not yet admitted
        self.asked = self.computed = 0

    def run(self, requests: Iterable[Request]) -> Iterator[tuple[int, Generation]]:
        """Yields (number of the request, its answer) as they finish; takes a request from `requests` when there is room for it."""
        requests, training = enumerate(requests), self.model.training
        self.model.eval()  # no dropout meanwhile
        try:
            while True:
                yield from self._admit(requests)
                if not self.live:
                    return
                yield from self._read()
        finally:
            self.model.train(training)

    def _admit(self, requests) -> list[tuple[int, Generation]]:
        """Fill the free slots; those that finish at once are given out and their slots filled again."""
        finished = []
        with torch.inference_mode():
            while group := self._group(requests):
                rows = prefill(
                    self.model, {slot: self.live[slot][1].pending[held:] for slot, held in group.items()}, self.cache
                )
                finished += self._settle({slot: row[None] for slot, row in rows.items()})
        return finished

    def _group(self, requests) -> dict[int, int]:
        """Give free slots to waiting requests: slot → tokens of its prompt that it holds already. Ends before a prompt that begins as one in the
        group does: that part is read first, and shared then."""
        group: dict[int, int] = {}
        while len(self.live) < len(self.cache.ids):
            if self.waiting is None:
                number, one = next(requests, (0, None))
                if one is None:
                    break
                self.waiting = (
                    number,
                    Answer(one.prompt, one.max_new_tokens, self.stop_ids, one.guide, one.drafter, one.sampler),
                )
            number, answer = self.waiting
            prompt = answer.pending
            shared = [min(common_prefix_length(prompt, ids), len(prompt) - 1) for ids in self.cache.ids]
            source = max(range(len(shared)), key=lambda slot: (shared[slot], slot not in self.live))
            if any(
                common_prefix_length(prompt, self.live[slot][1].pending) >= shared[source] + WORTH_SHARING
                for slot in group
            ):
                break
            free = [slot for slot in range(len(shared)) if slot not in self.live]
            slot = source if source in free else min(free, key=lambda slot: (shared[slot], slot))
            self.cache.copy(source, slot, shared[source])
            self.live[slot], self.waiting, group[slot] = (number, answer), None, shared[source]
            self.asked += len(prompt)
            self.computed += len(prompt) - shared[source]
        return group

    def _read(self) -> list[tuple[int, Generation]]:
        """One pass for all answers: what is pending, and drafts."""
        with torch.inference_mode():
            self._compact()
            answers = [self.live[slot][1] for slot in range(len(self.live))]
            pending, drafts = [one.pending for one in answers], [one.draft for one in answers]
            single = self.prepared and max(map(len, pending)) == 1 and not any(drafts)
            rows = self.prepared([one for [one] in pending]) if single else None
            return self._settle(dict(enumerate(rows or read_tokens(self.model, pending, drafts, self.cache))))

    def _compact(self) -> None:
        """Move the last answers into free slots before them, so that a pass has no idle rows."""
        for slot in range(len(self.live)):
            if slot not in self.live:
                last = max(self.live)
                self.cache.copy(last, slot, len(self.cache.ids[last]))
                self.live[slot] = self.live.pop(last)

    def _settle(self, rows: dict[int, torch.Tensor]) -> list[tuple[int, Generation]]:
        """Slot → logits (1 + draft, V): let the answers write; gives those that are finished."""
        found, finished, first = list(rows.values()), [], 0
        tokens, probabilities = (one.tolist() for one in choose(torch.cat(found) if len(found) > 1 else found[0]))
        for slot, logits in rows.items():
            number, answer = self.live[slot]
            last = first + len(logits)
            kept, first = answer.accept(logits, tokens[first:last], probabilities[first:last]), last
            self.cache.retract(slot, len(logits) - 1 - kept)
            if answer.done:
                finished.append((number, answer.generation))
                del self.live[slot]
        return finished


def prefill(model, unread: dict[int, list[int]], cache: KVCache) -> dict[int, torch.Tensor]:
    """Slot → tokens to read; gives slot → float32 logits (V,) after the last one. Prompts are laid end to end, at most PASS tokens in a pass;
    one that is longer takes several.

    The last block's MLP and the output head, as wide as the vocabulary, are computed for one position a prompt.
    """
    device, unread, last = model.model.embed_tokens.weight.device, dict(unread), {}
    while unread:
        parts, room = {}, max(1, min(PASS, PAIRS // cache.max_length))
        for slot, tokens in unread.items():
            if room and (len(tokens) <= room or not parts):
                parts[slot] = tokens[:room]
                room -= len(parts[slot])
        positions, mask = cache.claim(parts)
        ids = torch.tensor([[token for part in parts.values() for token in part]], device=device)  # (1, T)
        ends = torch.tensor([len(part) for part in parts.values()], device=device).cumsum(0) - 1  # (B,)
        hidden = model.model(ids, positions=positions, mask=mask, cache=cache, rows=ends)[0]  # (B, C)
        for (slot, part), state in zip(parts.items(), hidden, strict=True):
            unread[slot] = unread[slot][len(part) :]
            if not unread[slot]:
                last[slot] = state
                del unread[slot]
    logits = model.lm_head(torch.stack(list(last.values()))).float()  # (B, V)
    return dict(zip(last, logits, strict=True))


def read_tokens(model, pending: list[list[int]], drafts: list[list[int]], cache: KVCache) -> list[torch.Tensor]:
    """Append to slot b its `pending[b]`, at least one token, and its draft; gives float32 logits (1 + draft, V) a slot, after the last pending
    token and after each of the draft's."""
    device, parts = model.model.embed_tokens.weight.device, [a + b for a, b in zip(pending, drafts, strict=True)]
    longest = max(map(len, parts))
    tokens = torch.tensor([part + [0] * (longest - len(part)) for part in parts], device=device)  # (B, T)
    positions, mask = cache.advance(parts)  # (B, T), (B, 1, T, S)
    hidden = model.model(tokens, positions=positions, mask=mask, cache=cache)  # (B, T, C)
    asked = torch.cat(
        [row[len(part) - len(draft) - 1 : len(part)] for row, part, draft in zip(hidden, parts, drafts, strict=True)]
    )
    return list(model.lm_head(asked).float().split([1 + len(draft) for draft in drafts]))
