"""Part 3 of gpu.py: decoding at Llama-3.1-8B's shape beside transformers' `generate`, on the same weights and prompts.

1, 8 and 64 prompts of 1,500 random tokens, 128 new tokens each, bfloat16, without speculation: minscl's engine with
CUDA graphs and without, and transformers with its dynamic cache and, where there is time to compile, its static one.
Greedy decoding walks a ring through the vocabulary (decoding_runs.lay_ring), so that answers can be compared. A run
with one new token gives the time of the prefill, its difference to a whole run the time after the prompt; each run has
new prompts, so that no prefix is shared with the run before; medians. The bandwidth limit is the memory bandwidth
measured here over the bytes that a pass must read: the weights, or these and the keys and values. Then grounded
decoding, one answer.

Read next: decoding_runs.py, gpu_pretraining.py.
"""

import gc
import importlib.util
import random
import statistics
import tempfile
import time
import traceback

import torch

from benchmarks.decoding_runs import lay_ring, measure_read_bandwidth, run_engine, run_peer, time_grounding
from benchmarks.models import LLAMA_8B, TOY, random_model, transformers_model
from benchmarks.report import describe_error
from minscl.config import DEMO
from minscl.data.jsonl import read_jsonl
from minscl.data.types import CodedDocument
from minscl.hardware import measure_matmul_rate
from minscl.infer.cache import KVCache
from minscl.infer.engine import Engine
from minscl.model import load_tokenizer
from study.corpus import invented
from study.demo_data import tokenizer_texts
from study.tokenizer import train_tokenizer

# Prompts at once, tokens of each, new tokens, measurements.
SIZES, TOY_SIZES = ((1, 8, 64), 1500, 128, 2), ((1, 2), 20, 4, 1)
GROUNDED_VOCABULARY = 32_000  # tokens
BLOCK_STD = 0.01  # of the blocks' weights: at this width the ring keeps its margin
SIDES = ("minscl, CUDA graphs", "minscl", "transformers", "transformers, static cache")
TITLES = (
    "prompts at once, side",
    "tokens/s after the prompt",
    "ms a pass",
    "share of the bandwidth limit: weights; with keys and values",
    "prefill, tokens/s",
    "prefill's share of the matmul rate",
    "answers equal to minscl's",
)


class Decoding:
    """What the measurements have in common: the model, the machine's rates, and minscl's answers."""

    def __init__(self, record, device: torch.device):
        self.record, self.device, dtype = record, device, torch.bfloat16
        self.batch_sizes, self.prompt_tokens, self.new_tokens, self.repeats = TOY_SIZES if record.toy else SIZES
        self.model = random_model(TOY if record.toy else LLAMA_8B, device=device, dtype=dtype, std=BLOCK_STD)
        self.model.eval().requires_grad_(False)
        lay_ring(self.model)
        weights = {name: parameter.numel() for name, parameter in self.model.named_parameters() if "embed" not in name}
        self.weight_bytes = sum(weights.values()) * dtype.itemsize
        self.block_weights = sum(weights.values()) - weights["lm_head.weight"]
        average_length = self.prompt_tokens + self.new_tokens // 2
        self.cache_bytes = KVCache.bytes_per_slot(self.model.config, average_length, dtype)  # of one prompt
        self.bandwidth = measure_bandwidth(device, 2**22 if record.toy else 2**31)
        self.matmul_rate = measure_matmul_rate(device, dtype, *((512, 512) if record.toy else (8192, 8192)))
        self.answers: dict[int, list[list[int]]] = {}  # minscl's, by batch size

    def prompts(self, batch_size: int, seed: str) -> list[list[int]]:
        """Random prompts, for each `seed` others."""
        rng, vocab_size = random.Random(f"{batch_size}-{seed}"), self.model.config.vocab_size
        return [[rng.randrange(3, vocab_size) for _ in range(self.prompt_tokens)] for _ in range(batch_size)]

    def measure(self, batch_size: int, side: str, run) -> None:
        """Set one row. `run(prompts, new_tokens)` gives (answers, seconds)."""
        if self.record.seconds_left() < 0:
            return
        name, prefill_seconds, seconds = f"{batch_size}, {side}", [], []
        try:
            for repeat in range(self.repeats + 1):  # the first one warms up
                prefill_seconds.append(run(self.prompts(batch_size, f"{repeat} alone"), 1)[1])
                answers, whole = run(self.prompts(batch_size, f"{repeat}"), self.new_tokens)
                seconds.append(whole)
        except torch.OutOfMemoryError:
            self.record.set_row(name, "out of memory")
        except Exception as error:  # whatever a library raises: the other measurements still run
            traceback.print_exc()
            self.record.set_row(name, f"failed: {describe_error(error)}")
        else:
            self.record.add_figures(name, {"prefill": prefill_seconds, "whole": seconds})
            expected = self.answers.setdefault(batch_size, answers)
            equal = sum(answer == other for answer, other in zip(answers, expected, strict=True))
            cells = self.cells(batch_size, statistics.median(prefill_seconds[1:]), statistics.median(seconds[1:]))
            self.record.set_row(name, *cells, f"{equal} of {batch_size}")
        finally:
            free_memory(self.device)

    def cells(self, batch_size: int, prefill_seconds: float, seconds: float) -> list[str]:
        """The cells of TITLES between the first and the last."""
        pass_seconds = (seconds - prefill_seconds) / (self.new_tokens - 1)
        sizes = self.weight_bytes, self.weight_bytes + batch_size * self.cache_bytes
        prefill_rate = batch_size * self.prompt_tokens / prefill_seconds  # tokens a second
        return [
            f"{batch_size / pass_seconds:,.1f}",
            f"{1e3 * pass_seconds:.2f}",
            "; ".join(f"{size / pass_seconds / self.bandwidth:.0%}" for size in sizes),
            f"{prefill_rate:,.0f}",
            f"{2 * self.block_weights * prefill_rate / self.matmul_rate:.0%}",
        ]

    def measure_engine(self, batch_size: int, side: str, cuda_graphs: bool) -> None:
        """Set minscl's row."""
        length = self.prompt_tokens + self.new_tokens
        compile = "on" if cuda_graphs else "off"
        engine = Engine(self.model, slots=batch_size, length=length, stop_ids=(), compile=compile)
        self.measure(batch_size, side, lambda prompts, new_tokens: run_engine(engine, prompts, new_tokens))

    def measure_peer(self, batch_size: int, side: str, peer, **settings) -> None:
        """Set transformers' row; `settings`: of `generate`."""
        self.measure(
            batch_size, side, lambda prompts, new_tokens: run_peer(peer, prompts, new_tokens, batch_size, **settings)
        )


def run_decoding(record, device: torch.device) -> None:
    """All measurements; `record`: gpu.Record. The peer's compiled passes come last: they take longest to prepare."""
    cuda_graphs = device.type == "cuda"  # a CPU has none; there both rows are the same
    decoding = Decoding(record, device)
    record.plan(TITLES, [f"{batch_size}, {side}" for batch_size in decoding.batch_sizes for side in SIDES])
    record.add_note(
        f"Memory bandwidth {decoding.bandwidth / 1e9:,.0f} GB/s; bfloat16 matmul "
        f"{decoding.matmul_rate / 1e12:.2f} TFLOP/s; {decoding.prompt_tokens} tokens a prompt, {decoding.new_tokens} "
        f"new ones, medians of {decoding.repeats}."
    )
    peer = None
    if importlib.util.find_spec("transformers") is None:
        record.add_note("transformers: not measured, it is missing.")
    else:
        peer = transformers_model(decoding.model.config, decoding.model.state_dict(), device, torch.bfloat16)
    for batch_size in decoding.batch_sizes:
        for side, graphs in zip(SIDES[:2], (cuda_graphs, False), strict=True):
            decoding.measure_engine(batch_size, side, graphs)
            free_memory(device)
        if peer:
            decoding.measure_peer(batch_size, SIDES[2], peer)
    if record.seconds_left() > 0:
        record.add_note(measure_grounding(decoding, cuda_graphs))
    else:
        record.add_note("Grounded decoding: not measured, no time was left.")
    for batch_size in decoding.batch_sizes if peer else ():
        decoding.measure_peer(batch_size, SIDES[3], peer, cache_implementation="static")


def measure_grounding(decoding: Decoding, cuda_graphs: bool) -> str:
    """A line on grounded decoding, with a tokenizer of at most the model's vocabulary; no warm-up at toy size."""
    toy = decoding.record.toy
    documents = read_jsonl(DEMO / "documents.jsonl", CodedDocument) if toy else invented("test")
    texts = [document.text for document in documents] if toy else tokenizer_texts()
    with tempfile.TemporaryDirectory() as folder:
        train_tokenizer(texts, folder, min(GROUNDED_VOCABULARY, decoding.model.config.vocab_size))
        tokenizer = load_tokenizer(folder)
    note = documents[0].text
    figures = time_grounding(
        decoding.model, tokenizer, note, decoding.repeats, warm_up=not toy, cuda_graphs=cuda_graphs
    )
    return f"Grounded decoding, one answer after an invented note, {tokenizer.vocab_size:,} tokens: {figures}"


def measure_bandwidth(device: torch.device, size: int) -> float:
    """Bytes a second: the best of reading `size` float32 numbers, and of copying them, which reads and writes each."""
    x, rates = torch.randn(size, device=device), measure_read_bandwidth(device, size)
    y = torch.empty_like(x)
    for _ in range(6):
        began = time.perf_counter()
        y.copy_(x)
        y[0].item()  # waits for a GPU
        rates.append(2 * 4 * size / (time.perf_counter() - began))
    return max(rates)


def free_memory(device: torch.device) -> None:
    """Return what is no longer used to the GPU."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
