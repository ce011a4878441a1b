"""Several processes code the notes of one `generate`: which of them this one is, its share, its device and threads.

    torchrun --nproc-per-node 4 -m minscl.generate notes.jsonl --out coded.jsonl

Each process reads torchrun's variables and codes a share that depends on the notes and the number of processes alone,
so none waits for another and nothing is sent between them. Any launcher that sets RANK and WORLD_SIZE will do, such as
a Slurm job array.

Read next: shards.py, the files; training/distributed.py, processes that train as one.
"""

import os
import signal
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import torch

from minscl.data.packing import split_by_rank
from minscl.data.types import Note
from minscl.errors import InputError, Terminated
from minscl.hardware import choose_device, default_cache_bytes


@dataclass(frozen=True)
class Process:
    """Process `rank` of `size`; on its machine, process `local_rank` of `local_size`. Ranks count from 0."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @classmethod
    def from_environment(cls, variables: Mapping[str, str] = os.environ) -> "Process":
        """This process by torchrun's `variables`. Raises InputError for one that is missing or no such number."""
        if variables.get("WORLD_SIZE", "1") == "1":
            return cls()
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        texts = {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"} | {
            name: variables[name] for name in names if name in variables
        }
        for name in names:
            if not (texts.get(name, "").isascii() and texts.get(name, "").isdecimal() and len(texts[name]) < 9):
                raise InputError(f"{name} is not a number, but WORLD_SIZE is set; unset it, or start with torchrun")
        process = cls(*(int(texts[name]) for name in names))
        if process.rank >= process.size:
            raise InputError(f"RANK {process.rank}: must be below WORLD_SIZE {process.size}; ranks count from 0")
        if not process.local_size:
            raise InputError("LOCAL_WORLD_SIZE 0: must be at least 1; unset it, or start with torchrun")
        return process

    @property
    def name(self) -> str:
        """What messages call it, as torchrun's do."""
        return f"rank {self.rank} of {self.size}"

    def share(self, notes: Sequence[Note]) -> list[Note]:
        """This process's notes, in order: longest first, each note goes to the process with the least text so far."""
        shares = split_by_rank([note.text for note in notes], range(len(notes)), self.size)
        return [notes[index] for index in sorted(shares[self.rank])]

    def choose_device(self, device: str, memory: float) -> tuple[str, float]:
        """--device and --memory (GB) of this process: a GPU each, or a part of the CPU's threads and memory.

        Raises InputError where there are more processes than GPUs, and for a GPU that all of them would use.
        """
        if self.size == 1:
            return device, memory
        name, _, index = device.partition(":")
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        if index:
            raise InputError(f"--device {device}: each process takes a GPU of its own; give --device {name}")
        if name == "cuda":
            gpus = torch.cuda.device_count()
            if self.local_rank >= gpus:
                raise InputError(
                    f"--nproc-per-node: process {self.local_rank + 1} finds {gpus} GPUs; start one process per GPU"
                )
            return f"cuda:{self.local_rank}", memory
        if name == "cpu":
            if os.environ.get("OMP_NUM_THREADS", "1") == "1":  # torchrun sets 1, however many cores there are
                torch.set_num_threads(max(1, usable_cores() // self.local_size))
            torch_device, _ = choose_device(name, "auto")
            memory = memory or default_cache_bytes(torch_device) / 1e9 / self.local_size
        return name, memory


def usable_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def explain_sigterm(line: str) -> None:
    """End with `line` on SIGTERM, which torchrun sends to all other processes when one dies."""

    def stop(*_: object) -> NoReturn:
        raise Terminated(line)

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)
