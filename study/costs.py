"""What a row of the study cost: seconds, tokens and FLOPs of its training, from the records that the steps left.

FLOPs are counted as (4 · base + 6 · adapter) · computed tokens, in parameters of matrices: 2 forward for every
parameter, 2 backward for the gradients of the states, 2 more for the gradients of the parameters that are trained.
Attention's scores (a few per cent at these lengths) are not counted; neither is the base's own pretraining, the same
for every row of a size.

Read next: tables.py, figures.py.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open

from study.card import block_parameters, read_metrics
from study.steps import seconds_file, seconds_of


@dataclass(frozen=True)
class Cost:
    """Of one adapter's training: wall-clock `seconds` over all tries, `tokens` as packed, `flops` as above."""

    seconds: float
    tokens: int
    flops: float


def training_cost(base: Path, adapter: Path) -> Cost:
    """The cost of `adapter`, a run folder of minscl.train on the model folder `base`."""
    config = json.loads((base / "config.json").read_text())
    matrices = config["num_hidden_layers"] * block_parameters(config) + config["vocab_size"] * config["hidden_size"]
    with safe_open(adapter / "adapter_model.safetensors", "pt") as tensors:
        trained = sum(tensors.get_slice(name).get_shape()[0] * tensors.get_slice(name).get_shape()[1]
                      for name in tensors.keys())  # fmt: skip  # noqa: SIM118
    steps = read_metrics(adapter)
    computed = sum(step["computed_tokens"] for step in steps)
    return Cost(
        seconds_of(seconds_file(adapter / "adapter_model.safetensors")),
        sum(step["tokens"] for step in steps),
        (4.0 * matrices + 6.0 * trained) * computed,
    )
