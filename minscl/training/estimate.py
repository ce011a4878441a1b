"""Estimate of a run, printed before the weights are loaded: data, parameters, steps, time and memory.

    time    = computed tokens · (4 N + attention) operations / (matmul rate · EFFICIENCY)
    memory  = weights + 16 bytes per LoRA parameter + what autograd saves for the longest pack + one chunk of logits

N: weights of the blocks' linear layers. 4 N: 2 N for the forward pass, 2 N for the gradient of the activations;
frozen weights need no gradient of their own. `--recompute on` adds 2 N. 16 bytes: a float32 LoRA parameter, its
gradient and AdamW's two moments. Weights in int8 count a byte each, and the float copy of the largest
(frozen_int8_bytes). The longest pack is the longest that any step can have, so that no rare step of two long documents
needs more than the estimate.

Read next: memory.py, which compares it with what is free; loop.py.
"""

import functools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from minscl.config import ON, RunConfig
from minscl.data.packing import epoch_order, pack_step, shared_prefix_length
from minscl.data.sample_types import Sample
from minscl.data.samples import Tokenizer, show_sample
from minscl.errors import printable
from minscl.lora import add_lora, lora_parameters
from minscl.model import Decoder, ModelConfig
from minscl.model.config import INT8
from minscl.model.int8 import GPU_BLOCK, quantise_weights
from minscl.training.loop import LOGIT_CHUNK, count_steps

EFFICIENCY = 0.6  # share of the matmul rate that a whole step reaches on a CPU; an H200: 0.06 to 0.23 (benchmarks.md)
STEPS_PACKED = 48  # at most, to estimate the share of tokens that packing saves
PROCESS_BYTES = 350 * 2**20  # of a Python process with torch


@dataclass(frozen=True)
class Parameters:
    """Numbers of parameters: of the model without LoRA, of its blocks, of LoRA."""

    model: int
    blocks: int
    trainable: int


@dataclass(frozen=True)
class Estimate:
    """Of the whole run: counts, `seconds`, and `memory`, the peak in bytes of one process."""

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
            f"about {format_duration(self.seconds)} and {self.memory / 2**30:.1f} GiB"
        )


def format_duration(seconds: float) -> str:
    """Seconds in a readable unit: "90 s", "15 min", "3.5 h"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def estimate_run(
    model_config: ModelConfig,
    samples: Sequence[Sample],
    config: RunConfig,
    *,
    dtype: torch.dtype,
    matmul_rate: float,
    processes: int = 1,
) -> Estimate:
    """Estimate a run. `matmul_rate`: operations per second of each process, from hardware.measure_matmul_rate.

    `config.recompute` "auto" is estimated as "off"; memory.fit_to_memory decides it before.
    """
    parameters = count_parameters(model_config, config.rank)
    order = epoch_order(len(samples), config.batch_size, config.seed, 0)
    packed_steps = [
        pack_step(samples, indices, config.pack_length) for indices in order[:: math.ceil(len(order) / STEPS_PACKED)]
    ]
    tokens = config.epochs * sum(map(len, samples))
    computed_share = sum(step.computed_tokens for step in packed_steps) / sum(step.tokens for step in packed_steps)
    computed_tokens = round(tokens * computed_share)
    query_key_pairs = config.epochs * sum(len(sample) ** 2 for sample in samples) / 2
    target_tokens = config.epochs * sum(len(sample.target_ids) for sample in samples)
    passes = 3 if config.recompute == ON else 2  # of 2 operations a weight
    head_weights = model_config.vocab_size * model_config.hidden_size
    query_size = model_config.num_attention_heads * model_config.head_dim
    operations: float = passes * 2 * (parameters.blocks * computed_tokens + head_weights * target_tokens)
    operations += (passes + 1) * 4 * model_config.num_hidden_layers * query_size * query_key_pairs
    return Estimate(
        parameters=parameters.model,
        trainable=parameters.trainable,
        steps=count_steps(samples, config),
        tokens=tokens,
        computed_tokens=computed_tokens,
        seconds=operations / (matmul_rate * EFFICIENCY * processes),
        memory=estimate_memory(model_config, longest_pack(samples, config), config, dtype=dtype, processes=processes),
    )


def estimate_memory(
    model_config: ModelConfig, longest: int, config: RunConfig, *, dtype: torch.dtype, processes: int = 1
) -> int:
    """Peak memory in bytes of one process; `longest`: tokens of the longest pack."""
    parameters = count_parameters(model_config, config.rank)
    itemsize = torch.empty((), dtype=dtype).element_size()
    if INT8 in (config.weights, model_config.weights):
        held = frozen_int8_bytes(model_config, itemsize)
    else:
        held = itemsize * (parameters.blocks / (processes if config.fsdp else 1) + parameters.model - parameters.blocks)
    memory = held + 16 * parameters.trainable
    memory += longest * saved_bytes_per_token(model_config, itemsize, config.recompute == ON)
    # one chunk of logits: as computed, in float32, and the float32 softmax and its gradient
    memory += min(LOGIT_CHUNK, longest) * model_config.vocab_size * (12 + itemsize)
    return round(memory) + PROCESS_BYTES


def longest_pack(samples: Sequence[Sample], config: RunConfig) -> int:
    """Tokens that no pack of any step exceeds: those of the longest samples that a step can have, at most pack_length.

    The prefix that all samples of a kind share counts once, as packing stores it.
    """
    unshared, prefixes = [], 0
    for kind in dict.fromkeys(sample.kind for sample in samples):
        members = [sample for sample in samples if sample.kind == kind]
        prefix = shared_prefix_length(members)
        prefixes += prefix
        unshared += [len(sample) - prefix for sample in members]
    most = prefixes + sum(sorted(unshared)[-config.batch_size :])
    return max(min(most, config.pack_length), max(map(len, samples)))


@functools.lru_cache
def count_parameters(model_config: ModelConfig, rank: int) -> Parameters:
    """Built on the meta device, so that no weight but LoRA's takes memory."""
    with torch.device("meta"):
        model = Decoder(model_config)
    all_weights = sum(parameter.numel() for parameter in model.parameters())
    blocks = sum(parameter.numel() for parameter in model.model.layers.parameters())
    add_lora(model, rank)
    return Parameters(all_weights, blocks, sum(parameter.numel() for _, parameter in lora_parameters(model)))


@functools.lru_cache
def frozen_int8_bytes(model_config: ModelConfig, itemsize: int) -> int:
    """Bytes of a model with int8 projections, and of the largest float copy that one of them takes (model/int8.py).

    `itemsize`: bytes of one number of the embeddings, norms and biases.
    """
    with torch.device("meta"):
        model = Decoder(model_config)
    quantise_weights(model)
    held = itemsize * sum(parameter.numel() for parameter in model.parameters())
    matrices = [buffer for buffer in model.buffers() if buffer.dtype == torch.int8]
    copied = min(GPU_BLOCK, max(matrix.numel() for matrix in matrices))
    return held + sum(buffer.nbytes for buffer in model.buffers()) + itemsize * copied


def saved_bytes_per_token(model_config: ModelConfig, itemsize: int, recompute: bool) -> int:
    """Bytes that autograd saves for one token until the backward pass; `itemsize`: bytes of one number."""
    C, F = model_config.hidden_size, model_config.intermediate_size
    queries = model_config.num_attention_heads * model_config.head_dim
    keys = model_config.num_key_value_heads * model_config.head_dim
    norms = 2 * (4 + itemsize) * C  # the float32 copy and the result
    attention = itemsize * (3 * queries + 2 * keys)  # q, k, v, the attended values, and their transposed copy
    mlp = itemsize * 4 * F  # gate, silu(gate), up, silu(gate) · up
    block = norms + attention + mlp
    if recompute:  # every block's input, and one block in full
        return itemsize * C * model_config.num_hidden_layers + block
    return block * model_config.num_hidden_layers


def describe_data(samples: Sequence[Sample], counts: Counter[str], skipped: Iterable[str]) -> str:
    """Documents, spans by source, tokens, the longest sample, and a line for each document that was skipped."""
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in counts.items() if number)
    tokens, target_tokens = sum(map(len, samples)), sum(len(sample.target_ids) for sample in samples)
    summary = (
        f"data: {kinds}; {tokens:,} tokens, {target_tokens:,} of them trained; "
        f"the longest sample has {max(map(len, samples)):,}"
    )
    return "\n".join([summary, *(f"skipped: {printable(line)}" for line in skipped)])


def print_samples(samples: Sequence[Sample], tokenizer: Tokenizer) -> None:
    """Three samples, the shortest, the median and the longest: their text, with the trained tokens between ⟦ and ⟧."""
    by_length = sorted(samples, key=len)
    for sample in dict.fromkeys((by_length[0], by_length[len(by_length) // 2], by_length[-1])):
        print(f"--- {sample.kind or 'sample'}, {len(sample):,} tokens, {len(sample.target_ids)} trained")
        print("\n".join(map(printable, show_sample(tokenizer, sample).split("\n"))))
