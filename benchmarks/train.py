"""Training speed and memory against transformers + PEFT + Trainer, on the same samples, in one run.

    python -m benchmarks.train [--rounds 3] [--dtypes float32 bfloat16] [--parts spans mix] [--write]

A 125 M-parameter Llama with random weights and LoRA of rank 8, 16 samples a step. `spans`: 512 spans that share a
60-token instruction; `mix`: 62 spans and two documents. Each measurement is a process of its own, so that its peak
memory is its own. The peer's ways, all with sdpa attention and dynamic padding: `padded`, `grouped` by length, `packed`
(DataCollatorWithFlattening: one sequence, no padding, attention inside each sample), `single` (one sample at a time,
gradients accumulated); in bfloat16 each of them also under autocast. Each way first runs for a few steps; then the
fastest two (in the mix `packed` too) and minscl take turns.

Needs the teacher extra. Read next: training_runs.py.
"""

import argparse
import json
import math
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.models import LLAMA_125M, add_peft_lora, random_model
from benchmarks.report import provenance, write_section
from benchmarks.training_runs import (
    PEER_WAYS,
    TRIAL_STEPS,
    make_samples,
    samples_per_second,
    train_minscl,
    train_peer,
)

STEPS = {"spans": 32, "mix": 4}  # optimiser steps of a measurement
WARM_UP_STEPS = {"spans": 1, "mix": 2}  # of these, not counted
TITLES = [
    "| part | precision | side | samples/s | peak memory, GB | minscl is faster by | minscl's share of its memory |",
    "|-|-|-|-|-|-|-|",
]


def measure(folder: Path, side: str, part: str, dtype: str, steps: int) -> dict:
    """Train `steps` steps in a process of its own; gives its result with "per_second" (samples) and "memory" (bytes).

    A process that ran out of memory gives 0 samples a second.
    """
    command = [sys.executable, "-m", "benchmarks.train", "--worker", side, part, dtype, str(folder), str(steps)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == -signal.SIGKILL:  # by the system, whose memory is full
        return {"per_second": 0.0, "memory": math.inf}
    if done.returncode:
        raise SystemExit(f"{side} {part} {dtype} failed:\n{done.stderr[-2000:]}")
    result = json.loads(done.stdout.splitlines()[-1])
    return {**result, "per_second": samples_per_second(result["ends"], WARM_UP_STEPS[part])}


def run_worker(side: str, part: str, dtype_name: str, folder: str, steps: str) -> None:
    """The process of one measurement; prints the result as JSON on its last line."""
    import resource

    samples, dtype = make_samples(part, int(steps)), getattr(torch, dtype_name)
    if side == "minscl":
        from minscl.hardware import choose_float32_matmul
        from minscl.lora import add_lora
        from minscl.model import load_model

        matmul_rate, _ = choose_float32_matmul(dtype)
        model = load_model(folder, dtype=dtype)
        add_lora(model)
        result = train_minscl(model, samples, torch.device("cpu"), matmul_rate)
    else:
        import transformers

        transformers.utils.logging.set_verbosity_error()
        way, _, autocast = side.partition("+")
        peer = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa")
        result = train_peer(add_peft_lora(peer), samples, Path(folder, "trainer"), way, bool(autocast))
    print(json.dumps({**result, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


def compare(folder: Path, part: str, dtype: str, rounds: int) -> list[str]:
    """The table's rows of one part in one precision, and a line on minscl's run.

    Medians of the sides that took turns; then the peer's slower ways by their trial.
    """
    ways = [*PEER_WAYS, *(f"{way}+autocast" for way in PEER_WAYS)] if dtype == "bfloat16" else list(PEER_WAYS)
    trials = {way: measure(folder, way, part, dtype, TRIAL_STEPS) for way in ways}
    ways.sort(key=lambda way: -trials[way]["per_second"])
    sides = ["minscl", *ways[:2], *(way for way in ways[2:] if (part, way) == ("mix", "packed"))]
    results: dict[str, list[dict]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            results[side].append(measure(folder, side, part, dtype, STEPS[part]))
    speed, memory = (
        {
            side: statistics.median(result[name] for result in results.get(side, [trials.get(side)]))
            for side in ("minscl", *ways)
        }
        for name in ("per_second", "memory")
    )
    rows = []
    for side in ("minscl", *sorted(ways, key=lambda way: (way not in results, -speed[way]))):
        figures = "out of memory | | |"
        if speed[side]:
            ratios = f"{speed['minscl'] / speed[side]:.2f} | {memory['minscl'] / memory[side]:.2f}"
            figures = f"{speed[side]:.2f} | {memory[side] / 2**30:.2f} | {ratios}"
        label = side if side in results else f"{side}, {TRIAL_STEPS} steps timed once"
        rows.append(f"| {part} | {dtype} | {label} | {figures} |")
    rows += ["", describe_run(results["minscl"][0], part)]
    print("\n".join(rows), flush=True)
    return rows


def describe_run(result: dict, part: str) -> str:
    """A sentence on one of minscl's runs: computed tokens, share of the matmul rate, memory estimate."""
    share = result["operations"] / result["ends"][-1] / result["rate"]
    uncounted = "two steps are" if WARM_UP_STEPS[part] == 2 else "step is"
    return (
        f"minscl computed {result['computed']:,} of {result['tokens']:,} tokens, at {share:.0%} of the matmul rate, "
        f"{result['rate'] / 1e9:.0f} GFLOP/s; its memory estimate was {result['estimated_memory'] / 2**30:.2f} GB. "
        f"{16 * STEPS[part]} samples, 16 a step; the first {uncounted} not counted."
    )


def main() -> None:
    """Measure every part in every precision; print the tables, and with --write put them into docs/benchmarks.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each side; medians are printed")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--parts", nargs="+", default=["spans", "mix"], choices=STEPS)
    parser.add_argument("--write", action="store_true", help="write the sections of docs/benchmarks.md")
    parser.add_argument("--worker", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        run_worker(*args.worker)
        return
    from minscl.model import save_model

    head = f"{provenance('transformers', 'peft')}; medians of {args.rounds} rounds"
    print("\n".join([head, *TITLES]), flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_model(random_model(LLAMA_125M), folder)
        for dtype in args.dtypes:
            for part in args.parts:
                rows = compare(folder, part, dtype, args.rounds)
                if args.write:
                    write_section(f"Training: {part}, {dtype}", [head, "", *TITLES, *rows])


if __name__ == "__main__":
    main()
