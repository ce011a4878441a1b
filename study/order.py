"""Decision 1: does a code line that begins with its evidence numbers code better than one that ends with them?

    python -m study.order [--work runs/study] [--seeds 0,1,2] [--split dev]

    [3] I50.9 Heart failure, unspecified     p(C | x, E): the evidence is named, then the code is written
    I50.9 Heart failure, unspecified [3]     the earlier order

Both orders are trained from the same base, which has seen neither (base.py), on the same documents and spans with the
same seeds, and code CodiEsp's dev split, grounded. Prints micro-F1 of codes and of (quotation, code) pairs with 95%
intervals, and the paired difference.

Read next: run.py, whose folder it works in.
"""

import argparse
from pathlib import Path

import numpy as np
from tqdm import tqdm

from minscl.command import run_command
from minscl.data.icd import CodeBook
from minscl.data.jsonl import read_jsonl, write_jsonl
from minscl.data.samples import document_sample, encode_sample, span_sample
from minscl.data.types import CodedDocument, Note, Pair
from minscl.infer.coder import code_notes
from minscl.infer.systems import CODE_FIRST, SCL
from minscl.model import load_tokenizer
from minscl.pretrained import load_pretrained
from minscl.score.bootstrap import ROUNDS, bootstrap, bootstrap_rows
from minscl.score.systems import count_system
from study.run import FULL, LORA, repeated
from study.steps import run_step
from study.tables import MICRO, OVERLAP

COPIES = 10  # of each document: as often as run.py's rows with spans see one
SPANS = 2000
ORDERS = {"numbers first": SCL, "numbers last": CODE_FIRST}


def write_samples(data: Path, tokenizer, reference_first: bool) -> Path:
    """The documents with evidence and the gold spans as ready samples in one of the orders."""
    path = data / f"order-{'first' if reference_first else 'last'}.jsonl"
    if not path.exists():
        codebook = CodeBook.load()
        texts = [
            document_sample(document, reference_first=reference_first)
            for document in read_jsonl(repeated(data / "evidence.jsonl", COPIES), CodedDocument)
        ]
        texts += [span_sample(pair, codebook) for pair in read_jsonl(data / "gold.jsonl", Pair)[:SPANS]]
        write_jsonl(path, [encode_sample(tokenizer, text) for text in texts])
    return path


def code_split(base: Path, adapter: Path, notes: list[Note], out: Path, name: str) -> list[CodedDocument]:
    """The notes coded in the order `name`; read from `out` where they are there."""
    if not out.exists():
        model, tokenizer = load_pretrained(str(base), str(adapter))
        coded = code_notes(model, tokenizer, notes, system=ORDERS[name], grounded=True)
        write_jsonl(out, list(tqdm(coded, total=len(notes), desc=name, unit="note")))
    return read_jsonl(out, CodedDocument)


def report(name: str, values: np.ndarray, samples: np.ndarray) -> str:
    """A line: the mean over seeds and its interval, in %."""
    low, high = np.percentile(samples, (2.5, 97.5))
    return f"{name:24} {100 * values.mean():6.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m study.order", description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("runs/study"), help="run.py's folder, with base and data")
    parser.add_argument("--seeds", default="0,1,2", help="seeds, with commas (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=FULL.span_passes, help="passes over the samples")
    parser.add_argument("--split", default="dev", help="file of gold documents in the work folder's data")
    args = parser.parse_args()
    base, data = args.work / "base-medium", args.work / "data"
    tokenizer = load_tokenizer(base)
    gold = sorted(read_jsonl(data / f"{args.split}.jsonl", CodedDocument), key=lambda document: document.id)
    notes = [Note(document.id, document.text) for document in gold]
    draws = bootstrap_rows(len(gold), ROUNDS, 0)
    values, samples = {}, {}
    for name in ORDERS:
        file = write_samples(data, tokenizer, reference_first=ORDERS[name].reference_first)
        systems = []
        for seed in args.seeds.split(","):
            adapter = args.work / f"order-{name.split()[1]}" / f"seed{seed}"
            train = ["minscl.train", "--model", str(base), "--samples", str(file), "--out", str(adapter)]
            done = adapter / "adapter_model.safetensors"
            run_step(done, *train, "--seed", seed, "--epochs", str(args.epochs), "--resume", *LORA)
            predicted = code_split(base, adapter, notes, adapter / f"{args.split}.jsonl", name)
            systems.append(count_system(gold, predicted, {}))
        drawn = bootstrap(systems, draws)
        for metric in (MICRO, OVERLAP):
            values[name, metric] = np.array([system.scores()[metric][2] for system in systems])
            samples[name, metric] = np.mean([rounds[metric][:, 2] for rounds in drawn], axis=0)
    first, last = ORDERS
    for metric in (MICRO, OVERLAP):
        print(metric.label)
        for name in ORDERS:
            print(report(name, values[name, metric], samples[name, metric]))
        difference = samples[first, metric] - samples[last, metric]
        print(report("difference", values[first, metric] - values[last, metric], difference))
    return 0


if __name__ == "__main__":
    run_command(main)
