"""A sequence being decoded: how its next token is chosen (greedy, guided, sampled) and how much of a draft is accepted.

Nothing here depends on batches or caches: a Sequence takes logits and says which tokens the model must read next.

Read next: engine.py, which computes the logits; sampling.py.
"""

import math
from dataclasses import dataclass

import torch


class NotFinite(ArithmeticError):
    """The logits of the next token hold NaN or infinity, so there is no most probable token."""


@dataclass(frozen=True)
class Generation:
    """The answer to one prompt.

    ids: the new tokens, without the stop token. probabilities: the softmax probability of each; empty where a server
    does not give them.
    stopped: whether a stop token ended the answer; False where max_new_tokens cut it off.
    forwards: number of forward passes, the prefill included.
    closed_by_limit: whether a guide closed it early because max_new_tokens was near.
    """

    ids: list[int]
    probabilities: list[float]
    stopped: bool
    forwards: int
    closed_by_limit: bool = False


class Sequence:
    """A prompt, called `name` in errors, and its answer, of at most `max_new_tokens` tokens, the stop token included.

    guide: a constrained.Guide that says which tokens are allowed, or None. drafter: proposes the next tokens
    (speculate.Drafter), or None. sampler: draws tokens instead of taking the most probable, or None.
    `pending` are the tokens that the model must read next, `draft` the tokens proposed to follow them.
    """

    def __init__(
        self, prompt, max_new_tokens: int, stop_ids: frozenset, guide=None, drafter=None, sampler=None, name="a prompt"
    ):
        self.name, self.max_new_tokens, self.stop_ids = name, max_new_tokens, stop_ids
        self.guide, self.drafter, self.sampler = guide, drafter, sampler
        self.ids: list[int] = []
        self.probabilities: list[float] = []
        self.stopped, self.done, self.forwards = False, False, 0
        self.pending: list[int] = [*prompt, *self._append_forced()]
        self.draft: list[int] = []

    def accept(self, logits: torch.Tensor, tokens: list[int], probabilities: list[float]) -> int:
        """Append what `logits` (1 + draft, V) choose: the first row's token, and the next row's while the draft agrees.

        tokens, probabilities: each row's most probable token and its probability. Returns how many draft tokens were
        accepted; sets `pending` and `draft` for the next pass. Raises NotFinite where a row is not finite.
        """
        accepted, draft, self.pending = 0, self.draft, []
        self.forwards += 1
        while not self.done and not self.pending:
            if self.guide or self.sampler:
                token, probability = self._choose(logits[accepted])
            else:
                token, probability = tokens[accepted], probabilities[accepted]
            # The softmax over a row with NaN or infinity is NaN, so that this check costs nothing.
            if math.isnan(probabilities[accepted]) or math.isnan(probability):
                raise NotFinite
            if token in self.stop_ids:
                self.stopped = self.done = True
                break
            self._append(token, probability)
            self.done = self.done or len(self.ids) >= self.max_new_tokens
            new = [token] + ([] if self.done else self._append_forced())
            agreed = common_prefix_length(new, draft[accepted:])
            accepted += agreed
            self.pending = new[agreed:]
        self.draft = []
        if self.drafter and not self.done:
            self.draft = self.drafter(self.ids)[: max(0, self.max_new_tokens - len(self.ids) - 1)]
        return accepted

    @property
    def generation(self) -> Generation:
        """The answer so far."""
        closed_by_limit = bool(self.guide and self.guide.closed_by_limit)
        return Generation(self.ids, self.probabilities, self.stopped, self.forwards, closed_by_limit)

    def _append_forced(self) -> list[int]:
        """Append and return the tokens that the guide forces; none where there is a choice."""
        tokens = self.guide.forced() if self.guide else []
        for token in tokens:
            self._append(token, 1.0)
        if self.guide and self.guide.finished:
            self.stopped = self.done = True
        return tokens

    def _choose(self, logits: torch.Tensor) -> tuple[int, float]:
        """The token chosen among those that the guide allows, and its probability among all; `logits` (V,).

        So the score of a code that the guide has left over, because the model's own choice is not allowed, is low. NaN
        where all allowed logits are minus infinity.
        """
        allowed = torch.tensor(self.guide.allowed(self.stop_ids), device=logits.device) if self.guide else None
        candidates = logits if allowed is None else logits[allowed]
        index = self.sampler(candidates) if self.sampler else int(candidates.argmax())
        chosen = candidates[index]
        probability = float(torch.exp(chosen - logits.logsumexp(-1))) if chosen.isfinite() else math.nan
        return index if allowed is None else int(allowed[index]), probability

    def _append(self, token: int, probability: float) -> None:
        self.ids.append(token)
        self.probabilities.append(probability)
        if self.guide:
            self.guide.advance(token)


def common_prefix_length(a: list[int], b: list[int]) -> int:
    """Length of the longest common prefix of two lists of tokens."""
    return next((index for index, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
