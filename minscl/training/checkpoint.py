"""Checkpoints of a run: trained tensors, AdamW's state and the step, in safetensors and JSON.

    checkpoints/step-00000200/state.safetensors    parameter.NAME, exp_avg.NAME, exp_avg_sq.NAME, step.NAME
                              state.json           {"step", "settings", "validation", "sha256"}: of both files

"validation", in a run with --validate: its best one so far (best.py).

A checkpoint is a folder that appears by one rename, so it is complete or absent; the checksum tells whether it stayed
as it was written. The data order is a pure function of seed and epoch, and dropout of seed and step, so the step number
is also the position in the data and the random state.

Read next: loop.py.
"""

import contextlib
import hashlib
import json
import logging
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open

from minscl.errors import InputError, printable
from minscl.files import list_folder, make_folders, path_kind, require_file
from minscl.folders import new_file, replace_folder
from minscl.settings import read_settings, show_value
from minscl.temporary import remove_tree
from minscl.weights import write_tensors

LOG = logging.getLogger("minscl")
MAX_CHECKPOINTS = 2  # on disk; the newest could be on a failing sector
NAME = re.compile(r"step-([0-9]{8})")  # of a checkpoint's folder; a copy by another name is the user's own
ADAMW_STATE = ("step", "exp_avg", "exp_avg_sq")  # of a parameter


class DamagedCheckpoint(ValueError):
    """What is wrong with a checkpoint, so that the one before it is used."""


class OptimizerState(Protocol):
    """The part of an optimizer that a checkpoint saves and restores: parameter → {"step", "exp_avg", "exp_avg_sq"}."""

    @property
    def state(self) -> Any:
        """parameter → its AdamW tensors."""
        ...


def save_checkpoint(
    folder: Path,
    step: int,
    parameters: Mapping[str, torch.Tensor],
    optimizer: OptimizerState,
    settings: dict,
    validation: dict | None = None,
) -> Path:
    """Write `folder/step-NNNNNNNN` and delete all older ones but the newest; the files are private (0600).

    `parameters`: name → tensor of the optimizer. `validation`: BestValidation.to_dict. Raises InputError where writing
    fails; older checkpoints are then untouched.
    """
    target = folder / f"step-{step:08d}"
    tensors = {}
    for name, parameter in parameters.items():
        tensors[f"parameter.{name}"] = parameter
        for key, value in optimizer.state[parameter].items():
            tensors[f"{key}.{name}"] = value
    older = _checkpoints(folder, before=step)
    try:
        make_folders(folder, 0o700)
        with replace_folder(target) as temporary:  # a target that exists is damaged, or it would have been resumed
            with new_file(temporary / "state.safetensors", "wb") as tensor_file:
                write_tensors(tensor_file, tensors)
            state = {"step": step, "settings": settings} | ({"validation": validation} if validation else {})
            state["sha256"] = _checksum(temporary / "state.safetensors", state)
            with new_file(temporary / "state.json") as file:
                json.dump(state, file, indent=1)
    except (OSError, InputError) as error:
        remedy = "begin again with another --out"
        if older:
            remedy = f"continue with --resume; the last complete checkpoint is {older[-1].name}"
        raise InputError(
            f"{target}: cannot be written ({getattr(error, 'strerror', None) or error}); free some space or make the "
            f"folder writable, and {remedy}"
        ) from error
    remove_older_checkpoints(folder, step)
    return target


def remove_older_checkpoints(folder: Path, step: int) -> None:
    """Delete all checkpoints before `step` but the newest; a run that is killed while it saves leaves one too many."""
    for path in _checkpoints(folder, before=step)[: 1 - MAX_CHECKPOINTS]:
        with contextlib.suppress(OSError):  # one too many is no reason to stop
            remove_tree(path)


def load_checkpoint(
    folder: Path,
    parameters: Mapping[str, torch.Tensor],
    optimizer: OptimizerState,
    settings: dict,
    total_steps: int,
    optimizer_keys: Mapping[str, Collection[str]] | None = None,
) -> int:
    """Fill parameters and optimizer from the newest undamaged checkpoint in `folder`; returns its step, or 0 if none.

    `optimizer_keys`: name → what the optimizer keeps of the parameter; AdamW's state where it is not given. Everything
    is checked before anything is filled. A damaged checkpoint is named in the log and the one before it is used. Raises
    InputError where all are damaged and, naming the setting, where `settings` differ from the checkpoint's.
    """
    keys = optimizer_keys or dict.fromkeys(parameters, ADAMW_STATE)
    paths = _checkpoints(folder)
    for path in reversed(paths):
        try:
            step, saved_settings = _read_state(path)
            _compare_settings(path, saved_settings, settings)
            tensors = _read_tensors(path, parameters, keys)
            _check_step(path, step, total_steps, tensors)
        except (DamagedCheckpoint, OSError, SafetensorError) as error:
            LOG.warning("minscl: %s is damaged (%s); trying the checkpoint before it", path, printable(str(error)))
            continue
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


def read_newest_settings(folder: Path) -> dict:
    """checkpoint_settings of the newest undamaged checkpoint in `folder`; {} without one."""
    for path in reversed(_checkpoints(folder)):
        with contextlib.suppress(DamagedCheckpoint, OSError):  # load_checkpoint names what is damaged
            return _read_state(path)[1]
    return {}


def read_validation(folder: Path, step: int) -> tuple[dict, str]:
    """(what save_checkpoint was given as `validation`, {} for nothing; the file, for messages) of the checkpoint of
    `step`, which load_checkpoint has found undamaged."""
    path = folder / f"step-{step:08d}" / "state.json"
    return read_settings(path).section("validation", {}).values, str(path)


def newest_checkpoint(folder: Path, before: int | None = None) -> Path | None:
    """The checkpoint of the highest step in `folder`, if any; `before`: of those of a lower step."""
    paths = _checkpoints(folder, before)
    return paths[-1] if paths else None


def misplaced_checkpoints(folder: Path) -> list[Path]:
    """What has the name of a checkpoint in `folder` and is no folder of its own, so that none could be saved there."""
    paths = list_folder(folder) if path_kind(folder) == "folder" else []
    named = [path for path in paths if NAME.fullmatch(path.name)]
    return [path for path in named if path.is_symlink() or path_kind(path) != "folder"]


def _checkpoints(folder: Path, before: int | None = None) -> list[Path]:
    """Checkpoints, oldest first. Raises InputError where `folder` is not a folder or cannot be read."""
    if path_kind(folder) == "missing":
        return []
    paths = [path for path in list_folder(folder) if NAME.fullmatch(path.name) and path_kind(path) == "folder"]
    return [path for path in paths if before is None or _step_of(path) < before]


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _checksum(tensor_file: Path, state: dict) -> str:
    """SHA-256 of a checkpoint: of `state` but for the checksum itself, and of the tensor file."""
    fields = {key: value for key, value in state.items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode())
    with open(tensor_file, "rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def _read_state(path: Path) -> tuple[int, dict]:
    """(step, settings) of a checkpoint whose files are as they were written. Raises DamagedCheckpoint or OSError."""
    try:
        state = read_settings(path / "state.json", "the checkpoint is not whole")
        checksum, step = state.string("sha256"), state.integer("step", minimum=1)
        settings = state.section("settings").values
        tensor_file = require_file(path / "state.safetensors", "the checkpoint is not whole")
    except InputError as error:
        raise DamagedCheckpoint(str(error)) from error
    if _checksum(tensor_file, state.values) != checksum:
        raise DamagedCheckpoint("its checksum differs: the files are not as they were written")
    return step, settings


def _compare_settings(path: Path, saved: dict, settings: dict) -> None:
    """Raises InputError naming the first setting whose value the checkpoint has otherwise, or that only one has."""
    for name in [*settings, *saved]:
        before, now = saved.get(name), settings.get(name)
        if before != now:
            raise InputError(
                f"{path}: {name} was {show_value(before)}, now {show_value(now)}; resume with the same settings, or "
                "choose another --out"
            )


def _read_tensors(
    path: Path, parameters: Mapping[str, torch.Tensor], optimizer_keys: Mapping[str, Collection[str]]
) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint by key. Raises DamagedCheckpoint unless they are exactly those of this run, in their
    shapes and dtypes."""
    with safe_open(path / "state.safetensors", "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    expected = {
        f"{kind}.{name}": (torch.Size(), torch.float32) if kind == "step" else (parameter.shape, parameter.dtype)
        for name, parameter in parameters.items()
        for kind in ("parameter", *optimizer_keys[name])
    }
    for key in expected.keys() ^ tensors.keys():
        raise DamagedCheckpoint(f"tensor {key} is {'missing' if key in expected else 'not one of this run'}")
    for key, tensor in tensors.items():
        if (tensor.shape, tensor.dtype) != expected[key]:
            raise DamagedCheckpoint(f"tensor {key} is {tensor.dtype} {tuple(tensor.shape)}, which this run cannot use")
    return tensors


def _check_step(path: Path, step: int, total_steps: int, tensors: Mapping[str, torch.Tensor]) -> None:
    """Raises DamagedCheckpoint unless `step` is one of this run, in the folder's name, and what AdamW has counted."""
    if step != _step_of(path):
        raise DamagedCheckpoint(f"its step is {step}")
    if step > total_steps:
        raise DamagedCheckpoint(f"its step is {step}, in a run of {total_steps}")
    for key, tensor in tensors.items():
        if key.startswith("step.") and tensor.item() != step:
            raise DamagedCheckpoint(f"{key} is {tensor.item():g}, at step {step}")
