"""Greedy decoding: prefill a batch of prompts, then one token at a time (Eq. 1: argmax p(E | x), p(C | x, E)).

In: a Decoder, prompts as token ids, and the ids that end an answer. Out: the new ids of each prompt, with the
probability that the model gave to each.
Three stages, a function each: `prefill`, `decode_one_token`, and the loop `_decode_batch`; `greedy` sorts prompts into
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


def greedy(model, prompts, *, max_new_tokens: int, stop_ids, batch_size: int = BATCH_SIZE, progress=None) -> list[Generation]:
    """Decode every prompt greedily; gives a Generation a prompt, in the prompts' order.

    `prompts`: lists of token ids, of any lengths. `max_new_tokens` counts the stop token, as in transformers.
    `stop_ids`: the ids that end an answer, possibly none. Prompts are sorted by length into batches of `batch_size`, so
    that little of a batch is padding. `progress(tokens, finished)`, where given, is called after every step with the
    tokens and the answers it completed (two increments for progress bars).

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
            for number, answer in zip(batch, _decode_batch(model, [prompts[n] for n in batch], max_new_tokens, stop_ids, progress), strict=True):
                answers[number] = answer
    return answers


def _decode_batch(model, prompts, max_new_tokens: int, stop_ids: frozenset, progress) -> list[Generation]:
    """Prefill, then a token a step for every row, until each has stopped or has max_new_tokens.

    A row that stopped is carried along, its tokens ignored, until the last one stops. The host waits for the device
    once a step, to see the stop tokens.
    """
    weight = model.model.embed_tokens.weight
    longest = max(map(len, prompts))
    cache = KVCache(model.config, len(prompts), longest + max_new_tokens, device=weight.device, dtype=weight.dtype)
    ids, probabilities, stopped = [[] for _ in prompts], [], [False] * len(prompts)
    running = range(len(prompts))  # rows whose answer is not complete
    logits = prefill(model, prompts, cache)  # (B, V)
    for step in range(max_new_tokens):
        tokens, probability = choose(logits)  # (B,), (B,)
        probabilities.append(probability)
        chosen, before = tokens.tolist(), len(running)
        for row in running:
            if chosen[row] in stop_ids:
                stopped[row] = True
            else:
                ids[row].append(chosen[row])
        running = [row for row in running if not stopped[row]] if step < max_new_tokens - 1 else []
        progress(before, before - len(running))
        if not running:
            break
        logits = decode_one_token(model, tokens, cache)  # (B, V)
    columns = torch.stack(probabilities, dim=1).tolist()  # B lists of a probability a step
    return [Generation(new, column[: len(new)], done) for new, column, done in zip(ids, columns, stopped, strict=True)]


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


def decode_one_token(model, tokens, cache: KVCache):
    """Append `tokens` (B,) to their rows; gives float32 logits (B, V) for the next ones."""
    positions, mask = cache.advance()  # (B, 1), (B, 1, 1, S)
    hidden = model.model(tokens[:, None], positions=positions, mask=mask, cache=cache)  # (B, 1, C)
    return model.lm_head(hidden[:, 0]).float()  # (B, V), from the weights' dtype


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
