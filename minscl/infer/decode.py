"""Greedy decoding: prefill a batch of prompts, then one token at a time (Eq. 1: argmax p(E | x), p(C | x, E)).

In: a Decoder, prompts as token ids, and the ids that end an answer. Out: the new ids of each prompt, with the
probability that the model gave to each.
Three stages, a function each: `prefill`, `read_tokens`, and the loop `_decode_batch`; `greedy` sorts prompts into
batches. Rows of a batch never see one another: a row's tokens are those it gets alone, up to rounding where two
logits tie.

Letters: B rows, T new tokens, C hidden, V vocabulary.
Read next: cache.py, then model/decoder.py.
"""

import contextlib
from dataclasses import dataclass

import torch

from minscl.errors import InputError
from minscl.infer.cache import KVCache

BATCH_SIZE = 16  # prompts decoded together by default


class Answer:
    """One prompt's answer while it is written: `room` tokens at most, the stop token among them.

    `guide` (grounded.Guide), where there is one, says what may be written; `drafter` guesses what will be.
    """

    def __init__(self, prompt, guide, drafter, room: int, stop_ids: frozenset):
        self.prompt, self.guide, self.drafter, self.room, self.stop_ids = prompt, guide, drafter, room, stop_ids
        self.ids, self.probabilities, self.stopped, self.done, self.forwards = [], [], False, False, 0

    def accept(self, logits, tokens, probabilities, draft: list[int]) -> tuple[int, list[int]]:
        """Write the token that `logits[0]` chooses, and go on with the next row of `logits` (1 + draft, V) while the draft holds what is written.

        `tokens` and `probabilities` (1 + draft,): the likeliest of each row. Gives how many of the draft's tokens were written, and the written tokens
        that the model has not read yet. An answer that is done reads a token of no meaning (-1: and gives it back) while others go on.
        """
        if self.done:
            return -1, [0]
        tokens, probabilities, kept = tokens.tolist(), probabilities.tolist(), 0
        self.forwards += 1
        while not self.done:
            token, probability = self._pick(logits[kept]) if self.guide else (tokens[kept], probabilities[kept])
            if token in self.stop_ids:
                self.stopped = self.done = True
                break
            self._write(token, probability)
            self.done = len(self.ids) >= self.room
            new = [token] + ([] if self.done else self.forced())
            agreed = common_length(new, draft[kept:])
            kept += agreed
            if agreed < len(new) and not self.done:
                return kept, new[agreed:]
        return kept, [0]

    def forced(self) -> list[int]:
        """What must come next, written; empty where there is a choice."""
        tokens = self.guide.forced() if self.guide else []
        for token in tokens:
            self._write(token, 1.0)
        if self.guide and self.guide.finished:
            self.stopped = self.done = True
        return tokens

    def draft(self) -> list[int]:
        """A guess of what follows, never more than there is room for."""
        return self.drafter(self.ids)[: max(0, self.room - len(self.ids) - 1)] if self.drafter and not self.done else []

    def _pick(self, logits) -> tuple[int, float]:
        """The likeliest of the tokens that the guide allows, and its probability among them; `logits` (V,)."""
        allowed = torch.tensor(self.guide.allowed(self.stop_ids), device=logits.device)
        place, probability = choose(logits[allowed])
        return int(allowed[place]), float(probability)

    def _write(self, token: int, probability: float) -> None:
        self.ids.append(token)
        self.probabilities.append(probability)
        if self.guide:
            self.guide.take(token)


def common_length(a: list[int], b: list[int]) -> int:
    """How many tokens both begin with."""
    return next((place for place, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


@dataclass(frozen=True)
class Generation:
    """What one prompt was answered with.

    `ids`: the new tokens, without the stop token. `probabilities`: for each of them, its softmax probability.
    `stopped`: whether a stop token ended the answer; False where it was cut at max_new_tokens. `forwards`: passes of the model that it took.
    """

    ids: list[int]
    probabilities: list[float]
    stopped: bool
    forwards: int


def generate(model, prompts, *, max_new_tokens: int, stop_ids, batch_size: int = BATCH_SIZE) -> list[list[int]]:
    """Greedy answers, one list of new token ids a prompt, in the prompts' order, without the stop token.

    Arguments and errors as for `greedy`.
    """
    return [one.ids for one in greedy(model, prompts, max_new_tokens=max_new_tokens, stop_ids=stop_ids, batch_size=batch_size)]


def greedy(model, prompts, *, max_new_tokens: int, stop_ids, batch_size: int = BATCH_SIZE, guides=None, drafters=None) -> list[Generation]:
    """Decode every prompt greedily; gives a Generation a prompt, in the prompts' order.

    `prompts`: lists of token ids, of any lengths. `max_new_tokens` counts the stop token, as in transformers.
    `stop_ids`: the ids that end an answer, possibly none. Prompts are sorted by length into batches of `batch_size`, so
    that little of a batch is padding. `guides`: for each prompt a grounded.Guide or None. `drafters`: for each a function from the
    new ids to a guess of the next ones (speculate.py), which changes the time and not the answer.

    Dropout is off meanwhile. Raises InputError for an empty prompt, an id outside the vocabulary, and a prompt that
    leaves no room for max_new_tokens in the model's context.
    """
    prompts = [[int(token) for token in prompt] for prompt in prompts]
    _check(model.config, prompts, max_new_tokens, batch_size)
    guides, drafters = guides or [None] * len(prompts), drafters or [None] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
    answers = [None] * len(prompts)
    with torch.inference_mode(), _eval_mode(model):
        for first in range(0, len(order), batch_size):
            batch = order[first : first + batch_size]
            rows = [Answer(prompts[number], guides[number], drafters[number], max_new_tokens, frozenset(stop_ids)) for number in batch]
            _decode_batch(model, rows)
            for number, row in zip(batch, rows, strict=True):
                answers[number] = Generation(row.ids, row.probabilities, row.stopped, row.forwards)
    return answers


def _decode_batch(model, rows) -> None:
    """Prefill, then a step at a time for every Answer of `rows`, until each is done.

    In a step a row reads the token it chose last, those that had to follow (its guide), and a draft of what may follow (its drafter); the draft's
    tokens that the model would have chosen are kept. A row that is done is carried along until the last one is. The host waits for the device
    once a step, to see the tokens.
    """
    weight = model.model.embed_tokens.weight
    prompts = [row.prompt + row.forced() for row in rows]
    cache = KVCache(model.config, len(rows), max(len(row.prompt) + row.room for row in rows), device=weight.device, dtype=weight.dtype)
    scored, drafts = list(prefill(model, prompts, cache)[:, None]), [[] for _ in rows]  # of each row logits (1 + draft, V)
    while True:
        lengths = [len(one) for one in scored]
        tokens, probabilities = (one.split(lengths) for one in choose(torch.cat(scored)))
        read = [row.accept(*columns) for row, *columns in zip(rows, scored, tokens, probabilities, drafts, strict=True)]
        cache.retract([len(draft) - kept for draft, (kept, _) in zip(drafts, read, strict=True)])
        if all(row.done for row in rows):
            return
        drafts = [row.draft() for row in rows]
        scored = read_tokens(model, [unread for _, unread in read], drafts, cache)


def prefill(model, prompts, cache: KVCache):
    """Read all prompts at once, padded on the right; gives float32 logits (B, V) after each prompt's last token.

    Padding needs no mask: it stands after the real tokens, which see only what is before them. The output head, as
    wide as the vocabulary, is computed for one position a row.
    """
    lengths = [len(prompt) for prompt in prompts]
    device = model.model.embed_tokens.weight.device
    padded = torch.tensor([prompt + [0] * (max(lengths) - len(prompt)) for prompt in prompts], device=device)  # (B, T)
    cache.start(lengths)
    hidden = model.model(padded, cache=cache)  # (B, T, C)
    last = hidden[torch.arange(len(prompts), device=device), cache.lengths - 1]  # (B, C)
    return model.lm_head(last).float()  # (B, V), from the weights' dtype


def read_tokens(model, pending: list[list[int]], drafts: list[list[int]], cache: KVCache) -> list[torch.Tensor]:
    """Append to each row its `pending` tokens, at least one, and its draft; gives a row's float32 logits (1 + draft, V) after the last
    pending token and after each of the draft's."""
    device, counts = model.model.embed_tokens.weight.device, [len(a) + len(b) for a, b in zip(pending, drafts, strict=True)]
    tokens = torch.tensor([[*a, *b, *[0] * (max(counts) - len(a) - len(b))] for a, b in zip(pending, drafts, strict=True)], device=device)  # (B, T)
    positions, mask = cache.advance(counts)  # (B, T), (B, 1, T, S)
    hidden = model.model(tokens, positions=positions, mask=mask, cache=cache)  # (B, T, C)
    asked = torch.cat([row[count - len(draft) - 1 : count] for row, count, draft in zip(hidden, counts, drafts, strict=True)])
    return list(model.lm_head(asked).float().split([1 + len(draft) for draft in drafts]))  # from the weights' dtype


def choose(logits):
    """The likeliest token of each row and its probability: float32 (B, V) → int64 (B,), float32 (B,)."""
    best, tokens = logits.max(dim=-1)
    return tokens, torch.exp(best - logits.logsumexp(dim=-1))


def _check(config, prompts, max_new_tokens: int, batch_size: int) -> None:
    """Refuse what cannot be decoded before anything is computed."""
    if max_new_tokens < 1 or batch_size < 1:
        raise InputError(f"max_new_tokens = {max_new_tokens}, batch_size = {batch_size}: give at least 1 for each")
    limit = config.max_position_embeddings
    for number, prompt in enumerate(prompts):
        if not prompt:
            raise InputError(f"prompt {number} is empty; give at least one token id")
        if min(prompt) < 0 or max(prompt) >= config.vocab_size:
            raise InputError(f"prompt {number} holds token ids {min(prompt)} to {max(prompt)}, but the model's vocabulary has "
                             f"{config.vocab_size}; use the tokenizer of this model")
        if len(prompt) + max_new_tokens > limit:
            raise InputError(f"prompt {number} has {len(prompt):,} tokens, which leaves no room for {max_new_tokens:,} new ones in the model's context "
                             f"of {limit:,}; shorten the prompt or lower max_new_tokens")


@contextlib.contextmanager
def _eval_mode(model):
    """Dropout off inside, the model's mode as it was afterwards."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
