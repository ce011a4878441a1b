"""Decoding speed against transformers, llama.cpp and OpenVINO, on the same prompts and weights, in one run.

    python -m benchmarks.decode [--peers PYTHON] [--rounds 1] [--weights float32 bfloat16 int8] [--write]

A 125 M-parameter Llama with random blocks, whose output head makes greedy decoding walk a ring through the vocabulary,
so that all sides write the same tokens (checked). Without speculation. Three jobs: `one`, a prompt of 1,500 tokens and
96 new ones; `eight` of them at once; `documents`, 32 prompts of 300 to 2,500 tokens and 64 new ones each, which
transformers takes sorted by length, in batches of 8. Sides take turns; medians. minscl's passes are compiled before.

--peers: the python of an environment with llama-cpp-python (built natively), optimum-intel, openvino and nncf; they
take part in `one` (decode_peers.py), with as many threads. int8: minscl's and OpenVINO's int8 weights per channel,
llama.cpp's q8_0.

The bandwidth limit of decoding is the memory bandwidth, measured before and after every answer of `one`, over the bytes
that a token needs: the weights, or these and its keys and values. Prefill is compared with the rate of square matmuls.

Needs the teacher extra. Read next: decoding_runs.py, decode_peers.py.
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

from benchmarks.decoding_runs import (
    lay_ring,
    measure_read_bandwidth,
    run_engine,
    run_peer,
    run_peers,
    write_peer_model,
)
from benchmarks.models import LLAMA_125M, random_model
from benchmarks.report import provenance, write_section
from minscl.hardware import choose_float32_matmul, measure_matmul_rate
from minscl.infer.cache import KVCache
from minscl.infer.compiled_step import tensors_of
from minscl.infer.engine import Engine
from minscl.infer.linear import prepare_for_inference
from minscl.model import load_model, save_model
from minscl.model.config import INT8
from study.demo_data import tokenizer_texts

TITLES = [
    "| job | weights | side | seconds | prompt tokens/s | tokens/s after the prompt "
    "| share of the bandwidth limit (lowest to highest): weights; with keys and values "
    "| prefill's share of the matmul rate | answers equal to minscl's |",
    "|-|-|-|-|-|-|-|-|-|",
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
    Job("one", 1, (1500, 1500), 96, 3),
    Job("eight", 8, (1500, 1500), 96, 1),
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
    """All sides with one kind of weights, loaded from `folder`. matmul_rate: operations a second.

    weights: float32, bfloat16, or int8, which minscl multiplies with bfloat16 activations; transformers has no such
    weights of its own on a CPU and takes no part then. peers: the python of the other peers' environment, or "".
    """

    def __init__(self, folder: Path, weights: str, matmul_rate: float, peers: str):
        import transformers

        dtype = torch.bfloat16 if weights == INT8 else getattr(torch, weights)
        choose_float32_matmul(dtype)
        self.folder, self.peers, self.weights = folder, peers, weights
        self.peer = None
        if weights != INT8:
            load = transformers.AutoModelForCausalLM.from_pretrained
            self.peer = load(folder, dtype=dtype, attn_implementation="sdpa").eval()
        self.model = load_model(folder, dtype=dtype, weights=INT8 if weights == INT8 else "")
        prepare_for_inference(self.model)
        read = [*tensors_of(self.model.model.layers).values(), *tensors_of(self.model.lm_head).values()]
        self.weight_bytes = sum(tensor.nbytes for tensor in read)
        self.block_weights = sum(tensor.numel() for tensor in read) - self.model.lm_head.weight.numel()
        self.dtype, self.matmul_rate = dtype, matmul_rate
        self.bandwidths: list[float] = []

    def sides(self, job: Job, prompts: list[list[int]]) -> dict[str, Run]:
        """Name of the side → its run of `prompts`."""
        sides: dict[str, Run] = {"minscl": partial(self.run_minscl, prompts, compile="on")}
        sides["minscl"](2)  # compiles, or loads what is compiled
        if job.name == "one":
            sides["minscl --compile off"] = partial(self.run_minscl, prompts, compile="off")
        if self.peer:
            sides["transformers"] = partial(run_peer, self.peer, prompts, batch_size=min(8, len(prompts)))
        return sides

    def run_minscl(self, prompts: list[list[int]], new_tokens: int, compile: str) -> tuple[list[list[int]], float]:
        """(answers, seconds), at most 8 at a time; the time includes a new cache's."""
        length, slots = max(map(len, prompts)) + new_tokens, min(8, len(prompts))
        engine = Engine(self.model, slots=slots, length=length, stop_ids=(), compile=compile)
        return run_engine(engine, prompts, new_tokens)

    def measure(self, job: Job, rounds: int) -> list[str]:
        """The job's rows of the table."""
        prompts = job.make_prompts()
        sides = self.sides(job, prompts)
        timings = {side: Timing() for side in sides}
        for _ in range(rounds * job.repeats):
            for side, run in sides.items():
                timings[side].measure(run, job)
        if job.name == "one" and self.peers:
            task = {"prompts": prompts, "new_tokens": job.new_tokens, "weights": self.weights}
            for name, result, bandwidths in run_peers(self.peers, self.folder, task, rounds * job.repeats):
                timings[name] = Timing(result["seconds"], result["prefill_seconds"], bandwidths, result["answers"])
        rows = []
        for side, timing in timings.items():
            self.bandwidths += timing.bandwidths
            equal = sum(a == b for a, b in zip(timing.answers, timings["minscl"].answers, strict=True))
            cells = [f"{statistics.median(timing.seconds):.2f}", *self.rates(job, prompts, timing)]
            row = [job.name, self.weights, side, *cells, f"{equal} of {len(prompts)}"]
            rows.append(f"| {' | '.join(row)} |")
            print(rows[-1], flush=True)
        return rows

    def rates(self, job: Job, prompts: list[list[int]], timing: Timing) -> tuple[str, str, str, str]:
        """Cells: tokens/s of the prompt and after it, shares of the bandwidth limit, prefill's of the matmul rate."""
        if not timing.prefill_seconds:
            return "", "", "", ""
        prefill = statistics.median(timing.prefill_seconds)
        after_prompt = len(prompts) * (job.new_tokens - 1) / (statistics.median(timing.seconds) - prefill)
        middle = len(prompts[0]) + job.new_tokens // 2  # cached tokens, on average
        with_cache = self.weight_bytes + KVCache.bytes_per_slot(self.model.config, middle, self.dtype)
        sizes = (self.weight_bytes, with_cache) if timing.bandwidths else ()
        prefill_rate = 2 * self.block_weights * sum(map(len, prompts)) / prefill  # operations a second
        return (
            f"{sum(map(len, prompts)) / prefill:.0f}",
            f"{after_prompt:.1f}",
            "; ".join(format_range(timing.bandwidth_shares(size, job)) for size in sizes),
            f"{prefill_rate / self.matmul_rate:.2f}",
        )

    def bandwidth_line(self) -> str:
        """The memory bandwidth in all measurements of job `one`."""
        median, lowest, highest = (f(self.bandwidths) / 1e9 for f in (statistics.median, min, max))
        return (
            f"{self.weights}: memory bandwidth {median:.1f} GB/s ({len(self.bandwidths)} measurements, "
            f"{lowest:.1f} to {highest:.1f})."
        )


def format_range(values: list[float]) -> str:
    """The median, and the lowest and highest in brackets."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    """Measure every job in every precision; print the table, and with --write put it into docs/benchmarks.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decode", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1, help="more measurements of each job; medians are printed")
    parser.add_argument("--weights", nargs="+", default=["float32", "bfloat16", INT8])
    parser.add_argument("--jobs", nargs="+", default=[job.name for job in JOBS])
    parser.add_argument("--peers", default="", metavar="PYTHON", help="python of the peers' environment (see above)")
    parser.add_argument(
        "--write", action="store_true", help="write a section of docs/benchmarks.md for these jobs and weights"
    )
    args = parser.parse_args()
    import transformers

    transformers.utils.logging.set_verbosity_error()
    cpu, dtypes = (
        torch.device("cpu"),
        [weights for weights in ("float32", "bfloat16") if {weights, INT8} & {*args.weights}],
    )
    matmul_rates = {dtype: measure_matmul_rate(cpu, getattr(torch, dtype)) for dtype in dtypes}
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
        texts = list(tokenizer_texts())
        for weights in args.weights:
            if args.peers:
                write_peer_model(folder, weights, texts)
            comparison = Comparison(folder, weights, max(matmul_rates.values()), args.peers)
            rows += [row for job in JOBS if job.name in args.jobs for row in comparison.measure(job, args.rounds)]
            if comparison.bandwidths:
                notes.append(f"- {comparison.bandwidth_line()}")
    print("\n".join(notes))
    if args.write:
        write_section(
            f"Decoding: {', '.join(args.jobs)}; {', '.join(args.weights)}", [head, "", *TITLES, *rows, *notes]
        )


if __name__ == "__main__":
    main()
