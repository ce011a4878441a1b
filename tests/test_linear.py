"""Weights in oneDNN's layout: the plain model's numbers, and the plain model itself where packing is not available."""

import copy
import weakref

import pytest
import torch

from minscl.infer import linear as linear_module
from minscl.infer.decode import greedy
from minscl.lora import add_lora
from tests.tiny_models import V, decoder

AVAILABLE = (
    all(hasattr(torch.ops.mkldnn, name) for name in ("_reorder_linear_weight", "_linear_pointwise"))
    and torch.backends.mkldnn.is_available()
)


@pytest.mark.skipif(not AVAILABLE, reason="this torch has no packed linear layers")
@pytest.mark.parametrize("family", ["llama3.1", "qwen2"])  # without and with biases
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_a_packed_model_computes_the_same(family, dtype, tolerance, monkeypatch):
    """Guards: a bias left out, k's output used as v's, a layout for one batch size read with another, an embedding
    packed with the output head that it is tied to."""
    monkeypatch.setattr(linear_module, "packing_works", lambda linear: True)
    plain = decoder(family, dtype)
    model = copy.deepcopy(plain)
    assert linear_module.pack_weights(model)
    assert not any(isinstance(module, torch.nn.Linear) for module in model.modules())
    for block in model.model.layers:
        assert isinstance(block.self_attn.qkv_proj, linear_module.PackedLinear)
        assert isinstance(block.mlp.gate_up_proj, linear_module.PackedLinear)
    with torch.inference_mode():
        for tokens in (1, 3, 40):
            ids = torch.randint(V, (2, tokens), generator=torch.Generator().manual_seed(tokens))
            packed_logits, logits = model(ids).float(), plain(ids).float()
            assert (packed_logits - logits).norm() <= tolerance * logits.norm()
    if dtype == torch.float32:
        prompts = [[5, 9, 2, 7], [1, 3]]
        plain_answers, packed_answers = (
            [answer.ids for answer in greedy(m, prompts, max_new_tokens=12, stop_ids=())] for m in (plain, model)
        )
        assert plain_answers == packed_answers


@pytest.mark.parametrize("family", ["llama3.1", "qwen2", "qwen3"])  # without biases, with, with norms of each head
def test_fused_projections_compute_the_same(family):
    """Guards: projections split at the wrong sizes, a bias left out; float64 1e-12."""
    plain, ids = decoder(family, torch.float64), torch.arange(20)[None]
    fused = copy.deepcopy(plain)
    for block in fused.model.layers:
        block.self_attn.fuse_projections()
        block.mlp.fuse_projections()
        assert not hasattr(block.self_attn, "q_proj") and not hasattr(block.mlp, "up_proj")
    torch.testing.assert_close(fused(ids), plain(ids), atol=1e-12, rtol=0)


def test_projections_with_lora_are_not_fused():
    """Guards: an adapter's update lost where LoRA is not merged."""
    model, ids = decoder(), torch.arange(20)[None]
    add_lora(model, rank=2, targets=["q_proj", "gate_proj"])
    expected = model(ids)
    for block in model.model.layers:
        block.self_attn.fuse_projections()
        block.mlp.fuse_projections()
    assert torch.equal(model(ids), expected) and hasattr(model.model.layers[0].self_attn, "q_proj")


@pytest.mark.skipif(not AVAILABLE, reason="this torch has no packed linear layers")
def test_weights_are_freed_as_they_are_packed(monkeypatch):
    """Guards: twice the weights in memory until the last layer is packed."""
    monkeypatch.setattr(linear_module, "packing_works", lambda linear: True)
    model = decoder("llama3.1", torch.float32)
    weights = [weakref.ref(module.weight) for module in model.modules() if isinstance(module, torch.nn.Linear)]
    alive = []
    plain_init = linear_module.PackedLinear.__init__

    def counting_init(self, linear):
        plain_init(self, linear)
        alive.append(sum(weight() is not None for weight in weights))

    monkeypatch.setattr(linear_module.PackedLinear, "__init__", counting_init)
    assert linear_module.pack_weights(model)
    assert alive == sorted(alive, reverse=True) and alive[-1] < 4
    assert not any(weight() is not None for weight in weights)


def test_without_the_operators_the_model_stays_as_it_is(monkeypatch):
    """Guards: a crash on a torch that has renamed them, on a float64 model, on a model that is not on a CPU."""
    model = decoder("llama3.1", torch.float32)
    before = dict(model.named_modules())

    def missing(linear):
        raise AttributeError("no such operator")

    monkeypatch.setattr(linear_module, "PackedLinear", missing)
    monkeypatch.setattr(linear_module, "MIN_WEIGHTS", 0)
    assert not linear_module.pack_weights(model) and dict(model.named_modules()) == before
    monkeypatch.undo()
    monkeypatch.setattr(linear_module, "MIN_WEIGHTS", 0)
    assert not linear_module.packing_works(torch.nn.Linear(4, 4).double())
    assert not linear_module.packing_works(torch.nn.Linear(4, 4, device="meta"))


def test_an_operator_that_computes_something_else_is_not_used(monkeypatch):
    """Guards: wrong answers after an operator has changed its meaning."""

    class Wrong(torch.nn.Module):
        def __init__(self, linear):
            super().__init__()

        def forward(self, x):
            return torch.zeros(*x.shape[:-1], 64)

    monkeypatch.setattr(linear_module, "PackedLinear", Wrong)
    monkeypatch.setattr(linear_module, "MIN_WEIGHTS", 0)
    assert not linear_module.packing_works(torch.nn.Linear(32, 64))
