"""Checkpoints of a run: trained tensors, AdamW's state and the step, in safetensors and JSON; and an orderly stop.

A checkpoint is a folder `step-00000200` that appears by one rename, so it is complete or absent. The data order is a
pure function of seed and epoch, and dropout of seed and step, so the step number is also the position in the data and
the random state.

Read next: loop.py.
"""

import dataclasses
import hashlib
import json
import logging
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from minscl.config import RunConfig
from minscl.data.types import Sample
from minscl.errors import InputError
from minscl.files import replace_file

LOG = logging.getLogger("minscl")
MAX_CHECKPOINTS = 2  # on disk; the newest could be on a failing sector
# Settings that may differ when a run is resumed: they change paths or cost, not the arithmetic.
RESUMABLE = ("documents", "spans", "samples", "out", "resume", "device", "save_every", "recompute", "fsdp", "dry_run")


class OptimizerState(Protocol):
    """The part of an optimizer that a checkpoint saves and restores: parameter → {"step", "exp_avg", "exp_avg_sq"}."""

    @property
    def state(self) -> Any:
        """parameter → its AdamW tensors."""
        ...


class StopSignals:
    """Ctrl-C and SIGTERM request a stop after the current step, so no partial step is saved; a second stops at once.

    with StopSignals() as stop:
        ...
        if stop.requested: break
    """

    signal_number = 0  # of the signal that asked for the stop

    @property
    def requested(self) -> bool:
        """Whether a signal has arrived."""
        return self.signal_number != 0

    @property
    def exit_status(self) -> int:
        """128 + signal number, the shell's convention; SIGTERM's where another process got the signal."""
        return 128 + (self.signal_number or signal.SIGTERM)

    def __enter__(self) -> "StopSignals":
        self._handlers = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.signal_number = number

    def __exit__(self, *error: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)


def checkpoint_settings(config: RunConfig, dtype: torch.dtype, samples: Sequence[Sample]) -> dict:
    """What must be equal for a run to be resumed: everything that changes the arithmetic.

    The model is identified by its config.json and the sizes of its weight files, whatever its path, the data by its
    token ids.
    """
    folder = Path(config.model)
    weight_sizes = sorted((path.name, path.stat().st_size) for path in folder.glob("*.safetensors"))
    model_digest = hashlib.sha256((folder / "config.json").read_bytes())
    model_digest.update(repr(weight_sizes).encode())
    data_digest = hashlib.sha256()
    for sample in samples:
        data_digest.update(repr((sample.prompt_ids, sample.target_ids)).encode())
    settings = {name: value for name, value in dataclasses.asdict(config).items() if name not in RESUMABLE}
    return settings | {
        "model": model_digest.hexdigest()[:16],
        "dtype": str(dtype),
        "data": data_digest.hexdigest(),
    }


def save_checkpoint(
    folder: Path, step: int, parameters: Mapping[str, torch.Tensor], optimizer: OptimizerState, settings: dict
) -> Path:
    """Write `folder/step-NNNNNNNN` and delete all but the newest MAX_CHECKPOINTS.

    `parameters`: name → tensor of the optimizer. Raises InputError where the disk is full or cannot be written; older
    checkpoints are then untouched.
    """
    target, temporary = folder / f"step-{step:08d}", folder / f".step-{step:08d}.tmp"
    tensors = {}
    for name, parameter in parameters.items():
        tensors[f"parameter.{name}"] = parameter.detach().cpu().contiguous()
        for key, value in optimizer.state[parameter].items():
            tensors[f"{key}.{name}"] = value.detach().cpu().contiguous()
    try:
        for abandoned in folder.glob(".step-*.tmp"):  # by a run that was killed while it saved
            shutil.rmtree(abandoned)
        temporary.mkdir(parents=True)
        save_file(tensors, temporary / "state.safetensors")
        (temporary / "state.json").write_text(json.dumps({"step": step, "settings": settings}, indent=1))
        for path in (*temporary.iterdir(), temporary):
            _fsync(path)
        if target.exists():
            shutil.rmtree(target)
        os.replace(temporary, target)
        _fsync(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        newest = newest_checkpoint(folder)
        raise InputError(
            f"{target}: cannot be written ({error}); the last complete checkpoint is "
            f"{newest.name if newest else 'none'}; free some space and continue with --resume"
        ) from error
    for path in _checkpoints(folder)[:-MAX_CHECKPOINTS]:
        shutil.rmtree(path)
    return target


def load_checkpoint(
    folder: Path, parameters: Mapping[str, torch.Tensor], optimizer: OptimizerState, settings: dict
) -> int:
    """Fill parameters and optimizer from the newest readable checkpoint in `folder`; returns its step, or 0 if none.

    A damaged checkpoint is named in the log and the one before it is used. Raises InputError where all are damaged and,
    naming the setting, where `settings` differ from the checkpoint's.
    """
    paths = _checkpoints(folder)
    for path in reversed(paths):
        try:
            state = json.loads((path / "state.json").read_text())
            with safe_open(path / "state.safetensors", "pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
            step, saved_settings = state["step"], state["settings"]
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            LOG.warning("minscl: %s is damaged (%s); trying the checkpoint before it", path, error)
            continue
        for name, value in settings.items():
            if saved_settings.get(name) != value:
                raise InputError(
                    f"{path}: {name} was {saved_settings.get(name)!r}, now {value!r}; "
                    "resume with the same settings or choose another --out"
                )
        for key, tensor in tensors.items():
            kind, _, name = key.partition(".")
            if kind == "parameter":
                parameters[name].data.copy_(tensor)
            else:  # AdamW keeps its scalar step on the CPU, its two moments beside the parameter
                device = parameters[name].device if tensor.dim() else "cpu"
                optimizer.state[parameters[name]][kind] = tensor.to(device)
        return step
    if paths:
        raise InputError(f"{folder}: every checkpoint is damaged; start again with another --out")
    return 0


def newest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of the highest step in `folder`, if any."""
    paths = _checkpoints(folder)
    return paths[-1] if paths else None


def truncate_metrics(path: Path, step: int) -> None:
    """Drop the records of metrics.jsonl after `step`: they belong to steps after the checkpoint."""
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines()[:step]
        with replace_file(path) as file:
            file.writelines(line + "\n" for line in lines)


def _checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted(folder.glob("step-*"))


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
