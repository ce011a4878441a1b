"""A sequence being decoded: how its next token is chosen (greedy, guided, sampled) and how much of a draft is accepted.

Nothing here depends on batches or caches: a Sequence takes logits and says which tokens the model must read next.

Read next: engine.py, which computes the logits; sampling.py.
"""

import math
from array import array
from dataclasses import dataclass
from typing import NamedTuple

import torch

LOG2_E = math.log2(math.e)


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


class Summary(NamedTuple):
    """What a Sequence asks of each row of its logits.

    log_sums: the logarithm of the sum of the row's exponentials, not finite where the row is not. largest: its most
    probable token, the first of equal ones, and that one's logit; [] where no sequence takes it.
    """

    log_sums: list[float]
    largest: list[tuple[int, float]]


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
        self.allowed: array | None = None  # the tokens that may come next, once they are known

    def prepare(self) -> None:
        """Find which tokens may come next, before their logits are there: a GPU computes them meanwhile."""
        if self.guide and not self.done:
            self.allowed = self.guide.allowed(self.stop_ids)

    def accept(self, logits: torch.Tensor, summary: Summary) -> int:
        """Append what `logits` (1 + draft, V) choose: the first row's token, and the next row's while the draft agrees.

        Returns how many draft tokens were accepted; sets `pending` and `draft` for the next pass. Raises NotFinite
        where a row is not finite.
        """
        accepted, draft, self.pending = 0, self.draft, []
        self.forwards += 1
        while not self.done and not self.pending:
            log_sum = summary.log_sums[accepted]
            if not math.isfinite(log_sum):
                raise NotFinite
            token, logit = summary.largest[accepted] if self.takes_largest else self._choose(logits[accepted])
            if not math.isfinite(logit):
                raise NotFinite
            probability = min(1.0, math.exp(logit - log_sum))  # rounding may leave the sum below its largest term
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
    def takes_largest(self) -> bool:
        """Whether neither a guide nor a sampler chooses the tokens, so that the most probable one follows."""
        return not (self.guide or self.sampler)

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
        """The token chosen among those that the guide allows, and its logit; `logits` (V,).

        Its probability is that among all tokens. So the score of a code that the guide has left over, because the
        model's own choice is not allowed, is low. Of equal logits the first token's counts, as without a guide.
        """
        if self.guide is None:
            token = self.sampler(logits)
            return token, float(logits[token])
        allowed, self.allowed = self.allowed or self.guide.allowed(self.stop_ids), None
        candidates = logits.index_select(0, torch.frombuffer(allowed, dtype=torch.int64).to(logits.device))
        values = candidates.tolist()
        index = self.sampler(candidates) if self.sampler else values.index(max(values))
        return allowed[index], values[index]

    def _append(self, token: int, probability: float) -> None:
        self.ids.append(token)
        self.probabilities.append(probability)
        if self.guide:
            self.guide.advance(token)


def summarise(logits: torch.Tensor, with_largest: bool) -> Summary:
    """The summary of float32 logits (rows, V). On a CPU the largest is found by NumPy, in a tenth of torch's time."""
    if not with_largest:
        return Summary(log_sum_exp(logits), [])
    tokens = torch.from_numpy(logits.numpy().argmax(-1)) if logits.device.type == "cpu" else logits.argmax(-1)
    values = logits.gather(-1, tokens[:, None])[:, 0]
    return Summary(log_sum_exp(logits), list(zip(tokens.tolist(), values.tolist(), strict=True)))


def log_sum_exp(logits: torch.Tensor) -> list[float]:
    """float32 logits (rows, V) → the logarithm of the sum of each row's exponentials; not finite where a row is not.

    torch.logsumexp takes two to three times as long. exp2, since exp takes three times as long where it is MKL's and
    the processor AMD's.
    """
    largest = logits.amax(-1, keepdim=True)
    exponents = torch.add(largest * -LOG2_E, logits, alpha=LOG2_E)  # at most 0, but for rounding
    return (exponents.exp2_().sum(-1).log() + largest[:, 0]).tolist()


def common_prefix_length(a: list[int], b: list[int]) -> int:
    """Length of the longest common prefix of two lists of tokens."""
    for index, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return index
    return min(len(a), len(b))
