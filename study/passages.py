"""Does it help to code each note several times, cut into passages of other lengths, and keep a code's highest score?

    python -m study.passages [--lengths 60,100,150] [--out runs/passages]

The embedded model codes CodiEsp's dev cases and the notes that calibrate it with raw scores, once for each length.
Printed: for each set of lengths micro-F1 at the best threshold, chosen on the same notes, so a bound for all alike.
Coding resumes where it stopped.

Read next: minscl/infer/passages.py.
"""

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path

from minscl.command import run_command
from minscl.data.icd import CodeBook
from minscl.data.jsonl import read_jsonl, write_jsonl
from minscl.data.types import CodedDocument
from minscl.errors import InputError
from study.corpus import codiesp, invented
from study.demo_data import held_out_notes
from study.steps import run_step

Scores = dict[tuple[str, str], float]  # (note, code) → score


def coded_scores(notes: Path, length: int) -> Scores:
    """The raw score of every code that the embedded model finds in passages of `length` tokens."""
    out = notes.with_name(f"{notes.stem}-{length}.jsonl")
    flags = ["--no-calibration", "--passage", str(length), "--out", str(out)]
    run_step(out, "minscl.generate", str(notes), *flags)
    documents = read_jsonl(out, CodedDocument)
    return {(document.id, item.code): item.score or 0.0 for document in documents for item in document.codes}


def highest(runs: Sequence[Scores]) -> Scores:
    """Of each code the highest score in any run."""
    return {key: max(run.get(key, 0.0) for run in runs) for key in set().union(*runs)}


def best_micro_f1(gold: set[tuple[str, str]], scores: Scores) -> tuple[float, float]:
    """(micro-F1, threshold) of the threshold, in hundredths, that gives the highest."""

    def micro_f1(threshold: float) -> float:
        predicted = {key for key, score in scores.items() if score >= threshold}
        return 2 * len(predicted & gold) / (len(predicted) + len(gold))

    return max((micro_f1(percent / 100), percent / 100) for percent in range(100))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m study.passages", description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", default="60,100,150", help="tokens of a passage, with commas")
    parser.add_argument("--out", type=Path, default=Path("runs/passages"), help="folder of the coded notes")
    args = parser.parse_args()
    if not all(part.isdecimal() and int(part) for part in args.lengths.split(",")):
        raise InputError(f"--lengths {args.lengths}: give whole numbers above 0 with commas, such as 60,100,150")
    lengths = [int(part) for part in args.lengths.split(",")]
    codebook = CodeBook.load()
    kinds = {"codiesp-dev": codiesp("dev", codebook), "validation": [*invented("val"), *held_out_notes(codebook)]}
    args.out.mkdir(parents=True, exist_ok=True)
    print("| notes | number | passages of, tokens | micro-F1 | threshold |\n|-|-|-|-|-|")
    for name, documents in kinds.items():
        path = args.out / f"{name}.jsonl"
        write_jsonl(path, documents)
        gold = {(document.id, item.code) for document in documents for item in document.codes}
        runs = {length: coded_scores(path, length) for length in lengths}
        for number in range(1, len(lengths) + 1):
            for chosen in itertools.combinations(lengths, number):
                f1, threshold = best_micro_f1(gold, highest([runs[length] for length in chosen]))
                tokens = " and ".join(map(str, chosen))
                print(f"| {name} | {len(documents)} | {tokens} | {100 * f1:.1f} | {threshold:.2f} |", flush=True)
    return 0


if __name__ == "__main__":
    run_command(main)
