"""Progress for TensorBoard (--tensorboard): the numbers of metrics.jsonl as scalars in out/tensorboard.

    tensorboard --logdir runs/scl/tensorboard

The event files are for looking at: what a kill keeps from them is in metrics.jsonl, and a resumed run hides the events
of the steps that it trains again. Needs the `tensorboard` extra, which is imported here only.

Read next: metrics_log.py, whose records these are.
"""

from pathlib import Path
from typing import Any

from minscl.config import RunConfig
from minscl.errors import InputError
from minscl.files import make_folders, write_errors

FOLDER = "tensorboard"
TRAINING = ("loss", "lr", "grad_norm", "peak_memory_bytes")  # of a step's record
VALIDATION = ("loss", "code_f1", "evidence_f1")
FLUSH_SECONDS = 10


def check_tensorboard(config: RunConfig) -> None:
    """Raises InputError where --tensorboard is asked for and not installed, before anything is done."""
    if config.tensorboard:
        _writer_class()


class TensorBoardLog:
    """Writes each record to `out`/tensorboard; `first_step`: how many steps are done already."""

    def __init__(self, out: Path, first_step: int):
        folder = out / FOLDER
        with write_errors(folder):
            make_folders(folder, 0o700)
            self._writer = _writer_class()(folder, purge_step=first_step + 1, flush_secs=FLUSH_SECONDS)

    def add(self, record: dict) -> None:
        """Write the record of a step, as it is in metrics.jsonl."""
        step = record["step"]
        for name in TRAINING:
            self._writer.add_scalar(f"train/{name}", record[name], step)
        self._writer.add_scalar("train/tokens_per_second", record["tokens"] / record["step_seconds"], step)
        for name in VALIDATION:
            if name in record.get("validation", {}):
                self._writer.add_scalar(f"validation/{name}", record["validation"][name], step)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


def _writer_class() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError(
            "--tensorboard: the tensorboard package is not installed; pip install 'minscl[tensorboard]', or leave the "
            "flag out"
        ) from error
    return SummaryWriter
