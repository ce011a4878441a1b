"""Rebuild the embedded model with one command, resumably, and write its card from what the build measured.

    python -m study.build_demo [--work runs/demo] [--steps 12000] [--start FOLDER] [--also aci-bench=aci_dev.jsonl]

    tokenizer → base (pretrain.py) → SCL adapter (minscl.train) → calibration → scores → minscl/demo/

A stage whose result is in --work is skipped; pretraining, training and coding resume where they stopped. On a machine
with a GPU everything runs there.

Read next: demo_data.py for what it learns; pretrain.py for the base; card.py.
"""

import argparse
import itertools
import json
import shutil
from pathlib import Path

import torch

from minscl.command import run_command
from minscl.config import DEMO
from minscl.errors import InputError
from minscl.files import replace_file
from minscl.hardware import choose_device
from minscl.model import load_model, load_tokenizer
from study.card import history, model_card
from study.demo_data import (
    PASSAGE,
    SEED,
    held_out,
    pretraining_stream,
    tokenizer_texts,
    write_adapter_data,
    write_evaluation_data,
)
from study.pretrain import CIRCUIT_STEPS, STEP, bfloat16_is_faster, new_model, pretrain
from study.steps import run_step
from study.tokenizer import train_tokenizer

VOCABULARY = 8192
LAYERS = 8
DECAY_SHARE = 0.5  # of the pretraining steps, over which the learning rate falls to 0
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")
BUNDLED = {"documents.jsonl": 24, "spans.jsonl": 240}  # records that `train --cfg tiny` finds in the package
MAX_DEMO_BYTES = 25_000_000
ADAPTER = ["--epochs", "1", "--lr", "5e-4", "--max-length", "4096", "--pack-length", "4096"]


def starting_model(base: Path, start: Path | None, seed: int):
    """The model to pretrain: random weights, or those of the folder `start`, which must have this tokenizer."""
    if start is None:
        return new_model(load_tokenizer(base).vocab_size, seed, num_hidden_layers=LAYERS)
    if (start / "tokenizer.json").read_bytes() != (base / "tokenizer.json").read_bytes():
        raise InputError(f"--start {start}: has another tokenizer than {base}; copy its tokenizer files there")
    return load_model(start, dtype=torch.float32)


def train_base(base: Path, args: argparse.Namespace) -> None:
    """The tokenizer and the pretrained base in the folder `base`, unless they are there."""
    base.mkdir(parents=True, exist_ok=True)
    if not (base / "tokenizer.json").exists():
        train_tokenizer(tokenizer_texts(), base, VOCABULARY)
    if not (base / "model.safetensors").exists():
        device, _ = choose_device("auto", "auto")
        tokenizer = load_tokenizer(base)
        pretrain(
            pretraining_stream(tokenizer, args.seed, STEP[device.type].tokens),
            starting_model(base, args.start, args.seed),
            base,
            total=args.steps,
            decay=int(DECAY_SHARE * args.steps),
            seed=args.seed,
            gentle=0 if args.start else CIRCUIT_STEPS,
            device=device,
            autocast=bfloat16_is_faster(device),
            held_out=held_out(tokenizer),
        )


def train_and_score(work: Path, gold: dict[str, Path]) -> dict[str, dict]:
    """Train the adapter, calibrate it, code and score each file of `gold`; {row of the card: evaluate's JSON}."""
    base, adapter = work / "base", work / "adapter"
    model = ["--model", str(base), "--adapter", str(adapter)]
    data = ["--documents", str(work / "documents.jsonl"), "--spans", str(work / "spans.jsonl")]
    if not (work / "codiesp-test.jsonl").exists():
        write_adapter_data(work, load_tokenizer(base))
        write_evaluation_data(work)
    done = adapter / "adapter_model.safetensors"
    run_step(done, "minscl.train", "--model", str(base), *data, "--out", str(adapter), "--resume", *ADAPTER)
    notes = str(work / "calibration.jsonl")
    for flags in (["--free"], []):
        predicted = work / f"calibration-coded{''.join(flags)}.jsonl"
        raw = ["--no-calibration", "--passage", str(PASSAGE)]
        run_step(predicted, "minscl.generate", notes, "--out", str(predicted), *model, *raw, *flags)
        fitted = work / f"calibrated{''.join(flags)}"
        evaluate = ["minscl.evaluate", "--gold", notes, "--pred", str(predicted), "--calibrate", str(adapter)]
        run_step(fitted, *evaluate, "--plot", str(work / f"reliability{''.join(flags)}.png"), stdout=fitted)
    rows = {}
    for (name, path), flags in itertools.product(gold.items(), ([], ["--free"])):
        row = " ".join([name, *flags])
        predicted = work / f"{name}-coded{''.join(flags)}.jsonl"
        run_step(predicted, "minscl.generate", str(path), "--out", str(predicted), *model, *flags)
        scores = predicted.with_suffix(".scores.json")
        train = ["--train", str(work / "documents.jsonl")]
        run_step(
            scores, "minscl.evaluate", "--gold", str(path), "--pred", str(predicted), *train, "--json", stdout=scores
        )
        rows[row] = json.loads(scores.read_text())
    return rows


def install(work: Path, card: str, runs: list[dict], demo: Path) -> None:
    """Write base, tokenizer, adapter, calibration, a few training records, the history and the card to `demo`."""
    (demo / "adapter").mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "model.safetensors", *TOKENIZER):
        shutil.copyfile(work / "base" / name, demo / name)
    for name in ("adapter_model.safetensors", "calibration.json"):
        shutil.copyfile(work / "adapter" / name, demo / "adapter" / name)
    config = json.loads((work / "adapter" / "adapter_config.json").read_text())
    with replace_file(demo / "adapter" / "adapter_config.json") as out:
        json.dump(config | {"base_model_name_or_path": "minscl/demo"}, out, indent=2)
    shutil.copyfile(work / "reliability.png", demo / "reliability.png")
    for name, number in BUNDLED.items():
        with replace_file(demo / name) as out, open(work / name, encoding="utf-8") as lines:
            out.writelines(itertools.islice(lines, number))
    with replace_file(demo / "pretraining.json") as out:
        json.dump(runs, out, indent=1)
    with replace_file(demo / "MODEL_CARD.md") as out:
        out.write(card)
    size = sum(path.stat().st_size for path in demo.rglob("*") if path.is_file())
    if size > MAX_DEMO_BYTES:
        raise InputError(f"{demo} has {size:,} bytes, more than {MAX_DEMO_BYTES:,}; train a smaller base")


def read_flags() -> argparse.Namespace:
    """The flags of the command."""
    parser = argparse.ArgumentParser(prog="python -m study.build_demo", description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("runs/demo"), help="folder for the results of the stages")
    parser.add_argument("--steps", type=int, default=12_000, help="pretraining steps, on a GPU larger ones")
    parser.add_argument("--seed", type=int, default=SEED, help="of the samples; another seed continues with new ones")
    parser.add_argument(
        "--start", type=Path, help="model folder (the embedded model, say) whose weights to continue from"
    )
    parser.add_argument(
        "--also", action="append", default=[], metavar="NAME=FILE", help="more coded documents to score for the card"
    )
    parser.add_argument("--out", type=Path, default=DEMO, help="folder for the finished model")
    return parser.parse_args()


def main() -> int:
    """Run every stage that has no result yet, write the model and its card."""
    args = read_flags()
    train_base(args.work / "base", args)
    gold = {name: args.work / f"{name}.jsonl" for name in ("codiesp-test", "invented-test")}
    for item in args.also:
        name, equals, path = item.partition("=")
        if not equals or not Path(path).is_file():
            raise InputError(f"--also {item}: write NAME=FILE, with a file of coded documents")
        gold[name] = Path(path)
    rows = train_and_score(args.work, gold)
    runs = history(args.work, args.start)
    install(args.work, model_card(rows, args.work, runs, args.seed), runs, args.out)
    return 0


if __name__ == "__main__":
    run_command(main)
