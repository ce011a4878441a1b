"""Rebuild the embedded model with one command, resumably: tokenizer → base → SCL adapter → scores → minscl/demo/.

    python -m study.build_demo [--work runs/demo] [--steps 3000]

A stage whose result is in --work already is skipped, and both trainings resume from their last checkpoint.
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

from minscl.command import run_command
from minscl.config import DEMO, RunConfig
from minscl.data.icd import CodeBook
from minscl.data.jsonl import read_jsonl, write_jsonl
from minscl.data.prompts import render_document_prompt, render_span_prompt
from minscl.data.spans.gold import gold_pairs
from minscl.data.types import Note, Pair
from minscl.files import replace_file
from minscl.infer.answer import filter_by_score
from minscl.infer.coder import code_notes
from minscl.model import load_tokenizer
from minscl.pretrained import load_pretrained
from minscl.score.codes import code_scores
from minscl.training.run import train_adapter
from study.card import history, model_card
from study.charts import read_charts
from study.codes import phrase_book
from study.notes import coded_phrases, documents, random_documents
from study.pretrain import Stream, pretrain
from study.tokenizer import train_tokenizer

RESOURCES = Path(__file__).parent / "resources"
SCL_SPANS = 4000  # gold spans beside the 181 documents
COMMON_SHARE = 0.9  # of the span draws in pretraining: phrases of common codes
BUNDLED = (24, 240)  # documents and spans that `train --cfg tiny` finds in the package
MAX_DEMO_BYTES = 16 * 2**20
SEED = 0


def texts(codebook, pairs):
    """The tokenizer's corpus: descriptions, Index phrases, ACI-Bench's and invented training notes, the prompts."""
    yield from (codebook.description(code) for code in codebook.billable[::3])
    yield from (pair.evidence for pair in pairs[::2])
    yield from (note.text for note in read_jsonl(RESOURCES / "aci_bench_train.jsonl", Note))
    for document in itertools.islice(random_documents(random.Random(SEED), size="note"), 3000):
        yield document.text
        yield "\n".join(f" {code.code} {code.description}" for code in document.codes)
    yield from [render_document_prompt(""), render_span_prompt("")] * 2000


def weighted_pairs(gold, common, charts, codebook) -> tuple[list[Pair], list[float]]:
    """(span pairs, the weight with which pretraining draws each).

    `common`: the pairs of phrases.py for common codes, COMMON_SHARE of the draws, with equal weight per code. Of the
    `gold` pairs, those in the categories of the training `charts` have five times the weight of the others. No other
    split is read.
    """
    categories = {codebook.category(code) for chart in charts for code, _ in chart.codes}
    pair_counts = Counter(pair.code for pair in common)
    common_weights = [1 / pair_counts[pair.code] for pair in common]
    gold_weights = [5.0 if codebook.category(pair.code) in categories else 1.0 for pair in gold]
    scale = (1 - COMMON_SHARE) / COMMON_SHARE * sum(common_weights) / sum(gold_weights)
    return [*common, *gold], [*common_weights, *(weight * scale for weight in gold_weights)]


def answers(folder: Path, adapter: Path, gold, name: str, grounded: bool) -> tuple[list, float]:
    """(coded documents, seconds) of the notes of `gold`."""
    model, tokenizer = load_pretrained(str(folder), str(adapter))
    began = time.monotonic()
    coded = code_notes(model, tokenizer, [Note(document.id, document.text) for document in gold], grounded=grounded)
    return list(tqdm(coded, total=len(gold), desc=name, unit="note")), time.monotonic() - began


def scores(gold, predicted, seconds: float) -> dict:
    """Codes and evidence of `predicted` against `gold`, and the share of quotations that occur verbatim in the note."""
    quotations = [quotation for document in predicted for code in document.codes for quotation in code.evidence]
    verbatim = sum(quotation.grounded for quotation in quotations) / max(1, len(quotations))
    gold_items, predicted_items = (
        [
            {(quotation.text.casefold(), code.code) for code in document.codes for quotation in code.evidence}
            for document in side
        ]
        for side in (gold, predicted)
    )
    hits = sum(len(a & b) for a, b in zip(gold_items, predicted_items, strict=True))
    return {
        "notes": len(gold),
        "codes": code_scores(gold, predicted),
        "verbatim": verbatim,
        "quotations": len(quotations),
        "evidence_recall": hits / max(1, sum(map(len, gold_items))),
        "evidence_precision": hits / max(1, sum(map(len, predicted_items))),
        "seconds_per_note": seconds / len(gold),
    }


def best_min_score(gold, predicted) -> float:
    """The global threshold on code scores, of 0, 0.05 … 0.95, with the best micro-F1."""

    def micro_f1(threshold: float) -> float:
        return code_scores(gold, [filter_by_score(document, threshold) for document in predicted])["micro"]["f1"]

    return max((step / 20 for step in range(20)), key=micro_f1)


def evaluate(base: Path, adapter: Path) -> dict[str, dict]:
    """{row of the card: scores}: validation and test notes, free and grounded decoding, all codes and those above the
    threshold that is best on validation notes."""
    rows = {}
    for flag, grounded in (("", False), (" --grounded", True)):
        answers_by_split = {
            split: (gold, *answers(base, adapter, gold, split + flag, grounded))
            for split in ("val", "test")
            for gold in [documents(split, SEED)]
        }
        threshold = best_min_score(*answers_by_split["val"][:2])
        for split, (gold, predicted, seconds) in answers_by_split.items():
            rows[split + flag] = scores(gold, predicted, seconds)
            filtered = [filter_by_score(document, threshold) for document in predicted]
            rows[f"{split}{flag} --min-score {threshold:g}"] = scores(gold, filtered, seconds)
    return dict(sorted(rows.items()))


def start_base(base: Path, gold, start: Path | None) -> None:
    """Give the folder `base` a tokenizer: that of the model folder `start`, or one trained here."""
    base.mkdir(parents=True, exist_ok=True)
    if (base / "tokenizer.json").exists():
        return
    if start is None:
        train_tokenizer(texts(CodeBook.load(), gold), base)
        return
    for name in ("tokenizer_config.json", "generation_config.json", "tokenizer.json"):
        shutil.copyfile(start / name, base / name)


def pretraining_stream(base: Path, gold, common, seed: int) -> Stream:
    """What the base is pretrained on: invented notes and weighted span pairs."""
    pairs, weights = weighted_pairs(gold, common, read_charts("train"), CodeBook.load())

    def invent(rng, size):
        return next(random_documents(rng, size=size))

    return Stream(load_tokenizer(base), invent, pairs, weights, coded_phrases(), seed)


def scl_data(work: Path, gold, common) -> tuple[Path, Path]:
    """Write the adapter's data: a varied note per training chart, and SCL_SPANS spans, half gold, half common."""
    rng = random.Random(SEED)
    write_jsonl(work / "documents.jsonl", documents("train", SEED, varied=True))
    spans = rng.sample(gold, SCL_SPANS // 2) + rng.sample(common, SCL_SPANS // 2)
    write_jsonl(work / "spans.jsonl", spans)
    return work / "documents.jsonl", work / "spans.jsonl"


def install(base: Path, adapter: Path, data: tuple[Path, Path], runs: list[dict], card: str, demo: Path) -> None:
    """Write base, tokenizer, adapter, a few training records, the history of pretraining and the card to `demo`."""
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
    assert size <= MAX_DEMO_BYTES, f"{demo} has {size:,} bytes, more than {MAX_DEMO_BYTES:,}"


def read_flags() -> argparse.Namespace:
    """The flags of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m study.build_demo", description="Rebuild the embedded model, resumably."
    )
    parser.add_argument("--work", type=Path, default=Path("runs/demo"), help="folder for the results of the stages")
    parser.add_argument("--steps", type=int, default=1900, help="pretraining steps of about 6,144 tokens")
    parser.add_argument(
        "--seed",
        type=int,
        default=SEED,
        help="seed of the pretraining notes; another seed continues with new notes",
    )
    parser.add_argument(
        "--start",
        type=Path,
        help="model folder (the embedded model, say) whose weights and tokenizer to continue from",
    )
    parser.add_argument("--out", type=Path, default=DEMO, help="folder for the finished model")
    return parser.parse_args()


def main() -> int:
    """Run every stage that has no result yet, write the model and print its scores."""
    args = read_flags()
    base, adapter = args.work / "base", args.work / "adapter"
    gold, common = gold_pairs(CodeBook.load()), phrase_book().pairs()
    start_base(base, gold, args.start)
    if not (base / "model.safetensors").exists():
        stream = pretraining_stream(base, gold, common, args.seed)
        vocab_size = stream.tokenizer.vocab_size
        pretrain(stream, base, total=args.steps, vocab_size=vocab_size, seed=args.seed, start=args.start)
    data = scl_data(args.work, gold, common)
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
