"""Several processes as one trainer, started by torchrun: each takes a share of a step's samples, and LoRA's gradients are added up.

    torchrun --nproc-per-node 8 -m minscl.train --cfg llama70b --fsdp

The loss is a sum over target tokens divided by the whole step's number of them, so adding the processes' gradients gives the single
process's step. Every process then takes the same AdamW step on the same adapter; only the leader writes files.
With `--fsdp` each block's frozen weights are split among the processes (FSDP2) and gathered when the block runs. They have no gradient, and
embeddings and the output projection stay whole, so the adapter's gradients are still all that is added up.

Read next: data/packing.py, which deals a step's samples out.
"""

import inspect
import os
from dataclasses import dataclass

import torch
from torch import distributed

from minscl.errors import InputError


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that train together: this one's rank, of how many. Alone, every method does nothing."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            distributed.barrier()

    def all_reduce_gradients(self, parameters) -> None:
        """Every parameter's gradient summed over the processes, in one message."""
        if self.size == 1:
            return
        flat = torch.cat([one.grad.flatten() for one in parameters])
        distributed.all_reduce(flat)
        for one, summed in zip(parameters, flat.split([one.numel() for one in parameters]), strict=True):
            one.grad.copy_(summed.view_as(one))

    def sum(self, *numbers: float) -> list[float]:
        """Each number summed over the processes, in float64."""
        if self.size == 1:
            return list(numbers)
        summed = torch.tensor(
            numbers, dtype=torch.float64, device="cuda" if distributed.get_backend() == "nccl" else "cpu"
        )
        distributed.all_reduce(summed)
        return summed.tolist()


def join_process_group(device: torch.device) -> tuple[ProcessGroup, torch.device]:
    """(the team of torchrun's processes, this one's device): NCCL and a GPU each, or gloo on CPUs. One process alone where torchrun is not in use."""
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1:
        return ProcessGroup(), device
    if device.type == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise InputError(
                f"--nproc-per-node: process {local + 1} finds {torch.cuda.device_count()} GPUs; start one process a GPU"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return ProcessGroup(distributed.get_rank(), size), device


def shard_blocks(model, trained, device: torch.device) -> None:
    """Split each block's frozen weights among the processes, in place; `trained` parameters stay whole in each. `model` may lie on the CPU,
    memory-mapped: one block at a time goes to `device`."""
    from torch.distributed.fsdp import fully_shard

    if "ignored_params" not in inspect.signature(fully_shard).parameters:
        raise InputError(
            f"--fsdp: torch {torch.__version__} cannot leave the adapter whole; install torch 2.7 or newer, or train without --fsdp"
        )
    mesh = distributed.init_device_mesh(device.type, (distributed.get_world_size(),))
    for one in trained:
        one.data = one.data.to(device)
    for block in model.model.layers:
        fully_shard(block, mesh=mesh, ignored_params=set(trained))
    whole = [model.model.embed_tokens, model.model.norm, model.lm_head]
    fully_shard(
        model.model, mesh=mesh, ignored_params={*trained, *(one for module in whole for one in module.parameters())}
    )
    for module in whole:
        module.to(device)
