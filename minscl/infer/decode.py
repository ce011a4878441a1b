"""Greedy decoding (Eq. 1: argmax p(E | x), p(C | x, E)): token ids in, token ids out.

Read next: engine.py, which runs it.
"""

from minscl.errors import InputError
from minscl.infer import BATCH_SIZE
from minscl.infer.engine import Engine, Request
from minscl.infer.sequence import Generation


def generate(model, prompts, *, max_new_tokens: int, stop_ids, batch_size: int = BATCH_SIZE) -> list[list[int]]:
    """Greedy answers: a list of new token ids per prompt, in the prompts' order, without the stop token.

    Arguments and errors as for `greedy`.
    """
    answers = greedy(model, prompts, max_new_tokens=max_new_tokens, stop_ids=stop_ids, batch_size=batch_size)
    return [answer.ids for answer in answers]


def greedy(
    model, prompts, *, max_new_tokens: int, stop_ids, batch_size: int = BATCH_SIZE, guides=None, drafters=None
) -> list[Generation]:
    """Decode every prompt greedily, with dropout off; returns a Generation per prompt, in the prompts' order.

    prompts: lists of token ids, of any lengths. max_new_tokens: counts the stop token, as in transformers.
    stop_ids: the ids that end an answer, possibly none. batch_size: the most prompts decoded at a time.
    guides: per prompt a constrained.Guide or None. drafters: per prompt a function from the new ids to draft tokens
    (speculate.py) or None; drafts change the time and not the answer.

    Raises InputError for an empty prompt, an id outside the vocabulary, a prompt that leaves no room for
    max_new_tokens in the model's context, and logits that are not finite.
    """
    prompts = [[int(token) for token in prompt] for prompt in prompts]
    _check(model.config, prompts, max_new_tokens, batch_size)
    if not prompts:
        return []
    guides, drafters = guides or [None] * len(prompts), drafters or [None] * len(prompts)
    length = max(map(len, prompts)) + max_new_tokens
    engine = Engine(model, slots=min(batch_size, len(prompts)), length=length, stop_ids=stop_ids)
    requests = [
        Request(prompt, max_new_tokens, guide, drafter, name=f"prompt {index}")
        for index, (prompt, guide, drafter) in enumerate(zip(prompts, guides, drafters, strict=True))
    ]
    answers = dict(engine.run(requests))
    return [answers[index] for index in range(len(prompts))]


def _check(config, prompts: list[list[int]], max_new_tokens: int, batch_size: int) -> None:
    """Refuse what cannot be decoded before anything is computed."""
    if max_new_tokens < 1 or batch_size < 1:
        raise InputError(f"max_new_tokens = {max_new_tokens}, batch_size = {batch_size}: give at least 1 for each")
    limit = config.context_length
    for index, prompt in enumerate(prompts):
        if not prompt:
            raise InputError(f"prompt {index} is empty; give at least one token id")
        if min(prompt) < 0 or max(prompt) >= config.vocab_size:
            raise InputError(
                f"prompt {index} holds token ids {min(prompt)} to {max(prompt)}, but the model's vocabulary has "
                f"{config.vocab_size}; use the tokenizer of this model"
            )
        if len(prompt) + max_new_tokens > limit:
            raise InputError(
                f"prompt {index} has {len(prompt):,} tokens, which leaves no room for {max_new_tokens:,} new ones in "
                f"the model's context of {limit:,}; shorten the prompt or lower max_new_tokens"
            )
