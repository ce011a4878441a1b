"""Attention over a forest of segments against the dense mask, and against separate sequences."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from minscl.model import SharedPrefixMask, flex
from minscl.model import shared_prefix as forest_module
from tests.tiny_models import V, decoder


@st.composite
def forests(draw):
    lengths = tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=9)))
    return SharedPrefixMask(lengths, tuple(draw(st.integers(-1, index - 1)) for index in range(len(lengths))))


@pytest.mark.parametrize("alone", [0, 4, 96])
@settings(max_examples=80, deadline=None)
@given(forest=forests(), seed=st.integers(0, 99))
def test_segment_by_segment_equals_the_dense_mask(alone, forest, seed):
    """Guards: ancestors in the wrong order or left out, padding attended to, gradients lost through the shared copy. float64, 1e-12."""
    generator = torch.Generator().manual_seed(seed)
    forest_module.ALONE = alone
    T = sum(forest.lengths)
    q, k, v = (
        torch.randn(1, heads, T, 4, dtype=torch.float64, generator=generator).requires_grad_() for heads in (4, 2, 2)
    )
    weight = torch.randn(1, 4, T, 4, dtype=torch.float64, generator=generator)
    dense = F.scaled_dot_product_attention(q, k, v, attn_mask=forest.allowed(), enable_gqa=True)
    ours = forest.attention(q, k, v)
    torch.testing.assert_close(ours, dense, atol=1e-12, rtol=0)
    for a, b in zip(
        torch.autograd.grad((ours * weight).sum(), (q, k, v)),
        torch.autograd.grad((dense * weight).sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=0)


@settings(max_examples=15, deadline=None)
@given(forest=forests(), seed=st.integers(0, 99))
def test_the_block_mask_of_the_gpu_equals_the_dense_mask(forest, seed):
    """Guards: a second definition of the mask, for FlexAttention alone. Forward, uncompiled, float32 1e-5; its backward and speed need a GPU."""
    generator, T = torch.Generator().manual_seed(seed), sum(forest.lengths)
    q, k, v = (torch.randn(1, heads, T, 16, generator=generator) for heads in (4, 2, 2))
    found = flex.attend(q, k, v, forest.blocks(q.device))
    torch.testing.assert_close(
        found, F.scaled_dot_product_attention(q, k, v, attn_mask=forest.allowed(), enable_gqa=True), atol=1e-5, rtol=0
    )
    assert not flex.usable(q.device)  # a CPU goes segment by segment


def test_a_gpu_without_a_compiler_goes_segment_by_segment(monkeypatch, capsys):
    """Guards: a training that dies on a machine without Triton."""

    def broken(*args):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(flex, "attend", broken)
    flex.usable.cache_clear()
    assert not flex.usable(torch.device("cuda")) and "segment by segment" in capsys.readouterr().err
    flex.usable.cache_clear()


@pytest.fixture(autouse=True)
def usual_threshold():
    """The tests change it to drive short forests through both ways."""
    yield
    forest_module.ALONE = 96


@settings(max_examples=60, deadline=None)
@given(forests())
def test_the_mask_is_its_definition(forest):
    """Guards: the one mask that everything else is held to: walked here token by token."""
    segment = [index for index, length in enumerate(forest.lengths) for _ in range(length)]
    for query, row in enumerate(forest.allowed().tolist()):
        for key, allowed in enumerate(row):
            above = segment[query]
            while above >= 0 and above != segment[key]:
                above = forest.parents[above]
            assert allowed == (above == segment[key] and key <= query)


@pytest.mark.parametrize("family", ["llama3.1", "qwen3", "yarn"])
def test_branches_of_one_beginning_equal_whole_sequences(family):
    """Guards: positions that do not continue after the shared beginning."""
    model = decoder(family, torch.float64)
    generator = torch.Generator().manual_seed(1)
    root, *branches = (torch.randint(V, (length,), generator=generator) for length in (11, 5, 1, 9))
    forest = SharedPrefixMask(tuple(map(len, (root, *branches))), (-1, 0, 0, 0))
    positions = torch.cat([torch.arange(11), *(11 + torch.arange(len(one)) for one in branches)])[None]
    with torch.no_grad():
        together = model.model(torch.cat((root, *branches))[None], positions=positions, mask=forest)[0].split(
            forest.lengths
        )
        for branch, found in zip(branches, together[1:], strict=True):
            torch.testing.assert_close(found, model.model(torch.cat((root, branch))[None])[0, 11:], atol=1e-9, rtol=0)
