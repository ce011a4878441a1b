"""Everything that needs a GPU, in one command for a machine that has one for a few minutes.

    python -m benchmarks.gpu [--minutes 12] [--parts 1,2,3,4] [--out runs/gpu] [--write]   a GPU of 80 GB or more
    python -m benchmarks.gpu --toy                                                         all of it on a CPU, tiny

    1 checks       FlexAttention, CUDA graphs, FSDP2, loading 16 GB, each against its reference (gpu_checks.py)
    2 training     Llama-3.1-8B's shape, LoRA, bfloat16, beside transformers + PEFT (gpu_training.py)
    3 decoding     the same shape, 1, 8 and 64 prompts at once, beside transformers (gpu_decoding.py)
    4 pretraining  the embedded model's base trains on in the time that is left (gpu_pretraining.py)

Weights are random, and no network is used. Each part is a process of its own with a time limit, its share of the time
that is left, so --minutes is kept up to a few seconds. A part writes OUT/PART.json after each measurement, so a hang, a
full memory or a lost machine costs only what was not measured by then; the tables say "not measured" there. A later run
into the same folder replaces the parts that it runs. OUT/results.md holds the sections of all parts; --write puts those
of this run into docs/benchmarks.md.

Read next: gpu_checks.py.
"""

import argparse
import contextlib
import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

NOT_MEASURED = "not measured"
GRACE_SECONDS = 10  # before its limit at which a part should begin no further measurement
MIN_PART_SECONDS = 15  # with less a part is left out


@dataclass(frozen=True)
class Part:
    """`weight`: its share of the time, relative to the others; `function`: "module:name".

    `requires`: packages without which it cannot run at all.
    """

    name: str
    weight: float
    function: str
    requires: tuple[str, ...] = ("torch", "numpy", "safetensors", "tokenizers", "sentencepiece", "tqdm")


PARTS = {
    "1": Part("checks", 2, "benchmarks.gpu_checks:run_checks"),
    "2": Part("training", 4, "benchmarks.gpu_training:run_training"),
    "3": Part("decoding", 4, "benchmarks.gpu_decoding:run_decoding"),
    "4": Part("pretraining", 2, "benchmarks.gpu_pretraining:run_pretraining"),
}
PEERS = ("transformers", "peft", "accelerate")  # without them only their rows are left out


class Record:
    """One part's results, written to `path` after every change: a table and the notes below it.

    A row of the table is "not measured" until it is set. `seconds`: the part's time limit.
    """

    def __init__(self, path: Path, seconds: float, toy: bool):
        self.path, self.toy, self.end = path, toy, time.monotonic() + seconds
        self.content: dict = {"titles": [], "rows": {}, "notes": []}

    def seconds_left(self) -> float:
        """Seconds in which a further measurement may begin."""
        return self.end - GRACE_SECONDS - time.monotonic()

    def plan(self, titles: Iterable[str], names: Iterable[str]) -> None:
        """Set the table's column titles, and its rows by the text of their first column, in order."""
        self.content["titles"], self.content["rows"] = list(titles), {name: [NOT_MEASURED] for name in names}
        self.save()

    def set_row(self, name: str, *cells) -> None:
        """Set the cells of row `name` after the first."""
        self.content["rows"][name] = [str(cell) for cell in cells]
        print(name, *cells, sep=" | ", flush=True)
        self.save()

    def add_note(self, text: str) -> None:
        """Add a line below the table."""
        self.content["notes"].append(text)
        print(text, flush=True)
        self.save()

    def add_figures(self, name: str, figures: dict) -> None:
        """Add raw figures, which only the JSON shows."""
        self.content.setdefault("figures", {})[name] = figures
        self.save()

    def save(self) -> None:
        """Write the JSON."""
        from minscl.files import replace_file

        with replace_file(self.path) as file:
            json.dump(self.content, file, indent=1)


def missing(packages: Iterable[str]) -> list[str]:
    """Those of `packages` that are not installed."""
    return [name for name in packages if importlib.util.find_spec(name) is None]


def run_worker(name: str, out: Path, seconds: float, toy: bool) -> None:
    """The process of the part `name`."""
    import torch

    from benchmarks.report import machine

    record = Record(out / f"{name}.json", seconds, toy)
    record.content["machine"] = machine(*(peer for peer in ("transformers", "peft") if not missing([peer])))
    record.save()
    device = torch.device("cpu" if toy else "cuda")
    if device.type == "cuda":
        torch.cuda.set_device(0)
    [part] = [part for part in PARTS.values() if part.name == name]
    module, function = part.function.split(":")
    getattr(importlib.import_module(module), function)(record, device)


def run_part(part: Part, out: Path, limit: float, toy: bool) -> str:
    """Run one part for at most `limit` seconds; gives how it ended. None of its processes is left afterwards."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--worker", part.name, str(limit), "--out", str(out)]
    command += ["--toy"] if toy else []
    began, log_path = time.monotonic(), out / f"{part.name}.log"
    with open(log_path, "wb") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            return f"stopped at its limit of {limit:.0f} s; what it had measured by then stands"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    seconds = f"{time.monotonic() - began:.0f} s"
    if status:
        last_line = log_path.read_text(errors="replace").strip().splitlines()[-1:] or ["no output"]
        return f"failed after {seconds} with status {status}: {last_line[0][:300]}"
    return f"ended after {seconds}"


def section_lines(content: dict) -> list[str]:
    """A part's Markdown below its heading."""
    command, ended = (content.get(*item) for item in (("command", "python -m benchmarks.gpu"), ("ended", "killed")))
    lines = [f"`{command}`. {content.get('machine', '')}; {ended}.", ""]
    if content.get("titles"):
        columns = len(content["titles"])
        lines += [f"| {' | '.join(content['titles'])} |", "|" + "-|" * columns]
        rows = [[name, *cells, *[""] * (columns - 1 - len(cells))] for name, cells in content["rows"].items()]
        lines += [f"| {' | '.join(row)} |" for row in rows]
        lines += [""]
    return lines + [f"- {note}" for note in content.get("notes", ())]


def write_results(part: Part, out: Path, ended: str, command: str) -> dict:
    """Add how the part ended to its JSON, and write OUT/results.md anew from all parts that are there."""
    from minscl.files import replace_file

    path = out / f"{part.name}.json"
    content = json.loads(path.read_text()) if path.exists() else {}
    content |= {"command": command, "ended": ended}
    with replace_file(path) as file:
        json.dump(content, file, indent=1)
    with replace_file(out / "results.md") as file:
        for name in (part.name for part in PARTS.values()):
            if (out / f"{name}.json").exists():
                lines = section_lines(json.loads((out / f"{name}.json").read_text()))
                file.write("\n".join([f"## GPU: {name}", "", *lines, "", ""]))
    return content


def main() -> int:
    """Read the flags; gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=12, help="for all parts together (default: 12)")
    parts = ", ".join(f"{number} {part.name}" for number, part in PARTS.items())
    parser.add_argument("--parts", default=",".join(PARTS), help=f"which of {parts}")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="folder of results.md and one JSON a part")
    parser.add_argument("--toy", action="store_true", help="every part on a CPU, tiny: whether it runs, not how fast")
    parser.add_argument("--write", action="store_true", help="write the sections of docs/benchmarks.md")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        run_worker(args.worker[0], args.out, float(args.worker[1]), args.toy)
        return 0
    if unknown := set(args.parts.split(",")) - PARTS.keys():
        parser.error(f"--parts {args.parts}: {min(unknown)!r} is none of {', '.join(PARTS)}")
    if args.toy and args.write:
        parser.error("--toy --write: toy figures are no results; leave one of the two out")
    return run_parts(args, time.monotonic() + 60 * args.minutes)


def run_parts(args: argparse.Namespace, end: float) -> int:
    """Part after part until time.monotonic() is `end`; gives the exit status, 1 if any failed."""
    # A signal becomes an exception, so that run_part ends its processes too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    if absent := missing((*PARTS["1"].requires, *PEERS)):
        print(f"not installed: {', '.join(absent)}; what needs them is left out", flush=True)
    if not args.toy and "torch" not in absent and not importlib.import_module("torch").cuda.is_available():
        print("no CUDA device is here; --toy runs every part on a CPU", file=sys.stderr)
        return 2
    args.out.mkdir(parents=True, exist_ok=True)
    selected, failed = [PARTS[number] for number in PARTS if number in args.parts.split(",")], False
    command = " ".join(["python -m benchmarks.gpu", *sys.argv[1:]])
    for index, part in enumerate(selected):
        limit = (end - time.monotonic()) * part.weight / sum(later.weight for later in selected[index:])
        (args.out / f"{part.name}.json").unlink(missing_ok=True)
        if absent := missing(part.requires):
            ended = f"not run: {', '.join(absent)} is not installed here"
        elif limit < MIN_PART_SECONDS:
            ended = f"not run: only {max(0, limit):.0f} s of its time were left"
        else:
            ended = run_part(part, args.out, limit, args.toy)
        content = write_results(part, args.out, ended, command)
        failed |= not ended.startswith("ended")
        failed |= any(cells[0].startswith("failed") for cells in content.get("rows", {}).values())
        print("\n".join([f"## GPU: {part.name}", "", *section_lines(content), ""]), flush=True)
        if args.write:
            from benchmarks.report import write_section

            write_section(f"GPU: {part.name}", section_lines(content))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
