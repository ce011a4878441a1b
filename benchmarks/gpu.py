"""Everything that needs a GPU, in one command for a machine that has one for a few minutes.

    python -m benchmarks.gpu [--minutes 12] [--parts 1,2,3,4] [--out runs/gpu] [--write]   a GPU of 80 GB or more
    python -m benchmarks.gpu --toy                                                         all of it on a CPU, tiny

    1 checks       FlexAttention, CUDA graphs, FSDP2, loading 16 GB, each against what it must equal (gpu_checks.py)
    2 training     Llama-3.1-8B's shape, LoRA, bfloat16, beside transformers + PEFT (gpu_training.py)
    3 decoding     the same shape, 1, 8 and 64 prompts at once, beside transformers (gpu_decoding.py)
    4 pretraining  the embedded model's base trains on with the time that is left (gpu_training.py)

Weights are random, and no network is used. Each part is a process of its own with a time limit: its share of the time
that is left. It keeps what it has measured in OUT/PART.json, after each single measurement, so a hang, a full memory or
the end of the machine's time costs what was not measured by then and no more; the tables say "not measured" there. A
later run into the same folder replaces the parts that it runs. OUT/results.md holds the sections of all parts; --write
puts those of this run into docs/benchmarks.md.
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
from dataclasses import dataclass
from pathlib import Path

if not __package__:  # started as a file, not with -m
    sys.path.insert(0, str(Path(__file__).parents[1]))

NOT_MEASURED = "not measured"
GRACE = 10  # seconds before its limit at which a part should begin nothing new
WORTH_STARTING = 15  # seconds; with less a part is left out


@dataclass(frozen=True)
class Part:
    """`weight`: its share of the time; `run`: module and function; `needs`: packages without which it cannot run at
    all."""

    name: str
    weight: float
    run: str
    needs: tuple[str, ...] = ("torch", "numpy", "safetensors", "tokenizers", "sentencepiece", "tqdm")


PARTS = {
    "1": Part("checks", 2, "benchmarks.gpu_checks:run_checks"),
    "2": Part("training", 4, "benchmarks.gpu_training:training"),
    "3": Part("decoding", 4, "benchmarks.gpu_decoding:decoding"),
    "4": Part("pretraining", 2, "benchmarks.gpu_training:pretraining"),
}
PEERS = ("transformers", "peft", "accelerate")  # without them their rows alone are left out


class Record:
    """One part's results, on disk after every change: a table whose planned rows are "not measured" until they are, and
    notes below it."""

    def __init__(self, path: Path, seconds: float, toy: bool):
        self.path, self.toy, self.end = path, toy, time.monotonic() + seconds
        self.content: dict = {"titles": [], "rows": {}, "notes": []}

    def left(self) -> float:
        """Seconds in which something new may begin."""
        return self.end - GRACE - time.monotonic()

    def plan(self, titles, names) -> None:
        """The table's column titles, and its rows by their first column's text, in order."""
        self.content["titles"], self.content["rows"] = list(titles), {name: [NOT_MEASURED] for name in names}
        self.save()

    def row(self, name: str, *cells) -> None:
        self.content["rows"][name] = [str(cell) for cell in cells]
        print(name, *cells, sep=" | ", flush=True)
        self.save()

    def note(self, text: str) -> None:
        self.content["notes"].append(text)
        print(text, flush=True)
        self.save()

    def keep(self, **values) -> None:
        """Raw figures, for the JSON alone."""
        self.content.setdefault("figures", {}).update(values)
        self.save()

    def save(self) -> None:
        from minscl.errors import replace_file

        with replace_file(self.path) as out:
            json.dump(self.content, out, indent=1)


def missing(packages) -> list[str]:
    return [name for name in packages if importlib.util.find_spec(name) is None]


def work(name: str, out: Path, seconds: float, toy: bool) -> None:
    """The process of one part."""
    import torch

    from benchmarks.report import machine

    record = Record(out / f"{name}.json", seconds, toy)
    packages = [importlib.import_module(peer) for peer in ("transformers", "peft") if not missing([peer])]
    record.content["machine"] = machine(*packages)
    record.save()
    device = torch.device("cpu" if toy else "cuda")
    if device.type == "cuda":
        torch.cuda.set_device(0)
    [part] = [part for part in PARTS.values() if part.name == name]
    module, function = part.run.split(":")
    getattr(importlib.import_module(module), function)(record, device)


def run_part(part: Part, out: Path, limit: float, toy: bool) -> str:
    """Run one part for at most `limit` seconds; gives how it ended. Whatever happens its processes are gone
    afterwards."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--worker", part.name, str(limit), "--out", str(out)]
    command += ["--toy"] if toy else []
    began, log = time.monotonic(), out / f"{part.name}.log"
    with open(log, "wb") as sink:
        process = subprocess.Popen(
            command,
            stdout=sink,
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
    took = f"{time.monotonic() - began:.0f} s"
    if status:
        last = log.read_text(errors="replace").strip().splitlines()[-1:] or ["no output"]
        return f"failed after {took} with status {status}: {last[0][:300]}"
    return f"ended after {took}"


def section(content: dict) -> list[str]:
    """A part's Markdown below its heading."""
    lines = [f"`{content['command']}`. {content.get('machine', '')}; {content['ended']}.", ""]
    if content.get("titles"):
        cells = len(content["titles"])
        lines += [f"| {' | '.join(content['titles'])} |", "|" + "-|" * cells]
        rows = [[name, *row, *[""] * (cells - 1 - len(row))] for name, row in content["rows"].items()]
        lines += [f"| {' | '.join(row)} |" for row in rows]
        lines += [""]
    return lines + [f"- {note}" for note in content.get("notes", ())]


def keep_results(part: Part, out: Path, ended: str, command: str) -> dict:
    """Add how the part ended to its JSON, and write OUT/results.md anew from all parts that are there."""
    from minscl.errors import replace_file

    path = out / f"{part.name}.json"
    content = json.loads(path.read_text()) if path.exists() else {}
    content |= {"command": command, "ended": ended}
    with replace_file(path) as handle:
        json.dump(content, handle, indent=1)
    with replace_file(out / "results.md") as handle:
        for name in (part.name for part in PARTS.values()):
            if (out / f"{name}.json").exists():
                lines = section(json.loads((out / f"{name}.json").read_text()))
                handle.write("\n".join([f"## GPU: {name}", "", *lines, "", ""]))
    return content


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=12, help="for all parts together")
    parts = ", ".join(f"{number} {part.name}" for number, part in PARTS.items())
    parser.add_argument("--parts", default=",".join(PARTS), help=f"which of {parts}")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="folder of results.md and one JSON a part")
    parser.add_argument("--toy", action="store_true", help="every part on a CPU, tiny: whether it runs, not how fast")
    parser.add_argument("--write", action="store_true", help="write the sections of docs/benchmarks.md")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.worker[0], args.out, float(args.worker[1]), args.toy)
        return 0
    if unknown := set(args.parts.split(",")) - PARTS.keys():
        parser.error(f"--parts {args.parts}: {min(unknown)!r} is none of {', '.join(PARTS)}")
    if args.toy and args.write:
        parser.error("--toy --write: toy figures are no results; leave one of the two out")
    return run_parts(args, time.monotonic() + 60 * args.minutes)


def run_parts(args, end: float) -> int:
    """Part after part; gives the exit status, 1 if any failed."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that run_part's processes end too
    if absent := missing((*PARTS["1"].needs, *PEERS)):
        print(f"not installed: {', '.join(absent)}; what needs them is left out", flush=True)
    if not args.toy and "torch" not in absent and not importlib.import_module("torch").cuda.is_available():
        print("no CUDA device is here; --toy runs every part on a CPU", file=sys.stderr)
        return 2
    args.out.mkdir(parents=True, exist_ok=True)
    chosen, failed = [PARTS[number] for number in PARTS if number in args.parts.split(",")], False
    command = " ".join(["python -m benchmarks.gpu", *sys.argv[1:]])
    for place, part in enumerate(chosen):
        left = end - time.monotonic()
        limit = left * part.weight / sum(later.weight for later in chosen[place:])
        (args.out / f"{part.name}.json").unlink(missing_ok=True)
        if lacking := missing(part.needs):
            ended = f"not run: {', '.join(lacking)} is not installed here"
        elif limit < WORTH_STARTING:
            ended = f"not run: of its time {limit:.0f} s were left"
        else:
            ended = run_part(part, args.out, limit, args.toy)
        failed = failed or not ended.startswith("ended")
        content = keep_results(part, args.out, ended, command)
        print("\n".join([f"## GPU: {part.name}", "", *section(content), ""]), flush=True)
        failed = failed or any(cells[0].startswith("failed") for cells in content.get("rows", {}).values())
        if args.write:
            from benchmarks.report import write_section

            write_section(f"GPU: {part.name}", section(content))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
