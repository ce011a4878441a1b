"""Table 1 for systems that generate: code the same notes with each, score them, print one table with intervals. Resumable by system and note.

    python -m study.compare --run scl,sft,cot,cot-sc --gold notes.jsonl --out runs/compare --adapter sft=DIR [--adapter scl=DIR]
                            [--train FILE --spans FILE] [-- flags for minscl.generate]

Each system is `python -m minscl.generate --system NAME --out OUT/NAME.jsonl`, which goes on where it was stopped; OUT/NAME.command.json says how and on
what. Then minscl.evaluate scores all files. `scl-grounded` is scl with --grounded; `scl-evidence` is given gold's evidence ("+ Evid."), so its
own is not scored. cot and cot-sc are zero-shot, on the model without an adapter. Seconds a note add up over the runs, loading included.

Read next: minscl/infer/systems.py.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

from minscl.cli import require, run_command
from minscl.data.jsonl import read_jsonl, write_jsonl
from minscl.data.types import CodedDocument, Note
from minscl.errors import InputError, replace_file
from minscl.score.bootstrap import ROUNDS
from minscl.infer.systems import SYSTEMS

GIVEN = "scl-evidence"
NAMES = ("scl", "scl-grounded", GIVEN, *SYSTEMS[1:])


def generate_command(name: str, out: Path, adapter: str, flags: list[str]) -> list[str]:
    """How a system codes the notes of `out`, after "python -m"."""
    system = name if name in SYSTEMS else "scl"
    command = ["minscl.generate", str(out / "notes.jsonl"), "--out", str(out / f"{name}.jsonl"), "--system", system]
    adapter = adapter or ("none" if name.startswith("cot") else "")
    own = {"scl-grounded": ["--grounded"], GIVEN: ["--evidence", str(out / "gold.jsonl")]}.get(name, [])
    return command + flags + own + (["--adapter", adapter] if adapter else [])


def earlier(name: str, out: Path, record: dict) -> dict:
    """`record` with the `seconds` that earlier runs took, and whether they `finished`. Raises InputError where the system's file was made otherwise."""
    path, file = out / f"{name}.command.json", out / f"{name}.jsonl"
    if not file.exists() or not file.stat().st_size:
        return {**record, "seconds": 0.0, "finished": False}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        same = all(found[key] == value for key, value in record.items())
        found = {**record, "seconds": float(found["seconds"]), "finished": found["finished"] is True}
    except (OSError, ValueError, TypeError, KeyError):
        same = False
    if not same:
        raise InputError(
            f"{file}: made by another command or from other documents than now ({path}); name another --out, or delete both files"
        )
    return found


def code_notes(name: str, out: Path, record: dict) -> float:
    """Run one system to its end, unless `record` says it is there; gives the seconds it took, over all its runs."""
    path, file, began = out / f"{name}.command.json", out / f"{name}.jsonl", time.monotonic()
    if record["finished"]:
        return record["seconds"]
    keep(path, record)
    try:
        status, said = run([sys.executable, "-m", *record["command"]])
    finally:
        record = {**record, "seconds": record["seconds"] + time.monotonic() - began}
        keep(path, record)
    skipped = status == 2 and "notes were skipped" in said and file.stat().st_size > 0  # the others are coded
    if status and not skipped:
        raise InputError(
            f"{name}: minscl.generate ended with status {status} ({said}); mend that and start again, it goes on where it was"
        )
    keep(path, {**record, "finished": True})
    return record["seconds"]


def run(command: list[str]) -> tuple[int, str]:
    """(exit status, last line on stderr) of a command; what it writes there is passed on as it comes."""
    said = b""
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        for piece in iter(lambda: process.stderr.read1(), b""):
            sys.stderr.buffer.write(piece)
            sys.stderr.buffer.flush()
            said = (said + piece)[-1000:]
    lines = said.decode(errors="replace").strip().splitlines()
    return process.returncode, lines[-1].strip() if lines else ""


def keep(path: Path, record: dict) -> None:
    with replace_file(path) as handle:
        json.dump(record, handle)


def score(gold: Path, out: Path, names, flags: list[str]) -> None:
    """Print the table of minscl.evaluate over all systems."""
    files = [part for name in names for part in ("--pred", str(out / f"{name}.jsonl"))]
    files += ["--codes-only", str(out / f"{GIVEN}.jsonl")] if GIVEN in names else []
    if subprocess.run([sys.executable, "-m", "minscl.evaluate", "--gold", str(gold), *files, *flags]).returncode:
        raise InputError(f"{out}: minscl.evaluate refused the files, as said above")


def read_names(run: str, adapters: list[str]) -> tuple[list[str], dict[str, str]]:
    """(systems, each once; adapter folders by system), checked."""
    names, folders = list(dict.fromkeys(run.split(","))), dict(one.partition("=")[::2] for one in adapters)
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
        help="the adapter of a system; needed for sft; cot and cot-sc have none, others generate's default",
    )
    parser.add_argument("--train", default="", help="as for minscl.evaluate")
    parser.add_argument("--spans", default="", help="as for minscl.evaluate")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of the bootstrap (default: %(default)s)")
    args, flags = parser.parse_known_args()
    names, adapters = read_names(args.run, args.adapter)
    out, gold = Path(args.out), require(args.gold, "--gold")
    documents = read_jsonl(gold, CodedDocument)
    if not documents:
        raise InputError(f"--gold {gold}: no document in there; give coded documents, one a line")
    write_jsonl(out / "notes.jsonl", [Note(one.id, one.text) for one in documents])
    write_jsonl(out / "gold.jsonl", documents)
    hashes = {one: hashlib.sha256((out / one).read_bytes()).hexdigest() for one in ("notes.jsonl", "gold.jsonl")}
    records = {}
    for name in names:
        read = ("notes.jsonl", "gold.jsonl") if name == GIVEN else ("notes.jsonl",)
        command = generate_command(name, out, adapters.get(name, ""), [one for one in flags if one != "--"])
        records[name] = earlier(name, out, {"command": command, "sha256": {one: hashes[one] for one in read}})
    seconds = {name: code_notes(name, out, record) / len(documents) for name, record in records.items()}
    given = [("--train", args.train), ("--spans", args.spans), ("--rounds", str(args.rounds))]
    score(out / "gold.jsonl", out, names, [part for flag, value in given if value for part in (flag, value)])
    print("seconds a note: " + ", ".join(f"{name} {one:.2f}" for name, one in seconds.items()))
    keep(out / "seconds.json", seconds)
    return 0


if __name__ == "__main__":
    run_command(main)
