"""Decoding speed against transformers' `generate`, on the same prompts and weights, in one run.

    python -m benchmarks.decode [--rounds 1] [--dtypes float32 bfloat16] [--write]

A 125 M-parameter Llama with random blocks, whose output head makes greedy decoding walk a ring through the vocabulary,
so that both sides write the same tokens (checked). Without speculation. Three jobs: `one`, a prompt of 1,500 tokens and
128 new ones, by transformers also compiled; `eight` of them at once; `documents`, 32 prompts of 300 to 2,500 tokens and
64 new ones each, which the peer takes sorted by length, in batches of 8 or one by one, whichever is faster. Sides take
turns in one process; medians.

The bandwidth limit of decoding is the memory bandwidth, measured before and after every answer of `one`, over the bytes
that a token needs: the weights, or these and its keys and values. Prefill is compared with the rate of square matmuls.

Needs the teacher extra. Read next: decoding_runs.py.
"""

import argparse
import random
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from benchmarks.decoding_runs import lay_ring, measure_read_bandwidth, run_engine, run_peer, time_grounding
from benchmarks.models import LLAMA_125M, random_model
from benchmarks.report import provenance, write_section
from minscl.hardware import choose_float32_matmul, measure_matmul_rate
from minscl.infer.cache import KVCache
from minscl.infer.engine import Engine
from minscl.infer.linear import prepare_for_inference
from minscl.model import load_model, load_tokenizer, save_model
from study.corpus import invented
from study.demo_data import tokenizer_texts
from study.tokenizer import train_tokenizer

TITLES = [
    "| job | precision | side | seconds | tokens/s after the prompt "
    "| share of the bandwidth limit (lowest to highest): weights; with keys and values "
    "| prefill's share of the matmul rate | answers equal to minscl's |",
    "|-|-|-|-|-|-|-|-|",
]


@dataclass(frozen=True)
class Job:
    """`prompts` of `prompt_tokens` (lowest, highest), answers of `new_tokens`; measured `repeats` times a round."""

    name: str
    prompts: int
    prompt_tokens: tuple[int, int]
    new_tokens: int
    repeats: int  # short jobs more often

    def make_prompts(self) -> list[list[int]]:
        """Random tokens, the same every time."""
        rng = random.Random(0)
        lengths = [rng.randint(*self.prompt_tokens) for _ in range(self.prompts)]
        return [[rng.randrange(3, LLAMA_125M["vocab_size"]) for _ in range(length)] for length in lengths]


JOBS = (
    Job("one", 1, (1500, 1500), 128, 9),
    Job("eight", 8, (1500, 1500), 128, 3),
    Job("documents", 32, (300, 2500), 64, 1),
)
Run = Callable[[int], tuple[list[list[int]], float]]  # new tokens → (answers, seconds)


@dataclass
class Timing:
    """One side's measurements of a job. seconds: whole answers; prefill_seconds: with one new token ([]: not measured).

    bandwidths: memory bandwidth around each answer, bytes a second ([]: not measured).
    """

    seconds: list[float] = field(default_factory=list)
    prefill_seconds: list[float] = field(default_factory=list)
    bandwidths: list[float] = field(default_factory=list)
    answers: list[list[int]] = field(default_factory=list)

    def measure(self, run: Run, job: Job) -> None:
        """Run the job once."""
        rates = measure_read_bandwidth() if job.name == "one" else []
        if job.name != "documents":
            self.prefill_seconds.append(run(1)[1])
        self.answers, seconds = run(job.new_tokens)
        self.seconds.append(seconds)
        if job.name == "one":
            self.bandwidths.append(statistics.median(rates + measure_read_bandwidth()))

    def bandwidth_shares(self, bytes_per_token: int, job: Job) -> list[float]:
        """Of each answer: the time that reading `bytes_per_token` takes over the time that a token took."""
        return [
            bytes_per_token * (job.new_tokens - 1) / (whole - prefill) / bandwidth
            for whole, prefill, bandwidth in zip(self.seconds, self.prefill_seconds, self.bandwidths, strict=True)
        ]


class Comparison:
    """Both sides in one precision, their weights loaded from `folder`. matmul_rate: operations a second."""

    def __init__(self, folder: Path, dtype_name: str, matmul_rate: float):
        import transformers

        dtype = getattr(torch, dtype_name)
        choose_float32_matmul(dtype)
        self.peer = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa")
        self.peer.eval()
        self.model = load_model(folder, dtype=dtype)
        weights = sum(parameter.numel() for name, parameter in self.model.named_parameters() if "embed" not in name)
        self.block_weights = weights - self.model.lm_head.weight.numel()
        self.weight_bytes = weights * dtype.itemsize
        prepare_for_inference(self.model)
        self.dtype, self.dtype_name, self.matmul_rate = dtype, dtype_name, matmul_rate
        self.bandwidths: list[float] = []

    def sides(self, job: Job, prompts: list[list[int]]) -> dict[str, Run]:
        """Name of the side → its run of `prompts`."""
        sides: dict[str, Run] = {
            "minscl": partial(self.run_minscl, prompts),
            "transformers": partial(run_peer, self.peer, prompts, batch_size=min(8, len(prompts))),
        }
        if job.name == "one":
            compiled = {"cache_implementation": "static", "compile_config": compile_on_cpu()}
            sides["transformers, compiled"] = partial(run_peer, self.peer, prompts, batch_size=1, **compiled)
            sides["transformers, compiled"](2)  # compiles
        if job.name == "documents":
            sides["transformers, one by one"] = partial(run_peer, self.peer, prompts, batch_size=1)
        return sides

    def run_minscl(self, prompts: list[list[int]], new_tokens: int) -> tuple[list[list[int]], float]:
        """(answers, seconds), at most 8 at a time; the time includes a new cache's."""
        length = max(map(len, prompts)) + new_tokens
        return run_engine(
            Engine(self.model, slots=min(8, len(prompts)), length=length, stop_ids=()), prompts, new_tokens
        )

    def measure(self, job: Job, rounds: int) -> list[str]:
        """The job's rows of the table."""
        prompts = job.make_prompts()
        sides = self.sides(job, prompts)
        timings = {side: Timing() for side in sides}
        for _ in range(rounds * job.repeats):
            for side, run in sides.items():
                timings[side].measure(run, job)
        rows = []
        for side, timing in timings.items():
            self.bandwidths += timing.bandwidths
            equal = sum(a == b for a, b in zip(timing.answers, timings["minscl"].answers, strict=True))
            cells = [f"{statistics.median(timing.seconds):.2f}", *self.rates(job, prompts, timing)]
            row = [job.name, self.dtype_name, side, *cells, f"{equal} of {len(prompts)}"]
            rows.append(f"| {' | '.join(row)} |")
            print(rows[-1], flush=True)
        return rows

    def rates(self, job: Job, prompts: list[list[int]], timing: Timing) -> tuple[str, str, str]:
        """Cells: tokens/s after the prompt, shares of the bandwidth limit, prefill's share of the matmul rate."""
        if not timing.prefill_seconds:
            return "", "", ""
        prefill = statistics.median(timing.prefill_seconds)
        after_prompt = len(prompts) * (job.new_tokens - 1) / (statistics.median(timing.seconds) - prefill)
        middle = len(prompts[0]) + job.new_tokens // 2  # cached tokens, on average
        with_cache = self.weight_bytes + KVCache.bytes_per_slot(self.model.config, middle, self.dtype)
        sizes = (self.weight_bytes, with_cache) if timing.bandwidths else ()
        prefill_rate = 2 * self.block_weights * sum(map(len, prompts)) / prefill  # operations a second
        return (
            f"{after_prompt:.1f}",
            "; ".join(format_range(timing.bandwidth_shares(size, job)) for size in sizes),
            f"{prefill_rate / self.matmul_rate:.2f}",
        )

    def bandwidth_line(self) -> str:
        """The memory bandwidth in all measurements of job `one`."""
        median, lowest, highest = (f(self.bandwidths) / 1e9 for f in (statistics.median, min, max))
        return (
            f"{self.dtype_name}: memory bandwidth {median:.1f} GB/s ({len(self.bandwidths)} measurements, "
            f"{lowest:.1f} to {highest:.1f})."
        )


def format_range(values: list[float]) -> str:
    """The median, and the lowest and highest in brackets."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def compile_on_cpu():
    """Settings with which transformers compiles on a CPU too; by default it does so on GPUs only."""
    from transformers.generation.configuration_utils import CompileConfig

    config = CompileConfig()
    config._compile_all_devices = True
    return config


def grounded_line(folder: Path, dtype_name: str, rounds: int) -> str:
    """Grounded decoding in one precision, with a tokenizer that is trained once and stored in `folder`."""
    if not (folder / "tokenizer.json").exists():
        train_tokenizer(tokenizer_texts(), folder, LLAMA_125M["vocab_size"])
    model = load_model(folder, dtype=getattr(torch, dtype_name))
    prepare_for_inference(model)
    return f"{dtype_name}: {time_grounding(model, load_tokenizer(folder), invented('test')[0].text, 3 * rounds)}"


def main() -> None:
    """Measure every job in every precision; print the table, and with --write put it into docs/benchmarks.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decode", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1, help="more measurements of each job; medians are printed")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--write", action="store_true", help="write the section of docs/benchmarks.md")
    args = parser.parse_args()
    import transformers

    transformers.utils.logging.set_verbosity_error()
    matmul_rates = {dtype: measure_matmul_rate(torch.device("cpu"), getattr(torch, dtype)) for dtype in args.dtypes}
    rates = " and ".join(f"{rate / 1e9:.0f} ({dtype})" for dtype, rate in matmul_rates.items())
    repeats = ", ".join(f"{args.rounds * job.repeats} ({job.name})" for job in JOBS)
    head = f"{provenance('transformers')}; medians of {repeats}. Matmul rate {rates} GFLOP/s."
    print("\n".join([head, *TITLES]), flush=True)
    rows, notes = [], [""]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = random_model(LLAMA_125M)
        lay_ring(model)
        save_model(model, folder)
        for dtype in args.dtypes:
            comparison = Comparison(folder, dtype, matmul_rates[dtype])
            rows += [row for job in JOBS for row in comparison.measure(job, args.rounds)]
            notes.append(f"- {comparison.bandwidth_line()}")
        notes += ["", f"Grounded decoding on the same model, vocabulary of {LLAMA_125M['vocab_size']:,} tokens:", ""]
        notes += [f"- {grounded_line(folder, dtype, args.rounds)}" for dtype in args.dtypes]
    print("\n".join(notes))
    if args.write:
        write_section("Decoding", [head, "", *TITLES, *rows, *notes])


if __name__ == "__main__":
    main()
