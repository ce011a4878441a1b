"""The silver pipeline end to end on 30 invented notes: with the embedded model, and through a real server; each killed three times on the way.

    python -m benchmarks.silver [--notes 30] [--kills 3] [--write]        (the server needs the teacher and endpoint extras)

The pairs of the killed run must be the uninterrupted run's byte for byte, and both journals its lines, whose order is that in which answers came;
anything else ends this with an error.
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

from benchmarks.report import source, write_section
from minscl.config import DEMO
from minscl.data.jsonl import write_jsonl
from minscl.data.types import Assignment, CodedDocument
from minscl.model import save_model
from minscl.pretrained import load_pretrained
from study.notes import documents

FILES = ("", ".quoted.jsonl", ".chosen.jsonl")


def silver(labels: Path, out: Path, flags: list[str]) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "minscl.expand", "silver", "--notes", str(labels), "--out", str(out), *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(run: subprocess.Popen) -> str:
    out, err = run.communicate()
    if run.returncode:
        raise SystemExit(f"minscl.expand silver ended with status {run.returncode}:\n{err[-2000:]}")
    return out


def compare(name: str, folder: Path, labels: Path, flags: list[str], kills: int) -> list[str]:
    """One run whole, one killed `kills` times at random moments; rows of the table."""
    began = time.monotonic()
    counts = finish(silver(labels, folder / f"{name}.jsonl", flags))
    seconds, rng = time.monotonic() - began, random.Random(name)
    journals, killed, at = [folder / f"{name}-killed.jsonl{part}" for part in FILES[1:]], 0, []
    answers = sum((folder / f"{name}.jsonl{part}").read_bytes().count(b"\n") for part in FILES[1:])
    moments = sorted(rng.sample(range(1, answers), kills))
    for moment in moments:
        run = silver(labels, folder / f"{name}-killed.jsonl", flags)
        while run.poll() is None and sum(path.read_bytes().count(b"\n") for path in journals if path.exists()) < moment:
            time.sleep(0.005)
        killed += run.poll() is None
        run.send_signal(signal.SIGKILL)
        run.communicate()
        at.append(sum(path.read_bytes().count(b"\n") for path in journals if path.exists()))
    finish(silver(labels, folder / f"{name}-killed.jsonl", flags))
    for part in FILES:
        whole, pieces = (
            path.read_bytes() for path in (folder / f"{name}.jsonl{part}", folder / f"{name}-killed.jsonl{part}")
        )
        if whole != pieces and (not part or sorted(whole.splitlines()) != sorted(pieces.splitlines())):
            raise SystemExit(f"{name}: {part or 'the pairs'} differ after {killed} kills")
    pairs = (folder / f"{name}.jsonl").read_bytes().count(b"\n")
    print(counts)
    return [
        f"| {name} | {answers} | {pairs} | {seconds:.0f} | {killed}, after {', '.join(map(str, at))} answers | yes |"
    ]


def serve(folder: Path):
    """(process, address) of `transformers serve` on loopback, with the embedded model as transformers reads it."""
    model, _ = load_pretrained(DEMO)
    save_model(model, folder / "model")
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(DEMO / name, folder / "model" / name)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "transformers.cli.transformers",
            "serve",
            str(folder / "model"),
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--device",
            "cpu",
        ],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf")},
        stdout=(folder / "log").open("w"),
        stderr=subprocess.STDOUT,
    )
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return server, f"http://127.0.0.1:{port}/v1"
        if server.poll() is not None:
            raise SystemExit((folder / "log").read_text()[-2000:])
        time.sleep(0.3)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.silver", description=__doc__.splitlines()[0])
    parser.add_argument("--notes", type=int, default=30)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="write the section of docs/benchmarks.md")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        notes = documents("train")[: args.notes]
        write_jsonl(
            folder / "labels.jsonl",
            [
                CodedDocument(one.id, one.text, tuple(Assignment(code.code, code.description) for code in one.codes))
                for one in notes
            ],
        )
        rows = compare("embedded model", folder, folder / "labels.jsonl", [], args.kills)
        server, address = serve(folder)
        try:
            rows += compare(
                "transformers serve",
                folder,
                folder / "labels.jsonl",
                ["--endpoint", address, "--model", str(folder / "model")],
                args.kills,
            )
        finally:
            server.kill()
            server.wait()
    lines = [
        f"{source()}",
        "",
        f"{args.notes} invented notes; the embedded model is far too small for the task, so few quotations stand in their note.",
        "",
        "| who answers | answers | pairs | seconds, uninterrupted | killed (-9) | pairs the same, byte for byte; journals line for line |",
        "|-|-|-|-|-|-|",
        *rows,
    ]
    print("\n".join(lines))
    if args.write:
        write_section("Silver, killed on the way", lines)


if __name__ == "__main__":
    main()
