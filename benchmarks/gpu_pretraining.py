"""Part 4 of gpu.py: the base of minscl/demo trains on, on new samples, for as many steps as fit into the time.

OUT/demo is a --work folder of study/build_demo.py, which finishes there. Run again with the same --out, this part
resumes. At toy size the documents and spans are those bundled with the package, because the whole corpus takes a
minute to read and tokenise.

Read next: study/build_demo.py, study/pretrain.py.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path

import torch

from minscl.config import DEMO
from minscl.data.jsonl import read_jsonl
from minscl.data.types import CodedDocument, Pair
from minscl.model import load_tokenizer
from study.build_demo import DECAY_SHARE, TOKENIZER, starting_model
from study.demo_data import held_out, pretraining_stream
from study.pretrain import STEP, bfloat16_is_faster, pretrain
from study.stream import PairPool, Source, Stream

TIMED_STEPS, TOY_STEPS = 20, 2  # TIMED_STEPS: before the run, to choose its length
SEED = 27  # of the samples; another than the embedded model's, so they are new


def bundled_stream(tokenizer, seed: int) -> Stream:
    """The documents and spans of minscl/demo in small steps: a document and a few spans."""
    documents, pairs = read_jsonl(DEMO / "documents.jsonl", CodedDocument), read_jsonl(DEMO / "spans.jsonl", Pair)
    return Stream(
        tokenizer,
        [],
        [Source("bundled", documents, weight=1.0)],
        PairPool([(pairs, 1.0)]),
        lambda progress: {"document": 0.01, "span": 0.05},
        seed,
        phrases=frozenset(pair.evidence.lower() for pair in pairs),
    )


def run_pretraining(record, device: torch.device) -> None:
    """Time a few steps, then train as many as fit; `record`: gpu.Record."""
    work, start = record.path.parent / "demo", Path(os.path.relpath(DEMO))
    base, plan = work / "base", work / "plan.json"
    base.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER:  # the embedded model's, so its embeddings stay as they are
        shutil.copyfile(start / name, base / name)
    tokenizer, step_tokens = load_tokenizer(base), STEP[device.type].tokens
    stream = bundled_stream(tokenizer, SEED) if record.toy else pretraining_stream(tokenizer, SEED, step_tokens)
    validation = {} if record.toy else held_out(tokenizer)
    autocast = bfloat16_is_faster(device)

    def train(out: Path, total: int) -> None:
        """`total` steps from the embedded base, with build_demo's settings, or on from the checkpoints in `out`."""
        pretrain(
            stream,
            starting_model(base, start, SEED),
            out,
            total=total,
            decay=int(DECAY_SHARE * total),
            seed=SEED,
            device=device,
            autocast=autocast,
            save_seconds=60,
            held_out=validation,
        )

    if not plan.exists():
        timed = TOY_STEPS if record.toy else TIMED_STEPS
        with tempfile.TemporaryDirectory() as scratch:
            train(Path(scratch), timed)
            seconds = [step["step_seconds"] for step in read_metrics(Path(scratch))][timed // 2 :]  # warmed up
        total = max(100, int(0.88 * record.seconds_left() / (sum(seconds) / len(seconds))))
        plan.write_text(json.dumps({"steps": TOY_STEPS if record.toy else total, "seed": SEED}))
    total = json.loads(plan.read_text())["steps"]
    record.add_note(
        f"{total:,} steps of about {step_tokens:,} tokens from minscl/demo's base. To finish, score and "
        f"install: `python -m study.build_demo --work {work} --start {start} --seed {SEED} --steps {total}`."
    )
    if not (base / "model.safetensors").exists():
        train(base, total)
    steps = read_metrics(base)
    first, last = (sum(step["loss"] for step in part) / len(part) for part in (steps[:50], steps[-50:]))
    speed = sum(step["tokens"] for step in steps) / sum(step["step_seconds"] for step in steps)
    record.add_note(
        f"{len(steps):,} steps done, {speed:,.0f} tokens/s; loss {first:.3f} (first 50 steps) to {last:.3f} (last 50); "
        f"the base: {base / 'model.safetensors'}."
    )


def read_metrics(folder: Path) -> list[dict]:
    """The records of metrics.jsonl, one a step."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
