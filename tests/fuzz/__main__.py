"""Fuzzes every reader: python -m tests.fuzz [--inputs 20000] [--seed 0] [--kind NAME ...] [--failures FOLDER] [--write]

Prints a line per kind and the total. Exit status 1 where an input failed; its files and what happened are kept in the
folder of failures, and `--kind NAME --seed SEED` tries the same inputs again.
"""

import argparse
import gc
import os
import shlex
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: two processes share the cores
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from benchmarks.report import write_marked
from tests.fuzz import answers, corpora, editions, model_files, records
from tests.fuzz.harness import KindRun, Report

GROUPS = {  # what docs/trust.md calls the kinds of a module
    "models, tokenizers, chat templates, adapters, heads, checkpoints": model_files.KINDS,
    "JSON Lines of every kind, notes, evidence, reviews": records.KINDS,
    "MIMIC-IV, MDACE with NOTEEVENTS, ACI-Bench, CodiEsp": corpora.KINDS,
    "Tabular List, Index, tables, archives, editions, cache": editions.KINDS,
    "answers of models and replies of servers": answers.KINDS,
}
KINDS = [kind for kinds in GROUPS.values() for kind in kinds]
PAGE = Path(__file__).parents[2] / "docs" / "trust.md"


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz every reader of files and answers.")
    parser.add_argument("--inputs", type=int, default=20_000, help="of all kinds together (default: 20000)")
    parser.add_argument("--seed", type=int, default=0, help="another one tries other inputs (default: 0)")
    parser.add_argument("--kind", action="append", metavar="NAME", help=", ".join(kind.name for kind in KINDS))
    parser.add_argument(
        "--failures", default="fuzz-failures", help="folder for failing inputs (default: fuzz-failures)"
    )
    parser.add_argument("--write", action="store_true", help="write the table of docs/trust.md")
    flags = parser.parse_args()
    kinds = [kind for kind in KINDS if not flags.kind or kind.name in flags.kind]
    if not kinds:
        parser.error(f"--kind {flags.kind[0]}: no such kind")
    reports = run_kinds(kinds, flags.seed, flags.inputs, Path(flags.failures).absolute())
    print_table(reports, flags.seed)
    if flags.write:
        write_marked(PAGE, "tests.fuzz", summary(reports))
    return 1 if any(report.failures for report in reports) else 0


def run_kinds(kinds, seed: int, inputs: int, failures: Path) -> list[Report]:
    """The reports of `kinds`, which share `inputs` by their shares; as many at once as there are cores."""
    shares = sum(kind.share for kind in kinds)
    records.book()
    gc.freeze()  # editions collect garbage when they are read, which would go through all modules and the code set
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # where fsync costs nothing
    with tempfile.TemporaryDirectory(prefix="minscl-fuzz-", dir=memory) as working:
        os.environ["XDG_CACHE_HOME"] = str(Path(working, "cache"))  # editions that are read are cached there
        waiting, running, finished = list(kinds), [], []
        while waiting or running:
            while waiting and len(running) < len(os.sched_getaffinity(0)):
                kind = waiting.pop(0)
                running.append(KindRun(kind, seed, -(-inputs * kind.share // shares), Path(working), failures))
            time.sleep(0.1)
            ended = [run for run in running if run.is_finished()]
            running = [run for run in running if run not in ended]
            finished += ended
        return [run.report for run in sorted(finished, key=lambda run: kinds.index(run.kind))]


def print_table(reports: list[Report], seed: int) -> None:
    """A line per kind; failures below."""
    print(
        f"seed {seed}\n{'kind':24} {'inputs':>7} {'read':>7} {'refused':>7} {'failed':>6} {'slowest':>8} {'memory':>8}"
    )
    for report in reports:
        print(
            f"{report.name:24} {report.inputs:7,} {report.accepted:7,} {report.refused:7,} {len(report.failures):6,} "
            f"{report.slowest:6.2f} s {report.memory / 1e6:5.0f} MB"
        )
    failed = sum(len(report.failures) for report in reports)
    print(f"{'total':24} {sum(report.inputs for report in reports):7,} inputs, {failed} failed")
    for report in reports:
        for number, fault in report.failures[:20]:
            print(f"{report.name} input {number}: {fault}", file=sys.stderr)


def summary(reports: list[Report]) -> list[str]:
    """The table of docs/trust.md: a row for each of GROUPS, and the total."""
    command = shlex.join(["python", "-m", "tests.fuzz", *sys.argv[1:]])
    lines = [f"`{command}`, {date.today()}:", "", "| what is read | inputs | used | refused in one line | failed |"]
    lines.append("|-|-|-|-|-|")
    for group, kinds in {**GROUPS, "all": KINDS}.items():
        names = {kind.name for kind in kinds}
        rows = [report for report in reports if report.name in names]
        numbers = [sum(row.inputs for row in rows), sum(row.accepted for row in rows), sum(row.refused for row in rows)]
        numbers.append(sum(len(row.failures) for row in rows))
        lines.append(f"| {group} | " + " | ".join(f"{number:,}" for number in numbers) + " |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
