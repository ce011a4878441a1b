"""The folder of a run, --out: what may be written there, and how the run multiplied its matrices.

    out/run.json                                              the settings
    out/metrics.jsonl, loss.png                               one record per step, and the loss curve
    out/checkpoints/step-NNNNNNNN/                            what --resume continues from
    out/tensorboard/                                          with --tensorboard: events for TensorBoard
    out/adapter_model.safetensors, adapter_config.json        the adapter, in PEFT's format
    out/best/                                                 with --validate: the adapter of the best validation
    out/head.safetensors, head.json                           with --system plm-icd and the like: the head (heads/)

Read next: checkpoint.py, metrics_log.py.
"""

import dataclasses
import json
import logging
from pathlib import Path

from minscl.config import RunConfig
from minscl.data import calibration
from minscl.errors import InputError
from minscl.files import output_path, path_kind, replace_file, same_file
from minscl.hardware import float32_matmul_mode
from minscl.settings import read_settings
from minscl.training.checkpoint import misplaced_checkpoints, newest_checkpoint

LOG = logging.getLogger("minscl")
HEAD_TENSORS, HEAD_SETTINGS = "head.safetensors", "head.json"
BEST = "best"
ADAPTER = ("adapter_model.safetensors", "adapter_config.json")
# Never written over by another run.
RESULTS = (*ADAPTER, HEAD_TENSORS, HEAD_SETTINGS, "metrics.jsonl", *(f"{BEST}/{name}" for name in ADAPTER))


def check_out(config: RunConfig) -> None:
    """Raises InputError where --out has a run or an adapter that would be written over, where it has something to
    resume but no checkpoint, and where it cannot be written."""
    out = Path(config.out)
    results = [name for name in RESULTS if path_kind(out / name) != "missing" and (out / name).stat().st_size]
    checkpoint = newest_checkpoint(out / "checkpoints")
    if config.resume and results and not checkpoint:
        raise InputError(
            f"--resume: {out} has {results[0]} but no checkpoint to continue from; name another --out, or remove the "
            "folder to begin anew"
        )
    if not config.resume and checkpoint:
        raise InputError(f"--out {out}: already has a run; name another folder, or continue it with --resume")
    others = [
        name for name in ("run.json", "loss.png", "tensorboard", calibration.FILE) if path_kind(out / name) != "missing"
    ]
    if not config.resume and results + others:
        raise InputError(f"--out {out}: already has {(results + others)[0]}; name another folder, or remove this one")
    for path in misplaced_checkpoints(out / "checkpoints"):
        raise InputError(f"{path}: not a checkpoint, but named like one; move it away")
    for name in () if config.dry_run else (*RESULTS, "run.json", "loss.png", "checkpoints/.tmp"):
        output_path(out / name)
        for read in filter(None, (config.documents, config.spans, config.samples, config.validate)):
            if same_file(out / name, read):
                raise InputError(f"--out {out}: its {name} is also {read}, which is read; name another folder")


def write_run_json(path: Path, config: RunConfig) -> None:
    """The settings of the run, and how its float32 matrices are multiplied."""
    with replace_file(path) as file:
        json.dump({**dataclasses.asdict(config), "float32_matmul": float32_matmul_mode()}, file, indent=1)


def read_matmul_mode(path: Path) -> str | None:
    """`float32_matmul_mode()` of the run that wrote this run.json; None, and a line in the log, where it is lost."""
    if path_kind(path) == "missing":
        return None
    try:
        return read_settings(path, "how matrices are multiplied is measured again").string("float32_matmul")
    except InputError as error:
        LOG.warning("minscl: %s", error)
        return None
