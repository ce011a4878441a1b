"""Decoding speed against transformers' `generate`, on the same prompts and weights, in one run.

    python -m benchmarks.decode [--rounds 1] [--dtypes float32 bfloat16] [--write]        (needs the teacher extra)

A 125 M-parameter Llama (the shape of benchmarks/train.py). Its blocks are random; its output head is laid so that token i is followed by its
successor on one ring through the whole vocabulary, with a wide margin: greedy decoding walks the ring, never loops and never stops, and both sides
write the same tokens (checked). Three jobs, no speculation: `one`, a 1,500-token prompt and 128 new tokens, by transformers also compiled; `eight` of them
at once; `documents`, 32 prompts of 300 to 2,500 tokens and 64 new tokens each, where the peer takes them sorted by length, in batches of 8 or one by
one, whichever is faster. Sides take turns in one process; medians. The bandwidth limit is what this machine reads a second, measured before and after
every answer of `one`, over the bytes that a token needs: the weights, or these and its keys and values. A prompt's rate of products is held against
square ones.
"""

import argparse
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

if not __package__:  # started as a file, not with -m
    sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.report import source, write_section
from benchmarks.train import SHAPE, random_model
from minscl.data.types import Note
from minscl.hardware import choose_float32_matmul, measure_matmul_rate
from minscl.infer.cache import KVCache
from minscl.infer.coder import note_prompt
from minscl.infer.constrained import Guide
from minscl.infer.engine import Engine, Request
from minscl.infer.linear import pack_weights
from minscl.model import load_model, load_tokenizer, save_model
from study.build_demo import texts
from study.codes import codebook
from study.notes import documents
from study.tokenizer import train_tokenizer

ROOM = 700  # tokens of the answer with which grounding is timed
JOBS = {
    "one": (1, 128, 9),
    "eight": (8, 128, 3),
    "documents": (32, 64, 1),
}  # prompts, new tokens, times in a round; short ones more often


def lay_ring(model) -> None:
    """Lay head and embeddings so that each token is followed by its successor on one ring through the vocabulary, with
    a wide margin."""
    embedding = model.model.embed_tokens.weight
    ring = torch.randperm(len(embedding), device=embedding.device)
    with torch.no_grad():
        embedding.normal_(std=1.0)
        model.lm_head.weight[ring.roll(-1)] = embedding[ring]


def make_model(folder: Path) -> None:
    model = random_model(SHAPE)
    lay_ring(model)
    save_model(model, folder)


def prompts(job: str) -> list[list[int]]:
    rng, count = random.Random(0), JOBS[job][0]
    return [
        [rng.randrange(3, SHAPE["vocab_size"]) for _ in range(rng.randint(300, 2500) if job == "documents" else 1500)]
        for _ in range(count)
    ]


def read_bandwidth(device="cpu", numbers: int = 2**28) -> list[float]:
    """Bytes a second that `device` (a CPU: all its cores) reads from memory, in each of several sums over `numbers`
    float32. Of a CPU their median counts and not the best: an answer takes a second or two, over which a shared host's
    memory is now fast and now slow, and its time is a mean."""
    x, rates = torch.randn(numbers, device=device), []
    for _ in range(6):
        began = time.perf_counter()
        x.sum().item()  # waits for a GPU
        rates.append(x.numel() * 4 / (time.perf_counter() - began))
    return rates


def ours(model, asked, new_tokens: int):
    """(answers, seconds)."""
    slots, length = min(8, len(asked)), max(map(len, asked)) + new_tokens
    return run_engine(Engine(model, slots=slots, length=length, stop_ids=()), asked, new_tokens)


def run_engine(engine: Engine, asked, new_tokens: int):
    """(answers, seconds)."""
    began = time.perf_counter()
    answers = dict(engine.run(Request(prompt, new_tokens) for prompt in asked))
    return [answers[number].ids for number in range(len(asked))], time.perf_counter() - began


def theirs(model, asked, new_tokens: int, size: int, **settings):
    order, answers = sorted(range(len(asked)), key=lambda one: -len(asked[one])), {}
    began = time.perf_counter()
    for first in range(0, len(order), size):
        chosen = order[first : first + size]
        width = max(len(asked[one]) for one in chosen)
        rows = [asked[number] for number in chosen]
        ids, seen = (
            torch.tensor([[0] * (width - len(row)) + row for row in side], device=model.device)
            for side in (rows, [[1] * len(row) for row in rows])
        )
        with torch.inference_mode():
            found = model.generate(
                ids,
                attention_mask=seen,
                max_new_tokens=new_tokens,
                min_new_tokens=new_tokens,
                do_sample=False,
                pad_token_id=0,
                **settings,
            )
        answers.update(zip(chosen, found[:, width:].tolist(), strict=True))
    return [answers[number] for number in range(len(asked))], time.perf_counter() - began


def compare(folder: Path, dtype: str, rounds: int, products: float) -> tuple[list[str], str]:
    """(rows of the table, a line on the bandwidth). `products`: operations a second of square ones."""
    import transformers

    kind = getattr(torch, dtype)
    choose_float32_matmul(kind)
    teacher = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=kind, attn_implementation="sdpa").eval()
    plain = load_model(folder, dtype=kind)
    weights = sum(one.numel() for name, one in plain.named_parameters() if "embed" not in name)
    below_head = weights - plain.lm_head.weight.numel()
    size = weights * kind.itemsize
    pack_weights(plain)
    rows, reading = [], []
    for job, (_, new_tokens, times) in JOBS.items():
        asked = prompts(job)
        ways = {
            "minscl": lambda room: ours(plain, asked, room),
            "transformers": lambda room: theirs(teacher, asked, room, min(8, len(asked))),
        }
        if job == "one":
            ways["transformers, compiled"] = lambda room: theirs(
                teacher, asked, room, 1, cache_implementation="static", compile_config=everywhere()
            )
            ways["transformers, compiled"](2)  # compiles
        if job == "documents":
            ways["transformers, one by one"] = lambda room: theirs(teacher, asked, room, 1)
        needed = size, size + KVCache.bytes_per_slot(plain.config, len(asked[0]) + new_tokens // 2, kind)
        seconds, first, shares, texts = (
            {way: [] for way in ways},
            {way: [] for way in ways},
            {way: [] for way in ways},
            {},
        )
        for _ in range(rounds * times):
            for way, run in ways.items():
                rates = read_bandwidth() if job == "one" else []
                if job != "documents":
                    first[way].append(run(1)[1])  # prompts alone
                texts[way], took = run(new_tokens)
                seconds[way].append(took)
                if job == "one":
                    reading.append(statistics.median(rates + read_bandwidth()))
                    shares[way].append(
                        (new_tokens - 1) / (took - first[way][-1]) / reading[-1]
                    )  # tokens a byte that could have been read
        for way in ways:
            took, alone = statistics.median(seconds[way]), statistics.median(first[way] or [0.0])
            same = sum(a == b for a, b in zip(texts[way], texts["minscl"], strict=True))
            rate = f"{len(asked) * (new_tokens - 1) / (took - alone):.1f}" if alone else ""
            share = "; ".join(spread([one * share for share in shares[way]]) for one in needed) if job == "one" else ""
            prompt = f"{2 * below_head * sum(map(len, asked)) / alone / products:.2f}" if alone else ""
            rows.append(
                f"| {job} | {dtype} | {way} | {took:.2f} | {rate} | {share} | {prompt} | {same} of {len(asked)} |"
            )
            print(rows[-1], flush=True)
    return (
        rows,
        f"{dtype}: reading {statistics.median(reading) / 1e9:.1f} GB/s (of {len(reading)} measurements {min(reading) / 1e9:.1f} to {max(reading) / 1e9:.1f}).",
    )


def spread(values) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def everywhere():
    """The peer's settings of its compiler, which it uses on GPUs only unless told otherwise."""
    from transformers.generation.configuration_utils import CompileConfig

    config = CompileConfig()
    config._compile_all_devices = True
    return config


def grounding(model, tokenizer, rounds: int, cuda_graphs: bool = False) -> str:
    """What a pass takes after an invented note, free and grounded; prompts apart."""
    note = documents("test")[0]
    prompt = note_prompt(model, tokenizer, Note(note.id, note.text))
    engine = Engine(model, slots=1, length=len(prompt) + ROOM, stop_ids=(), cuda_graphs=cuda_graphs)

    def run(room: int, grounded: bool):
        guide = Guide(tokenizer, note.text, ROOM) if grounded else None
        began = time.perf_counter()
        [(_, answer)] = engine.run([Request(prompt, room, guide)])
        return time.perf_counter() - began, answer

    passes = {False: [], True: []}  # way → (seconds a pass, seconds a token) of each round
    for way in (False, True) * (rounds + 1):  # the first two fill the vocabulary's tree and record a GPU's graphs
        before, (took, answer) = run(1, False)[0], run(ROOM, way)
        passes[way].append(((took - before) / (answer.forwards - 1), (took - before) / (len(answer.ids) - 1)))
    (free, _), (grounded, a_token) = (
        [statistics.median(column) for column in zip(*passes[way][1:], strict=True)] for way in (False, True)
    )
    more = 100 * (grounded / free - 1)
    return (
        f"a pass takes {1e3 * free:.1f} ms free and {1e3 * grounded:.1f} ms grounded ({more:+.0f}%), a token "
        f"{1e3 * free:.1f} ms free and {1e3 * a_token:.1f} ms grounded, where forced tokens come without a pass of "
        "their own."
    )


def grounding_on_cpu(folder: Path, dtype: str, rounds: int) -> str:
    if not (folder / "tokenizer.json").exists():
        train_tokenizer(texts(codebook(), []), folder, SHAPE["vocab_size"])
    model = load_model(folder, dtype=getattr(torch, dtype))
    pack_weights(model)
    return f"{dtype}: {grounding(model, load_tokenizer(folder), 3 * rounds)}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decode", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--write", action="store_true", help="write the section of docs/benchmarks.md")
    args = parser.parse_args()
    import transformers

    transformers.utils.logging.set_verbosity_error()
    products = {dtype: measure_matmul_rate(torch.device("cpu"), getattr(torch, dtype)) for dtype in args.dtypes}
    told = " and ".join(f"{rate / 1e9:.0f} ({dtype})" for dtype, rate in products.items())
    times = ", ".join(f"{args.rounds * times} ({job})" for job, (_, _, times) in JOBS.items())
    head = f"{source(transformers)}; medians of {times}. Products {told} GFLOP/s."
    titles = [
        "| job | precision | side | seconds | tokens/s after the prompt | share of the bandwidth limit (lowest to highest): weights; with keys and values | "
        "prompt's share of the products' rate | "
        "answers equal to minscl's |",
        "|-|-|-|-|-|-|-|-|",
    ]
    print("\n".join([head, *titles]), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder))
        compared = [compare(Path(folder), dtype, args.rounds, products[dtype]) for dtype in args.dtypes]
        told = [
            "",
            *(f"- {line}" for _, line in compared),
            "",
            "Grounded decoding on the same model, vocabulary of 32,000 tokens:",
            "",
            *("- " + grounding_on_cpu(Path(folder), dtype, args.rounds) for dtype in args.dtypes),
        ]
        print("\n".join(told))
    if args.write:
        write_section("Decoding", [head, "", *titles, *(row for rows, _ in compared for row in rows), *told])


if __name__ == "__main__":
    main()
