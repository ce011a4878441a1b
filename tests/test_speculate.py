"""Prompt-lookup speculation: which draft tokens are proposed, and that they change the time and never the answer."""

import random

import pytest

from minscl.data.types import Note
from minscl.infer.decode import generate, greedy
from minscl.infer.jobs import note_prompt
from minscl.infer.speculate import Drafter, prompt_lookup
from tests.tiny_models import LENGTHS, V, decoder, make_prompts, naive


def test_drafts_are_the_description_and_what_the_note_says(embedded):
    """Guards a drafter that never proposes anything: after a code its description, elsewhere what followed the same two
    tokens, or else the last one; and forward passes saved, the same tokens."""
    model, tokenizer = embedded
    note = Note("a", "Admitted with pneumonia and atrial fibrillation with rapid ventricular response.")
    prompt = note_prompt(model, tokenizer, note)
    drafter = Drafter(tokenizer, prompt)
    for line, rest in (("[1] I48.91", "\n["), ("[1, 2] I48.91", "\n["), ("I48.91", " [")):
        written = tokenizer.encode_answer_start(f"Evidence:\n1. atrial fibrillation\nCodes:\n{line}")
        assert tokenizer.decode(drafter(written)) == f" Unspecified atrial fibrillation{rest}"
    written = tokenizer.encode_answer_start("Evidence:\n1. atrial fibrillation")
    assert tokenizer.decode(drafter(written)).startswith(" with rapid")
    assert prompt_lookup([1, 2, 3, 4, 1, 2]) == [3, 4, 1, 2] and prompt_lookup([1, 2, 3]) == []
    assert prompt_lookup([1, 2, 3, 9, 2, 4, 1, 2]) == [3, 9, 2, 4, 1, 2]  # two tokens, farther away, before one
    assert prompt_lookup([2, 5, 6, 7, 8, 9, 1, 2]) == [5, 6, 7]  # one token alone: fewer
    [plain] = greedy(model, [prompt], max_new_tokens=120, stop_ids=tokenizer.stop_ids)
    [drafted] = greedy(model, [prompt], max_new_tokens=120, stop_ids=tokenizer.stop_ids, drafters=[drafter])
    assert drafted.ids == plain.ids and plain.forwards == len(plain.ids) + plain.stopped
    assert drafted.forwards < 0.75 * plain.forwards


def imperfect_drafter(answer: list[int], rng):
    """A drafter that knows `answer` and now and then proposes a wrong token, or none at all."""

    def draft(ids):
        tokens = answer[len(ids) : len(ids) + rng.randrange(6)]
        return [token if rng.random() < 0.8 else (token + 1) % V for token in tokens]

    return draft


@pytest.mark.parametrize("batch_size", [1, 3])
def test_drafts_change_the_time_and_not_the_answer(batch_size):
    """Guards: a rejected draft's keys left in the cache, a token taken from the wrong row of logits, max_new_tokens or
    a stop token overrun by a draft."""
    model, prompts, rng = decoder(), make_prompts(LENGTHS), random.Random(4)
    stop_ids = {naive(model, prompts[1], 20)[0][9]}
    plain = greedy(model, prompts, max_new_tokens=20, stop_ids=stop_ids)
    answers = generate(model, prompts, max_new_tokens=40, stop_ids=())  # drafts extend beyond the stop token
    for _ in range(4):
        drafters = [imperfect_drafter(ids, rng) for ids in answers]
        drafted = greedy(model, prompts, max_new_tokens=20, stop_ids=stop_ids, drafters=drafters, batch_size=batch_size)
        for a, b in zip(plain, drafted, strict=True):
            assert (a.ids, a.stopped) == (b.ids, b.stopped)
            assert b.probabilities == pytest.approx(a.probabilities, abs=1e-5)
            assert a.forwards == len(a.ids) + a.stopped
        assert sum(answer.forwards for answer in drafted) < 0.7 * sum(answer.forwards for answer in plain)
