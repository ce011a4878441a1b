"""Checkpoints of a run: trained tensors, AdamW's state and the step; and an orderly stop. Safetensors and JSON only.

A checkpoint is a folder `step-00000200` that appears by one rename, so it is whole or absent. The data order is a pure function of
seed and epoch, and dropout of seed and step, so the step number is also the data position and the random state.

Read next: train.py.
"""

import json
import logging
import os
import shutil
import signal
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from minscl.errors import InputError, replace_file

LOG = logging.getLogger("minscl")


class StopSignals:
    """Ctrl-C and SIGTERM ask for a stop after the current step, so that what is saved is never half a step; a second one stops at once.

    with StopSignals() as stop:
        ...
        if stop.number: break
    """

    number = 0  # of the signal that asked, 0 while none has

    def __enter__(self) -> "StopSignals":
        self._before = {one: signal.signal(one, self._ask) for one in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _ask(self, number: int, frame) -> None:
        if self.number:
            raise KeyboardInterrupt
        self.number = number

    def __exit__(self, *error) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)


KEPT = 2  # checkpoints; the newest could be on a failing disk


def save_checkpoint(folder, step: int, parameters: dict[str, torch.Tensor], optimizer, settings: dict) -> Path:
    """Write `folder/step-NNNNNNNN` and delete all but the last KEPT. `parameters` maps names to the optimizer's tensors."""
    folder = Path(folder)
    target, temporary = folder / f"step-{step:08d}", folder / f".step-{step:08d}.tmp"
    tensors = {}
    for name, parameter in parameters.items():
        tensors[f"parameter.{name}"] = parameter.detach().cpu().contiguous()
        for key, value in optimizer.state[parameter].items():
            tensors[f"{key}.{name}"] = value.detach().cpu().contiguous()
    try:
        for left in folder.glob(".step-*.tmp"):  # of a run that was killed while it saved
            shutil.rmtree(left)
        temporary.mkdir(parents=True)
        save_file(tensors, temporary / "state.safetensors")
        (temporary / "state.json").write_text(json.dumps({"step": step, "settings": settings}, indent=1))
        for path in (*temporary.iterdir(), temporary):
            _sync(path)
        if target.exists():
            shutil.rmtree(target)
        os.replace(temporary, target)
        _sync(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        whole = sorted(folder.glob("step-*"))
        raise InputError(
            f"{target}: cannot be written ({error}); the last whole checkpoint is {whole[-1].name if whole else 'none'}; make room and "
            "go on with --resume"
        ) from error
    for old in sorted(folder.glob("step-*"))[:-KEPT]:
        shutil.rmtree(old)
    return target


def load_checkpoint(folder, parameters: dict[str, torch.Tensor], optimizer, settings: dict) -> int:
    """Fill parameters and optimizer from the newest whole checkpoint in `folder`; gives its step, 0 where there is none.

    A damaged one is named in the log and the one before it taken. Raises InputError where none is whole, and, naming the setting, where `settings`
    differ from the checkpoint's.
    """
    found = sorted(Path(folder).glob("step-*"), reverse=True)
    for path in found:
        try:
            state = json.loads((path / "state.json").read_text())
            with safe_open(path / "state.safetensors", "pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}
            step, before = state["step"], state["settings"]
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            LOG.warning("minscl: %s is damaged (%s); the checkpoint before it is looked at", path, error)
            continue
        for name, value in settings.items():
            if before.get(name) != value:
                raise InputError(
                    f"{path}: {name} was {before.get(name)!r}, now {value!r}; resume with the same settings or choose another --out"
                )
        for key, tensor in tensors.items():
            kind, _, name = key.partition(".")
            if kind == "parameter":
                parameters[name].data.copy_(tensor)
            else:  # AdamW keeps its scalar step on the CPU, its two moments beside the parameter
                optimizer.state[parameters[name]][kind] = tensor.to(parameters[name].device) if tensor.dim() else tensor
        return step
    if found:
        raise InputError(f"{folder}: no checkpoint is whole; start anew with another --out")
    return 0


def forget_after(path: Path, step: int) -> None:
    """Drop the records of metrics.jsonl after `step`: they belong to work that the checkpoint does not hold."""
    if path.exists():
        kept = path.read_text(encoding="utf-8").splitlines()[:step]
        with replace_file(path) as handle:
            handle.writelines(line + "\n" for line in kept)


def _sync(path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
