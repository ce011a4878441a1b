"""The decoder against transformers on tiny random models of every family: live where the teacher extra is installed,
always against committed reference logits (make_reference.py). Tolerances: float32 1e-4 absolute, bfloat16 2e-2 of the
largest logit.
"""

import dataclasses
import json
import math
import re

import pytest
import torch
from safetensors.torch import load_file

from minscl.errors import InputError
from minscl.model import Decoder, ModelConfig, SharedPrefixMask, load_model, save_model
from minscl.model.ops import apply_rope, attention, rms_norm, rope_frequencies
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
        (dict(architectures=["LlamaForSequenceClassification"]), "architecture 'LlamaForSequenceClassification'"),
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


PLACES = {
    "in rope_scaling": dict(rope_scaling={"original_max_position_embeddings": 32}),
    "beside rope_scaling": dict(rope_scaling={}, original_max_position_embeddings=32),
    "both": dict(rope_scaling={"original_max_position_embeddings": 64}, original_max_position_embeddings=32),
    "neither": dict(rope_scaling={}),
    "in rope_parameters": dict(rope_parameters={"original_max_position_embeddings": 32, "rope_theta": 5e5}),
    "beside rope_parameters": dict(rope_parameters={"rope_theta": 5e5}, original_max_position_embeddings=32),
    "in both sections": dict(
        rope_parameters={"original_max_position_embeddings": 64},
        rope_scaling={"original_max_position_embeddings": 32},
    ),
}
SCALINGS = {
    "yarn": {"rope_type": "yarn", "factor": 4.0},
    "llama3": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
}


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("place", PLACES)
def test_the_original_context_is_read_where_transformers_reads_it(place, scaling, tmp_path):
    """Guards: logits far off because the original context was taken from the wrong place."""
    transformers = pytest.importorskip("transformers", reason="the teacher extra is not installed")
    model = decoder("qwen2")
    save_model(model, tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    del settings["rope_scaling"]
    settings |= {"max_position_embeddings": 128} | PLACES[place]
    for section in ("rope_scaling", "rope_parameters"):
        if section in settings:
            settings[section] = SCALINGS[scaling] | settings[section]
    (tmp_path / "config.json").write_text(json.dumps(settings))
    ids = torch.tensor([PROMPTS[2][:100]])
    with torch.no_grad():
        expected = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)(ids).logits
        ours = load_model(tmp_path)
        torch.testing.assert_close(ours(ids), expected, atol=1e-4, rtol=0)
        save_model(ours, tmp_path)  # and what is read is also written
        assert load_model(tmp_path).config == ours.config


def test_yarn_opens_a_longer_context():
    """Guards: notes refused beyond max_position_embeddings, where Qwen's model card says 4 · 32,768 tokens."""
    card = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    base = SIZE | {"model_type": "qwen2", "max_position_embeddings": 32768}

    def context(**changes):
        return ModelConfig.from_dict(base | changes).context_length

    assert context() == 32768 and context(rope_scaling=card) == 131072
    assert context(rope_scaling=card, max_position_embeddings=40960) == 131072  # Qwen3
    assert context(rope_scaling=card, max_position_embeddings=262144) == 262144
    assert context(rope_scaling={"rope_type": "yarn", "factor": 2.0}) == 65536
    llama3 = LLAMA3 | {"original_max_position_embeddings": 8192}
    assert context(rope_scaling=llama3, max_position_embeddings=131072) == 131072
    assert context(rope_scaling={"rope_type": "linear", "factor": 4.0}) == 32768


WRONG = (
    *(None, True, False, "", "x", "1", [], [1], ["x"], {}, {"a": 1}, -1, 0, 1, 3, 1.5, 1e30, 10**30, 10**400),
    *(float("inf"), float("-inf"), float("nan"), [[[["x"]]]], "\ud800", "x" * 10**5),
)
NUMBERS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
KEYS = (
    *("model_type", "vocab_size", *NUMBERS, "head_dim", "max_position_embeddings", "rms_norm_eps", "hidden_act"),
    *("tie_word_embeddings", "attention_bias", "mlp_bias", "torch_dtype", "dtype", "architectures", "layer_types"),
    *("use_sliding_window", "sliding_window", "quantization_config", "num_experts", "partial_rotary_factor"),
    *("rope_theta", "rope_scaling", "rope_parameters", "original_max_position_embeddings"),
)
ROPE_KEYS = (
    *("rope_type", "type", "rope_theta", "factor", "low_freq_factor", "high_freq_factor", "attention_factor"),
    *("original_max_position_embeddings", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"),
    *("partial_rotary_factor", "full_attention"),
)


def builds(settings) -> bool:
    """Whether a model of these settings is refused in one line, or else computes finite frequencies."""
    try:
        config = ModelConfig.from_dict(settings, "folder/config.json")
    except InputError as error:
        assert str(error).startswith("folder/config.json: ") and "\n" not in str(error) and len(str(error)) < 400
        return False
    with torch.device("meta"):
        Decoder(config)
    frequencies, factor = rope_frequencies(config.rope, config.head_dim, config.max_position_embeddings)
    assert frequencies.isfinite().all() and math.isfinite(factor) and config.context_length >= 1
    return True


@pytest.mark.parametrize("key", KEYS)
def test_a_setting_of_another_type_or_range_is_refused_or_harmless(key):
    """Guards tracebacks from inside the decoder, and a loop without end, for any value of any key of config.json."""
    results = {repr(value)[:20]: builds(SIZE | FAMILIES["yarn"] | {key: value}) for value in WRONG}
    if key in NUMBERS:  # 3 does not divide, or is odd; null is the default of one of them
        default = {"None"} if key == "num_key_value_heads" else set()
        assert {value for value, built in results.items() if built} <= {"1", "3"} | default
        with pytest.raises(InputError, match=f"folder/config.json: {key} is an object of 1, but must be"):
            ModelConfig.from_dict(SIZE | FAMILIES["yarn"] | {key: {"a": 10**400}}, "folder/config.json")


@pytest.mark.parametrize("key", ROPE_KEYS)
@pytest.mark.parametrize("family", ["yarn", "llama3.1", "linear"])
def test_a_rope_setting_of_another_type_or_range_is_refused_or_harmless(key, family):
    """Guards a division by zero or an overflow in RoPE's frequencies, and NaN in all of them."""
    for section in ("rope_scaling", "rope_parameters"):
        for value in (*WRONG, 1e-300, 1e-5, 10**9):
            settings = SIZE | FAMILIES[family]
            rope = settings.pop("rope_scaling") | {key: value}
            builds(settings | {section: rope})


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(num_attention_heads=5), "num_attention_heads is 5, but must be a divisor of hidden_size, 64"),
        (dict(num_key_value_heads=3), "num_key_value_heads is 3, but must be a divisor of num_attention_heads, 4"),
        (dict(head_dim=15), "head_dim is 15, but must be such that head_dim, 15, is even"),
        (dict(hidden_size=60), "hidden_size is 60, but must be such that head_dim, 15, is even"),
        (dict(num_hidden_layers=10**9), "num_hidden_layers is 1000000000, but must be a whole number of at least 1"),
        (dict(vocab_size=151.0), "vocab_size is 151.0, but must be a whole number"),
        (dict(rope_scaling=False), "rope_scaling is false, but must be an object"),
        (dict(rope_scaling=LLAMA3 | {"high_freq_factor": 1.0}), "rope_scaling: high_freq_factor is 1.0"),
    ],
)
def test_sizes_that_do_not_fit_together_are_named(changes, message):
    """Guards a shape error from the first forward pass, hours of building a model that nobody has."""
    with pytest.raises(InputError, match=re.escape(f"config.json: {message}")):
        ModelConfig.from_dict(SIZE | FAMILIES["qwen2"] | changes)
