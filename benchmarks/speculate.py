"""What speculative and grounded decoding cost and save on real coding output, one note at a time.

    python -m benchmarks.speculate [--notes 12] [--write]

The embedded model codes each invented test note four ways, free and grounded, without drafts and with drafts. Printed:
seconds, passes of the model, tokens a pass, and how many answers the drafts changed (none, if speculation is exact).

How much drafts help depends on the size of the model, so a second table has the time of a pass by size (random weights
in three models' shapes): of one token, and of one token and a draft.

Read next: minscl/infer/speculate.py.
"""

import argparse
import itertools
import statistics
import time
from dataclasses import dataclass

import torch

from benchmarks.models import LLAMA_1B, LLAMA_125M, QWEN_500M, random_model
from benchmarks.report import provenance, write_section
from minscl.config import DEMO
from minscl.data.types import CodedDocument, Note
from minscl.infer.cache import KVCache
from minscl.infer.constrained import Guide
from minscl.infer.engine import Engine, Request
from minscl.infer.jobs import MAX_NEW_TOKENS, note_prompt
from minscl.infer.linear import prepare_for_inference
from minscl.infer.passes import decode_step
from minscl.infer.sequence import Generation
from minscl.infer.speculate import Drafter
from minscl.pretrained import load_pretrained
from study.corpus import invented

WAYS = tuple(itertools.product(("free", "grounded"), ("without drafts", "with drafts")))
CACHED_TOKENS = 1000  # of the second table
DRAFT_TOKENS = 3
PASSES = 12  # whose median is given
SHAPES = {"125 M": LLAMA_125M, "Qwen2.5-0.5B": QWEN_500M, "Llama-3.2-1B": LLAMA_1B}


@dataclass
class Totals:
    """Of one way, over all notes."""

    seconds: float = 0.0
    passes: int = 0
    tokens: int = 0


def code_document(model, tokenizer, document: CodedDocument, decoding: str, way: str) -> tuple[Generation, float]:
    """(answer, seconds) for one note; `decoding` and `way` as in WAYS."""
    prompt = note_prompt(model, tokenizer, Note(document.id, document.text))
    guide = Guide(tokenizer, document.text, MAX_NEW_TOKENS) if decoding == "grounded" else None
    drafter = Drafter(tokenizer, prompt) if way == "with drafts" else None
    engine = Engine(model, slots=1, length=len(prompt) + MAX_NEW_TOKENS, stop_ids=tokenizer.stop_ids)
    began = time.perf_counter()
    [(_, answer)] = engine.run([Request(prompt, MAX_NEW_TOKENS, guide, drafter)])
    return answer, time.perf_counter() - began


def compare_ways(number_of_notes: int) -> list[str]:
    """The first table, and how many answers with drafts differ from those without."""
    model, tokenizer = load_pretrained(str(DEMO))
    totals = {key: Totals() for key in WAYS}
    changed = 0
    for document in invented("test")[:number_of_notes]:
        ids = {}
        for decoding, way in WAYS:
            answer, seconds = code_document(model, tokenizer, document, decoding, way)
            total = totals[decoding, way]
            total.seconds += seconds
            total.passes += answer.forwards
            total.tokens += len(answer.ids)
            ids[decoding, way] = answer.ids
        changed += sum(ids[mode, "without drafts"] != ids[mode, "with drafts"] for mode in ("free", "grounded"))
    lines = [
        "| decoding | way | tokens | passes | tokens a pass | seconds a note | times as fast |",
        "|-|-|-|-|-|-|-|",
    ]
    for (decoding, way), total in totals.items():
        speedup = totals[decoding, "without drafts"].seconds / total.seconds
        lines.append(
            f"| {decoding} | {way} | {total.tokens:,} | {total.passes:,} | {total.tokens / total.passes:.2f} "
            f"| {total.seconds / number_of_notes:.2f} | {speedup:.2f} |"
        )
    return [*lines, "", f"Of {2 * number_of_notes} answers, drafts changed {changed}."]


@torch.inference_mode()
def pass_milliseconds(model, cache: KVCache, draft_tokens: int) -> float:
    """The median time of a pass of one token and a draft."""
    seconds = []
    for _ in range(PASSES):
        began = time.perf_counter()
        decode_step(model, [[1]], [[1] * draft_tokens], cache)
        seconds.append(time.perf_counter() - began)
        cache.rollback(0, 1 + draft_tokens)
    return 1e3 * statistics.median(seconds)


@torch.inference_mode()
def pass_row(name: str, dtype: torch.dtype) -> str:
    """A row of the second table."""
    model = random_model(SHAPES[name], dtype=dtype).eval()
    prepare_for_inference(model)
    length, grows = CACHED_TOKENS + 1 + DRAFT_TOKENS, dtype != torch.float32
    cache = KVCache(model.config, 1, length, device="cpu", dtype=dtype, grows=grows)
    cache.reserve([[1] * CACHED_TOKENS])
    without, with_draft = (pass_milliseconds(model, cache, count) for count in (0, DRAFT_TOKENS))
    return f"| {name} | {str(dtype).removeprefix('torch.')} | {without:.1f} | {with_draft:.1f} |"


def main() -> None:
    """Print both tables; with --write put them into docs/benchmarks.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speculate", description=__doc__.splitlines()[0])
    parser.add_argument("--notes", type=int, default=12, help="invented test notes")
    parser.add_argument("--write", action="store_true", help="write the section of docs/benchmarks.md")
    args = parser.parse_args()
    notes = f"{args.notes} invented test notes, the embedded model in float32, one note at a time"
    lines = [f"{provenance()}; {notes}", "", *compare_ways(args.notes), ""]
    lines += [
        f"Milliseconds a pass after {CACHED_TOKENS:,} cached tokens, random weights; medians of {PASSES}. "
        f"A draft has {DRAFT_TOKENS} tokens.",
        "",
        "| shape | precision | a token | a token and a draft |",
        "|-|-|-|-|",
        *(pass_row(name, dtype) for name, dtype in itertools.product(SHAPES, (torch.float32, torch.bfloat16))),
    ]
    print("\n".join(lines))
    if args.write:
        write_section("Speculation", lines)


if __name__ == "__main__":
    main()
