"""LoRA on a toy network, against its definition. test_peft.py compares with PEFT, test_adapter.py has the files."""

import types

import pytest
import torch
from torch import nn

from minscl.errors import InputError
from minscl.lora import TARGETS, LoRALinear, add_lora, lora_parameters, merge_lora
from minscl.model.int8 import Int8Linear
from tests.toy_lora import PROJECTIONS, inputs, toy, trained


def test_a_fresh_adapter_changes_nothing():
    """Guards: B not zero at the start."""
    model, x = toy(), inputs()
    before = model(x)
    add_lora(model, rank=3, targets=PROJECTIONS)
    assert torch.equal(model(x), before)


def test_the_update_is_its_definition():
    """Guards: a transposed A or B, scaling by rank or alpha alone, the bias scaled or lost."""
    linear = nn.Linear(6, 8)
    layer = LoRALinear(linear, 2, 5, 0.0, torch.Generator().manual_seed(0))
    layer.lora_B.data = torch.randn(8, 2)
    x = torch.randn(4, 6)
    expected = torch.zeros(4, 8)
    for n in range(4):
        for o in range(8):
            expected[n, o] = linear.bias[o]
            for i in range(6):
                update = sum(layer.lora_B[o, r] * layer.lora_A[r, i] for r in range(2))
                expected[n, o] += (linear.weight[o, i] + 5 / 2 * update) * x[n, i]
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=0)


def test_default_targets_are_the_seven_projections_of_every_block():
    """Guards: a projection left out, or the output head wrapped by default."""
    block = nn.ModuleDict({name: nn.Linear(4, 4) for name in TARGETS})
    model = nn.ModuleDict({"layers": nn.ModuleList([block]), "lm_head": nn.Linear(4, 4)})
    assert add_lora(model, rank=2) == [f"layers.0.{name}" for name in TARGETS]
    assert len(TARGETS) == 7 and isinstance(model["lm_head"], nn.Linear)


def test_only_the_adapter_is_trainable_and_float32():
    """Guards: a base weight, bias or norm that trains; an adapter in bfloat16, where small steps vanish."""
    model = toy(torch.bfloat16)
    add_lora(model, rank=2, targets=PROJECTIONS)
    trainable = {name: parameter.dtype for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trainable == {name: torch.float32 for name, _ in lora_parameters(model)} and len(trainable) == 12
    assert model(inputs(torch.bfloat16)).dtype == torch.bfloat16
    assert add_lora(double := toy(torch.float64), targets=PROJECTIONS) and {
        p.dtype for _, p in lora_parameters(double)
    } == {torch.float64}


def test_a_is_kaiming_uniform_and_depends_on_the_seed_alone():
    """Guards: a draw from the global generator, the same A in all layers, the wrong bound."""
    values = {}
    for run, seed in (("a", 4), ("b", 4), ("c", 5)):
        model = nn.ModuleList([nn.Linear(64, 8), nn.Linear(64, 8)])
        state = torch.get_rng_state()
        add_lora(model, rank=64, targets=["0", "1"], seed=seed)
        assert torch.equal(torch.get_rng_state(), state)
        values[run] = [layer.lora_A.detach() for layer in model]
    assert all(torch.equal(a, b) for a, b in zip(values["a"], values["b"], strict=True))
    assert not torch.equal(values["a"][0], values["c"][0]) and not torch.equal(values["a"][0], values["a"][1])
    bound = 1 / 64**0.5
    assert values["a"][0].abs().max() <= bound and abs(values["a"][0].std() - bound / 3**0.5) < 0.01 * bound


def test_dropout_acts_on_the_input_of_a_and_only_in_training():
    """Guards: dropout on the base path, on the update, or left on in eval mode."""
    linear = nn.Linear(1000, 2).eval()
    layer = LoRALinear(linear, 1, 1, 0.5, torch.Generator())
    layer.lora_A.data.fill_(1.0)
    layer.lora_B.data.fill_(1.0)
    x = torch.ones(1, 1000)
    assert not layer.training
    torch.manual_seed(1)
    torch.testing.assert_close(layer(x) - linear(x), torch.full((1, 2), 1000.0), atol=1e-3, rtol=0)
    update = layer.train()(x) - linear(x)  # 2 · (how many of 1000 inputs survived), the same for both outputs
    torch.testing.assert_close(update[0, 0], update[0, 1], atol=1e-3, rtol=0)
    assert 800 < update[0, 0] < 1200 and update[0, 0].round() % 2 == 0 and update[0, 0].round() != 1000


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 4e-2)])
def test_merged_equals_unmerged(dtype, tolerance):
    """Guards: a merge without scaling, or transposed. In bfloat16 only the rounding of W may differ."""
    model, x = toy(dtype), inputs(dtype)
    names = add_lora(model, rank=3, alpha=6, dropout=0.5, targets=PROJECTIONS)
    before, plain = trained(model)(x), toy(dtype)(x)
    assert (before - plain).abs().max() > 0.1  # the adapter does something
    base = [model.get_submodule(name).linear for name in names]
    assert merge_lora(model) == names
    assert [model.get_submodule(name) for name in names] == base and not lora_parameters(model)
    assert {name: p.shape for name, p in model.named_parameters()} == {
        name: p.shape for name, p in toy(dtype).named_parameters()
    }
    assert {p.dtype for p in model.parameters()} == {dtype}
    torch.testing.assert_close(model(x), before, atol=tolerance, rtol=tolerance)


def test_merge_leaves_the_loaded_tensor_alone():
    """Guards: writing into a tensor that may be the memory-mapped model file."""
    model = toy()
    add_lora(model, targets=PROJECTIONS)
    weight = model.layers[0].q_proj.linear.weight
    copy = weight.clone()
    merge_lora(trained(model))
    assert torch.equal(weight, copy) and not torch.equal(model.layers[0].q_proj.weight, copy)


def test_targets_by_full_name_pattern_and_all_linear():
    """Guards: a suffix match inside a name's component; patterns that match only part of the name."""
    assert add_lora(toy(), targets=["layers.1.q_proj"]) == ["layers.1.q_proj"]
    assert add_lora(toy(), targets=r"layers\.0\.(q|k)_proj") == ["layers.0.q_proj", "layers.0.k_proj"]
    assert add_lora(toy(), targets="all-linear") == [f"layers.{i}.{name}" for i in range(2) for name in PROJECTIONS]
    for unmatched in (["proj"], ["0.q_proj", "_proj"], "q_proj", r"q_proj.*"):
        with pytest.raises(InputError, match="matches no linear layer"):
            add_lora(toy(), targets=unmatched)


def test_bad_requests_leave_the_model_untouched():
    """Guards: a half-wrapped or half-frozen model after an error; a second add_lora that stacks adapters."""
    for arguments, message in [
        (
            {"targets": ["q_proj", "query"]},
            "'query' matches no linear layer; this model has: down_proj, k_proj, lm_head, q_proj",
        ),
        ({"targets": ["embed_tokens"]}, "embed_tokens, a Embedding"),
        ({"targets": "q_(proj"}, "not a regular expression"),
        ({"targets": []}, "matches no linear layer"),
        ({"targets": PROJECTIONS, "rank": 0}, "rank 0"),
        ({"targets": PROJECTIONS, "rank": 2.0}, "rank 2.0"),
        ({"targets": PROJECTIONS, "rank": 2 * 10**9}, "rank 2000000000: more than the layers' largest side, 8"),
        ({"targets": PROJECTIONS, "dropout": 1.0}, "dropout 1.0"),
    ]:
        model = toy()
        with pytest.raises(InputError) as error:
            add_lora(model, **arguments)
        assert message in str(error.value) and "\n" not in str(error.value)
        assert all(parameter.requires_grad for parameter in model.parameters()) and not lora_parameters(model)
    add_lora(model, targets=PROJECTIONS)
    with pytest.raises(InputError, match="already has LoRA"):
        add_lora(model, targets=["lm_head"])
    with pytest.raises(InputError, match="no LoRA layers"):
        merge_lora(toy())


def test_a_tied_weight_is_not_wrapped():
    """Guards: merging an update of the head into the embeddings that share its weight."""
    model = toy()
    model.lm_head.weight = model.embed_tokens.weight
    with pytest.raises(InputError, match="lm_head: its weight is tied"):
        add_lora(model, targets=["lm_head"])
    model = toy()
    model.lm_head = Int8Linear.from_linear(model.lm_head)
    model.config = types.SimpleNamespace(tie_word_embeddings=True)  # its head is a copy of the embeddings
    with pytest.raises(InputError, match="lm_head: its weight is tied"):
        add_lora(model, targets=["lm_head"])
