"""Greedy decoding with a KV cache against the naive loop (the whole sequence again for every token), and live against
transformers' `generate`, token for token, on every family.
"""

import math

import pytest
import torch
import torch.nn.functional as F

from minscl.infer.cache import KVCache
from minscl.infer.decode import generate, greedy
from minscl.infer.passes import decode_step, prefill
from minscl.infer.sequence import Sequence, Summary, log_sum_exp
from minscl.lora import add_lora, lora_parameters
from minscl.model import ops
from minscl.model.ops import attention, causal_attention, chunked_attention, continued_attention
from tests.tiny_models import FAMILIES, LENGTHS, V, decoder, make_prompts, naive, teacher

NO_DRAFTS = [[]] * 8


def read_prompts(model, prompts, cache):
    """Logits (B, V) after each prompt, prefilled into slots 0 .. B-1."""
    return torch.stack(list(prefill(model, dict(enumerate(prompts)), cache).values()))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_ragged_batch_equals_the_loop_without_cache(family):
    """Guards: positions that count padding, padding attended to, a slot shared or shifted, results out of order."""
    model, prompts = decoder(family), make_prompts((5, 40, 1, 17))
    expected = [naive(model, prompt, 12) for prompt in prompts]
    # The answers differ, and do not just repeat a token.
    assert len({tuple(ids) for ids, _, _ in expected}) == 4 and max(len(set(ids)) for ids, _, _ in expected) > 3
    answers = greedy(model, prompts, max_new_tokens=12, stop_ids=())
    for answer, (ids, probabilities, stopped) in zip(answers, expected, strict=True):
        assert (answer.ids, answer.stopped) == (ids, stopped)
        assert answer.probabilities == pytest.approx(probabilities, abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, 8, 50])
def test_batches_change_nothing_and_keep_the_order(batch_size):
    """Guards: answers in order of length, the last short batch lost."""
    model, prompts = decoder(), make_prompts(LENGTHS)
    alone = [generate(model, [prompt], max_new_tokens=10, stop_ids=())[0] for prompt in prompts]
    assert generate(model, prompts, max_new_tokens=10, stop_ids=(), batch_size=batch_size) == alone


def test_sequences_stop_one_by_one_without_the_stop_token():
    """Guards: the stop token among the ids, a stopped sequence that goes on, or whose stop affects another."""
    model, prompts = decoder(), make_prompts(LENGTHS)
    free = [naive(model, prompt, 20)[0] for prompt in prompts]
    stop_ids = {free[0][3], free[2][0], free[5][11]}
    expected = [naive(model, prompt, 20, stop_ids) for prompt in prompts]
    assert {stopped for _, _, stopped in expected} == {True, False} and [] in [ids for ids, _, _ in expected]
    answers = greedy(model, prompts, max_new_tokens=20, stop_ids=stop_ids)
    for answer, (ids, probabilities, stopped) in zip(answers, expected, strict=True):
        assert (answer.ids, answer.stopped) == (ids, stopped)
        assert answer.probabilities == pytest.approx(probabilities, abs=1e-5)
        assert len(answer.probabilities) == len(answer.ids)


def test_the_stop_token_counts_and_may_be_the_last():
    """Guards: an answer reported as cut off although its last allowed token was the stop token."""
    model, [prompt] = decoder(), make_prompts((9,))
    ids = naive(model, prompt, 6)[0]
    stop = next(index for index in range(2, 6) if ids[index] not in ids[:index])
    for max_new_tokens, stopped in ((stop, False), (stop + 1, True)):
        [answer] = greedy(model, [prompt], max_new_tokens=max_new_tokens, stop_ids=[ids[stop]])
        assert (answer.ids, answer.stopped) == (ids[:stop], stopped)


@pytest.mark.parametrize("count, before", [(1, 0), (5, 0), (128, 9), (300, 0), (300, 37)])
def test_chunked_attention_is_causal_attention(count, before):
    """Guards: a chunk cut wrongly, that sees the token after its own or misses the tokens before the prompt; heads of
    a group mixed up. Scores are rounded to bfloat16, hence the tolerance."""
    generator = torch.Generator().manual_seed(count)
    query, key, value = (
        torch.randn(1, heads, length, 16, generator=generator).bfloat16()
        for heads, length in ((6, count), (2, before + count), (2, before + count))
    )
    mask = torch.ones(count, before + count, dtype=torch.bool).tril(before)
    q, k, v = query.float(), key.float(), value.float()
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    torch.testing.assert_close(chunked_attention(query, key, value).float(), expected, atol=2e-2, rtol=2e-2)


def test_unused_cache_positions_do_not_matter():
    """Guards: attention beyond a slot's own tokens, masked too weakly to notice in a cache of zeros."""
    model, prompts = decoder(), make_prompts((3, 11, 7))
    logits = []
    for filling in (0.0, 50.0):
        cache = KVCache(model.config, 3, 20, device="cpu", dtype=torch.float32)
        for tensor in (*cache.keys, *cache.values):
            tensor.fill_(filling)
        with torch.no_grad():
            steps = [read_prompts(model, prompts, cache)]
            for _ in range(5):
                tokens = steps[-1].argmax(-1)[:, None].tolist()
                steps.append(torch.cat(decode_step(model, tokens, NO_DRAFTS[:3], cache)))
        logits.append(torch.stack(steps))
    assert torch.equal(*logits)
    assert list(map(len, cache.ids)) == [8, 16, 12]


@pytest.mark.parametrize(
    "dtype, tolerance", [(torch.float64, 1e-5), (torch.float32, 1e-4), (torch.bfloat16, 5e-2), (torch.float16, 5e-2)]
)
def test_cached_logits_equal_uncached_ones(dtype, tolerance):
    """Guards: a cache or a mask in another dtype than the model's. Tolerance relative to the largest logit."""
    model, prompts = decoder("qwen3", dtype), make_prompts((4, 13))
    cache = KVCache(model.config, 2, 16, device="cpu", dtype=dtype)
    with torch.no_grad():
        cached = [read_prompts(model, prompts, cache)] + [
            torch.cat(decode_step(model, [[token], [token + 1]], NO_DRAFTS[:2], cache)) for token in (7, 70, 3)
        ]
        for row, prompt in enumerate(prompts):
            plain = model(torch.tensor([prompt + [7 + row, 70 + row, 3 + row]]))[0, len(prompt) - 1 :].float()
            own = torch.stack([logits[row] for logits in cached])
            assert own.dtype == torch.float32
            torch.testing.assert_close(own, plain, atol=tolerance * float(plain.abs().max()), rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_attention_of_one_token_equals_torch(dtype, kv_heads):
    """Guards: heads with another group's keys, a mask that lets padding in, scores that overflow float16 unscaled."""
    torch.manual_seed(0)
    query, key, value = (
        200 * torch.randn(2, 4, 1, 64),
        40 * torch.randn(2, kv_heads, 9, 64),
        torch.randn(2, kv_heads, 9, 64),
    )
    mask = torch.tensor([[1] * 9, [1] * 5 + [0] * 4], dtype=torch.bool)[:, None, None]
    tolerance = dict(atol=1e-5 if dtype == torch.float32 else 2e-2, rtol=1e-2)
    for attn_mask in (mask, None):
        expected = F.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask, enable_gqa=True)
        for own_mask in (attn_mask,) if attn_mask is not None else (torch.ones(1, 1, 1, 9, dtype=torch.bool), None):
            output = attention(query.to(dtype), key.to(dtype), value.to(dtype), own_mask)
            torch.testing.assert_close(output.float(), expected, **tolerance)


def test_one_token_from_a_kernel_with_another_layout(monkeypatch):
    """Guards: a view of the output where a GPU's kernel stores the heads after the tokens (seen on an H200)."""
    query, key, value = torch.randn(1, 4, 1, 16), torch.randn(1, 2, 9, 16), torch.randn(1, 2, 9, 16)
    expected = attention(query, key, value, None)
    original = ops.one_token_attention
    monkeypatch.setattr(ops, "one_token_attention", lambda *args: original(*args).mT.contiguous().mT)
    assert torch.equal(attention(query, key, value, None), expected)


@pytest.mark.parametrize("function", [causal_attention, continued_attention])
def test_a_continued_prompt_is_causal_from_its_position(function):
    """Guards (the GPU's path too, which a CPU can compute): a mask aligned to the wrong corner, heads out of order."""
    torch.manual_seed(0)
    query, key, value = torch.randn(1, 4, 5, 16), torch.randn(1, 2, 12, 16), torch.randn(1, 2, 12, 16)
    mask = torch.ones(5, 12, dtype=torch.bool).tril(7)
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=True)
    torch.testing.assert_close(function(query, key, value), expected)


def test_several_tokens_at_once_see_what_they_would_one_by_one():
    """Guards: `append_padded` with a mask that lets a new token see the next, or hides the previous."""
    model, prompts, tokens = decoder(), make_prompts((3, 8)), torch.tensor([[5, 6, 7], [8, 9, 10]])
    caches = [KVCache(model.config, 2, 12, device="cpu", dtype=torch.float32) for _ in range(2)]
    with torch.no_grad():
        for cache in caches:
            read_prompts(model, prompts, cache)
        single = torch.stack(
            [torch.cat(decode_step(model, column[:, None].tolist(), NO_DRAFTS[:2], caches[0])) for column in tokens.T],
            dim=1,
        )
        positions, mask = caches[1].append_padded(tokens.tolist())
        together = model(tokens, positions=positions, mask=mask, cache=caches[1])
    assert positions.tolist() == [[3, 4, 5], [8, 9, 10]]
    torch.testing.assert_close(together, single, atol=1e-4, rtol=0)
    assert caches[0].ids == caches[1].ids == [prompts[0] + [5, 6, 7], prompts[1] + [8, 9, 10]]
    with pytest.raises(ValueError, match="holds 12 tokens per slot, 13 are needed"):
        caches[1].append_padded([[1, 2], [1, 2]])


@pytest.mark.parametrize("drafted", [False, True])
def test_slots_may_read_different_numbers_of_tokens(drafted):
    """Guards: packed tokens in another slot; where there are drafts, padding written over a token, or a slot's logits
    taken after its padding."""
    model, prompts = decoder(), make_prompts((3, 6))
    cache = KVCache(model.config, 2, 12, device="cpu", dtype=torch.float32)
    expected_ids = [list(prompt) for prompt in prompts]
    with torch.no_grad():
        read_prompts(model, prompts, cache)
        for parts in ([[5], [6, 7, 8, 9]], [[10, 11, 12, 13], [14]], [[15, 16], [17]]):  # slot 1 is full at the end
            pending = [part[:1] for part in parts] if drafted else parts
            drafts = [part[1:] for part in parts] if drafted else NO_DRAFTS[:2]
            logits = decode_step(model, pending, drafts, cache)
            for slot, ids in enumerate(expected_ids):
                ids += parts[slot]
                expected = model(torch.tensor([ids]))[0, -1 - len(drafts[slot]) :]
                torch.testing.assert_close(logits[slot], expected, atol=1e-4, rtol=0)
    assert cache.ids == expected_ids


def test_the_output_head_is_computed_for_one_position_a_prompt():
    """Guards: logits for the whole prompt, V numbers for each of thousands of positions."""
    model, prompts, counts = decoder(), make_prompts((30, 12)), []
    handle = model.lm_head.register_forward_hook(lambda module, inputs, output: counts.append(output.numel() // V))
    generate(model, prompts, max_new_tokens=3, stop_ids=())
    handle.remove()
    assert counts == [2, 2, 2]


@pytest.mark.parametrize("recompute", [False, True])
def test_logits_to_keep_selects_from_the_whole(recompute):
    """Guards: the last block's MLP on the wrong positions, or gradients that miss the tokens that are attended to."""
    model, ids = decoder(dtype=torch.float64), torch.tensor(make_prompts((9,)))
    keep = torch.tensor([0, 1, 0, 0, 1, 1, 0, 0, 1], dtype=torch.bool)
    model.model.recompute = recompute
    results = []
    for hidden in (
        model.model(ids)[:, keep],
        model.model(ids, logits_to_keep=keep),
        model.model(ids, logits_to_keep=keep.nonzero()[:, 0]),
    ):
        results.append([hidden.detach(), *torch.autograd.grad(hidden.square().sum(), [*model.model.parameters()])])
    for result in results[1:]:
        for a, b in zip(result, results[0], strict=True):
            torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9)


def test_dropout_is_off_while_decoding_and_the_mode_restored():
    """Guards: dropout in answers made during training; a model left in the wrong mode, or with gradients recorded."""
    model, prompts = decoder(), make_prompts((6, 9))
    add_lora(model, rank=2, dropout=0.9)
    for _, parameter in lora_parameters(model):
        parameter.data.fill_(0.1)
    expected = [naive(model.eval(), prompt, 8)[0] for prompt in prompts]
    assert generate(model.train(), prompts, max_new_tokens=8, stop_ids=()) == expected
    assert model.training and model.model.layers[0].self_attn.q_proj.training


def test_bad_requests_are_refused_before_anything_is_computed():
    """Guards: an index error from inside the model, positions beyond its context."""
    model = decoder()
    assert generate(model, [], max_new_tokens=5, stop_ids=()) == []
    for prompts, max_new_tokens, message in [
        ([[1], []], 5, "prompt 1 is empty"),
        ([[1, V]], 5, f"prompt 0 holds token ids 1 to {V}, but the model's vocabulary has {V}"),
        ([[-1]], 5, "prompt 0 holds token ids -1"),
        ([[1] * 250], 7, "prompt 0 has 250 tokens, which leaves no room for 7 new ones in the model's context of 256"),
        ([[1]], 0, "max_new_tokens = 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            greedy(model, prompts, max_new_tokens=max_new_tokens, stop_ids=())
    assert len(generate(model, [[1] * 250], max_new_tokens=6, stop_ids=())[0]) == 6


@pytest.fixture(params=FAMILIES)
def pair(request):
    """(transformers' model, minscl's) with the same weights."""
    ours = decoder(request.param)
    theirs = teacher(ours)
    theirs.generation_config.eos_token_id = None  # only the stop ids that a test passes
    return theirs, ours


def teacher_answers(theirs, prompts, max_new_tokens, stop_ids):
    """transformers' greedy `generate` on a left-padded batch, as its documentation recommends."""
    longest, pad = max(map(len, prompts)), 0
    ids = torch.tensor([[pad] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    output = theirs.generate(
        ids,
        attention_mask=mask,
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=stop_ids or None,
        pad_token_id=pad,
    )
    rows = [row[longest:].tolist() for row in output]
    return [row[: min([row.index(stop) for stop in stop_ids if stop in row], default=len(row))] for row in rows]


@pytest.mark.slow
def test_tokens_equal_transformers_generate(pair):
    """Guards: any difference from transformers at batch 1 and in a ragged batch of 8, with and without stop tokens."""
    theirs, ours = pair
    prompts = make_prompts(LENGTHS)
    free = teacher_answers(theirs, prompts, 24, [])
    assert generate(ours, prompts, max_new_tokens=24, stop_ids=()) == free
    for prompt, expected in zip(prompts, free, strict=True):
        alone = generate(ours, [prompt], max_new_tokens=24, stop_ids=())
        assert alone == [expected] == teacher_answers(theirs, [prompt], 24, [])
    stop_ids = sorted({free[0][4], free[3][10]})
    expected = teacher_answers(theirs, prompts, 24, stop_ids)
    assert generate(ours, prompts, max_new_tokens=24, stop_ids=stop_ids) == expected


def test_no_probability_exceeds_one():
    """Guards: a score of 1.000002, with which a file of coded documents is refused when it is read again."""
    largest = torch.linspace(10, 64, 5000)
    logits = torch.full((5000, 50), -30.0)
    logits[:, 7] = largest
    exceeding = 0
    for row, log_sum in zip(logits, log_sum_exp(logits), strict=True):
        sequence = Sequence([1], 5, frozenset())
        sequence.accept(row[None], Summary([log_sum], [(7, float(row[7]))]))
        assert sequence.ids == [7] and 0.99999 < sequence.probabilities[0] <= 1.0
        exceeding += math.exp(float(row[7]) - log_sum) > 1
    assert exceeding  # without the bound
