"""What speculation and grounding cost and save, on real coding output: the embedded model on invented test notes, one note at a time.

    python -m benchmarks.speculate [--notes 12] [--write]

Every note is coded four ways, free and grounded, plainly and with drafts. Printed: seconds, passes of the model, tokens a pass, and whether any token
differed from plain decoding's.

How much drafts help depends on the model's size, so a second table has a pass's time by size (random weights in three models' shapes, behind
1,000 tokens): with one token, and with a guess of three besides.
"""

import argparse
import itertools
import statistics
import time

import torch

from benchmarks.report import source, write_section
from benchmarks.train import SHAPE, random_model
from minscl.config import DEMO
from minscl.data.types import Note
from minscl.infer.cache import KVCache
from minscl.infer.coder import MAX_NEW_TOKENS, note_prompt
from minscl.infer.constrained import Guide
from minscl.infer.engine import Engine, Request, decode_step
from minscl.infer.linear import pack_weights
from minscl.infer.speculate import Drafter
from minscl.pretrained import load_pretrained
from study.notes import documents

WAYS = ("plainly", "with drafts")
HELD, GUESS, TIMES = (
    1000,
    3,
    12,
)  # of the second table: tokens read before, tokens guessed, passes of which the median counts
SHAPES = {
    "125 M": SHAPE,
    "Qwen2.5-0.5B": dict(
        model_type="qwen2",
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        vocab_size=151936,
        max_position_embeddings=32768,
        rope_theta=1e6,
        rms_norm_eps=1e-6,
        tie_word_embeddings=True,
    ),
    "Llama-3.2-1B": dict(
        model_type="llama",
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        vocab_size=128256,
        max_position_embeddings=8192,
        rope_theta=5e5,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
    ),
}


@torch.inference_mode()
def milliseconds(run, cache: KVCache, count: int) -> float:
    """The median of `run`, which reads `count` tokens."""
    took = []
    for _ in range(TIMES):
        began = time.perf_counter()
        run()
        took.append(time.perf_counter() - began)
        cache.rollback(0, count)
    return 1e3 * statistics.median(took)


@torch.inference_mode()
def by_size(name: str, dtype: torch.dtype) -> str:
    """A row of the second table."""
    model = random_model(SHAPES[name], dtype=dtype).eval()
    pack_weights(model)
    cache = KVCache(model.config, 1, HELD + GUESS + 1, device="cpu", dtype=dtype, grows=dtype != torch.float32)
    cache.reserve([[1] * HELD])
    plain, guessed = (
        milliseconds(lambda: decode_step(model, [[1]], [[1] * count], cache), cache, 1 + count) for count in (0, GUESS)
    )
    return f"| {name} | {str(dtype).removeprefix('torch.')} | {plain:.1f} | {guessed:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speculate", description=__doc__.splitlines()[0])
    parser.add_argument("--notes", type=int, default=12)
    parser.add_argument("--write", action="store_true", help="write the section of docs/benchmarks.md")
    args = parser.parse_args()
    model, tokenizer = load_pretrained(DEMO)
    seconds, passes, tokens, different = {}, {}, {}, {}
    for document in list(documents("test", 0))[: args.notes]:
        prompt = note_prompt(model, tokenizer, Note(document.id, document.text))
        for grounded, how in itertools.product((False, True), WAYS):
            way = (grounded, how)
            guide = Guide(tokenizer, document.text, MAX_NEW_TOKENS) if grounded else None
            drafter = Drafter(tokenizer, prompt) if how == "with drafts" else None
            engine = Engine(model, slots=1, length=len(prompt) + MAX_NEW_TOKENS, stop_ids=tokenizer.stop_ids)
            began = time.perf_counter()
            [(_, answer)] = engine.run([Request(prompt, MAX_NEW_TOKENS, guide, drafter)])
            seconds[way] = seconds.get(way, 0.0) + time.perf_counter() - began
            passes[way] = passes.get(way, 0) + answer.forwards
            tokens[way] = tokens.get(way, 0) + len(answer.ids)
            different[how] = different.get(how, 0) + (answer.ids != plain)
    lines = [
        f"{source()}; {args.notes} invented test notes, the embedded model in float32, one note at a time",
        "",
        "| decoding | way | tokens | passes | tokens a pass | seconds a note | times as fast |",
        "|-|-|-|-|-|-|-|",
    ]
    for (grounded, how), total in seconds.items():
        way = (grounded, how)
        lines.append(
            f"| {'grounded' if grounded else 'free'} | {how} | {tokens[way]:,} | {passes[way]:,} | {tokens[way] / passes[way]:.2f} | "
            f"{total / args.notes:.2f} | {seconds[grounded, 'plainly'] / total:.2f} |"
        )
    lines += [
        "",
        f"Of {2 * args.notes} answers, drafts changed {different['with drafts']}.",
    ]
    lines += [
        "",
        f"A pass in ms behind {HELD:,} tokens, random weights; medians of {TIMES}. A guess has {GUESS} tokens.",
        "",
        "| shape | precision | a token | a token and a guess |",
        "|-|-|-|-|",
        *(by_size(name, dtype) for name, dtype in itertools.product(SHAPES, (torch.float32, torch.bfloat16))),
    ]
    print("\n".join(lines))
    if args.write:
        write_section("Speculation", lines)


if __name__ == "__main__":
    main()
