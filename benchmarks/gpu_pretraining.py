"""Part 4 of gpu.py: the base of minscl/demo trains on, on new notes, for as many steps as fit into the time.

OUT/demo is a --work folder of study/build_demo.py, which finishes there. Run again with the same --out, this part
resumes. At toy size the notes and spans are those bundled with the package, because inventing new ones needs the gold
pairs, which take several seconds to read.

Read next: study/build_demo.py, study/pretrain.py.
"""

import json
import os
import tempfile
from pathlib import Path

import torch

from minscl.config import DEMO
from minscl.data.icd import CodeBook
from minscl.data.jsonl import read_jsonl
from minscl.data.spans.gold import gold_pairs
from minscl.data.types import CodedDocument, Pair
from minscl.model import load_tokenizer
from study.build_demo import pretraining_stream, start_base
from study.codes import phrase_book
from study.pretrain import TOKENS_PER_STEP, Stream, pretrain

TIMED_STEPS, TOY_STEPS = 20, 2  # TIMED_STEPS: before the run, to choose its length
SEED = 27  # of the notes: not in minscl/demo/pretraining.json, so they are new


def invented_stream(base: Path, start: Path) -> Stream:
    """Invented notes and weighted span pairs, for the base folder `base`, which gets the tokenizer of `start`."""
    gold = gold_pairs(CodeBook.load())
    start_base(base, gold, start)
    return pretraining_stream(base, gold, phrase_book().pairs(), SEED)


class ToyStream(Stream):
    """Small steps: the first document and the last eight spans of a whole step."""

    def samples(self, step: int, progress: float) -> list:
        """As Stream.samples."""
        samples = super().samples(step, progress)
        return [samples[0], *samples[-8:]]


def bundled_stream(base: Path, start: Path) -> ToyStream:
    """The documents and spans of minscl/demo in place of new ones."""
    documents, pairs = read_jsonl(DEMO / "documents.jsonl", CodedDocument), read_jsonl(DEMO / "spans.jsonl", Pair)
    start_base(base, pairs, start)
    phrases, weights = frozenset(pair.evidence.lower() for pair in pairs), [1.0] * len(pairs)
    return ToyStream(load_tokenizer(base), lambda rng, size: rng.choice(documents), pairs, weights, phrases, SEED)


def run_pretraining(record, device: torch.device) -> None:
    """Time a few steps, then train as many as fit; `record`: gpu.Record."""
    work, start = record.path.parent / "demo", Path(os.path.relpath(DEMO))
    base, plan = work / "base", work / "plan.json"
    stream = (bundled_stream if record.toy else invented_stream)(base, start)
    settings = {"vocab_size": stream.tokenizer.vocab_size, "seed": SEED, "start": start, "device": device}
    if not plan.exists():
        timed = TOY_STEPS if record.toy else TIMED_STEPS
        with tempfile.TemporaryDirectory() as scratch:
            pretrain(stream, Path(scratch), total=timed, **settings)
            seconds = [step["step_seconds"] for step in read_metrics(Path(scratch))][timed // 2 :]  # warmed up
        total = max(100, int(0.8 * record.seconds_left() / (sum(seconds) / len(seconds))))
        plan.write_text(json.dumps({"steps": TOY_STEPS if record.toy else total, "seed": SEED}))
    total = json.loads(plan.read_text())["steps"]
    record.add_note(
        f"{total:,} steps of about {TOKENS_PER_STEP:,} tokens from minscl/demo's base. To finish, score and "
        f"install: `python -m study.build_demo --work {work} --start {start} --seed {SEED} --steps {total}`."
    )
    if not (base / "model.safetensors").exists():
        pretrain(stream, base, total=total, save_seconds=20, **settings)
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
