"""How long the training of a head takes, printed before it begins.

    time = (computed tokens · 4 N + attention + 12 L T C a note) operations / (matmul rate · EFFICIENCY)

N: weights of the decoder's blocks, as in training/estimate.py, whose constants these are. L labels, T tokens of a note,
C hidden: scores and weighted states of every label are two matrix products, with gradients six of 2 L T C operations.
With --freeze the decoder reads each note once, forwards only, and each epoch gki-icd's guidance.

Read next: train.py.
"""

from collections.abc import Sequence

import torch

from minscl.config import GKI_ICD, RunConfig
from minscl.heads.windows import window_tokens
from minscl.model import Decoder, ModelConfig
from minscl.training.estimate import EFFICIENCY

GUIDANCE = (
    1.5  # with gki-icd, tokens of a note and its guidance for one of the note: 1.48 on CodiEsp and invented notes
)


def estimate_seconds(
    lengths: Sequence[int], labels: int, model_config: ModelConfig, config: RunConfig, matmul_rate: float
) -> float:
    """Seconds of all epochs. `lengths`: tokens of each note; `matmul_rate`: operations per second."""
    with torch.device("meta"):
        weights = sum(parameter.numel() for parameter in Decoder(model_config).model.layers.parameters())
    query_size = model_config.num_attention_heads * model_config.head_dim
    decoder = head = 0.0  # operations of an epoch, with gradients
    for tokens in lengths:
        computed = window_tokens(tokens, config.window)
        decoder += 4 * weights * computed
        decoder += 12 * model_config.num_hidden_layers * query_size * computed * min(config.window, tokens)
        head += 12 * labels * model_config.hidden_size * tokens
    texts = GUIDANCE if config.system == GKI_ICD else 1.0
    passes = (1 + config.epochs * (texts - 1)) / 2 if config.freeze else config.epochs * texts
    return (decoder * passes + head * config.epochs * texts) / (matmul_rate * EFFICIENCY)
