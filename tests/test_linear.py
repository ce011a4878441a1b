"""Weights in oneDNN's layout: the same numbers, and the plain model wherever that cannot be had."""

import copy
import shutil
import weakref

import pytest
import torch

from minscl.infer import linear as packed
from minscl.infer.cache import KVCache
from minscl.infer.cuda_graph import Compiled
from minscl.infer.decode import greedy
from minscl.infer.engine import prefill
from tests.tiny_models import V, decoder

CAN = (
    all(hasattr(torch.ops.mkldnn, name) for name in ("_reorder_linear_weight", "_linear_pointwise"))
    and torch.backends.mkldnn.is_available()
)


@pytest.mark.skipif(not CAN, reason="this torch has no packed linear layers")
@pytest.mark.parametrize("family", ["llama3.1", "qwen2"])  # without and with biases
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_a_packed_model_writes_the_same(family, dtype, tolerance, monkeypatch):
    """Guards: a bias left out, k's output given for v's, activations kept after a pass, a layout made for one batch size and read with another, an embedding that is packed with the head it is tied to."""
    monkeypatch.setattr(packed, "packs", lambda linear: True)
    plain = decoder(family, dtype)
    model = copy.deepcopy(plain)
    assert packed.pack_weights(model) and not any(isinstance(one, torch.nn.Linear) for one in model.modules())
    shared = [one for one in model.modules() if isinstance(one, packed.Shared)]
    assert len(shared) == 2 * model.config.num_hidden_layers  # q, k and v; gate and up
    with torch.inference_mode():
        for rows in (1, 3, 40):
            ids = torch.randint(V, (2, rows), generator=torch.Generator().manual_seed(rows))
            found, wanted = model(ids).float(), plain(ids).float()
            assert (found - wanted).norm() <= tolerance * wanted.norm()
            assert all(one.x is None and not one.outputs for one in shared)
    if dtype == torch.float32:
        prompts = [[5, 9, 2, 7], [1, 3]]
        answers = [
            [one.ids for one in greedy(each, prompts, max_new_tokens=12, stop_ids=())] for each in (plain, model)
        ]
        assert answers[0] == answers[1]


@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler")
@pytest.mark.parametrize(
    "family, dtype, tolerance",
    [
        ("llama3.1", torch.float32, 1e-5),
        ("qwen2", torch.float32, 1e-5),
        ("qwen3", torch.float32, 1e-5),
        ("llama3.1", torch.bfloat16, 2e-2),
    ],
)  # without biases, with, with norms of each head
def test_a_compiled_pass_over_rows_gives_the_same(family, dtype, tolerance):
    """Guards: a bias left out, heads of a group mixed up, a scale or a norm that the compiled sums leave out, float32 sums that end in another dtype."""
    plain, ids = decoder(family, dtype), torch.randint(V, (21,), generator=torch.Generator().manual_seed(1)).tolist()
    model = copy.deepcopy(plain)
    packed.lay_out(model, packed.RowLinear)
    assert not any(isinstance(one, torch.nn.Linear) for one in model.modules())
    with torch.inference_mode():
        wanted = plain(torch.tensor([ids])).float()[0]
        cache = KVCache(model.config, 1, 30, device="cpu", dtype=dtype)
        found = [prefill(model, {0: ids[:10]}, cache)[0]]
        one_token = Compiled(model, cache)
        found = torch.stack(found + [one_token([token])[0][0].clone() for token in ids[10:]])
    assert (found - wanted[9:]).norm() <= tolerance * wanted[9:].norm()


@pytest.mark.skipif(not CAN, reason="this torch has no packed linear layers")
def test_weights_are_given_back_as_they_are_packed(monkeypatch):
    """Guards: twice the weights in memory until the last layer is packed."""
    monkeypatch.setattr(packed, "packs", lambda linear: True)
    model = decoder("llama3.1", torch.float32)
    weights = [weakref.ref(one.weight) for one in model.modules() if isinstance(one, torch.nn.Linear)]
    alive = []
    make = packed.PackedLinear.__init__

    def counting(self, *linears):
        make(self, *linears)
        alive.append(sum(one() is not None for one in weights))

    monkeypatch.setattr(packed.PackedLinear, "__init__", counting)
    assert packed.pack_weights(model)
    assert alive == sorted(alive, reverse=True) and alive[-1] < 4 and not any(one() is not None for one in weights)


def test_without_the_operators_the_model_stays_as_it_is(monkeypatch):
    """Guards: a crash on a torch that has renamed them, on a float64 model, on one that is on no CPU."""
    model = decoder("llama3.1", torch.float32)
    before = dict(model.named_modules())

    def missing(linear):
        raise AttributeError("no such operator")

    monkeypatch.setattr(packed, "PackedLinear", missing)
    monkeypatch.setattr(packed, "SMALLEST", 0)
    assert not packed.pack_weights(model) and dict(model.named_modules()) == before
    monkeypatch.undo()
    monkeypatch.setattr(packed, "SMALLEST", 0)
    assert not packed.packs(torch.nn.Linear(4, 4).double()) and not packed.packs(torch.nn.Linear(4, 4, device="meta"))


def test_wrong_products_are_not_used(monkeypatch):
    """Guards: an operator that computes something else after a change of its meaning."""

    class Wrong(torch.nn.Module):
        def __init__(self, linear):
            super().__init__()

        def forward(self, x):
            return torch.zeros(*x.shape[:-1], 64)

    monkeypatch.setattr(packed, "PackedLinear", Wrong)
    monkeypatch.setattr(packed, "SMALLEST", 0)
    assert not packed.packs(torch.nn.Linear(32, 64))
