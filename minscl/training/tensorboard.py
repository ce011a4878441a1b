"""Progress for TensorBoard (--tensorboard): the numbers of metrics.jsonl as scalars in out/tensorboard.

    tensorboard --logdir runs/scl/tensorboard

A run that starts or is resumed begins a file of events; a resumed one hides the events of the steps that it trains
again. Each step's event is on the disk before the next step begins, as its record in metrics.jsonl is. Needs the
`tensorboard` extra, which is imported here only and encodes the events, by the modules that torch's own SummaryWriter
uses: that one keeps events for seconds, and writes them past the file layer.

Read next: metrics_log.py, whose records these are, and which appends them.
"""

import io
import time
from pathlib import Path
from typing import Any

from minscl.append_file import AppendFile
from minscl.config import RunConfig
from minscl.errors import InputError
from minscl.files import list_folder, make_folders, path_kind, write_errors

FOLDER = "tensorboard"
FILE = "events.out.tfevents.{:04d}"  # TensorBoard looks for "tfevents" and reads files in the order of their names
TRAINING = ("loss", "lr", "grad_norm", "peak_memory_bytes")  # of a step's record
VALIDATION = ("loss", "code_f1", "evidence_f1")


def check_tensorboard(config: RunConfig) -> None:
    """Raises InputError where --tensorboard is asked for and cannot be done, before anything is."""
    if config.tensorboard:
        _protocol()
        folder = Path(config.out) / FOLDER
        if path_kind(folder) not in ("missing", "folder"):
            raise InputError(f"{folder}: not a folder; move it away, or leave --tensorboard out")


def new_events(out: Path) -> AppendFile:
    """A new file in `out`/tensorboard, after those that are there. Raises InputError."""
    folder = out / FOLDER
    with write_errors(folder):
        make_folders(folder, 0o700)
    return AppendFile(folder / FILE.format(len(list_folder(folder)) + 1))


def encode_start(first_step: int) -> bytes:
    """What a file begins with; `first_step`: how many steps are done already. Hides later ones of earlier files."""
    event, _, encode = _protocol()
    now, step = time.time(), first_step + 1
    version = event(wall_time=now, step=step, file_version="brain.Event:2")
    return encode(version) + encode(event(wall_time=now, step=step, session_log={"status": "START"}))


def encode_record(record: dict) -> bytes:
    """The event of a step's record, as it is in metrics.jsonl, or of its "step" and "validation" alone."""
    event, summary, encode = _protocol()
    scalars = {f"train/{name}": record[name] for name in TRAINING if name in record}
    if "tokens" in record:
        scalars["train/tokens_per_second"] = record["tokens"] / record["step_seconds"]
    validation = record.get("validation", {})
    scalars |= {f"validation/{name}": validation[name] for name in VALIDATION if name in validation}
    values = [summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
    return encode(event(wall_time=time.time(), step=record["step"], summary=summary(value=values)))


def _protocol() -> tuple[Any, Any, Any]:
    """(Event, Summary, event → bytes with length and checksums). Raises InputError without the package."""
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter
    except ImportError as error:
        raise InputError(
            f"--tensorboard: the tensorboard package is missing or of another kind ({error}); "
            "pip install 'minscl[tensorboard]', or leave the flag out"
        ) from error

    def encode(event: Any) -> bytes:
        buffer = io.BytesIO()
        RecordWriter(buffer).write(event.SerializeToString())
        return buffer.getvalue()

    return Event, Summary, encode
