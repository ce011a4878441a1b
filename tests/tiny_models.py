"""Tiny random models of every supported family, the same on every machine, for the comparisons with transformers.

`decoder(family)` is minscl's model, `teacher(ours)` transformers' with the same weights (the test is skipped where the
extra is not installed), `naive` greedy decoding without a cache.
"""

import numpy as np
import pytest
import torch

from minscl.model import Decoder, ModelConfig

V = 151
LENGTHS = (5, 40, 1, 17, 64, 2, 17, 33)  # a ragged batch of 8; several run past the 32 positions of the scaled families
SIZE = dict(
    vocab_size=V,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=256,
    rms_norm_eps=1e-5,
    tie_word_embeddings=False,
)
LLAMA3 = dict(
    rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32
)
FAMILIES = {
    "llama2": dict(model_type="llama", num_key_value_heads=4),
    "llama3": dict(model_type="llama", rope_theta=500000.0),
    "llama3.1": dict(model_type="llama", rope_theta=500000.0, rope_scaling=LLAMA3),
    "llama3.2": dict(
        model_type="llama",
        rope_theta=500000.0,
        rope_scaling=LLAMA3 | {"factor": 32.0},
        tie_word_embeddings=True,
        head_dim=16,
    ),
    "llama3.3": dict(
        model_type="llama", rope_theta=500000.0, rope_scaling=LLAMA3, num_hidden_layers=3, num_key_value_heads=1
    ),
    "linear": dict(model_type="llama", rope_scaling=dict(rope_type="linear", factor=4.0)),
    "yarn": dict(
        model_type="qwen2", rope_scaling=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=32)
    ),
    "qwen2": dict(model_type="qwen2", rope_theta=1000000.0, tie_word_embeddings=True),
    "qwen2.5": dict(model_type="qwen2", rope_theta=1000000.0),
    "qwen3": dict(model_type="qwen3", rope_theta=1000000.0, head_dim=32, tie_word_embeddings=True),
}


def decoder(family="llama3.1", dtype=torch.float32) -> Decoder:
    """Random weights, far from uniform, so that answers differ and logits do not tie.

    Drawn from numpy's RandomState, whose stream is the same in every release.
    """
    model = Decoder(ModelConfig.from_dict(SIZE | FAMILIES[family])).eval()
    random = np.random.RandomState(21)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.from_numpy(random.standard_normal(tuple(parameter.shape))).float()
            parameter.copy_(1 + 0.3 * noise if parameter.ndim == 1 else 0.2 * noise)
    return model.to(dtype)


def make_prompts(lengths) -> list[list[int]]:
    """Random token ids; lengths above 32 run past the original context of the scaled families."""
    random = np.random.RandomState(8)
    return [random.randint(V, size=length).tolist() for length in lengths]


def teacher(ours: Decoder):
    """transformers' model with the weights of `ours`, in their dtype."""
    transformers = pytest.importorskip("transformers", reason="the teacher extra is not installed")
    config = transformers.AutoConfig.for_model(**ours.config.to_dict())
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    for parameter in model.parameters():  # not the buffers: from_pretrained keeps RoPE's frequencies in float32 too
        parameter.data = parameter.data.to(ours.lm_head.weight.dtype)
    model.load_state_dict(ours.state_dict())
    return model


@torch.no_grad()
def naive(model, prompt, max_new_tokens, stop_ids=()):
    """(ids, probabilities, stopped) of greedy decoding with no cache, no batch, no padding."""
    ids, probabilities = [], []
    for _ in range(max_new_tokens):
        distribution = model(torch.tensor([prompt + ids]))[0, -1].softmax(-1)
        token = int(distribution.argmax())
        if token in stop_ids:
            return ids, probabilities, True
        ids.append(token)
        probabilities.append(float(distribution[token]))
    return ids, probabilities, False
