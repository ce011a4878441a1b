"""Part 2 of gpu.py: training at Llama-3.1-8B's shape, beside transformers + PEFT.

Random weights in bfloat16, LoRA of rank 8, 16 samples a step, the same random samples for both sides: `paper`, one
document in 752 samples, which is the paper's mix (200 documents and 150,000 spans), and `documents` alone. The peer's
ways are those of train.py; each first runs on `mix` for a few steps, and the fastest then trains on `paper`. Both sides
share one copy of the frozen weights, so the peak memory of either counts them once.

Read next: training_runs.py, gpu_decoding.py.
"""

import gc
import importlib.util
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.models import LLAMA_8B, TOY, add_peft_lora, random_model, transformers_model
from benchmarks.report import describe_error
from benchmarks.training_runs import TRIAL_STEPS, make_samples, samples_per_second, train_minscl, train_peer
from minscl.hardware import measure_matmul_rate, peak_memory
from minscl.lora import add_lora

PAPER_SAMPLES, PAPER_HOURS = 150_200, 4  # of an epoch of SCL; Table 2 and the text to it: 4 hours on one H20
STEPS, TOY_STEPS = {"paper": 47, "documents": 4}, {"paper": 2, "documents": 1}  # 47 steps hold one document
TOY_SHRINK = 10  # of documents' lengths
PEER = "transformers + PEFT"
PEER_WAYS = ("packed+autocast", "grouped+autocast", "padded+autocast", "single+autocast", "packed", "single")
TOY_PEER_WAYS = ("packed", "single+autocast")
TITLES = (
    "samples, side",
    "samples/s",
    "tokens/s",
    "share of the matmul rate",
    "peak memory, GB",
    "memory estimate, GB",
    "the paper's epoch, hours",
)


def run_guarded(device: torch.device, run: Callable[[], dict]) -> tuple[dict, int]:
    """(the result of `run()`, or {"error": …} where it failed; the GPU's peak memory in bytes, 0 on a CPU)."""
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        result = run()
    except torch.OutOfMemoryError:
        result = {"error": "out of memory"}
    except Exception as error:  # whatever a library raises: the other measurements still run
        traceback.print_exc()
        result = {"error": f"failed: {describe_error(error)}"}
    return result, peak_memory(device) if device.type == "cuda" else 0


def row_cells(result: dict, peak: int, samples, part: str) -> list[str]:
    """The cells of TITLES after the first. All steps count: a run before has warmed up."""
    if "error" in result:
        return [result["error"]]
    rate = len(samples) / result["ends"][-1]  # samples a second
    tokens = sum(map(len, samples)) / len(samples)
    share = f"{result['operations'] / len(samples) * rate / result['rate']:.0%}" if "operations" in result else ""
    memory = f"{peak / 2**30:.1f}" if peak else "not measured on a CPU"
    estimate = f"{result['estimated_memory'] / 2**30:.1f}" if "estimated_memory" in result else ""
    epoch = f"{PAPER_SAMPLES / rate / 3600:.2f}" if part == "paper" else ""
    return [f"{rate:.1f}", f"{rate * tokens:,.0f}", share, memory, estimate, epoch]


def run_training(record, device: torch.device) -> None:
    """minscl with and without recomputation, then the peer; `record`: gpu.Record."""
    shape, dtype = (TOY if record.toy else LLAMA_8B), torch.bfloat16
    steps, trial_steps, shrink = (TOY_STEPS, 2, TOY_SHRINK) if record.toy else (STEPS, TRIAL_STEPS, 1)
    samples = {part: make_samples(part, number, shape["vocab_size"], shrink) for part, number in steps.items()}
    warm_up, trial = (make_samples("mix", number, shape["vocab_size"], shrink) for number in (2, trial_steps))
    jobs = {
        f"{part}, minscl{' --recompute' if recompute else ''}": (part, recompute)
        for part in STEPS
        for recompute in (False, True)
    }
    record.plan(TITLES, [*jobs, *(f"{part}, {PEER}" for part in STEPS)])
    rate = measure_matmul_rate(device, dtype, *((512, 512) if record.toy else (8192, 8192)))
    record.add_note(
        f"bfloat16 matmul: {rate / 1e12:.2f} TFLOP/s. Tokens/s count every sample as if it stood alone, on "
        f"both sides. The paper's epoch: {PAPER_SAMPLES:,} samples; its own figure: {PAPER_HOURS} h, one H20."
    )
    model = random_model(shape, device=device, dtype=dtype)
    weights = dict(model.state_dict())
    add_lora(model)

    def train(data: list, recompute: bool) -> tuple[dict, int]:
        return run_guarded(device, lambda: train_minscl(model, data, device, rate, recompute))

    for name, (part, recompute) in jobs.items():
        train(warm_up, recompute)  # compiles FlexAttention
        result, peak = train(samples[part], recompute)
        record.set_row(name, *row_cells(result, peak, samples[part], part))
        record.add_figures(name, {**result, "peak": peak})
        if "computed" in result:
            record.add_note(f"{name}: computed {result['computed']:,} of {result['tokens']:,} tokens.")
    if any(importlib.util.find_spec(name) is None for name in ("transformers", "peft", "accelerate")):
        record.add_note(f"{PEER}: not measured, transformers, peft or accelerate is missing.")
        return
    peer = add_peft_lora(transformers_model(model.config, weights, device, dtype))
    measure_peer(record, peer, samples, trial, device)


def measure_peer(record, model, samples: dict[str, list], trial: list, device: torch.device) -> None:
    """Train each of the peer's ways on `trial`, then the fastest on the same `samples` as minscl.

    Documents are taken one at a time, as 16 of them would fill the memory. The trials use half of the time left.
    """
    speeds: dict[str, float] = {}  # way → samples a second
    half = record.seconds_left() / 2
    with tempfile.TemporaryDirectory() as scratch:

        def train(data: list, way: str) -> tuple[dict, int]:
            kind, _, autocast = way.partition("+")
            return run_guarded(device, lambda: train_peer(model, data, Path(scratch), kind, bool(autocast)))

        for way in TOY_PEER_WAYS if record.toy else PEER_WAYS:
            if record.seconds_left() < half:
                break
            result, peak = train(trial, way)
            speeds[way] = samples_per_second(result["ends"], 1) if "ends" in result else 0.0
            figures = result.get("error") or f"{speeds[way]:.1f} samples/s"
            figures += f", peak {peak / 2**30:.1f} GB" if peak and "ends" in result else ""
            record.add_note(f"{PEER}, {way}, {len(trial) // 16} steps with a document in 32 samples: {figures}.")
        best = max(speeds, key=lambda way: speeds[way], default=PEER_WAYS[0])
        for part, way in (("paper", best), ("documents", best.replace(best.partition("+")[0], "single"))):
            if record.seconds_left() < 0:
                break
            name, (result, peak) = f"{part}, {PEER}", train(samples[part], way)
            record.add_figures(name, {**result, "way": way, "peak": peak})
            record.set_row(name, *row_cells(result, peak, samples[part], part))
            record.add_note(f"{name}: {way}.")
