"""Table 1 for systems that generate: code the same notes with each, score them, print one table with intervals. Resumable by system and note.

    python -m study.compare --run scl,sft,cot,cot-sc --gold notes.jsonl --out runs/compare [--adapter scl=DIR --adapter sft=DIR]
                            [--train FILE --spans FILE] [-- flags for minscl.generate]

Each system is `python -m minscl.generate --system NAME --out OUT/NAME.jsonl`, which goes on where it was stopped; then minscl.evaluate scores all files.
`scl-grounded` is scl with --grounded. Seconds a note add up over the runs, loading included.

Read next: minscl/infer/systems.py.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from minscl.config import require
from minscl.data.jsonl import read_jsonl, write_jsonl
from minscl.data.types import CodedDocument, Note
from minscl.errors import InputError, replace_file, run_command
from minscl.evaluate import ROUNDS
from minscl.infer.systems import SYSTEMS

NAMES = ("scl", "scl-grounded", *SYSTEMS[1:])


def code_notes(name: str, notes: Path, out: Path, adapter: str, flags: list[str]) -> float:
    """Run one system to its end; gives the seconds it took, over all its runs."""
    clock, began = out / f"{name}.seconds", time.monotonic()
    command = [sys.executable, "-m", "minscl.generate", str(notes), "--system", name.removesuffix("-grounded"), "--out", str(out / f"{name}.jsonl"), *flags]
    command += (["--grounded"] if name.endswith("-grounded") else []) + (["--adapter", adapter] if adapter else [])
    before = float(clock.read_text()) if clock.exists() else 0.0
    if clock.exists() and len((out / f"{name}.jsonl").read_bytes().splitlines()) == len(notes.read_bytes().splitlines()):
        return before  # all are coded
    try:
        done = subprocess.run(command)
    finally:
        with replace_file(clock) as handle:
            handle.write(str(before + time.monotonic() - began))
    if done.returncode not in (0, 2):  # 2: a note was skipped, and generate has said which
        raise InputError(f"{name}: minscl.generate ended with status {done.returncode}; start again, and it goes on")
    return float(clock.read_text())


def score(gold: Path, out: Path, names, flags: list[str]) -> None:
    """Print the table of minscl.evaluate over all systems."""
    files = [part for name in names for part in ("--pred", str(out / f"{name}.jsonl"))]
    if subprocess.run([sys.executable, "-m", "minscl.evaluate", "--gold", str(gold), *files, *flags]).returncode:
        raise InputError(f"{out}: minscl.evaluate refused the files, as said above")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m study.compare", description=__doc__.splitlines()[0])
    parser.add_argument("--run", default="scl,sft,cot,cot-sc", help=f"systems, with commas: {', '.join(NAMES)} (default: %(default)s)")
    parser.add_argument("--gold", required=True, metavar="FILE", help="coded documents: the notes to code, and what to score against")
    parser.add_argument("--out", default="runs/compare", help="folder of the predictions (default: %(default)s)")
    parser.add_argument("--adapter", action="append", default=[], metavar="SYSTEM=DIR", help="the adapter of a system; others have generate's default")
    parser.add_argument("--train", default="", help="as for minscl.evaluate")
    parser.add_argument("--spans", default="", help="as for minscl.evaluate")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of the bootstrap (default: %(default)s)")
    args, flags = parser.parse_known_args()
    names, adapters = args.run.split(","), dict(one.partition("=")[::2] for one in args.adapter)
    for name in (*names, *adapters):
        if name not in NAMES:
            raise InputError(f"--run {name}: choose from {', '.join(NAMES)}")
    out, gold = Path(args.out), require(args.gold, "--gold")
    documents = read_jsonl(gold, CodedDocument)
    write_jsonl(out / "notes.jsonl", [Note(one.id, one.text) for one in documents])
    seconds = {name: code_notes(name, out / "notes.jsonl", out, adapters.get(name, ""), [one for one in flags if one != "--"]) / len(documents) for name in names}
    given = [("--train", args.train), ("--spans", args.spans), ("--rounds", str(args.rounds))]
    score(gold, out, names, [part for flag, value in given if value for part in (flag, value)])
    print("seconds a note: " + ", ".join(f"{name} {one:.2f}" for name, one in seconds.items()))
    with replace_file(out / "seconds.json") as handle:
        json.dump(seconds, handle)
    return 0


if __name__ == "__main__":
    run_command(main)
