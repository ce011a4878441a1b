"""Drafts from the note: what is guessed, and that guesses change the time and never the answer."""

import random

import pytest

from minscl.config import DEMO
from minscl.data.types import Note
from minscl.infer.coder import note_prompt
from minscl.infer.decode import generate, greedy
from minscl.infer.speculate import Drafter, look_up
from minscl.pretrained import load_pretrained
from tests.tiny_models import LENGTHS, V, decoder, make_prompts, naive


def test_drafts_are_the_description_and_what_stood_in_the_note():
    """Guards a drafter that never guesses: after a code its description, elsewhere what followed the same two tokens, or else
    the last one; and passes saved, tokens the same."""
    model, tokenizer = load_pretrained(DEMO)
    prompt = note_prompt(
        model, tokenizer, Note("a", "Admitted with pneumonia and atrial fibrillation with rapid ventricular response.")
    )
    drafter = Drafter(tokenizer, prompt)
    written = tokenizer.encode_answer_start("Evidence:\n1. atrial fibrillation\nCodes:\nI48.91")
    assert tokenizer.decode(drafter(written)) == " Unspecified atrial fibrillation ["
    assert tokenizer.decode(drafter(tokenizer.encode_answer_start("Evidence:\n1. atrial fibrillation"))).startswith(
        " with rapid"
    )
    assert look_up([1, 2, 3, 4, 1, 2]) == [3, 4, 1, 2] and look_up([1, 2, 3]) == []
    assert look_up([1, 2, 3, 9, 2, 4, 1, 2]) == [3, 9, 2, 4, 1, 2]  # two tokens, farther away, before one
    assert look_up([2, 5, 6, 7, 8, 9, 1, 2]) == [5, 6, 7, 8]  # one alone: half as long
    [plain] = greedy(model, [prompt], max_new_tokens=120, stop_ids=tokenizer.stop_ids)
    [drafted] = greedy(model, [prompt], max_new_tokens=120, stop_ids=tokenizer.stop_ids, drafters=[drafter])
    assert (
        drafted.ids == plain.ids
        and plain.forwards == len(plain.ids) + plain.stopped
        and drafted.forwards < 0.7 * plain.forwards
    )


def guesses(right: list[int], rng):
    """A drafter that knows the answer `right` and is wrong now and then, at a place of its own or all along."""

    def draft(ids):
        guess = right[len(ids) : len(ids) + rng.randrange(6)]
        return [token if rng.random() < 0.8 else (token + 1) % V for token in guess]

    return draft


@pytest.mark.parametrize("batch_size", [1, 3])
def test_drafts_change_the_time_and_not_the_answer(batch_size):
    """Guards: a rejected draft's keys left in the cache, a token taken from the wrong row of logits, room or stop token overrun by a draft."""
    model, prompts, rng = decoder(), make_prompts(LENGTHS), random.Random(4)
    stop_ids = {naive(model, prompts[1], 20)[0][9]}
    plain = greedy(model, prompts, max_new_tokens=20, stop_ids=stop_ids)
    free = generate(model, prompts, max_new_tokens=40, stop_ids=())  # the guesses run past the stop token
    for _ in range(4):
        drafters = [guesses(ids, rng) for ids in free]
        drafted = greedy(model, prompts, max_new_tokens=20, stop_ids=stop_ids, drafters=drafters, batch_size=batch_size)
        for a, b in zip(plain, drafted, strict=True):
            assert (a.ids, a.stopped) == (b.ids, b.stopped) and b.probabilities == pytest.approx(
                a.probabilities, abs=1e-5
            )
            assert a.forwards == len(a.ids) + a.stopped
        assert sum(one.forwards for one in drafted) < 0.7 * sum(one.forwards for one in plain)
