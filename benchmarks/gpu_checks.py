"""Part 1 of gpu.py: what only a GPU can check. Each function computes something as minscl does there, and a reference.

Run by `python -m benchmarks.gpu --parts 1` and, at toy size, by tests/test_gpu.py. A check gives a line of figures and
raises AssertionError where the two differ. On a CPU, where minscl takes other paths (attention segment by segment, no
CUDA graphs), the same functions run, so that a machine that is there for minutes is not the first to run them.

Letters: H query heads, K kv heads, D head_dim, T tokens. Read next: gpu_training.py.
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

from benchmarks.models import LLAMA_8B, SMALL, TOY, random_model
from benchmarks.report import describe_error
from benchmarks.training_runs import make_samples
from minscl.data.packing import pack
from minscl.hardware import peak_memory
from minscl.infer import cuda_graph
from minscl.infer.engine import Engine, Request
from minscl.infer.sequence import common_prefix_length
from minscl.lora import add_lora, lora_parameters
from minscl.model import SharedPrefixMask, flex, load_model, save_model
from minscl.model.ops import attention
from minscl.training.distributed import shard_blocks
from minscl.training.loop import forward_backward

# (lengths, parents) of packs (SharedPrefixMask): few tokens, one level of shared prefixes, two, and long segments. No
# block size of FlexAttention divides the lengths.
SPANS = (23, 31, 27, 19, 40, 22, 35, 29)
PACKS = (
    ((60, 23, 31), (-1, 0, 0)),
    ((60, *SPANS), (-1, *[0] * 8)),
    ((30, 41, *SPANS, 70, 700, 1403), (-1, 0, *[1] * 8, 0, 10, 10)),
    ((30, 2011, 1501), (-1, 0, 0)),
)


def relative_error(result: torch.Tensor, reference: torch.Tensor) -> float:
    """Norm of the difference over the norm of the reference, in float64."""
    return ((result.double() - reference.double()).norm() / reference.double().norm()).item()


def flex_attention_equals_the_dense_mask(device: torch.device, toy: bool) -> str:
    """Forward and backward of attention over PACKS, against dense attention in float32."""
    H, K, D = (4, 2, 16) if toy else (32, 8, 128)
    scale = 0.1 if toy else 1.0  # of the lengths
    kernel = "FlexAttention" if device.type == "cuda" else "segment by segment"
    dtype, limit = (torch.bfloat16, 2e-2) if device.type == "cuda" else (torch.float32, 1e-5)
    assert device.type != "cuda" or flex.usable(device), "FlexAttention does not run here; the log says why"
    generator = torch.Generator(device).manual_seed(0)
    errors, longest = [], 0  # errors: of the output, then of the gradients, by pack
    for lengths, parents in PACKS:
        mask = SharedPrefixMask(tuple(max(1, int(scale * length)) for length in lengths), parents)
        T = sum(mask.lengths)
        inputs = [torch.randn(1, heads, T, D, device=device, generator=generator).to(dtype) for heads in (H, K, K)]
        weight = torch.randn(1, H, T, D, device=device, generator=generator).to(dtype)  # of the output, in a scalar
        packed, dense = ([x.to(kind, copy=True).requires_grad_() for x in inputs] for kind in (dtype, torch.float32))
        output = attention(*packed, mask)
        reference = F.scaled_dot_product_attention(*dense, attn_mask=mask.dense().to(device), enable_gqa=True)
        gradients = torch.autograd.grad((output * weight).sum(), packed)
        expected = torch.autograd.grad((reference * weight.float()).sum(), dense)
        pairs = zip((output, *gradients), (reference, *expected), strict=True)
        errors.append([relative_error(result, exact) for result, exact in pairs])
        assert all(error <= limit for error in errors[-1]), f"{T} tokens: {errors[-1]}, more than {limit}"
        longest = max(longest, T)
    forward, backward = max(row[0] for row in errors), max(max(row[1:]) for row in errors)
    return (
        f"{kernel}, {len(PACKS)} packs, the longest of {longest:,} tokens, {dtype}: largest relative error "
        f"{forward:.0e} forward, {backward:.0e} backward"
    )


def cuda_graphs_equal_eager(device: torch.device, toy: bool) -> str:
    """The engine's answers with CUDA graphs against those without.

    Prompts shorter and longer than a graph's width, and more of them than slots, so that slots are reused and moved.
    """
    model, rng = random_model(TOY if toy else SMALL, device=device, std=0.1).eval(), random.Random(1)
    widths = (20, 40) if toy else (cuda_graph.WIDTH_STEP - 40, cuda_graph.WIDTH_STEP + 40)
    lengths = [rng.randint(*widths) for _ in range(5 if toy else 12)]
    prompts = [[rng.randrange(3, TOY["vocab_size"]) for _ in range(length)] for length in lengths]
    requests = [Request(prompt, rng.randint(8, 16) if toy else rng.randint(30, 90)) for prompt in prompts]
    engines = []
    for cuda_graphs in (False, device.type == "cuda"):
        length = max(map(len, prompts)) + 90
        engines.append(Engine(model, slots=4, length=length, stop_ids=(), compile="on" if cuda_graphs else "off"))
    eager, replayed = (dict(engine.run(requests)) for engine in engines)
    for number, expected in eager.items():
        answer = replayed[number]
        equal = common_prefix_length(expected.ids, answer.ids)
        assert expected.ids == answer.ids, f"prompt {number}: the tokens differ from place {equal} on"
        probabilities, reference = torch.tensor(answer.probabilities), torch.tensor(expected.probabilities)
        torch.testing.assert_close(probabilities, reference, rtol=1e-3, atol=1e-5)
    recordings = len(engines[1].graphs.graphs) if engines[1].graphs else 0
    tokens = sum(len(answer.ids) for answer in eager.values())
    return f"{len(prompts)} answers, {tokens} tokens, the same; {recordings} graphs recorded"


def weights_load_in_place(device: torch.device, toy: bool) -> str:
    """A model saved and loaded again: the same weights, and the GPU never holds more than them and one tensor."""
    model = random_model(TOY if toy else LLAMA_8B, device=device, dtype=torch.bfloat16)
    sizes = [parameter.numel() * parameter.element_size() for parameter in model.parameters()]
    saved = {name: parameter.sum(dtype=torch.float64).item() for name, parameter in model.named_parameters()}
    with tempfile.TemporaryDirectory() as folder:
        free = shutil.disk_usage(folder).free
        assert free > 1.1 * sum(sizes), f"{folder}: {free / 1e9:.0f} GB free, {sum(sizes) / 1e9:.0f} GB of weights"
        began = time.perf_counter()
        save_model(model, folder)
        seconds_to_save = time.perf_counter() - began
        del model
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        model = load_model(folder, device=device)
        peak = peak_memory(device) if device.type == "cuda" else 0  # before the sums, for which torch widens a tensor
        loaded = {name: parameter.sum(dtype=torch.float64).item() for name, parameter in model.named_parameters()}
        seconds_to_load = time.perf_counter() - began
    assert loaded == saved, "the weights differ from those saved"
    memory = "peak memory not measured on a CPU"
    if device.type == "cuda":
        limit = sum(sizes) + max(sizes) + 2**20
        assert peak <= limit, f"a peak of {peak / 1e9:.1f} GB, and the weights are {sum(sizes) / 1e9:.1f} GB"
        memory = f"peak {peak / 1e9:.2f} GB on the GPU, {peak / sum(sizes):.2f} times the weights"
    return (
        f"{sum(sizes) / 1e9:.2f} GB of weights: written in {seconds_to_save:.1f} s, loaded in {seconds_to_load:.1f} s; "
        f"{memory}"
    )


def fsdp_equals_whole_weights(device: torch.device, toy: bool) -> str:
    """Loss and LoRA gradients of one step with the blocks' weights under FSDP2, one process, against those without."""
    samples = make_samples("mix", 2, TOY["vocab_size"], shrink=8 if toy else 1)[: 3 if toy else 16]
    [step, *_] = pack(samples, pack_length=4096)
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
                for parameter in parameters:  # B is zero at first, and so is A's gradient
                    torch.nn.init.normal_(parameter, std=0.1)
                if sharded:
                    shard_blocks(model, parameters, device)
                loss = forward_backward(model.train(), step, device)
                results.append((loss, [parameter.grad for parameter in parameters]))
        finally:
            distributed.destroy_process_group()
    (loss, gradients), (sharded_loss, sharded_gradients) = results
    worst = max(relative_error(a, b) for a, b in zip(sharded_gradients, gradients, strict=True))
    figures = f"loss {loss:.4f} and {sharded_loss:.4f}, largest relative error of a gradient {worst:.0e}"
    assert abs(loss - sharded_loss) <= limit * abs(loss) and worst <= limit, figures
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
    """Run every check, whether or not the others pass; `record`: gpu.Record."""
    record.plan(["check", "result", "figures"], CHECKS)
    for name, check in CHECKS.items():
        began = time.monotonic()
        try:
            figures = check(device, record.toy)
            record.set_row(name, "passed", f"{figures}; {time.monotonic() - began:.0f} s")
        except Exception as error:  # an assertion, or whatever a GPU library raises: the next check still runs
            traceback.print_exc()
            record.set_row(name, "failed", describe_error(error))
        if device.type == "cuda":
            torch.cuda.empty_cache()
