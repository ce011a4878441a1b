"""What a run will take, said before the weights are loaded: data, parameters, steps, time and memory; and three samples as they are trained.

    time    = computed tokens · (4 N + attention) operations / (matmul rate · EFFICIENCY)        N: weights of the blocks' linear layers
    memory  = weights + 16 bytes a LoRA parameter + what autograd keeps of the longest pack + one chunk of logits

4 N: 2 N forward and 2 N for the gradient of the activations; frozen weights need no gradient of their own. `--recompute` adds 2 N.

Read next: train.py.
"""

import math
import sys
from collections import Counter
from dataclasses import dataclass

import torch

from minscl.data.packing import epoch_order, pack_step
from minscl.data.samples import show_sample
from minscl.lora import add_lora, lora_parameters
from minscl.model import Decoder

EFFICIENCY = 0.6  # of the matmul rate that a whole step reaches; benchmarks/train.py measures it
LOOKED_AT = 48  # steps that are packed to know the share of tokens that packing saves
BARE = 350 * 2**20  # bytes of a Python process with torch


@dataclass(frozen=True)
class Forecast:
    """`memory` in bytes and of one process, `seconds` of the whole run."""

    parameters: int
    trainable: int
    steps: int
    tokens: int
    computed_tokens: int
    seconds: float
    memory: int

    def __str__(self) -> str:
        return (
            f"model: {self.parameters:,} parameters, {self.trainable:,} of them trained (LoRA)\n"
            f"run: {self.steps:,} steps, {self.tokens:,} tokens, about {self.computed_tokens:,} computed; "
            f"about {clock(self.seconds)} and {self.memory / 2**30:.1f} GB"
        )


def clock(seconds: float) -> str:
    """Seconds as a person says them."""
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


def forecast(
    shape, samples, config, *, dtype: torch.dtype, rate: float, logit_rows: int, processes: int = 1
) -> Forecast:
    """`shape`: the ModelConfig; `rate`: operations a second of each process; no weight is made (meta device) but LoRA's."""
    with torch.device("meta"):
        model = Decoder(shape)
    whole = sum(one.numel() for one in model.parameters())
    blocks = sum(one.numel() for one in model.model.layers.parameters())
    add_lora(model, config.rank, config.alpha)
    trainable = sum(one.numel() for _, one in lora_parameters(model))

    per_epoch = epoch_order(len(samples), config.batch_size, config.seed, 0)
    packed = [
        pack_step(samples, indices, config.pack_length)
        for indices in per_epoch[:: math.ceil(len(per_epoch) / LOOKED_AT)]
    ]
    tokens = config.epochs * sum(map(len, samples))
    computed = round(tokens * sum(one.computed_tokens for one in packed) / sum(one.tokens for one in packed))
    quadratic = config.epochs * sum(len(one) ** 2 for one in samples) / 2  # (query, key) pairs
    targets = config.epochs * sum(len(one.target_ids) for one in samples)
    passes = 3 if config.recompute else 2  # of 2 operations a weight
    operations = passes * 2 * (blocks * computed + shape.vocab_size * shape.hidden_size * targets)
    operations += (passes + 1) * 4 * shape.num_hidden_layers * shape.num_attention_heads * shape.head_dim * quadratic

    size = torch.empty((), dtype=dtype).element_size()
    longest = max(max(map(len, samples)), max(len(pack.input_ids) for step in packed for pack in step.packs))
    kept = blocks / (processes if config.fsdp else 1) + (whole - blocks)
    memory = size * kept + 16 * trainable + longest * kept_per_token(shape, size, config.recompute)
    memory += min(logit_rows, longest) * shape.vocab_size * (12 + size)  # logits, in float32, softmax and gradient
    return Forecast(
        whole,
        trainable,
        len(per_epoch) * config.epochs,
        tokens,
        computed,
        operations / (rate * EFFICIENCY * processes),
        round(memory) + BARE,
    )


def kept_per_token(shape, size: int, recompute: bool) -> int:
    """Bytes that autograd keeps of one token, `size` bytes a number."""
    C, F = shape.hidden_size, shape.intermediate_size
    queries, keys = (heads * shape.head_dim for heads in (shape.num_attention_heads, shape.num_key_value_heads))
    norms = 2 * (4 + size) * C  # the float32 copy and the result
    attention = size * (3 * queries + 2 * keys)  # q, k, v, the mix, and its transposed copy
    mlp = size * 4 * F  # gate, silu(gate), up, their product
    block = norms + attention + mlp
    return size * C * shape.num_hidden_layers + block if recompute else block * shape.num_hidden_layers


def describe_data(samples, counts: Counter, skipped) -> str:
    """Documents, spans by source, tokens, the longest, and what was skipped."""
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in counts.items() if number)
    total, trained = sum(map(len, samples)), sum(len(one.target_ids) for one in samples)
    lines = [
        f"data: {kinds}; {total:,} tokens, {trained:,} of them trained; the longest sample has {max(map(len, samples)):,}"
    ]
    return "\n".join(lines + [f"skipped: {line}" for line in skipped])


def show(samples, tokenizer, out=sys.stdout) -> None:
    """Three samples, shortest, middle and longest: their text, the trained tokens between ⟦ and ⟧."""
    ordered = sorted(samples, key=len)
    for one in dict.fromkeys((ordered[0], ordered[len(ordered) // 2], ordered[-1])):
        print(
            f"--- {one.kind or 'sample'}, {len(one):,} tokens, {len(one.target_ids)} trained\n{show_sample(tokenizer, one)}",
            file=out,
        )
