"""What only a GPU can check: each function here computes something twice, as minscl does it on a GPU and as it must
come out.

Run by `python -m benchmarks.gpu --parts 1` and, at toy size, by tests/test_gpu.py. A check gives a line of figures; it
raises AssertionError where the two differ. On a CPU, where minscl goes other ways (attention segment by segment, no
CUDA graphs), the same functions run, so that they are not run for the first time on a machine that is there for
minutes.

Letters: H query heads, K kv heads, D head_dim, T tokens. Read next: gpu.py.
"""

import random
import shutil
import tempfile
import time
import traceback
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import distributed

from benchmarks.report import reason
from benchmarks.train import make_samples, random_model
from minscl.data.packing import pack
from minscl.hardware import peak_memory
from minscl.infer import cuda_graph
from minscl.infer.engine import Engine, Request
from minscl.infer.sequence import common_prefix_length
from minscl.lora import add_lora, lora_parameters
from minscl.model import SharedPrefixMask, flex, load_model, save_model
from minscl.training.distributed import shard_blocks
from minscl.training.loop import forward_backward

LLAMA_8B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
    "torch_dtype": "bfloat16",
}
# The demo tokenizer's vocabulary, so that grounded decoding can be tried on it.
TOY = LLAMA_8B | {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 4096,
    "torch_dtype": "float32",
}
# For a GPU, where a check needs no more.
SMALL = TOY | {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4, "head_dim": 64}
# Lengths and parents of packs (SharedPrefixMask): one level of shared prefixes, two, and long segments.
SPANS = (23, 31, 27, 19, 40, 22, 35, 29)
PACKS = (
    ((60, *SPANS), (-1, *[0] * 8)),
    ((30, 41, *SPANS, 70, 700, 1403), (-1, 0, *[1] * 8, 0, 10, 10)),
    ((30, 2011, 1501), (-1, 0, 0)),
)


def relative_error(result: torch.Tensor, reference: torch.Tensor) -> float:
    return ((result.double() - reference.double()).norm() / reference.double().norm()).item()


def flex_attention_equals_the_dense_mask(device: torch.device, toy: bool) -> str:
    """Forward and backward over packs with one and two levels of shared prefixes, of lengths that no block size
    divides."""
    H, K, D = (4, 2, 16) if toy else (32, 8, 128)
    scale = 0.1 if toy else 1.0  # of the lengths
    way = "FlexAttention" if device.type == "cuda" else "segment by segment"
    dtype, limit = (torch.bfloat16, 2e-2) if device.type == "cuda" else (torch.float32, 1e-5)
    assert device.type != "cuda" or flex.usable(device), "FlexAttention does not run here; the log says why"
    generator = torch.Generator(device).manual_seed(0)
    errors, longest = [], 0
    for lengths, parents in PACKS:
        forest = SharedPrefixMask(tuple(max(1, int(scale * length)) for length in lengths), parents)
        T = sum(forest.lengths)
        inputs = [torch.randn(1, heads, T, D, device=device, generator=generator).to(dtype) for heads in (H, K, K)]
        weight = torch.randn(1, H, T, D, device=device, generator=generator).to(dtype)  # of the output, in a scalar
        ours, dense = ([x.to(kind, copy=True).requires_grad_() for x in inputs] for kind in (dtype, torch.float32))
        result = forest.attention(*ours)
        reference = F.scaled_dot_product_attention(*dense, attn_mask=forest.allowed().to(device), enable_gqa=True)
        gradients = torch.autograd.grad((result * weight).sum(), ours)
        expected = torch.autograd.grad((reference * weight.float()).sum(), dense)
        pairs = zip((result, *gradients), (reference, *expected), strict=True)
        errors.append([relative_error(a, b) for a, b in pairs])
        assert all(error <= limit for error in errors[-1]), f"{T} tokens: {errors[-1]}, more than {limit}"
        longest = max(longest, T)
    forward, backward = max(row[0] for row in errors), max(max(row[1:]) for row in errors)
    return (
        f"{way}, {len(PACKS)} packs, the longest of {longest:,} tokens, {dtype}: largest relative error "
        f"{forward:.0e} forward, {backward:.0e} backward"
    )


def cuda_graphs_equal_eager(device: torch.device, toy: bool) -> str:
    """The engine's answers with CUDA graphs and without: prompts on both sides of a graph's width, more of them than
    slots, so that slots are taken over and moved."""
    model, rng = random_model(TOY if toy else SMALL, device=device, std=0.1).eval(), random.Random(1)
    widths = (20, 40) if toy else (cuda_graph.WIDTH_STEP - 40, cuda_graph.WIDTH_STEP + 40)
    lengths = [rng.randint(*widths) for _ in range(5 if toy else 12)]
    prompts = [[rng.randrange(3, TOY["vocab_size"]) for _ in range(length)] for length in lengths]
    requests = [Request(prompt, rng.randint(8, 16) if toy else rng.randint(30, 90)) for prompt in prompts]
    answers = {}
    for graphs in (False, device.type == "cuda"):
        engine = Engine(model, slots=4, length=max(map(len, prompts)) + 90, stop_ids=(), cuda_graphs=graphs)
        answers[graphs] = dict(engine.run(requests))
    eager, recorded = answers[False], answers[device.type == "cuda"]
    for number, answer in eager.items():
        other = recorded[number]
        same = common_prefix_length(answer.ids, other.ids)
        assert answer.ids == other.ids, f"prompt {number}: the tokens differ from place {same} on"
        probabilities, expected = torch.tensor(other.probabilities), torch.tensor(answer.probabilities)
        torch.testing.assert_close(probabilities, expected, rtol=1e-3, atol=1e-5)
    recordings = len(engine.prepared.graphs) if engine.prepared else 0
    tokens = sum(len(answer.ids) for answer in eager.values())
    return f"{len(prompts)} answers, {tokens} tokens, the same; {recordings} graphs recorded"


def weights_load_in_place(device: torch.device, toy: bool) -> str:
    """Save a model and load it again: the same weights, and at no time more memory on the GPU than they and one tensor
    take."""
    model = random_model(TOY if toy else LLAMA_8B, device=device, dtype=torch.bfloat16)
    sizes = [parameter.numel() * parameter.element_size() for parameter in model.parameters()]
    before = {name: parameter.sum(dtype=torch.float64).item() for name, parameter in model.named_parameters()}
    with tempfile.TemporaryDirectory() as folder:
        free = shutil.disk_usage(folder).free
        assert free > 1.1 * sum(sizes), f"{folder}: {free / 1e9:.0f} GB free, {sum(sizes) / 1e9:.0f} GB of weights"
        began = time.perf_counter()
        save_model(model, folder)
        written = time.perf_counter() - began
        del model
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        model = load_model(folder, device=device)
        after = {name: parameter.sum(dtype=torch.float64).item() for name, parameter in model.named_parameters()}
        took = time.perf_counter() - began
    assert after == before, "the weights differ from those saved"
    memory = "peak memory not measured on a CPU"
    if device.type == "cuda":
        limit, peak = sum(sizes) + max(sizes) + 2**28, peak_memory(device)  # 2**28: the sums' own
        assert peak <= limit, f"a peak of {peak / 1e9:.1f} GB, and the weights are {sum(sizes) / 1e9:.1f} GB"
        memory = f"peak {peak / 1e9:.2f} GB on the GPU, {peak / sum(sizes):.2f} times the weights"
    return f"{sum(sizes) / 1e9:.2f} GB of weights: written in {written:.1f} s, loaded in {took:.1f} s; {memory}"


def fsdp_equals_whole_weights(device: torch.device, toy: bool) -> str:
    """Loss and LoRA gradients of one step with the blocks' weights in FSDP2's hands, one process, and without."""
    [step, *_] = pack(make_samples("mix", 2, TOY["vocab_size"])[: 3 if toy else 16], pack_length=4096)
    dtype, limit = (torch.bfloat16, 1e-2) if device.type == "cuda" else (torch.float32, 1e-4)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        distributed.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            rank=0,
            world_size=1,
            init_method=f"file://{Path(folder).resolve()}/store",
        )
        try:
            for sharded in (False, True):
                model = random_model(TOY if toy else SMALL, device=device, dtype=dtype, std=0.1)
                add_lora(model)
                parameters = [parameter for _, parameter in lora_parameters(model)]
                for parameter in parameters:  # B is zero at first, and A's gradient with it
                    torch.nn.init.normal_(parameter, std=0.1)
                if sharded:
                    shard_blocks(model, parameters, device)
                loss = forward_backward(model.train(), step, device)
                results.append((loss, [parameter.grad for parameter in parameters]))
        finally:
            distributed.destroy_process_group()
    (loss, gradients), (loss_sharded, gradients_sharded) = results
    worst = max(relative_error(a, b) for a, b in zip(gradients_sharded, gradients, strict=True))
    figures = f"loss {loss:.4f} and {loss_sharded:.4f}, largest relative error of a gradient {worst:.0e}"
    assert abs(loss - loss_sharded) <= limit * abs(loss) and worst <= limit, figures
    return f"one step of {len(step.sample_indices)} samples: {figures}"


CHECKS = {
    check.__name__.replace("_", " "): check
    for check in (
        flex_attention_equals_the_dense_mask,
        cuda_graphs_equal_eager,
        fsdp_equals_whole_weights,
        weights_load_in_place,
    )
}


def run_checks(record, device: torch.device) -> None:
    """Part 1 of gpu.py: every check, whatever the others say."""
    record.plan(["check", "result", "figures"], CHECKS)
    for name, check in CHECKS.items():
        began = time.monotonic()
        try:
            figures = check(device, record.toy)
            record.row(name, "passed", f"{figures}; {time.monotonic() - began:.0f} s")
        except Exception as error:  # an assertion, or whatever a GPU library raises: the next check still runs
            traceback.print_exc()
            record.row(name, "failed", reason(error))
        if device.type == "cuda":
            torch.cuda.empty_cache()
