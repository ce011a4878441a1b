"""Greedy decoding with a cache against the plainest loop there is (the whole sequence again for every token), and live
against transformers' `generate`, token for token, on every family.
"""

import pytest
import torch
import torch.nn.functional as F

from minscl.infer.cache import KVCache, chunked_attention, continued
from minscl.infer.decode import generate, greedy
from minscl.infer.engine import prefill, read_tokens
from minscl.lora import add_lora, lora_parameters
from minscl.model.ops import attention
from tests.tiny_models import FAMILIES, LENGTHS, V, decoder, make_prompts, naive, teacher

NO_DRAFTS = [[]] * 8


def read_prompts(model, prompts, cache):
    """Logits (B, V) after each prompt, read into slots 0 .. B-1."""
    return torch.stack(list(prefill(model, dict(enumerate(prompts)), cache).values()))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_ragged_batch_equals_the_loop_without_cache(family):
    """Guards: positions that count padding, keys of padding seen, a cache row shared or shifted, results out of order."""
    model, prompts = decoder(family), make_prompts((5, 40, 1, 17))
    expected = [naive(model, prompt, 12) for prompt in prompts]
    assert (
        len({tuple(ids) for ids, _, _ in expected}) == 4 and max(len(set(ids)) for ids, _, _ in expected) > 3
    )  # answers differ
    for answer, (ids, probabilities, stopped) in zip(
        greedy(model, prompts, max_new_tokens=12, stop_ids=()), expected, strict=True
    ):
        assert (answer.ids, answer.stopped) == (ids, stopped)
        assert answer.probabilities == pytest.approx(probabilities, abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, 8, 50])
def test_batches_change_nothing_and_keep_the_order(batch_size):
    """Guards: answers in the order of length, the last short batch lost."""
    model, prompts = decoder(), make_prompts(LENGTHS)
    alone = [generate(model, [prompt], max_new_tokens=10, stop_ids=())[0] for prompt in prompts]
    assert generate(model, prompts, max_new_tokens=10, stop_ids=(), batch_size=batch_size) == alone


def test_rows_stop_one_by_one_without_the_stop_token():
    """Guards: the stop token among the ids, a stopped row that goes on, one row's stop that stops or changes another's."""
    model, prompts = decoder(), make_prompts(LENGTHS)
    free = [naive(model, prompt, 20)[0] for prompt in prompts]
    stop_ids = {free[0][3], free[2][0], free[5][11]}
    expected = [naive(model, prompt, 20, stop_ids) for prompt in prompts]
    assert {stopped for _, _, stopped in expected} == {True, False} and [] in [ids for ids, _, _ in expected]
    for answer, (ids, probabilities, stopped) in zip(
        greedy(model, prompts, max_new_tokens=20, stop_ids=stop_ids), expected, strict=True
    ):
        assert (answer.ids, answer.stopped) == (ids, stopped)
        assert answer.probabilities == pytest.approx(probabilities, abs=1e-5) and len(answer.probabilities) == len(
            answer.ids
        )


def test_the_stop_token_counts_and_may_be_the_last():
    """Guards: an answer called cut although its last allowed token was the stop token."""
    model, [prompt] = decoder(), make_prompts((9,))
    ids = naive(model, prompt, 6)[0]
    at = next(place for place in range(2, 6) if ids[place] not in ids[:place])
    for room, stopped in ((at, False), (at + 1, True)):
        [answer] = greedy(model, [prompt], max_new_tokens=room, stop_ids=[ids[at]])
        assert (answer.ids, answer.stopped) == (ids[:at], stopped)


@pytest.mark.parametrize("count, before", [(1, 0), (5, 0), (128, 9), (300, 0), (300, 37)])
def test_attention_in_pieces_is_causal_attention(count, before):
    """Guards: chunked_attention with a piece that is cut wrongly, that sees the token after its own or misses what stood before the prompt, heads of a group mixed
    up. Its scores are rounded to bfloat16, hence the tolerance."""
    generator = torch.Generator().manual_seed(count)
    query, key, value = (
        torch.randn(1, heads, length, 16, generator=generator).bfloat16()
        for heads, length in ((6, count), (2, before + count), (2, before + count))
    )
    mask = torch.ones(count, before + count, dtype=torch.bool).tril(before)
    wanted = F.scaled_dot_product_attention(query.float(), key.float(), value.float(), attn_mask=mask, enable_gqa=True)
    torch.testing.assert_close(chunked_attention(query, key, value).float(), wanted, atol=2e-2, rtol=2e-2)


def test_what_lies_in_unused_slots_does_not_matter():
    """Guards: attention that reads beyond a row's own tokens, masked too weakly to see in a cache of zeros."""
    model, prompts = decoder(), make_prompts((3, 11, 7))
    logits = []
    for filling in (0.0, 50.0):
        cache = KVCache(model.config, 3, 20, device="cpu", dtype=torch.float32)
        for tensor in (*cache.keys, *cache.values):
            tensor.fill_(filling)
        with torch.no_grad():
            rows = [read_prompts(model, prompts, cache)]
            for _ in range(5):
                rows.append(torch.cat(read_tokens(model, rows[-1].argmax(-1)[:, None].tolist(), NO_DRAFTS[:3], cache)))
        logits.append(torch.stack(rows))
    assert torch.equal(*logits)
    assert list(map(len, cache.ids)) == [8, 16, 12]


@pytest.mark.parametrize(
    "dtype, tolerance", [(torch.float64, 1e-5), (torch.float32, 1e-4), (torch.bfloat16, 5e-2), (torch.float16, 5e-2)]
)
def test_cached_logits_equal_uncached_ones(dtype, tolerance):
    """Guards: a cache or a mask in another dtype than the model's; tolerance relative to the largest logit."""
    model, prompts = decoder("qwen3", dtype), make_prompts((4, 13))
    cache = KVCache(model.config, 2, 16, device="cpu", dtype=dtype)
    with torch.no_grad():
        cached = [read_prompts(model, prompts, cache)] + [
            torch.cat(read_tokens(model, [[token], [token + 1]], NO_DRAFTS[:2], cache)) for token in (7, 70, 3)
        ]
        for row, prompt in enumerate(prompts):
            plain = model(torch.tensor([prompt + [7 + row, 70 + row, 3 + row]]))[0, len(prompt) - 1 :].float()
            mine = torch.stack([logits[row] for logits in cached])
            assert mine.dtype == torch.float32
            torch.testing.assert_close(mine, plain, atol=tolerance * float(plain.abs().max()), rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_one_token_s_attention_is_torch_s(dtype, kv_heads):
    """Guards the plain products: heads under another's keys, a mask that lets padding in, products too large for float16 before they are scaled."""
    torch.manual_seed(0)
    query, key, value = (
        200 * torch.randn(2, 4, 1, 64),
        40 * torch.randn(2, kv_heads, 9, 64),
        torch.randn(2, kv_heads, 9, 64),
    )
    mask = torch.tensor([[1] * 9, [1] * 5 + [0] * 4], dtype=torch.bool)[:, None, None]
    for seen in (mask, None):
        wanted = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=seen, enable_gqa=True)
        found = attention(
            query.to(dtype),
            key.to(dtype),
            value.to(dtype),
            seen if seen is not None else torch.ones(1, 1, 1, 9, dtype=torch.bool),
        )
        torch.testing.assert_close(found.float(), wanted, atol=1e-5 if dtype == torch.float32 else 2e-2, rtol=1e-2)


def test_a_prompt_that_goes_on_is_causal_from_its_place():
    """Guards the GPU's way of it, whose arithmetic a CPU can do: a corner of the mask on the wrong side, heads in the wrong order."""
    torch.manual_seed(0)
    query, key, value = torch.randn(1, 4, 5, 16), torch.randn(1, 2, 12, 16), torch.randn(1, 2, 12, 16)
    wanted = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=torch.ones(5, 12, dtype=torch.bool).tril(7), enable_gqa=True
    )
    torch.testing.assert_close(continued(query, key, value), wanted)


def test_several_tokens_at_once_see_what_they_would_one_by_one():
    """Guards: `advance` with a mask that lets a new token see the next one, or hides the one before."""
    model, prompts, tokens = decoder(), make_prompts((3, 8)), torch.tensor([[5, 6, 7], [8, 9, 10]])
    caches = [KVCache(model.config, 2, 12, device="cpu", dtype=torch.float32) for _ in range(2)]
    with torch.no_grad():
        for cache in caches:
            read_prompts(model, prompts, cache)
        single = torch.stack(
            [torch.cat(read_tokens(model, column[:, None].tolist(), NO_DRAFTS[:2], caches[0])) for column in tokens.T],
            dim=1,
        )
        positions, mask = caches[1].advance(tokens.tolist())
        together = model(tokens, positions=positions, mask=mask, cache=caches[1])
    assert positions.tolist() == [[3, 4, 5], [8, 9, 10]]
    torch.testing.assert_close(together, single, atol=1e-4, rtol=0)
    assert caches[0].ids == caches[1].ids == [prompts[0] + [5, 6, 7], prompts[1] + [8, 9, 10]]
    with pytest.raises(ValueError, match="holds 12 tokens a slot, 13 are needed"):
        caches[1].advance([[1, 2], [1, 2]])


def test_rows_may_read_different_numbers_of_tokens():
    """Guards: padding written over a token, or a row's logits taken after its padding."""
    model, prompts = decoder(), make_prompts((3, 6))
    cache, written = KVCache(model.config, 2, 12, device="cpu", dtype=torch.float32), [list(one) for one in prompts]
    with torch.no_grad():
        read_prompts(model, prompts, cache)
        for pending in ([[5], [6, 7, 8, 9]], [[10, 11, 12, 13], [14]], [[15, 16], [17]]):  # row 1 is full at the end
            logits = torch.cat(read_tokens(model, pending, NO_DRAFTS[:2], cache))
            for row in range(2):
                written[row] += pending[row]
                torch.testing.assert_close(logits[row], model(torch.tensor([written[row]]))[0, -1], atol=1e-4, rtol=0)
    assert cache.ids == written


def test_the_head_is_computed_for_one_position_a_row():
    """Guards: prompt-long logits, V numbers for each of thousands of positions."""
    model, prompts, seen = decoder(), make_prompts((30, 12)), []
    handle = model.lm_head.register_forward_hook(lambda module, inputs, output: seen.append(output.numel() // V))
    generate(model, prompts, max_new_tokens=3, stop_ids=())
    handle.remove()
    assert seen == [2, 2, 2]


@pytest.mark.parametrize("recompute", [False, True])
def test_wanted_rows_are_those_of_the_whole(recompute):
    """Guards: the last block's MLP on the wrong positions, or gradients that miss what the wanted ones attend to."""
    model, ids, rows = (
        decoder(dtype=torch.float64),
        torch.tensor(make_prompts((9,))),
        torch.tensor([0, 1, 0, 0, 1, 1, 0, 0, 1], dtype=torch.bool),
    )
    model.model.recompute = recompute
    found = []
    for hidden in (model.model(ids)[:, rows], model.model(ids, rows=rows), model.model(ids, rows=rows.nonzero()[:, 0])):
        found.append((hidden.detach(), torch.autograd.grad(hidden.square().sum(), [*model.model.parameters()])))
    for hidden, gradients in found[1:]:
        for a, b in zip((hidden, *gradients), (found[0][0], *found[0][1]), strict=True):
            torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9)


def test_dropout_is_off_while_decoding_and_the_mode_restored():
    """Guards: noise in answers made between training steps; a model left in the wrong mode, or with gradients recorded."""
    model, prompts = decoder(), make_prompts((6, 9))
    add_lora(model, rank=2, dropout=0.9)
    for name, parameter in lora_parameters(model):
        parameter.data.fill_(0.1)
    expected = [naive(model.eval(), prompt, 8)[0] for prompt in prompts]
    assert generate(model.train(), prompts, max_new_tokens=8, stop_ids=()) == expected
    assert model.training and model.model.layers[0].self_attn.q_proj.training


def test_bad_requests_are_refused_before_anything_is_computed():
    """Guards: an index error from inside the model, positions past what it was made for."""
    model = decoder()
    assert generate(model, [], max_new_tokens=5, stop_ids=()) == []
    for prompts, room, message in [
        ([[1], []], 5, "prompt 1 is empty"),
        ([[1, V]], 5, f"prompt 0 holds token ids 1 to {V}, but the model's vocabulary has {V}"),
        ([[-1]], 5, "prompt 0 holds token ids -1"),
        ([[1] * 250], 7, "prompt 0 has 250 tokens, which leaves no room for 7 new ones in the model's context of 256"),
        ([[1]], 0, "max_new_tokens = 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            greedy(model, prompts, max_new_tokens=room, stop_ids=())
    assert len(generate(model, [[1] * 250], max_new_tokens=6, stop_ids=())[0]) == 6


@pytest.fixture(params=FAMILIES)
def pair(request):
    """(transformers' model, ours) with the same weights."""
    ours = decoder(request.param)
    theirs = teacher(ours)
    theirs.generation_config.eos_token_id = None  # only the stop ids a test gives
    return theirs, ours


def teacher_answers(theirs, prompts, max_new_tokens, stop_ids):
    """transformers' greedy `generate` on a batch padded on the left, as its documentation asks."""
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


def test_tokens_equal_transformers_generate(pair):
    """Guards: any difference from the reference at batch 1 and in a ragged batch of 8, with and without stop tokens."""
    theirs, ours = pair
    prompts = make_prompts(LENGTHS)
    free = teacher_answers(theirs, prompts, 24, [])
    assert generate(ours, prompts, max_new_tokens=24, stop_ids=()) == free
    for prompt, expected in zip(prompts, free):
        assert (
            generate(ours, [prompt], max_new_tokens=24, stop_ids=())
            == [expected]
            == teacher_answers(theirs, [prompt], 24, [])
        )
    stop_ids = sorted({free[0][4], free[3][10]})
    assert generate(ours, prompts, max_new_tokens=24, stop_ids=stop_ids) == teacher_answers(
        theirs, prompts, 24, stop_ids
    )
