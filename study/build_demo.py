"""Rebuild the embedded model with one command, resumably: tokenizer → base → SCL adapter → scores → minscl/demo/.

    python -m study.build_demo [--work runs/demo] [--steps 3000]

Each stage is skipped where its result stands in --work already, and the two trainings go on from their last checkpoint.
MODEL_CARD.md is written from what the run measured.

Read next: pretrain.py for the base, minscl/train.py for the adapter.
"""

import argparse
import itertools
import json
import random
import shutil
import time
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from minscl.cli import run_command
from minscl.config import DEMO, RunConfig
from minscl.data.icd import CodeBook
from minscl.data.jsonl import read_jsonl, write_jsonl
from minscl.data.prompts import render_document_prompt, render_span_prompt
from minscl.data.spans.gold import gold_pairs
from minscl.data.types import Note, Pair
from minscl.errors import replace_file
from minscl.infer.answer import filter_by_score
from minscl.infer.coder import code_notes
from minscl.model import load_tokenizer
from minscl.pretrained import load_pretrained
from minscl.score.codes import code_scores
from minscl.training.run import train_adapter
from study.card import history, model_card
from study.charts import read_charts
from study.codes import phrase_book
from study.notes import coded_words, documents, random_documents
from study.pretrain import Stream, pretrain
from study.tokenizer import train_tokenizer

RESOURCES = Path(__file__).parent / "resources"
SCL_SPANS = 4000  # gold spans beside the 181 documents
USUAL_SHARE = 0.9  # of the span draws in pretraining
BUNDLED = (24, 240)  # documents and spans that `train --cfg tiny` finds in the package
LIMIT = 16 * 2**20  # bytes of minscl/demo
SEED = 0


def texts(codebook, pairs):
    """The tokenizer's corpus: descriptions, index phrases, ACI-Bench training notes, invented training notes, the prompts."""
    yield from (codebook.description(code) for code in codebook.billable[::3])
    yield from (one.evidence for one in pairs[::2])
    yield from (one.text for one in read_jsonl(RESOURCES / "aci_bench_train.jsonl", Note))
    for one in itertools.islice(random_documents(random.Random(SEED), size="note"), 3000):
        yield one.text
        yield "\n".join(f" {code.code} {code.description}" for code in one.codes)
    yield from [render_document_prompt(""), render_span_prompt("")] * 2000


def weighted_pairs(gold, usual, charts, codebook) -> tuple[list[Pair], list[float]]:
    """Every span pair with how often pretraining draws it.

    `usual` are study/phrases.py's pairs for common codes: USUAL_SHARE of the draws, each code as often as another. Of the gold
    pairs, those of the training charts' categories come five times as often as the rest. No split but train is looked at.
    """
    categories = {codebook.category(code) for chart in charts for code, _ in chart.codes}
    phrases = Counter(one.code for one in usual)
    often = [1 / phrases[one.code] for one in usual]
    rest = [5.0 if codebook.category(one.code) in categories else 1.0 for one in gold]
    scale = (1 - USUAL_SHARE) / USUAL_SHARE * sum(often) / sum(rest)
    return [*usual, *gold], [*often, *(weight * scale for weight in rest)]


def answers(folder: Path, adapter: Path, gold, name: str, grounded: bool) -> tuple[list, float]:
    """(coded documents, seconds) of the notes of `gold`."""
    model, tokenizer = load_pretrained(str(folder), str(adapter))
    began = time.monotonic()
    coded = code_notes(model, tokenizer, [Note(one.id, one.text) for one in gold], grounded=grounded)
    return list(tqdm(coded, total=len(gold), desc=name, unit="note")), time.monotonic() - began


def scores(gold, predicted, seconds: float) -> dict:
    """Codes and evidence of `predicted` against `gold`, and the share of quotations that stand in the note verbatim."""
    quotations = [e for one in predicted for code in one.codes for e in code.evidence]
    verbatim = sum(e.grounded for e in quotations) / max(1, len(quotations))
    exact, found = (
        [{(e.text.casefold(), code.code) for code in one.codes for e in code.evidence} for one in side]
        for side in (gold, predicted)
    )
    hits = sum(len(a & b) for a, b in zip(exact, found, strict=True))
    return {
        "notes": len(gold),
        "codes": code_scores(gold, predicted),
        "verbatim": verbatim,
        "quotations": len(quotations),
        "evidence_recall": hits / max(1, sum(map(len, exact))),
        "evidence_precision": hits / max(1, sum(map(len, found))),
        "seconds_per_note": seconds / len(gold),
    }


def best_min_score(gold, predicted) -> float:
    """The threshold on a code's score with the best micro-F1, of 0, 0.05 ... 0.95: one for all codes."""
    kept = {least: [filter_by_score(one, least) for one in predicted] for least in (step / 20 for step in range(20))}
    return max(kept, key=lambda least: code_scores(gold, kept[least])["micro"]["f1"])


def evaluate(base: Path, adapter: Path) -> dict[str, dict]:
    """The card's rows: validation and test notes, free and grounded, with every code and with those above the threshold that validation chose."""
    rows = {}
    for flag, grounded in (("", False), (" --grounded", True)):
        found = {
            split: (gold, *answers(base, adapter, gold, split + flag, grounded))
            for split in ("val", "test")
            for gold in [documents(split, SEED)]
        }
        least = best_min_score(*found["val"][:2])
        for split, (gold, predicted, seconds) in found.items():
            rows[split + flag] = scores(gold, predicted, seconds)
            rows[f"{split}{flag} --min-score {least:g}"] = scores(
                gold, [filter_by_score(one, least) for one in predicted], seconds
            )
    return dict(sorted(rows.items()))


def start_base(base: Path, gold, start: Path | None) -> None:
    """The folder `base` with a tokenizer: that of the model folder `start`, or one trained here."""
    base.mkdir(parents=True, exist_ok=True)
    if (base / "tokenizer.json").exists():
        return
    if start is None:
        train_tokenizer(texts(CodeBook.load(), gold), base)
        return
    for name in ("tokenizer_config.json", "generation_config.json", "tokenizer.json"):
        shutil.copyfile(start / name, base / name)


def pretraining_stream(base: Path, gold, usual, seed: int) -> Stream:
    """What the base is pretrained on."""
    pairs, weights = weighted_pairs(gold, usual, read_charts("train"), CodeBook.load())
    notes = lambda rng, size: next(random_documents(rng, size=size))  # noqa: E731
    return Stream(load_tokenizer(base), notes, pairs, weights, coded_words(), seed)


def scl_data(work: Path, gold, usual) -> tuple[Path, Path]:
    """The adapter's data: one invented, varied note a training chart, and SCL_SPANS spans, half gold and half of the usual phrases."""
    rng = random.Random(SEED)
    write_jsonl(work / "documents.jsonl", documents("train", SEED, varied=True))
    spans = rng.sample(gold, SCL_SPANS // 2) + rng.sample(usual, SCL_SPANS // 2)
    write_jsonl(work / "spans.jsonl", spans)
    return work / "documents.jsonl", work / "spans.jsonl"


def install(base: Path, adapter: Path, data: tuple[Path, Path], runs: list[dict], card: str, demo: Path) -> None:
    """Put base, tokenizer, adapter, a few training records, the pretraining's history and the card into `demo`."""
    (demo / "adapter").mkdir(parents=True, exist_ok=True)
    for name in (
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
    ):
        shutil.copyfile(base / name, demo / name)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copyfile(adapter / name, demo / "adapter" / name)
    for path, number in zip(data, BUNDLED, strict=True):
        with replace_file(demo / path.name) as out, open(path, encoding="utf-8") as lines:
            out.writelines(itertools.islice(lines, number))
    with replace_file(demo / "pretraining.json") as out:
        json.dump(runs, out, indent=1)
    with replace_file(demo / "MODEL_CARD.md") as out:
        out.write(card)
    size = sum(path.stat().st_size for path in demo.rglob("*") if path.is_file())
    assert size <= LIMIT, f"{demo} holds {size:,} bytes, more than {LIMIT:,}"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m study.build_demo", description="Rebuild the embedded model, resumably."
    )
    parser.add_argument("--work", type=Path, default=Path("runs/demo"), help="folder of the stages' results")
    parser.add_argument("--steps", type=int, default=1900, help="pretraining steps of about 6,144 tokens")
    parser.add_argument(
        "--seed",
        type=int,
        default=SEED,
        help="of the pretraining's notes; another one to go on with notes not seen yet",
    )
    parser.add_argument(
        "--start",
        type=Path,
        help="go on from this model folder's weights and tokenizer (the embedded model, say) in place of random ones",
    )
    parser.add_argument("--out", type=Path, default=DEMO, help="where the finished model goes")
    args = parser.parse_args()
    base, adapter = args.work / "base", args.work / "adapter"
    gold, usual = gold_pairs(CodeBook.load()), phrase_book().pairs()
    start_base(base, gold, args.start)
    if not (base / "model.safetensors").exists():
        stream = pretraining_stream(base, gold, usual, args.seed)
        vocab_size = stream.tokenizer.vocab_size
        pretrain(stream, base, total=args.steps, vocab_size=vocab_size, seed=args.seed, start=args.start)
    data = scl_data(args.work, gold, usual)
    if not (adapter / "adapter_model.safetensors").exists():
        train_adapter(
            RunConfig(
                model=str(base),
                documents=str(data[0]),
                spans=str(data[1]),
                out=str(adapter),
                epochs=1,
                max_length=4096,
                pack_length=4096,
                resume=True,
                device="cpu",
            )
        )
    rows = evaluate(base, adapter)
    with replace_file(args.work / "scores.json") as out:
        json.dump(rows, out, indent=1)
    runs = history(args.work, args.start)
    install(base, adapter, data, runs, model_card(rows, args.work, runs), args.out)
    print(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    run_command(main)
