"""The training loop: learning rate, forward, backward, reduce, clip, step, log (Eq. 3 and 6).

Eq. 3 is a sum of two expectations, over documents and over spans. They are trained mixed, as Section 3.2 says: both
kinds in one shuffled list, so that the 16 samples of a step contain each kind in proportion. A step's loss is Eq. 6:

    L = Σ over its samples, Σ over target tokens t, -log p(y_t | x, y_<t)  /  number of target tokens of the step

deviates: Eq. 6 is the sum only; with the division the learning rate means the same for any mix of lengths.

The path of a step: data/samples.py → data/packing.py → this file → model/decoder.py (ops.py) → data/loss.py. Beside it:
lora/layer.py (LoRA), distributed.py (several processes; with one, its methods do nothing).

Read next: data/samples.py. docs/training.md draws a pack.
"""

import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import torch

from minscl.config import RunConfig
from minscl.data.loss import IGNORE, masked_loss
from minscl.data.packing import Step, epoch_order, pack_step
from minscl.errors import InputError
from minscl.hardware import peak_memory
from minscl.model import Decoder, SharedPrefixMask
from minscl.training.distributed import ProcessGroup

MAX_STEPS = 2**24  # AdamW's count is a float32 and goes no further; a checkpoint's name has eight digits
LOGIT_CHUNK = 512  # target positions whose logits exist at a time: 0.25 GB in float32 with Llama 3's vocabulary


class StepCounts(Protocol):
    """What the loop reads of a step, whatever is trained on it; the fields are those of data.packing.Step."""

    @property
    def sample_indices(self) -> tuple[int, ...]:
        """The samples of the step."""
        ...

    @property
    def tokens(self) -> int:
        """Their tokens."""
        ...

    @property
    def computed_tokens(self) -> int:
        """Tokens that this process computes."""
        ...


class NotFinite(ArithmeticError):
    """The loss or the gradient norm of `step`, counted from 1, is infinite or NaN; `sample_indices` are its samples."""

    def __init__(self, step: int, loss: float, grad_norm: float, sample_indices: tuple[int, ...]):
        super().__init__(f"step {step}: loss {loss}, gradient norm {grad_norm}")
        self.step, self.sample_indices = step, sample_indices


def train_steps(
    model: Any,
    parameters: Sequence[torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    steps: Iterable[tuple[int, StepCounts]],
    *,
    forward_backward: Callable[[Any, Any, torch.device], float],
    first_step: int,
    total_steps: int,
    config: RunConfig,
    device: torch.device,
    group: ProcessGroup,
) -> Iterator[dict]:
    """Train on `steps`, (epoch, Step) pairs from `plan_steps`; yields one record of metrics.jsonl after each.

    `parameters`: what is trained, LoRA's A and B. `forward_backward(model, step, device)`: adds up their gradients and
    returns the loss of the step: the function of this file for a Decoder, heads/train.py's for a head. `first_step`:
    how many steps of `total_steps` are done already. Times are in seconds, memory in bytes. Raises NotFinite before the
    optimiser has used a gradient that is not finite.
    """
    run_start = time.monotonic()
    for number, (epoch, step) in enumerate(steps, first_step):
        step_start = time.monotonic()
        seed_dropout(config.seed, number, group.rank)

        # One optimiser step: `step` holds 16 samples (Appendix C), spans and documents mixed (Eq. 3)
        # ------------------------------------------------------------------------------------------
        lr = learning_rate(config, number, total_steps)  # Appendix C: cosine with warm-up
        for param_group in optimizer.param_groups:
            param_group["lr"] = lr
        loss = forward_backward(model, step, device)  # Eq. 6; calls loss.backward(), which fills parameter.grad
        group.all_reduce_gradients(parameters)  # gradients of a sum: added, not averaged
        loss, computed_tokens = group.sum(loss, step.computed_tokens)
        grad_norm = torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm).item()
        if not math.isfinite(loss) or not math.isfinite(grad_norm):
            raise NotFinite(number + 1, loss, grad_norm, step.sample_indices)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        # ------------------------------------------------------------------------------------------

        now = time.monotonic()
        yield {  # run.py logs it
            "step": number + 1,
            "epoch": epoch,
            "loss": loss,
            "lr": lr,
            "grad_norm": grad_norm,
            "samples": len(step.sample_indices),
            "tokens": step.tokens,
            "computed_tokens": int(computed_tokens),
            "step_seconds": now - step_start,
            "elapsed_seconds": now - run_start,
            "peak_memory_bytes": peak_memory(device),
        }


def forward_backward(model: Decoder, step: Step, device: torch.device) -> float:
    """Forward and backward of this process's packs of one optimiser step; gradients add up in `parameter.grad`.

    Returns the packs' part of the step's loss (Eq. 6): the sum over their target tokens / target tokens of the whole
    step. Logits are computed for target positions only, LOGIT_CHUNK at a time, so there is never a (T, V) tensor: the
    backward of each chunk stops at the hidden states, whose gradient then goes through the decoder at once.
    """
    step_loss = torch.zeros((), device=device)
    for pack in step.packs:
        pack = pack.to(device)
        is_target = pack.labels != IGNORE  # (T,)
        [hidden] = model.model(
            pack.input_ids[None],
            positions=pack.positions[None],
            mask=SharedPrefixMask(pack.lengths, pack.parents),
            logits_to_keep=is_target,
        )  # (N, C): states of the N target positions
        leaf = hidden.detach().requires_grad_()
        chunks = zip(leaf.split(LOGIT_CHUNK), pack.labels[is_target].split(LOGIT_CHUNK), strict=True)
        for hidden_chunk, labels in chunks:
            logits = model.lm_head(hidden_chunk)  # (chunk, V)
            loss = masked_loss(logits, labels) / step.target_tokens  # Eq. 6
            loss.backward()  # down to leaf.grad
            step_loss = step_loss + loss.detach()
        hidden.backward(leaf.grad)  # and on, down to the gradients of LoRA's A and B
    return step_loss.item()


def learning_rate(config: RunConfig, step: int, total_steps: int) -> float:
    """The learning rate of `step`, counted from 0."""
    warmup_steps = math.ceil(config.warmup_ratio * total_steps)
    return config.lr * learning_rate_factor(step, total_steps, warmup_steps)


def learns(config: RunConfig, total_steps: int) -> bool:
    """Whether any step has a learning rate above 0. A run of one step has none: it is the first of the warm-up."""
    return any(learning_rate(config, step, total_steps) > 0 for step in range(total_steps))


def learning_rate_factor(step: int, total_steps: int, warmup_steps: int) -> float:
    """Linear from 0 to 1 over the warm-up, then a cosine to 0. `step` counts from 0, so the first step trains nothing.

    The same numbers as transformers' `get_cosine_schedule_with_warmup`, which the paper's LLaMA-Factory uses.
    """
    if step < warmup_steps:
        return step / max(1, warmup_steps)
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * progress)))


def seed_dropout(seed: int, step: int, rank: int) -> None:
    """Make dropout a function of seed, step and process, so that a resumed run draws what an unbroken one would."""
    torch.manual_seed(random.Random(f"{seed}-{step}-{rank}").getrandbits(63))


def plan_steps(
    samples: Sequence[Any],
    config: RunConfig,
    first_step: int,
    group: ProcessGroup,
    build_step: Callable[[list[int], int], Any] | None = None,
) -> tuple[Iterator[tuple[int, Any]], int]:
    """((epoch, Step) pairs from `first_step` on, packed as they are asked for; number of steps of the whole run).

    Every sample once per epoch; a Step holds the packs of this process. `build_step(indices, number)`: makes the step
    of other samples than data.packing's.
    """
    steps_per_epoch = count_steps(samples, config) // config.epochs

    def pack(indices: list[int], number: int) -> Step:
        return pack_step(samples, indices, config.pack_length, group.rank, group.size)

    def steps() -> Iterator[tuple[int, Any]]:
        for epoch in range(first_step // steps_per_epoch, config.epochs):
            order = epoch_order(len(samples), config.batch_size, config.seed, epoch)
            for number, indices in enumerate(order, epoch * steps_per_epoch):
                if number >= first_step:
                    yield epoch, (build_step or pack)(indices, number)

    return steps(), count_steps(samples, config)


def count_steps(samples: Sequence[Any], config: RunConfig) -> int:
    """Optimiser steps of the whole run. Raises InputError for more than MAX_STEPS."""
    total_steps = math.ceil(len(samples) / config.batch_size) * config.epochs
    if total_steps > MAX_STEPS:
        raise InputError(
            f"--epochs {config.epochs}: {total_steps:,} steps; the limit is {MAX_STEPS:,}, use fewer epochs or a "
            "larger --batch-size"
        )
    return total_steps
