"""What a person sees of a run: the bar while it trains, metrics.jsonl, and loss.png at the end.

metrics.jsonl has one record a step; loss.png is drawn from it where matplotlib is installed (the `plots` extra).

Read next: train.py, which makes the records.
"""

import json
from pathlib import Path

from tqdm import tqdm

from minscl.errors import disk_errors

SMOOTH = 0.95  # weight of what came before in the smoothed loss


class Log:
    """Appends each record to `out`/metrics.jsonl and moves the bar; `shown=False` (a process that does not lead) does neither."""

    def __init__(self, out: Path, first: int, total: int, shown: bool):
        self._file = open(out / "metrics.jsonl", "a", encoding="utf-8") if shown else None
        self._bar = tqdm(total=total, initial=first, unit="step", dynamic_ncols=True, disable=not shown)
        self._loss, self._weight = 0.0, 0.0

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *error) -> None:
        self._bar.close()
        if self._file:
            self._file.close()

    def add(self, record: dict) -> None:
        """One step's record, on disk before the next step begins."""
        if not self._file:
            return
        with disk_errors(self._file.name, "make room and go on with --resume"):
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()
        self._loss, self._weight = (
            SMOOTH * self._loss + (1 - SMOOTH) * record["loss"],
            SMOOTH * self._weight + 1 - SMOOTH,
        )
        self._bar.set_postfix_str(describe(record, self._loss / self._weight), refresh=False)
        self._bar.update()


def describe(record: dict, loss: float) -> str:
    """Epoch, smoothed loss, learning rate, tokens a second with what sharing saved of them, memory."""
    seconds, tokens, computed = record["step_seconds"], record["tokens"], record["computed_tokens"]
    return (
        f"epoch {record['epoch'] + 1}, loss {loss:.3f}, lr {record['lr']:.1e}, {tokens / seconds:,.0f} tokens/s "
        f"({1 - computed / tokens:.0%} saved by sharing), {record['peak_memory_bytes'] / 2**30:.1f} GB"
    )


def plot_losses(out: Path) -> str:
    """Draw `out`/loss.png from its metrics.jsonl; gives a line that says what was done."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return "loss.png: not drawn; pip install 'minscl[plots]' for it"
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes, smoothed, loss, weight = figure.add_subplot(), [], 0.0, 0.0
    for one in records:
        loss, weight = SMOOTH * loss + (1 - SMOOTH) * one["loss"], SMOOTH * weight + 1 - SMOOTH
        smoothed.append(loss / weight)
    steps = [one["step"] for one in records]
    axes.plot(steps, [one["loss"] for one in records], color="0.8", label="each step")
    axes.plot(steps, smoothed, color="C0", label="smoothed")
    axes.set(xlabel="optimiser step", ylabel="loss, nats a target token", ylim=(0, None))
    axes.legend()
    temporary = out / ".loss.png.tmp"
    with disk_errors(out / "loss.png", "make room; the adapter and metrics.jsonl are written"):
        figure.savefig(temporary, format="png", dpi=120)
    temporary.replace(out / "loss.png")
    return f"loss curve: {out / 'loss.png'}"
