"""The decoder against transformers on tiny random models of every family: live where the teacher extra is installed,
always against committed reference logits (make_reference.py). Tolerances: float32 1e-4 absolute, bfloat16 2e-2 of the
largest logit.
"""

import dataclasses

import pytest
import torch
from safetensors.torch import load_file

from minscl.errors import InputError
from minscl.model import ModelConfig, SharedPrefixMask
from minscl.model.ops import apply_rope, attention, rms_norm
from tests.make_reference import FOLDER, LENGTH
from tests.tiny_models import FAMILIES, LLAMA3, SIZE, decoder, make_prompts, teacher

PROMPTS = make_prompts((LENGTH, 7, 200, 33))


@torch.no_grad()
def logits(model, ids):
    """(T, V) for a list of ids."""
    return model(torch.tensor([ids]))[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_equal_the_committed_reference(family):
    """Guards: a change in the arithmetic that an install without transformers would not notice."""
    reference = load_file(FOLDER / f"{family}.safetensors")["logits"]
    ours = logits(decoder(family), PROMPTS[0])
    torch.testing.assert_close(ours, reference, atol=1e-4, rtol=0)
    assert torch.equal(ours.argmax(-1), reference.argmax(-1))


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_equal_transformers_at_every_position(family):
    """Guards: any difference in norm, RoPE, attention or MLP, also far beyond the original context (200 over 32)."""
    ours = decoder(family)
    theirs = teacher(ours)
    for ids in PROMPTS:
        with torch.no_grad():
            expected = theirs(torch.tensor([ids])).logits[0]
        actual = logits(ours, ids)
        torch.testing.assert_close(actual, expected, atol=1e-4, rtol=0)
        assert torch.equal(actual.argmax(-1), expected.argmax(-1))


@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_stays_close_to_transformers(family):
    """Guards: a cast in another place than transformers' (RoPE's angles, the norm, the logits)."""
    ours = decoder(family, torch.bfloat16)
    with torch.no_grad():
        expected = teacher(ours)(torch.tensor([PROMPTS[0]])).logits[0].float()
    assert ((logits(ours, PROMPTS[0]) - expected).abs().max() / expected.abs().max()).item() <= 2e-2


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_equal_transformers(family):
    """Guards: an operation with a right forward and a wrong backward (in-place, detached, wrong reduction)."""
    ours = decoder(family)
    theirs = teacher(ours)
    ids = torch.tensor([PROMPTS[0]])
    ours(ids).logsumexp(-1).mean().backward()
    theirs(ids).logits.logsumexp(-1).mean().backward()
    expected = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        assert torch.allclose(parameter.grad, expected[name], atol=1e-5, rtol=1e-4), name


def test_a_ragged_batch_equals_rows_alone():
    """Guards: rows of a padded batch that see one another or their padding."""
    model = decoder("llama3.1")
    longest = max(map(len, PROMPTS))
    padded = torch.tensor([ids + [0] * (longest - len(ids)) for ids in PROMPTS])
    with torch.no_grad():
        together = model(padded)
    for row, ids in zip(together, PROMPTS, strict=True):
        torch.testing.assert_close(row[: len(ids)], logits(model, ids), atol=1e-4, rtol=0)


def test_packed_samples_equal_samples_alone():
    """Guards: attention across the border of two packed samples, positions that continue across it."""
    model = decoder("qwen3")
    packed = torch.tensor([sum(PROMPTS, [])])
    positions = torch.cat([torch.arange(len(ids)) for ids in PROMPTS])[None]
    mask = SharedPrefixMask(tuple(map(len, PROMPTS)), (-1,) * len(PROMPTS))
    with torch.no_grad():
        together = model(packed, positions=positions, mask=mask)[0]
    for part, ids in zip(together.split([len(ids) for ids in PROMPTS]), PROMPTS, strict=True):
        torch.testing.assert_close(part, logits(model, ids), atol=1e-4, rtol=0)


def test_attention_equals_its_definition():
    """Guards: query heads with the wrong key/value head, an inverted mask, a missing 1/sqrt(D)."""
    B, H, K, T, D = 2, 6, 2, 5, 8
    query, key, value = torch.randn(B, H, T, D), torch.randn(B, K, T, D), torch.randn(B, K, T, D)
    mask = torch.rand(B, 1, T, T) < 0.6
    mask |= torch.eye(T, dtype=torch.bool)
    expected = torch.zeros(B, H, T, D)
    for b in range(B):
        for h in range(H):
            for t in range(T):
                weights = torch.stack([query[b, h, t] @ key[b, h // (H // K), s] / D**0.5 for s in range(T)])
                weights = weights.masked_fill(~mask[b, 0, t], float("-inf")).softmax(-1)
                expected[b, h, t] = weights @ value[b, h // (H // K)]
    torch.testing.assert_close(attention(query, key, value, mask), expected)


def test_rope_keeps_lengths_and_depends_on_distance():
    """Guards: interleaved pairs instead of halves, an angle that is not linear in the position."""
    x, y = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def at(vector, position):
        angle = position * torch.tensor([-1.0, -0.3, -0.1, -0.03, 1.0, 0.3, 0.1, 0.03])
        return apply_rope(vector, angle.cos().view(1, 1, 1, 8), angle.sin().view(1, 1, 1, 8))

    torch.testing.assert_close(at(x, 7).norm(), x.norm())
    torch.testing.assert_close((at(x, 9) * at(y, 5)).sum(), (at(x, 104) * at(y, 100)).sum(), atol=1e-4, rtol=1e-4)


def test_rms_norm_is_scale_free():
    """Guards: a mean subtracted as in LayerNorm, epsilon outside the root."""
    x = torch.randn(3, 16)
    torch.testing.assert_close(rms_norm(5 * x, torch.ones(16), 0.0), x / x.pow(2).mean(-1, keepdim=True).sqrt())


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(model_type="mixtral"), "model_type 'mixtral' is not supported; supported: llama, qwen2, qwen3"),
        (dict(architectures=["LlamaForSequenceClassification"]), "architecture LlamaForSequenceClassification"),
        (dict(hidden_act="gelu"), "hidden_act 'gelu'"),
        (dict(quantization_config={"bits": 4}), "quantization_config"),
        (dict(use_sliding_window=True, sliding_window=128), "sliding-window attention is in use"),
        (dict(layer_types=["full_attention", "sliding_attention"]), "sliding-window attention is in use"),
        (dict(num_experts=8), "mixture of experts"),
        (dict(rope_scaling={"rope_type": "llama3", "factor": 8.0}), "rope type 'llama3' needs low_freq_factor"),
        (dict(rope_scaling={"rope_type": "linear"}), "rope type 'linear' needs factor"),
        (
            dict(rope_scaling={"rope_type": "longrope", "factor": 4.0}),
            "rope type 'longrope' is not supported; supported: default, linear, llama3, yarn",
        ),
        (dict(rope_scaling={"rope_type": "linear", "factor": 2.0, "mystery": 1}), "rope setting 'mystery'"),
        (dict(hidden_size=None), "hidden_size"),
    ],
)
def test_unsupported_settings_are_refused_by_name(changes, message):
    """Guards: a model that loads and computes something else."""
    config = SIZE | FAMILIES["qwen2"] | changes
    if changes.get("hidden_size", 0) is None:
        del config["hidden_size"]
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        ModelConfig.from_dict(config, "folder/config.json")


def test_both_spellings_of_rope_give_the_same_config():
    """Guards: `rope_parameters` of newer transformers ignored, so that a model runs with RoPE's defaults."""
    old = ModelConfig.from_dict(SIZE | dict(model_type="llama", rope_theta=5e5, rope_scaling=LLAMA3))
    new = ModelConfig.from_dict(SIZE | dict(model_type="llama", rope_parameters=LLAMA3 | {"rope_theta": 5e5}))
    older = ModelConfig.from_dict(
        SIZE | dict(model_type="llama", rope_theta=5e5, rope_scaling={"type": "linear", "factor": 2.0})
    )
    assert old == new and old.rope.rope_theta == 5e5 and older.rope.rope_type == "linear"
    assert ModelConfig.from_dict(old.to_dict()) == dataclasses.replace(old)
