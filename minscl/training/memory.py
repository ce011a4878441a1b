"""Does a run fit in memory? Its forecast (estimate.py) against what is free, before any weight is read.

    1. as it is                          nothing changes
    2. with --recompute on               the same numbers, steps take about 1.5 times as long
    3. with shorter packs                half as long, down to the longest sample: the same loss, rounded otherwise
    4. not at all                        InputError with the numbers

The first way that fits is taken. `--recompute on` or `off` leaves only packs to be shortened. All processes decide
alike, by the least memory that any of them has. A resumed run keeps its pack length, which is part of its numbers;
whether it recomputes, which is not, is decided anew.

Read next: estimate.py for the forecast, run.py for what follows.
"""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from minscl.config import AUTO, OFF, ON, RunConfig
from minscl.data.sample_types import Sample
from minscl.errors import InputError
from minscl.hardware import free_memory
from minscl.model import ModelConfig
from minscl.model.config import INT8
from minscl.training.checkpoint import read_newest_settings
from minscl.training.distributed import ProcessGroup
from minscl.training.estimate import estimate_memory, longest_pack


def decide_memory(
    config: RunConfig,
    model_config: ModelConfig,
    samples: Sequence[Sample],
    device: torch.device,
    dtype: torch.dtype,
    group: ProcessGroup,
    free_bytes: int | None = None,
) -> tuple[RunConfig, list[str]]:
    """(`config` with `recompute` on or off and the pack length of the run; lines for the user).

    `free_bytes`: the memory that a process may use; None: what is free on `device`, on CPUs divided among the processes
    of the machine. Raises InputError where nothing fits.
    """
    free = free_bytes
    if free is None:
        free = free_memory(device)
        if device.type != "cuda":  # they share it; a GPU has one process
            local_size = os.environ.get("LOCAL_WORLD_SIZE", "")
            free //= int(local_size) if local_size.isdecimal() and int(local_size) else group.size
    free = int(group.minimum(free))
    begun, lines = resumed_pack_length(config), []
    if begun and begun < config.pack_length:
        config = with_pack_length(config, begun)
        lines = [f"memory: packs of {begun:,} tokens, as when the run began"]
    config, line = fit_to_memory(
        config, model_config, samples, dtype=dtype, free=free, processes=group.size, may_shorten=not begun
    )
    return config, [*lines, line] if line else lines


def resumed_pack_length(config: RunConfig) -> int:
    """The pack length with which the run to be resumed began; 0 where none is resumed."""
    settings = read_newest_settings(Path(config.out) / "checkpoints") if config.resume else {}
    length = settings.get("pack_length", 0)
    return length if type(length) is int and length > 0 else 0


def fit_to_memory(
    config: RunConfig,
    model_config: ModelConfig,
    samples: Sequence[Sample],
    *,
    dtype: torch.dtype,
    free: int,
    processes: int = 1,
    may_shorten: bool = True,
) -> tuple[RunConfig, str]:
    """(`config` in the first way that needs at most `free` bytes; a line that says what was changed, or "").

    Raises InputError with the numbers where no way does.
    """
    forecasts = []
    for candidate in ways_to_fit(config, max(map(len, samples)), may_shorten):
        longest = longest_pack(samples, candidate)
        memory = estimate_memory(model_config, longest, candidate, dtype=dtype, processes=processes)
        forecasts.append(memory)
        if memory <= free:
            changes = describe_changes(config, candidate)
            if not changes:
                return candidate, ""
            return candidate, (
                f"memory: {gibibytes(free)} are free and the forecast is {gibibytes(forecasts[0])}; with {changes} it "
                f"is {gibibytes(memory)}, so the run uses that"
            )
    changes = describe_changes(config, candidate)
    least = f", {gibibytes(memory)} with {changes}" if changes else ""
    remedies = ["a smaller --max-length" if may_shorten else "another --out, to begin again with shorter packs"]
    remedies += ["--recompute auto"] if config.recompute == OFF else []
    remedies += [] if config.weights or config.fsdp or model_config.weights else [f"--weights {INT8}"]
    remedies += ["--dtype bfloat16"] if dtype == torch.float32 else []
    raise InputError(
        f"memory: the forecast is {gibibytes(forecasts[0])}{least}, and {gibibytes(free)} are free; use "
        f"{', '.join(remedies)}, a smaller model, or several GPUs with --fsdp"
    )


def ways_to_fit(config: RunConfig, longest_sample: int, may_shorten: bool) -> Iterator[RunConfig]:
    """`config` with every way to run it, the one that changes least first."""
    for recompute in (OFF, ON) if config.recompute == AUTO else (config.recompute,):
        config = dataclasses.replace(config, recompute=recompute)
        yield config
    while may_shorten and config.pack_length > longest_sample:
        config = with_pack_length(config, max(config.pack_length // 2, longest_sample))
        yield config


def with_pack_length(config: RunConfig, length: int) -> RunConfig:
    """`config` with packs of `length` tokens, in which every sample must fit."""
    return dataclasses.replace(config, pack_length=length, max_length=min(config.max_length, length))


def describe_changes(config: RunConfig, candidate: RunConfig) -> str:
    """The flags that would ask for `candidate`, where `config` did not."""
    changes = []
    if candidate.recompute == ON != config.recompute:
        changes.append("--recompute on")
    if candidate.pack_length != config.pack_length:
        changes.append(f"--pack-length {candidate.pack_length}")
    return " and ".join(changes)


def gibibytes(size: int) -> str:
    """Bytes as "20.3 GiB"."""
    return f"{size / 2**30:.1f} GiB"
