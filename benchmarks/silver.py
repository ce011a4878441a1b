"""The silver pipeline end to end on invented notes, killed on the way: the embedded model, and a real server.

    python -m benchmarks.silver [--notes 30] [--kills 3] [--write]

Each run is repeated, killed (-9) at random moments and started again. Its pairs must be the uninterrupted run's byte
for byte, and the logs of both stages must have the same lines, in the order in which answers came; else this ends with
an error.

The server, `transformers serve`, needs the teacher and endpoint extras. Read next: minscl/data/spans/silver.py.
"""

import argparse
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.report import provenance, write_section
from minscl.config import DEMO
from minscl.data.jsonl import write_jsonl
from minscl.data.types import Assignment, CodedDocument
from minscl.model import save_model
from minscl.pretrained import load_pretrained
from study.corpus import invented

LOGS = (".quoted.jsonl", ".chosen.jsonl")  # of the answers of stages 1 and 2, beside the pairs


def start_silver(labels: Path, out: Path, flags: list[str]) -> subprocess.Popen:
    """`minscl.expand silver`, started."""
    command = [sys.executable, "-m", "minscl.expand", "silver", "--notes", str(labels), "--out", str(out), *flags]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> str:
    """Wait for the end; gives stdout. Raises SystemExit where it failed."""
    stdout, stderr = process.communicate()
    if process.returncode:
        raise SystemExit(f"minscl.expand silver ended with status {process.returncode}:\n{stderr[-2000:]}")
    return stdout


def count_answers(out: Path) -> int:
    """Lines of both logs so far."""
    logs = [Path(f"{out}{suffix}") for suffix in LOGS]
    return sum(log.read_bytes().count(b"\n") for log in logs if log.exists())


def compare(name: str, folder: Path, labels: Path, flags: list[str], kills: int) -> str:
    """One run uninterrupted, one killed `kills` times at random moments; gives the table's row."""
    whole, interrupted = folder / f"{name}.jsonl", folder / f"{name}-killed.jsonl"
    began = time.monotonic()
    print(finish(start_silver(labels, whole, flags)))
    seconds, answers = time.monotonic() - began, count_answers(whole)
    killed, answers_when_killed = 0, []
    for moment in sorted(random.Random(name).sample(range(1, answers), kills)):
        process = start_silver(labels, interrupted, flags)
        while process.poll() is None and count_answers(interrupted) < moment:
            time.sleep(0.005)
        killed += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
        answers_when_killed.append(str(count_answers(interrupted)))
    finish(start_silver(labels, interrupted, flags))
    check_equal(name, whole, interrupted)
    pairs = whole.read_bytes().count(b"\n")
    moments = ", ".join(answers_when_killed)
    return f"| {name} | {answers} | {pairs} | {seconds:.0f} | {killed}, after {moments} answers | yes |"


def check_equal(name: str, whole: Path, interrupted: Path) -> None:
    """Raises SystemExit where pairs differ in a byte, or logs in a line."""
    if whole.read_bytes() != interrupted.read_bytes():
        raise SystemExit(f"{name}: the pairs of the killed run differ from those of the uninterrupted run")
    for suffix in LOGS:
        lines, expected = (sorted(Path(f"{out}{suffix}").read_bytes().splitlines()) for out in (interrupted, whole))
        if lines != expected:
            raise SystemExit(f"{name}: {suffix} of the killed run differs from that of the uninterrupted run")


def start_server(folder: Path) -> tuple[subprocess.Popen, str]:
    """(process, address) of `transformers serve` on loopback, with the embedded model as transformers loads it."""
    model, _ = load_pretrained(str(DEMO))
    save_model(model, folder / "model")
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(DEMO / name, folder / "model" / name)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder / "model")]
    with open(folder / "log", "w") as log:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"],
            env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf")},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    while server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return server, f"http://127.0.0.1:{port}/v1"
        time.sleep(0.3)
    raise SystemExit((folder / "log").read_text()[-2000:])


def main() -> None:
    """Run both models; print the table, and with --write put it into docs/benchmarks.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.silver", description=__doc__.splitlines()[0])
    parser.add_argument("--notes", type=int, default=30)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="write the section of docs/benchmarks.md")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, labels = Path(name), Path(name) / "labels.jsonl"
        records = [
            CodedDocument(note.id, note.text, tuple(Assignment(code.code, code.description) for code in note.codes))
            for note in invented("train")[: args.notes]
        ]
        write_jsonl(labels, records)
        rows = [compare("embedded model", folder, labels, [], args.kills)]
        server, address = start_server(folder)
        try:
            flags = ["--endpoint", address, "--model", str(folder / "model")]
            rows.append(compare("transformers serve", folder, labels, flags, args.kills))
        finally:
            server.kill()
            server.wait()
    lines = [
        provenance(),
        "",
        f"{args.notes} invented notes; the embedded model is far too small for the task, so few quotations stand in "
        "their note.",
        "",
        "| model | answers | pairs | seconds, uninterrupted | killed (-9) "
        "| pairs byte-identical, logs line-identical |",
        "|-|-|-|-|-|-|",
        *rows,
    ]
    print("\n".join(lines))
    if args.write:
        write_section("Silver, killed on the way", lines)


if __name__ == "__main__":
    main()
