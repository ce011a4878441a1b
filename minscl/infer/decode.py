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
    """One row's answer while it is written. `guide` (grounded.Guide), where there is one, says what may be written."""

    def __init__(self, guide):
        self.guide, self.ids, self.probabilities, self.stopped, self.done = guide, [], [], False, False

    def pick(self, logits, stop_ids) -> tuple[int, float]:
        """The likeliest of the tokens that the guide allows, and its probability among them; `logits` (V,)."""
        allowed = torch.tensor(self.guide.allowed(stop_ids), device=logits.device)
        best, place = logits[allowed].max(dim=0)
        return int(allowed[place]), float(torch.exp(best - logits[allowed].logsumexp(dim=0)))

    def take(self, token: int, probability: float, stop_ids, max_new_tokens: int) -> None:
        """Write `token`, or end with it."""
        self.stopped = token in stop_ids
        if not self.stopped:
            self._write(token, probability)
        self.done = self.stopped or len(self.ids) >= max_new_tokens

    def forced(self) -> list[int]:
        """What must come next, written; empty where there is a choice."""
        tokens = self.guide.forced() if self.guide else []
        for token in tokens:
            self._write(token, 1.0)
        if self.guide and self.guide.finished:
            self.stopped = self.done = True
        return tokens

    def _write(self, token: int, probability: float) -> None:
        self.ids.append(token)
        self.probabilities.append(probability)
        if self.guide:
            self.guide.take(token)


@dataclass(frozen=True)
class Generation:
    """What one prompt was answered with.

    `ids`: the new tokens, without the stop token. `probabilities`: for each of them, its softmax probability.
    `stopped`: whether a stop token ended the answer; False where it was cut at max_new_tokens.
    """

    ids: list[int]
    probabilities: list[float]
    stopped: bool


def generate(model, prompts, *, max_new_tokens: int, stop_ids, batch_size: int = BATCH_SIZE) -> list[list[int]]:
    """Greedy answers, one list of new token ids a prompt, in the prompts' order, without the stop token.

    Arguments and errors as for `greedy`.
    """
    return [one.ids for one in greedy(model, prompts, max_new_tokens=max_new_tokens, stop_ids=stop_ids, batch_size=batch_size)]


def greedy(model, prompts, *, max_new_tokens: int, stop_ids, batch_size: int = BATCH_SIZE, guides=None, progress=None) -> list[Generation]:
    """Decode every prompt greedily; gives a Generation a prompt, in the prompts' order.

    `prompts`: lists of token ids, of any lengths. `max_new_tokens` counts the stop token, as in transformers.
    `stop_ids`: the ids that end an answer, possibly none. Prompts are sorted by length into batches of `batch_size`, so
    that little of a batch is padding. `guides`: for each prompt a grounded.Guide or None. `progress(tokens, finished)`, where
    given, is called after every step with the tokens and the answers it completed (two increments for progress bars).

    Dropout is off meanwhile. Raises InputError for an empty prompt, an id outside the vocabulary, and a prompt that
    leaves no room for max_new_tokens in the model's context.
    """
    prompts = [[int(token) for token in prompt] for prompt in prompts]
    _check(model.config, prompts, max_new_tokens, batch_size)
    stop_ids, progress = frozenset(stop_ids), progress or (lambda tokens, finished: None)
    order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
    answers = [None] * len(prompts)
    with torch.inference_mode(), _eval_mode(model):
        for first in range(0, len(order), batch_size):
            batch = order[first : first + batch_size]
            given = [guides[n] if guides else None for n in batch]
            for number, answer in zip(batch, _decode_batch(model, [prompts[n] for n in batch], max_new_tokens, stop_ids, given, progress), strict=True):
                answers[number] = answer
    return answers


def _decode_batch(model, prompts, max_new_tokens: int, stop_ids: frozenset, guides, progress) -> list[Generation]:
    """Prefill, then a token a step for every row, until each has stopped or has max_new_tokens.

    A guided row may read several tokens in a step: the one it chose and those that had to follow. A row that stopped is carried along, its
    tokens ignored, until the last one stops. The host waits for the device once a step, to see the tokens.
    """
    weight = model.model.embed_tokens.weight
    answers = [Answer(guide) for guide in guides]
    pending = [answer.forced() for answer in answers]  # tokens that are written and not yet read
    prompts = [prompt + first for prompt, first in zip(prompts, pending, strict=True)]
    cache = KVCache(model.config, len(prompts), max(map(len, prompts)) + max_new_tokens, device=weight.device, dtype=weight.dtype)
    running = answers  # those that are not complete
    logits = prefill(model, prompts, cache)  # (B, V)
    while True:
        tokens, probabilities = (one.tolist() for one in choose(logits))
        for row, answer in enumerate(answers):
            if not answer.done:
                answer.take(*answer.pick(logits[row], stop_ids) if answer.guide else (tokens[row], probabilities[row]), stop_ids, max_new_tokens)
                forced = [] if answer.done else answer.forced()
                pending[row] = [answer.ids[-1 - len(forced)], *forced] if not answer.done else [0]
        left = [one for one in running if not one.done]
        progress(len(running), len(running) - len(left))
        running = left
        if not running:
            return [Generation(one.ids, one.probabilities, one.stopped) for one in answers]
        logits = read_tokens(model, pending, cache)  # (B, V)


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


def read_tokens(model, pending: list[list[int]], cache: KVCache):
    """Append to each row its `pending` tokens, at least one; gives float32 logits (B, V) after the last of each."""
    device, counts = model.model.embed_tokens.weight.device, [len(one) for one in pending]
    tokens = torch.tensor([one + [0] * (max(counts) - len(one)) for one in pending], device=device)  # (B, T)
    positions, mask = cache.advance(counts)  # (B, T), (B, 1, T, S)
    hidden = model.model(tokens, positions=positions, mask=mask, cache=cache)  # (B, T, C)
    last = hidden[torch.arange(len(counts), device=device), torch.tensor(counts, device=device) - 1]  # (B, C)
    return model.lm_head(last).float()  # (B, V), from the weights' dtype


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
