"""One answer while it is written: which token comes next, greedily, from a grammar's choice or by sampling, and what of a draft is kept.

Nothing here knows of batches or caches: an Answer is handed logits and says what the model must read next.

Read next: engine.py, which computes the logits.
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Generation:
    """What one prompt was answered with.

    `ids`: the new tokens, without the stop token. `probabilities`: for each of them, its softmax probability.
    `stopped`: whether a stop token ended the answer; False where it was cut at max_new_tokens. `forwards`: passes of the model that it took.
    `hurried`: whether a guide brought it to its end because the room ran out.
    """

    ids: list[int]
    probabilities: list[float]
    stopped: bool
    forwards: int
    hurried: bool = False


class Sampler:
    """Draws tokens with a random state of its own, so that a seed gives the same answer in any batch.

    `temperature` divides the logits; `top_p` keeps the likeliest tokens that together reach this probability.
    """

    def __init__(self, temperature: float = 1.0, top_p: float = 1.0, seed: int = 0):
        self.temperature, self.top_p, self.generator = temperature, top_p, torch.Generator().manual_seed(seed)

    def __call__(self, logits: torch.Tensor) -> int:
        """logits float32 (V,) → a token. Drawn on the CPU in float64 from the cumulated distribution, so that rounding hardly ever changes a token."""
        probabilities, tokens = (
            (logits.double().cpu() / self.temperature).softmax(-1).sort(descending=True, stable=True)
        )
        total = probabilities.cumsum(-1)
        kept = int((total - probabilities < self.top_p).sum())  # the token that crosses top_p is kept
        draw = torch.rand((), generator=self.generator, dtype=torch.float64) * total[kept - 1]
        return int(tokens[min(int((total[:kept] <= draw).sum()), kept - 1)])


class Answer:
    """One prompt's answer: `room` tokens at most, the stop token among them.

    `guide` (grounded.Guide), where there is one, says what may be written; `drafter` guesses what will be (speculate.Drafter); `sampler` draws
    instead of taking the likeliest. `pending` are the written tokens that the model must read next, `draft` a guess of what follows them.
    """

    def __init__(self, prompt, room: int, stop_ids: frozenset, guide=None, drafter=None, sampler=None):
        self.room, self.stop_ids, self.guide, self.drafter, self.sampler = room, stop_ids, guide, drafter, sampler
        self.ids, self.probabilities, self.stopped, self.done, self.forwards = [], [], False, False, 0
        self.pending, self.draft = [*prompt, *self._forced()], []

    def accept(self, logits: torch.Tensor, tokens: list[int], probabilities: list[float]) -> int:
        """Write what `logits` (1 + draft, V) choose: the token of the first row, and of each next one while the draft holds what is written.

        `tokens` and `probabilities`: the likeliest of each row. Gives how many of the draft's tokens were written; sets `pending` and `draft` anew.
        """
        kept, draft, self.pending = 0, self.draft, []
        self.forwards += 1
        while not self.done and not self.pending:
            token, probability = (
                self._pick(logits[kept]) if self.guide or self.sampler else (tokens[kept], probabilities[kept])
            )
            if token in self.stop_ids:
                self.stopped = self.done = True
                break
            self._write(token, probability)
            self.done = self.done or len(self.ids) >= self.room
            new = [token] + ([] if self.done else self._forced())
            agreed = common_prefix_length(new, draft[kept:])
            kept += agreed
            self.pending = new[agreed:]
        self.draft = (
            [] if self.done or not self.drafter else self.drafter(self.ids)[: max(0, self.room - len(self.ids) - 1)]
        )
        return kept

    @property
    def generation(self) -> Generation:
        return Generation(
            self.ids, self.probabilities, self.stopped, self.forwards, bool(self.guide and self.guide.closed_by_limit)
        )

    def _forced(self) -> list[int]:
        """What must come next, written; empty where there is a choice."""
        tokens = self.guide.forced() if self.guide else []
        for token in tokens:
            self._write(token, 1.0)
        if self.guide and self.guide.finished:
            self.stopped = self.done = True
        return tokens

    def _pick(self, logits: torch.Tensor) -> tuple[int, float]:
        """The token chosen among those that the guide allows, and its probability among them; `logits` (V,)."""
        allowed = torch.tensor(self.guide.allowed(self.stop_ids), device=logits.device) if self.guide else None
        among = logits if allowed is None else logits[allowed]
        place = self.sampler(among) if self.sampler else int(among.argmax())
        return place if allowed is None else int(allowed[place]), float(torch.exp(among[place] - among.logsumexp(-1)))

    def _write(self, token: int, probability: float) -> None:
        self.ids.append(token)
        self.probabilities.append(probability)
        if self.guide:
            self.guide.advance(token)


def common_prefix_length(a: list[int], b: list[int]) -> int:
    """How many tokens both begin with."""
    return next((place for place, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


def choose(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The likeliest token of each row and its probability: float32 (B, V) → int64 (B,), float32 (B,)."""
    return logits.argmax(dim=-1), logits.softmax(dim=-1).amax(dim=-1)
