"""Attention under a SharedPrefixMask against the dense mask, and against separate sequences."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from minscl.model import SharedPrefixMask, flex, packed_attention
from minscl.model.ops import attention
from tests.tiny_models import V, decoder


@st.composite
def masks(draw):
    lengths = tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=9)))
    return SharedPrefixMask(lengths, tuple(draw(st.integers(-1, index - 1)) for index in range(len(lengths))))


@pytest.fixture(autouse=True)
def restore_threshold():
    """test_segment_by_segment_equals_the_dense_mask changes it, so that short segments go through both paths."""
    before = packed_attention.MAX_BATCHED_LENGTH
    yield
    packed_attention.MAX_BATCHED_LENGTH = before


@pytest.mark.parametrize("max_batched", [0, 4, 96])
@settings(max_examples=80, deadline=None)
@given(mask=masks(), seed=st.integers(0, 99))
def test_segment_by_segment_equals_the_dense_mask(max_batched, mask, seed):
    """Guards: ancestors in the wrong order or left out, padding attended to, gradients lost through the shared prefix.
    float64, 1e-12."""
    generator = torch.Generator().manual_seed(seed)
    packed_attention.MAX_BATCHED_LENGTH = max_batched
    T = sum(mask.lengths)
    q, k, v = (
        torch.randn(1, heads, T, 4, dtype=torch.float64, generator=generator).requires_grad_() for heads in (4, 2, 2)
    )
    weight = torch.randn(1, 4, T, 4, dtype=torch.float64, generator=generator)
    dense = F.scaled_dot_product_attention(q, k, v, attn_mask=mask.dense(), enable_gqa=True)
    ours = attention(q, k, v, mask)
    torch.testing.assert_close(ours, dense, atol=1e-12, rtol=0)
    for a, b in zip(
        torch.autograd.grad((ours * weight).sum(), (q, k, v)),
        torch.autograd.grad((dense * weight).sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=0)


def test_a_pass_without_gradients_does_not_spoil_a_later_backward():
    """Guards: an index made in inference mode, cached, and then needed by autograd for the same mask."""
    mask = SharedPrefixMask((3, 2, 2), (-1, 0, 0))
    packed_attention.sibling_batches.cache_clear()
    q, k, v = (torch.randn(1, heads, 7, 4) for heads in (4, 2, 2))
    with torch.inference_mode():
        expected = attention(q, k, v, mask)
    output = attention(q.requires_grad_(), k.requires_grad_(), v.requires_grad_(), mask)
    output.sum().backward()
    assert torch.equal(output, expected) and v.grad is not None


@settings(max_examples=15, deadline=None)
@given(mask=masks(), seed=st.integers(0, 99))
@pytest.mark.slow
def test_flex_attention_equals_the_dense_mask(mask, seed):
    """Guards: a mask_mod that FlexAttention reads differently. Forward, uncompiled, float32 1e-5; its backward and
    its speed need a GPU."""
    generator, T = torch.Generator().manual_seed(seed), sum(mask.lengths)
    q, k, v = (torch.randn(1, heads, T, 16, generator=generator) for heads in (4, 2, 2))
    output = flex.attend(q, k, v, packed_attention.block_mask(mask, q.device))
    dense = F.scaled_dot_product_attention(q, k, v, attn_mask=mask.dense(), enable_gqa=True)
    torch.testing.assert_close(output, dense, atol=1e-5, rtol=0)
    assert not flex.usable(q.device)  # a CPU goes segment by segment


@settings(max_examples=100, deadline=None)
@given(mask=masks(), size=st.integers(1, 5))
def test_blocks_are_those_of_the_dense_mask(mask, size):
    """Guards: a block with something to compute that is skipped, and a partly masked block computed without a mask."""
    T, (touched, full) = sum(mask.lengths), mask.blocks(size)
    pad = -T % size
    dense = F.pad(mask.dense(), (0, pad, 0, pad)).unfold(0, size, size).unfold(1, size, size)
    assert torch.equal(touched, dense.any(-1).any(-1))
    assert not (full & ~dense.all(-1).all(-1)).any()


def test_a_long_segment_has_blocks_without_a_mask():
    """Guards: `blocks` that finds no block to be unmasked, correct but slow."""
    touched, full = SharedPrefixMask((6, 10), (-1, 0)).blocks(2)
    assert touched.sum() == 8 * 9 / 2 and full.sum() == 8 * 7 / 2


def test_few_tokens_do_not_go_to_flex_attention(monkeypatch):
    """Guards: training that ends with a compiler's error at a step of a few short spans (seen on an H200)."""
    monkeypatch.setattr(flex, "usable", lambda device: True)
    monkeypatch.setattr(flex, "attend", lambda query, *_: torch.zeros_like(query))
    for length, uses_flex in ((20, False), (flex.FEWEST_TOKENS, True)):
        mask = SharedPrefixMask((9, length - 9), (-1, 0))
        output = attention(*(torch.ones(1, heads, length, 4) for heads in (4, 2, 2)), mask)
        assert (output == 0).all() == uses_flex


def test_a_gpu_without_a_compiler_goes_segment_by_segment(monkeypatch, capsys):
    """Guards: a training run that crashes on a machine without Triton."""

    def broken(*args):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(flex, "attend", broken)
    flex.usable.cache_clear()
    assert not flex.usable(torch.device("cuda")) and "segment by segment" in capsys.readouterr().err
    flex.usable.cache_clear()


@settings(max_examples=60, deadline=None)
@given(masks())
def test_the_dense_mask_is_its_definition(mask):
    """Guards the mask that everything else is compared with: checked here token by token, up the ancestors."""
    segment_of = [index for index, length in enumerate(mask.lengths) for _ in range(length)]
    for query, row in enumerate(mask.dense().tolist()):
        for key, allowed in enumerate(row):
            ancestor = segment_of[query]
            while ancestor >= 0 and ancestor != segment_of[key]:
                ancestor = mask.parents[ancestor]
            assert allowed == (ancestor == segment_of[key] and key <= query)


@pytest.mark.parametrize("family", ["llama3.1", "qwen3", "yarn"])
def test_branches_of_a_shared_prefix_equal_whole_sequences(family):
    """Guards: positions that do not continue after the shared prefix."""
    model = decoder(family, torch.float64)
    generator = torch.Generator().manual_seed(1)
    root, *branches = (torch.randint(V, (length,), generator=generator) for length in (11, 5, 1, 9))
    mask = SharedPrefixMask(tuple(map(len, (root, *branches))), (-1, 0, 0, 0))
    positions = torch.cat([torch.arange(11), *(11 + torch.arange(len(branch)) for branch in branches)])[None]
    with torch.no_grad():
        packed = model.model(torch.cat((root, *branches))[None], positions=positions, mask=mask)[0]
        for branch, hidden in zip(branches, packed.split(mask.lengths)[1:], strict=True):
            alone = model.model(torch.cat((root, branch))[None])[0, 11:]
            torch.testing.assert_close(hidden, alone, atol=1e-9, rtol=0)
