"""Time and memory of `minscl.evaluate` on a big file: 20,000 documents of 15 codes each, 1,000 bootstrap rounds, two systems.

    python -m benchmarks.evaluate [--documents 20000] [--rounds 1000] [--write]

Codes are drawn from all billable ones, common ones far oftener (Zipf); the two systems keep 60% and 55% of gold's codes and add as many wrong ones.
"""

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.report import source, write_section
from minscl.data.icd import CodeBook
from minscl.data.jsonl import write_jsonl
from minscl.data.types import Assignment, CodedDocument

CODES_EACH = 15


def write(path: Path, documents: int, keep: float | None) -> None:
    """Gold for keep=None; else predictions that keep that share of gold's codes. The same seed draws the same gold for all."""
    rng, noise = random.Random(0), random.Random(str(keep))
    codes = list(CodeBook.load().billable)
    rng.shuffle(codes)
    weights = [1 / (rank + 10) for rank in range(len(codes))]
    total = [0.0]
    for weight in weights:
        total.append(total[-1] + weight)

    def records():
        for number in range(documents):
            gold = list(dict.fromkeys(rng.choices(codes, cum_weights=total[1:], k=CODES_EACH)))
            found = (
                gold
                if keep is None
                else [
                    code if noise.random() < keep else noise.choices(codes, cum_weights=total[1:])[0] for code in gold
                ]
            )
            yield CodedDocument(str(number), "", tuple(Assignment(code, "") for code in dict.fromkeys(found)))

    write_jsonl(path, records())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evaluate", description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=20000)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--write", action="store_true", help="write the section of docs/benchmarks.md")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, keep in (("gold", None), ("a", 0.6), ("b", 0.55)):
            write(Path(folder) / f"{name}.jsonl", args.documents, keep)
        began = time.monotonic()
        files = [f"--{'gold' if name == 'gold' else 'pred'}={folder}/{name}.jsonl" for name in ("gold", "a", "b")]
        subprocess.run(
            [sys.executable, "-m", "minscl.evaluate", *files, "--rounds", str(args.rounds)],
            check=True,
            stderr=subprocess.DEVNULL,
        )
        seconds, memory = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    lines = [
        f"{source()}",
        "",
        f"{args.documents:,} documents of {CODES_EACH} codes, 2 systems, {args.rounds:,} bootstrap rounds: {seconds:.1f} s, peak memory {memory / 2**20:.2f} GB.",
    ]
    print("\n".join(["", *lines]))
    if args.write:
        write_section("Evaluation", lines)


if __name__ == "__main__":
    main()
