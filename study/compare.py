"""Table 1 for generative systems: code the same notes with each, score them, print one table with intervals.

    python -m study.compare --run scl,sft,cot,cot-sc --gold notes.jsonl --out runs/compare --adapter sft=DIR
                            [--adapter scl=DIR] [--train FILE --spans FILE] [-- flags for minscl.generate]

Each system is `python -m minscl.generate --system NAME --out OUT/NAME.jsonl`, which resumes where it was interrupted;
OUT/NAME.command.json records the command and its input. Then minscl.evaluate scores all files. `scl` is the
paper's plain generation (--free), `scl-grounded` what `generate` does by default; `scl-evidence` is scl with gold's
evidence ("+ Evid."), so only its codes are scored. cot and cot-sc are zero-shot, on the model without an adapter. No
system has a threshold on scores (--no-calibration). Seconds per note add up over the runs, loading included.

Read next: minscl/infer/systems/.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

from minscl.cli import require
from minscl.command import run_command
from minscl.data.jsonl import read_jsonl, write_jsonl
from minscl.data.types import CodedDocument, Note
from minscl.errors import InputError
from minscl.files import replace_file
from minscl.infer.systems import SYSTEMS
from minscl.score.bootstrap import ROUNDS

WITH_EVIDENCE = "scl-evidence"
NAMES = ("scl", "scl-grounded", WITH_EVIDENCE, *SYSTEMS[1:])


def generate_command(name: str, out: Path, adapter: str, flags: list[str]) -> list[str]:
    """The command by which a system codes the notes in `out`, without "python -m"."""
    system = name if name in SYSTEMS else "scl"
    command = ["minscl.generate", str(out / "notes.jsonl"), "--out", str(out / f"{name}.jsonl"), "--system", system]
    adapter = adapter or ("none" if name.startswith("cot") else "")
    own_flags = {"scl": ["--free"], WITH_EVIDENCE: ["--free", "--evidence", str(out / "gold.jsonl")]}.get(name, [])
    return command + flags + ["--no-calibration"] + own_flags + (["--adapter", adapter] if adapter else [])


def earlier(name: str, out: Path, record: dict) -> dict:
    """`record` with the `seconds` that earlier runs took, and whether they `finished`.

    Raises InputError where the system's file was made by another command or from other notes.
    """
    path, file = out / f"{name}.command.json", out / f"{name}.jsonl"
    if not file.exists() or not file.stat().st_size:
        return {**record, "seconds": 0.0, "finished": False}
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        same = all(saved[key] == value for key, value in record.items())
        saved = {**record, "seconds": float(saved["seconds"]), "finished": saved["finished"] is True}
    except (OSError, ValueError, TypeError, KeyError):
        same = False
    if not same:
        raise InputError(
            f"{file}: made by another command or from other documents than now ({path}); "
            "name another --out, or delete both files"
        )
    return saved


def code_notes(name: str, out: Path, record: dict) -> float:
    """Run a system, unless `record` says that it finished; returns its seconds over all runs."""
    path, file, began = out / f"{name}.command.json", out / f"{name}.jsonl", time.monotonic()
    if record["finished"]:
        return record["seconds"]
    write_record(path, record)
    try:
        status, last_line = run([sys.executable, "-m", *record["command"]])
    finally:
        record = {**record, "seconds": record["seconds"] + time.monotonic() - began}
        write_record(path, record)
    skipped = status == 2 and "notes were skipped" in last_line and file.stat().st_size > 0  # the others are coded
    if status and not skipped:
        raise InputError(
            f"{name}: minscl.generate ended with status {status} ({last_line}); "
            "mend that and start again, it goes on where it was"
        )
    write_record(path, {**record, "finished": True})
    return record["seconds"]


def run(command: list[str]) -> tuple[int, str]:
    """(exit status, last line of stderr) of a command, whose stderr is passed on as it comes."""
    tail = b""
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        for piece in iter(lambda: process.stderr.read1(), b""):
            sys.stderr.buffer.write(piece)
            sys.stderr.buffer.flush()
            tail = (tail + piece)[-1000:]
    lines = tail.decode(errors="replace").strip().splitlines()
    return process.returncode, lines[-1].strip() if lines else ""


def write_record(path: Path, record: dict) -> None:
    """Write `record` to `path` as JSON, atomically."""
    with replace_file(path) as handle:
        json.dump(record, handle)


def score(gold: Path, out: Path, names, flags: list[str]) -> None:
    """Print the table of minscl.evaluate for all systems. Raises InputError where the command fails."""
    files = [part for name in names for part in ("--pred", str(out / f"{name}.jsonl"))]
    files += ["--codes-only", str(out / f"{WITH_EVIDENCE}.jsonl")] if WITH_EVIDENCE in names else []
    if subprocess.run([sys.executable, "-m", "minscl.evaluate", "--gold", str(gold), *files, *flags]).returncode:
        raise InputError(f"{out}: minscl.evaluate refused the files, as said above")


def read_names(run: str, adapters: list[str]) -> tuple[list[str], dict[str, str]]:
    """(systems without repeats, {system: adapter folder}) of the flags. Raises InputError for what they cannot mean."""
    names = list(dict.fromkeys(run.split(",")))
    folders = dict(adapter.partition("=")[::2] for adapter in adapters)
    for name in (*names, *folders):
        if name not in NAMES:
            raise InputError(f"--run {name}: choose from {', '.join(NAMES)}")
    for name, folder in folders.items():
        if not folder:
            raise InputError(f"--adapter {name}: write {name}=DIR, or {name}=none for the model alone")
    if "sft" in names and "sft" not in folders:
        raise InputError("--run sft: needs the adapter that was trained with --no-evidence; give --adapter sft=DIR")
    return names, folders


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m study.compare", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--run", default="scl,sft,cot,cot-sc", help=f"systems, with commas: {', '.join(NAMES)} (default: %(default)s)"
    )
    parser.add_argument(
        "--gold", required=True, metavar="FILE", help="coded documents: the notes to code, and what to score against"
    )
    parser.add_argument("--out", default="runs/compare", help="folder of the predictions (default: %(default)s)")
    parser.add_argument(
        "--adapter",
        action="append",
        default=[],
        metavar="SYSTEM=DIR",
        help="adapter of a system; required for sft; cot and cot-sc have none, others the default of generate",
    )
    parser.add_argument("--train", default="", help="as for minscl.evaluate")
    parser.add_argument("--spans", default="", help="as for minscl.evaluate")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="bootstrap rounds (default: %(default)s)")
    args, flags = parser.parse_known_args()
    names, adapters = read_names(args.run, args.adapter)
    out, gold = Path(args.out), require(args.gold, "--gold")
    documents = read_jsonl(gold, CodedDocument)
    if not documents:
        raise InputError(f"--gold {gold}: contains no document; give coded documents, one per line")
    write_jsonl(out / "notes.jsonl", [Note(document.id, document.text) for document in documents])
    write_jsonl(out / "gold.jsonl", documents)
    hashes = {file: hashlib.sha256((out / file).read_bytes()).hexdigest() for file in ("notes.jsonl", "gold.jsonl")}
    records = {}
    for name in names:
        inputs = ("notes.jsonl", "gold.jsonl") if name == WITH_EVIDENCE else ("notes.jsonl",)
        command = generate_command(name, out, adapters.get(name, ""), [flag for flag in flags if flag != "--"])
        records[name] = earlier(name, out, {"command": command, "sha256": {file: hashes[file] for file in inputs}})
    seconds = {name: code_notes(name, out, record) / len(documents) for name, record in records.items()}
    settings = [("--train", args.train), ("--spans", args.spans), ("--rounds", str(args.rounds))]
    score(out / "gold.jsonl", out, names, [part for flag, value in settings if value for part in (flag, value)])
    print("seconds a note: " + ", ".join(f"{name} {per_note:.2f}" for name, per_note in seconds.items()))
    write_record(out / "seconds.json", seconds)
    return 0


if __name__ == "__main__":
    run_command(main)
