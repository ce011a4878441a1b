"""Progress of a run: the progress bar while it trains, metrics.jsonl, and loss.png at the end.

metrics.jsonl has one record per step; loss.png is drawn from it where matplotlib is installed (the `plots` extra).

Read next: loop.py, which makes the records.
"""

import json
from pathlib import Path

from tqdm import tqdm

from minscl.errors import disk_errors

SMOOTHING = 0.95  # weight of the past in the smoothed loss


class SmoothedLoss:
    """Exponential moving average, corrected for its start as Adam's moments are: the first value is the first loss."""

    def __init__(self) -> None:
        self._loss, self._weight = 0.0, 0.0

    def update(self, loss: float) -> float:
        """Add the loss of one step; returns the average."""
        self._loss = SMOOTHING * self._loss + (1 - SMOOTHING) * loss
        self._weight = SMOOTHING * self._weight + 1 - SMOOTHING
        return self._loss / self._weight


class MetricsLog:
    """Appends each record to `out`/metrics.jsonl and moves the progress bar; does nothing unless `enabled`."""

    def __init__(self, out: Path, first_step: int, total_steps: int, enabled: bool):
        path = out / "metrics.jsonl"
        self._file = open(path, "a", encoding="utf-8") if enabled else None  # noqa: SIM115 (closed in __exit__)
        self._bar = tqdm(total=total_steps, initial=first_step, unit="step", dynamic_ncols=True, disable=not enabled)
        self._smoothed_loss = SmoothedLoss()

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()
        if self._file:
            self._file.close()

    def add(self, record: dict) -> None:
        """Write one step's record before the next step begins. Raises InputError where the disk is full."""
        if not self._file:
            return
        with disk_errors(self._file.name, "free some space and continue with --resume"):
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()
        self._bar.set_postfix_str(describe(record, self._smoothed_loss.update(record["loss"])), refresh=False)
        self._bar.update()


def describe(record: dict, smoothed_loss: float) -> str:
    """Epoch, smoothed loss, learning rate, tokens per second, share of tokens saved by shared prefixes, memory."""
    seconds, tokens, computed = record["step_seconds"], record["tokens"], record["computed_tokens"]
    return (
        f"epoch {record['epoch'] + 1}, loss {smoothed_loss:.3f}, lr {record['lr']:.1e}, "
        f"{tokens / seconds:,.0f} tokens/s ({1 - computed / tokens:.0%} saved by sharing), "
        f"{record['peak_memory_bytes'] / 2**30:.1f} GB"
    )


def plot_losses(out: Path) -> str:
    """Draw `out`/loss.png from its metrics.jsonl; returns a line for the user. Raises InputError on a full disk."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return "loss.png: not drawn; pip install 'minscl[plots]' for it"
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    steps, losses = [record["step"] for record in records], [record["loss"] for record in records]
    smoothed = SmoothedLoss()
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(steps, losses, color="0.8", label="each step")
    axes.plot(steps, [smoothed.update(loss) for loss in losses], color="C0", label="smoothed")
    axes.set(xlabel="optimiser step", ylabel="loss, nats per target token", ylim=(0, None))
    axes.legend()
    temporary = out / ".loss.png.tmp"
    with disk_errors(out / "loss.png", "free some space; the adapter and metrics.jsonl are written"):
        figure.savefig(temporary, format="png", dpi=120)
    temporary.replace(out / "loss.png")
    return f"loss curve: {out / 'loss.png'}"
