"""Part 3 of gpu.py: decoding at Llama-3.1-8B's shape beside transformers' `generate`, on the same weights and prompts.

1, 8 and 64 prompts of 1,500 random tokens, 128 new tokens each, bfloat16, no speculation: minscl's engine with CUDA
graphs and without, and transformers with its dynamic cache and, where there is time to compile, its static one. The
output head walks a ring (decode.py), so that answers can be compared. A run with one new token gives the prompts' time,
the difference to a run with all the time after the prompt; each run has prompts of its own, so that nothing is shared
with the one before; medians. What a pass must read (the weights, or these and the keys and values) over the memory
bandwidth that was measured here is the limit that the shares refer to. Then grounded decoding, one answer.

Read next: decode.py.
"""

import gc
import importlib.util
import random
import statistics
import tempfile
import time
import traceback

import torch

from benchmarks.decode import grounding, lay_ring, read_bandwidth, run_engine, theirs
from benchmarks.gpu_checks import LLAMA_8B, TOY
from benchmarks.gpu_training import peer_model
from benchmarks.report import reason
from benchmarks.train import random_model
from minscl.config import DEMO
from minscl.hardware import measure_matmul_rate
from minscl.infer.cache import KVCache
from minscl.infer.engine import Engine
from minscl.model import load_tokenizer
from study.build_demo import texts
from study.codes import codebook
from study.tokenizer import train_tokenizer

# Prompts at once, tokens of each, new tokens, measurements.
SIZES, TOY_SIZES = ((1, 8, 64), 1500, 128, 2), ((1, 2), 20, 4, 1)
VOCABULARY = 32_000  # tokens, with which grounding is timed
STD = 0.01  # of the blocks' weights: at this width the ring keeps its margin
SIDES = ("minscl, CUDA graphs", "minscl", "transformers", "transformers, static cache")
TITLES = (
    "prompts at once, side",
    "tokens/s after the prompt",
    "ms a pass",
    "share of the bandwidth limit: weights; with keys and values",
    "prompt tokens/s",
    "prompt's share of the matmul rate",
    "answers equal to minscl's",
)


class Decoding:
    """What the measurements have in common: the model, what the machine can do, and minscl's answers."""

    def __init__(self, record, device: torch.device):
        self.record, self.device, dtype = record, device, torch.bfloat16
        self.batches, self.prompt, self.new, self.times = TOY_SIZES if record.toy else SIZES
        self.model = random_model(TOY if record.toy else LLAMA_8B, device=device, dtype=dtype, std=STD)
        self.model.eval().requires_grad_(False)
        lay_ring(self.model)
        numbers = {name: parameter.numel() for name, parameter in self.model.named_parameters() if "embed" not in name}
        self.weight_bytes = sum(numbers.values()) * dtype.itemsize
        self.below_head = sum(numbers.values()) - numbers["lm_head.weight"]
        self.cache_bytes = KVCache.bytes_per_slot(self.model.config, self.prompt + self.new // 2, dtype)  # of a prompt
        self.bandwidth = memory_bandwidth(device, 2**22 if record.toy else 2**31)
        self.products = measure_matmul_rate(device, dtype, *((512, 512) if record.toy else (8192, 8192)))
        self.answers: dict[int, list] = {}

    def prompts(self, batch: int, seed: str) -> list[list[int]]:
        rng = random.Random(f"{batch}-{seed}")
        return [[rng.randrange(3, self.model.config.vocab_size) for _ in range(self.prompt)] for _ in range(batch)]

    def measure(self, batch: int, side: str, run) -> None:
        """One row. `run(prompts, new tokens)` gives (answers, seconds)."""
        if self.record.left() < 0:
            return None
        alone, whole = [], []
        try:
            for turn in range(self.times + 1):  # the first one warms up
                alone.append(run(self.prompts(batch, f"{turn} alone"), 1)[1])
                answers, seconds = run(self.prompts(batch, f"{turn}"), self.new)
                whole.append(seconds)
        except torch.OutOfMemoryError:
            return self.record.row(f"{batch}, {side}", "out of memory")
        except Exception as error:  # whatever a library raises: the other measurements still run
            traceback.print_exc()
            return self.record.row(f"{batch}, {side}", f"failed: {reason(error)}")
        finally:
            free_memory(self.device)
        self.record.keep(**{f"{batch}, {side}": {"alone": alone, "whole": whole}})
        first = statistics.median(alone[1:])
        a_pass = (statistics.median(whole[1:]) - first) / (self.new - 1)
        expected = self.answers.setdefault(batch, answers)
        equal = sum(a == b for a, b in zip(answers, expected, strict=True))
        needed = self.weight_bytes, self.weight_bytes + batch * self.cache_bytes
        shares = "; ".join(f"{size / a_pass / self.bandwidth:.0%}" for size in needed)
        rate = batch * self.prompt / first
        share = f"{2 * self.below_head * rate / self.products:.0%}"
        return self.record.row(
            f"{batch}, {side}",
            f"{batch / a_pass:,.1f}",
            f"{1e3 * a_pass:.2f}",
            shares,
            f"{rate:,.0f}",
            share,
            f"{equal} of {batch}",
        )

    def measure_engine(self, batch: int, side: str, graphs: bool) -> None:
        engine = Engine(self.model, slots=batch, length=self.prompt + self.new, stop_ids=(), cuda_graphs=graphs)
        self.measure(batch, side, lambda prompts, new: run_engine(engine, prompts, new))


def decoding(record, device: torch.device) -> None:
    """Part 3. The peer's compiled passes come last: they take longest to prepare."""
    graphs = device.type == "cuda"  # a CPU has none; there both rows are the same
    run = Decoding(record, device)
    record.plan(TITLES, [f"{batch}, {side}" for batch in run.batches for side in SIDES])
    record.note(
        f"Memory bandwidth {run.bandwidth / 1e9:,.0f} GB/s; bfloat16 matmul {run.products / 1e12:.2f} TFLOP/s; "
        f"{run.prompt} tokens a prompt, {run.new} new ones, medians of {run.times}."
    )
    peer = None
    if importlib.util.find_spec("transformers") is None:
        record.note("transformers: not measured, it is missing.")
    else:
        peer = peer_model(run.model.config, run.model.state_dict(), device, torch.bfloat16)
    for batch in run.batches:
        for side, compile in zip(SIDES[:2], (graphs, False), strict=True):
            run.measure_engine(batch, side, compile)
            free_memory(device)
        if peer:
            run.measure(batch, SIDES[2], lambda prompts, new: theirs(peer, prompts, new, len(prompts)))
    if record.left() > 0:
        words = tokenizer(record.toy)
        figures = grounding(run.model, words, run.times, graphs)
        record.note(f"Grounded decoding, one answer after an invented note, {words.vocab_size:,} tokens: {figures}")
    else:
        record.note("Grounded decoding: not measured, no time was left.")
    static = {"cache_implementation": "static"}
    for batch in run.batches if peer else ():
        run.measure(batch, SIDES[3], lambda prompts, new: theirs(peer, prompts, new, len(prompts), **static))


def memory_bandwidth(device: torch.device, numbers: int) -> float:
    """Bytes a second: the best of reading `numbers` float32, and of copying them, where each byte is read and
    written."""
    x, rates = torch.randn(numbers, device=device), read_bandwidth(device, numbers)
    y = torch.empty_like(x)
    for _ in range(6):
        began = time.perf_counter()
        y.copy_(x)
        y[0].item()  # waits for a GPU
        rates.append(2 * 4 * numbers / (time.perf_counter() - began))
    return max(rates)


def tokenizer(toy: bool):
    """The demo's, or one of VOCABULARY tokens, trained here."""
    if toy:
        return load_tokenizer(DEMO)
    with tempfile.TemporaryDirectory() as folder:
        train_tokenizer(texts(codebook(), []), folder, VOCABULARY)
        return load_tokenizer(folder)


def free_memory(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
