"""Time and memory of `minscl.evaluate` on a big file with two systems and bootstrap intervals.

    python -m benchmarks.evaluate [--documents 20000] [--rounds 1000] [--write]

Codes are drawn from all billable ones, with Zipf's frequencies; the two systems have 60% and 55% of gold's codes right
and a wrong code in the place of each other one.

Read next: minscl/evaluate.py.
"""

import argparse
import itertools
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.report import provenance, write_section
from minscl.data.icd import CodeBook
from minscl.data.jsonl import write_jsonl
from minscl.data.types import Assignment, CodedDocument

CODES_EACH = 15
SYSTEMS = {"gold": None, "a": 0.6, "b": 0.55}  # file → share of gold's codes that are right; None: gold itself


def draw_documents(number: int, share: float | None) -> Iterator[CodedDocument]:
    """Gold for share None; else predictions with that share of gold's codes. All calls draw the same gold."""
    rng, noise = random.Random(0), random.Random(str(share))
    codes = list(CodeBook.load().billable)
    rng.shuffle(codes)
    cumulative = list(itertools.accumulate(1 / (rank + 10) for rank in range(len(codes))))
    for index in range(number):
        drawn = list(dict.fromkeys(rng.choices(codes, cum_weights=cumulative, k=CODES_EACH)))
        if share is not None:
            drawn = [
                code if noise.random() < share else noise.choices(codes, cum_weights=cumulative)[0] for code in drawn
            ]
        yield CodedDocument(str(index), "", tuple(Assignment(code, "") for code in dict.fromkeys(drawn)))


def main() -> None:
    """Write the files, evaluate them, print time and memory; with --write put them into docs/benchmarks.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evaluate", description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=20000)
    parser.add_argument("--rounds", type=int, default=1000, help="of the bootstrap")
    parser.add_argument("--write", action="store_true", help="write the section of docs/benchmarks.md")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, share in SYSTEMS.items():
            write_jsonl(Path(folder) / f"{name}.jsonl", draw_documents(args.documents, share))
        began = time.monotonic()
        files = [f"--{'gold' if name == 'gold' else 'pred'}={folder}/{name}.jsonl" for name in SYSTEMS]
        subprocess.run(
            [sys.executable, "-m", "minscl.evaluate", *files, "--rounds", str(args.rounds)],
            check=True,
            stderr=subprocess.DEVNULL,
        )
        seconds, memory = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    lines = [
        provenance(),
        "",
        f"{args.documents:,} documents of {CODES_EACH} codes, 2 systems, {args.rounds:,} bootstrap rounds: "
        f"{seconds:.1f} s, peak memory {memory / 2**20:.2f} GB.",
    ]
    print("\n".join(["", *lines]))
    if args.write:
        write_section("Evaluation", lines)


if __name__ == "__main__":
    main()
