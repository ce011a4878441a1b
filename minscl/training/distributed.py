"""Several processes train as one: each takes a share of a step's samples, and LoRA's gradients are summed.

    torchrun --nproc-per-node 8 -m minscl.train --cfg llama70b --fsdp

The loss is a sum over target tokens divided by the whole step's number of them (loop.py), so the sum of the processes'
gradients is the gradient of one process with all samples. Every process then makes the same AdamW step on its copy of
the adapter; only the main process writes files. With `--fsdp` each block's frozen weights are split among the processes
(FSDP2) and gathered when the block runs. They have no gradient, and embeddings and the output projection stay whole, so
LoRA's gradients are all that is reduced.

Read next: data/packing.py, which splits a step's samples by rank.
"""

import contextlib
import inspect
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import distributed

from minscl.errors import InputError
from minscl.model import Decoder


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that train together: this one's rank, of `size`. With one process every method does nothing.

    With several each raises InputError where another process has ended.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait until all processes have reached this call."""
        if self.size > 1:
            with self._together():
                distributed.barrier()

    def all_reduce_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Replace every parameter's gradient by its sum over the processes, in one all-reduce."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        with self._together():
            distributed.all_reduce(flat)
        for gradient, total in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(total.view_as(gradient))

    def sum(self, *numbers: float) -> list[float]:
        """Each number summed over the processes, in float64."""
        return self._reduce(numbers, distributed.ReduceOp.SUM) if self.size > 1 else list(numbers)

    def minimum(self, number: float) -> float:
        """The smallest of the processes' numbers, in float64."""
        return self._reduce([number], distributed.ReduceOp.MIN)[0] if self.size > 1 else number

    def _reduce(self, numbers: Sequence[float], operation) -> list[float]:
        device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        totals = torch.tensor(numbers, dtype=torch.float64, device=device)
        with self._together():
            distributed.all_reduce(totals, operation)
        return totals.tolist()

    @contextlib.contextmanager
    def _together(self) -> Iterator[None]:
        """Turns the error of a call that other processes must make too into an InputError: one of them has ended."""
        try:
            yield
        except RuntimeError as error:
            reason = re.sub(r"^\[\S*\] ", "", (str(error).splitlines() or [type(error).__name__])[0])  # gloo's own line
            if distributed.get_backend() == "gloo":  # else its threads may end Python with SIGABRT, after the line
                with contextlib.suppress(RuntimeError):
                    distributed.destroy_process_group()
            raise InputError(
                f"process {self.rank} of {self.size}: another process has ended or cannot be reached ({reason[:200]}); "
                "start all again: with --resume the run continues from its newest checkpoint"
            ) from error


def join_process_group(device: torch.device) -> tuple[ProcessGroup, torch.device]:
    """(torchrun's process group, this process's device): NCCL with a GPU per process, gloo on CPUs; else one process.

    Raises InputError where there are more processes than GPUs, and where a variable of torchrun's is missing.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return ProcessGroup(), device
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_PORT"):
        if not os.environ.get(name, "").isdecimal():
            raise InputError(f"{name} is not a number, but WORLD_SIZE is set; unset it, or start with torchrun")
    size = int(os.environ["WORLD_SIZE"])
    if device.type == "cuda":
        local_rank, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local_rank >= gpus:
            raise InputError(f"--nproc-per-node: process {local_rank + 1} finds {gpus} GPUs; start one process per GPU")
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    address = ":".join(os.environ.get(name, "") for name in ("MASTER_ADDR", "MASTER_PORT"))
    if not distributed.is_initialized():
        try:
            distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        except (RuntimeError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"MASTER_ADDR:MASTER_PORT {address}: processes cannot meet there ({reason[:200]}); start with torchrun"
            ) from error
    return ProcessGroup(distributed.get_rank(), size), device


def shard_blocks(model: Decoder, trained: Sequence[torch.nn.Parameter], device: torch.device) -> None:
    """Split each block's frozen weights among the processes, in place; `trained` parameters stay whole in each process.

    `model` may be on the CPU, memory-mapped: one block at a time is moved to `device`. Raises InputError for torch
    before 2.7.
    """
    from torch.distributed.fsdp import fully_shard

    if "ignored_params" not in inspect.signature(fully_shard).parameters:
        raise InputError(
            f"--fsdp: torch {torch.__version__} cannot leave the adapter whole; install torch 2.7 or newer, "
            "or train without --fsdp"
        )
    mesh = distributed.init_device_mesh(device.type, (distributed.get_world_size(),))
    for parameter in trained:
        parameter.data = parameter.data.to(device)
    for block in model.model.layers:
        fully_shard(block, mesh=mesh, ignored_params=set(trained))
    unsharded = [model.model.embed_tokens, model.model.norm, model.lm_head]
    unsharded_parameters = [parameter for module in unsharded for parameter in module.parameters()]
    fully_shard(model.model, mesh=mesh, ignored_params={*trained, *unsharded_parameters})
    for module in unsharded:
        module.to(device)
