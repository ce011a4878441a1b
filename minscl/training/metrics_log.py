"""Progress of a run: the progress bar while it trains, metrics.jsonl, and loss.png at the end.

metrics.jsonl has one record per step, that of a validated step with the scores under "validation"; loss.png is drawn
from it where Pillow is installed (the `plots` extra).

Read next: loop.py, which makes the records; loss_plot.py, the picture.
"""

import codecs
import json
import logging
import math
from pathlib import Path
from typing import Any

from tqdm import tqdm

from minscl.append_file import AppendFile
from minscl.errors import InputError
from minscl.files import path_kind, read_bytes, replace_file
from minscl.training.checkpoint import newest_checkpoint
from minscl.training.loss_plot import draw_losses
from minscl.training.tensorboard import encode_record, encode_start, new_events

LOG = logging.getLogger("minscl")
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
    """Appends each record to `out`/metrics.jsonl and moves the progress bar; does nothing unless `enabled`.

    `tensorboard`: write them to `out`/tensorboard too.
    """

    def __init__(self, out: Path, first_step: int, total_steps: int, enabled: bool, tensorboard: bool = False):
        self._file = AppendFile(out / "metrics.jsonl") if enabled else None
        self._events = new_events(out) if enabled and tensorboard else None
        self._out, self._smoothed_loss = out, SmoothedLoss()
        if self._events:
            self._append(self._events, encode_start(first_step))
        self._bar = tqdm(total=total_steps, initial=first_step, unit="step", dynamic_ncols=True, disable=not enabled)
        self._validation = ""  # the newest scores, for the bar

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()
        for file in filter(None, (self._file, self._events)):
            file.close()

    def add(self, record: dict) -> None:
        """Write one step's record before the next step begins. Raises InputError where that fails."""
        if not self._file:
            return
        self._append(self._file, json.dumps(record).encode() + b"\n")
        if self._events:
            self._append(self._events, encode_record(record))
        if "validation" in record:
            self._validation = describe_validation(record["validation"])
        progress = describe(record, self._smoothed_loss.update(record["loss"]))
        self._bar.set_postfix_str(progress + self._validation, refresh=False)
        self._bar.update()

    def add_late_validation(self, step: int, scores: dict) -> None:
        """To TensorBoard's files the scores of a step whose record metrics.jsonl has already."""
        if self._events:
            self._append(self._events, encode_record({"step": step, "validation": scores}))

    def _append(self, file: AppendFile, content: bytes) -> None:
        try:
            file.append(content)
        except InputError as error:
            reason = getattr(error.__cause__, "strerror", None) or error
            has_checkpoint = newest_checkpoint(self._out / "checkpoints") is not None
            remedy = "continue with --resume" if has_checkpoint else "begin again with another --out"
            raise InputError(f"{file.path}: cannot be written ({reason}); free some space and {remedy}") from error


def describe(record: dict, smoothed_loss: float) -> str:
    """Epoch, smoothed loss, learning rate, tokens per second, share of tokens saved by shared prefixes, memory."""
    seconds, tokens, computed = record["step_seconds"], record["tokens"], record["computed_tokens"]
    saved = f" ({1 - computed / tokens:.0%} saved by sharing)" if computed < tokens else ""  # a head's windows overlap
    return (
        f"epoch {record['epoch'] + 1}, loss {smoothed_loss:.3f}, lr {record['lr']:.1e}, "
        f"{tokens / seconds:,.0f} tokens/s{saved}, "
        f"{record['peak_memory_bytes'] / 2**30:.1f} GiB"
    )


def describe_validation(scores: dict) -> str:
    """Loss, code and evidence F1 of the held-out documents, as far as there are such."""
    names = {"code_f1": "code F1", "evidence_f1": "evidence F1"}
    shown = "".join(f", {label} {scores[name]:.3f}" for name, label in names.items() if name in scores)
    return f", held-out loss {scores['loss']:.3f}{shown}"


def truncate_metrics(path: Path, step: int) -> None:
    """Drop what metrics.jsonl has after the record of `step`, the checkpoint's: those steps are trained again.

    A file that does not reach that record is named in the log, for its loss.png will have a gap. Raises InputError
    naming the first line up to that record which is not the record of a step after the line above it.
    """
    is_missing = path_kind(path) == "missing"
    content = b"" if is_missing else read_bytes(path, "move it away and continue with --resume")
    content = content.removeprefix(codecs.BOM_UTF8)
    lines, last_step = [], 0
    for number, line in enumerate(content.split(b"\n"), 1):
        record = read_loss(line)
        if record is not None and last_step < record[0] <= step:
            lines.append(line)
            last_step = record[0]
        elif last_step >= step or (record is not None and record[0] > step):  # the latter where steps are missing
            break
        elif line.strip():
            raise InputError(
                f"{path}, line {number}: not the record of a step after step {last_step}; remove the line and continue "
                "with --resume"
            )
    if last_step < step:
        state = "is missing" if is_missing else f"ends before step {last_step + 1:,}"
        LOG.warning(
            "minscl: %s %s, so it and loss.png lack steps up to %s; to have them, stop, restore it and --resume again",
            path,
            state,
            f"{step:,}",
        )
    kept = b"".join(line + b"\n" for line in lines)
    if kept != content:
        with replace_file(path, "wb") as file:
            file.write(kept)


def add_to_last_record(path: Path, step: int, values: dict) -> None:
    """Add `values` to the last record of metrics.jsonl, atomically, where it is that of `step`."""
    if path_kind(path) == "missing":
        return
    lines = read_bytes(path, "move it away and continue with --resume").splitlines(keepends=True)
    if lines and (read_loss(lines[-1]) or (0, 0))[0] == step:
        lines[-1] = json.dumps(json.loads(lines[-1]) | values).encode() + b"\n"
        with replace_file(path, "wb") as file:
            file.writelines(lines)


def read_validation(line: bytes) -> tuple[int, float, float | None] | None:
    """(step, held-out loss, code F1 or None) of a line of metrics.jsonl; None where the line has no such scores."""
    if (record := read_loss(line)) is None:
        return None
    scores = json.loads(line.decode("utf-8")).get("validation")
    if not isinstance(scores, dict):
        return None
    loss, code_f1 = (_finite(scores.get(name)) for name in ("loss", "code_f1"))
    return None if loss is None else (record[0], loss, code_f1)


def _finite(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) and abs(value) < 1e300 else None


def read_loss(line: bytes) -> tuple[int, float] | None:
    """(step, loss) of a line of metrics.jsonl; None where the line is not a record of a step."""
    try:
        record = json.loads(line.decode("utf-8"))
        step, loss = record["step"], record["loss"]
        return (step, float(loss)) if type(step) is int and type(loss) in (int, float) else None
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None


def plot_losses(out: Path) -> str:
    """Draw `out`/loss.png from its metrics.jsonl; returns a line for the user. Raises InputError where that fails."""
    if path_kind(out / "metrics.jsonl") == "missing":  # a finished run was resumed without it
        return "loss.png: not drawn; metrics.jsonl is missing"
    lines = read_bytes(out / "metrics.jsonl", "the adapter is written").split(b"\n")
    losses = [record for record in map(read_loss, lines) if record and math.isfinite(record[1])]
    validations = [scores for scores in map(read_validation, lines) if scores]
    smoothed = SmoothedLoss()
    try:
        picture = draw_losses(
            losses,
            [(step, smoothed.update(loss)) for step, loss in losses],
            [(step, loss) for step, loss, _ in validations],
            [(step, code_f1) for step, _, code_f1 in validations if code_f1 is not None],
        )
    except ImportError:
        return "loss.png: not drawn; pip install 'minscl[plots]' for it"
    with replace_file(out / "loss.png", "wb") as file:
        file.write(picture)
    return f"loss curve: {out / 'loss.png'}"
