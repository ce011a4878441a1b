"""One training run, from settings to adapter folder: data, estimate, model with LoRA, the loop, checkpoints.

Read next: loop.py for the step; run_folder.py for what is written.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from minscl.config import RunConfig
from minscl.data.sample_types import Sample
from minscl.data.samples import Tokenizer, read_training_data
from minscl.errors import InputError, printable
from minscl.files import lock_folder
from minscl.hardware import choose_device, choose_float32_matmul, measure_matmul_rate
from minscl.lora import add_lora, lora_parameters, save_adapter
from minscl.model import Decoder, ModelConfig, load_model, load_tokenizer, read_config
from minscl.settings import show_value
from minscl.training.checkpoint import (
    checkpoint_settings,
    load_checkpoint,
    newest_checkpoint,
    remove_older_checkpoints,
    save_checkpoint,
)
from minscl.training.distributed import ProcessGroup, join_process_group, shard_blocks
from minscl.training.estimate import describe_data, estimate_run, print_samples
from minscl.training.loop import NotFinite, count_steps, forward_backward, learns, plan_steps, train_steps
from minscl.training.metrics_log import MetricsLog, plot_losses, truncate_metrics
from minscl.training.run_folder import check_out, read_matmul_mode, write_run_json
from minscl.training.stop_signals import StopSignals


class Named(Protocol):
    """A sample: messages show `name`."""

    @property
    def name(self) -> str:
        """The document, or file:line."""
        ...


@dataclass(frozen=True)
class Task:
    """What a run trains: LoRA for generation (`lora_task`), or a head (heads/train.py).

    `parameters`: name → trained tensor. `settings`: checkpoint_settings. `forward_backward` as for train_steps,
    `build_step` as for plan_steps. `save(finished)`: write the result to --out; returns its name for messages.
    """

    model: Any
    samples: Sequence[Named]
    parameters: dict[str, torch.nn.Parameter]
    settings: dict
    forward_backward: Callable[[Any, Any, torch.device], float]
    save: Callable[[bool], str]
    build_step: Callable[[list[int], int], Any] | None = None


def train_adapter(config: RunConfig) -> Path:
    """Train one adapter; returns its folder, `config.out`.

    Ctrl-C and SIGTERM save the adapter and a checkpoint after the current step and then raise SystemExit. Raises
    InputError for input that cannot be used, before the first step; SystemExit(1) for a loss or gradient that is not
    finite.
    """
    out = Path(config.out)
    check_out(config)
    device, dtype = choose_device(config.device, config.dtype)
    group, device = join_process_group(device)
    if config.fsdp and group.size == 1:
        raise InputError(
            "--fsdp: splits weights among processes; start them with torchrun --nproc-per-node N -m minscl.train"
        )
    tokenizer, model_config = load_tokenizer(config.model), read_config(Path(config.model))
    samples, data_summary = read_data(config, tokenizer)
    check_token_ids(samples, model_config.vocab_size)
    machine_summary = prepare_machine(config, model_config, samples, device, dtype, group)
    if group.is_main:  # before any weight is read
        print(f"{data_summary}\n{machine_summary}", file=sys.stderr)
        warn_if_nothing_is_learned(config, count_steps(samples, config))
    if config.dry_run:
        load_model_with_lora(config, device, dtype)
        if group.is_main:
            print_samples(samples, tokenizer)
        return out
    with lock_folder(out) if group.is_main else contextlib.nullcontext():
        check_out(config)  # again: another run may have written since
        model = load_model_with_lora(config, device, dtype)
        run_steps(lora_task(model, samples, config, dtype), config, device, group)
    return out


def lora_task(model: Decoder, samples: Sequence[Sample], config: RunConfig, dtype: torch.dtype) -> Task:
    """LoRA of `model`, trained on the targets of `samples`."""

    def save(finished: bool) -> str:
        save_adapter(model, Path(config.out), base_model_name=config.model)
        return "adapter"

    ids = ((sample.prompt_ids, sample.target_ids) for sample in samples)
    settings = checkpoint_settings(config, dtype, ids)
    return Task(model, samples, dict(lora_parameters(model)), settings, forward_backward, save)


def warn_if_nothing_is_learned(config: RunConfig, total_steps: int) -> None:
    """Print a warning for a schedule whose every step has learning rate 0."""
    if not learns(config, total_steps):
        print(
            f"minscl: warning: the learning rate is 0 in every step of this run of {total_steps:,}, so the adapter "
            "will change nothing; use more --epochs, a smaller --batch-size or --warmup-ratio 0",
            file=sys.stderr,
        )


def read_data(config: RunConfig, tokenizer: Tokenizer) -> tuple[list[Sample], str]:
    """(the samples of both terms of Eq. 3, in file order; a summary of them)."""
    if not (config.samples or config.documents or config.spans):
        raise InputError("nothing to train on: give --documents FILE, --spans FILE or --samples FILE")
    samples, counts, skipped = read_training_data(
        config.documents,
        config.spans,
        config.samples,
        tokenizer,
        config.max_length,
        evidence_first=not config.no_evidence,
    )
    return samples, describe_data(samples, counts, skipped)


def check_token_ids(samples: Sequence[Sample], vocab_size: int) -> None:
    """Ready samples bring their own ids. Raises InputError naming the first sample with one outside the vocabulary."""
    for number, sample in enumerate(samples, 1):
        largest = max((*sample.prompt_ids, *sample.target_ids), default=0)
        if largest >= vocab_size:
            raise InputError(
                f"{sample.name or f'sample {number}'}: token id {show_value(largest)}, but the model's vocabulary has "
                f"{vocab_size}; use this model's tokenizer"
            )


def prepare_machine(
    config: RunConfig,
    model_config: ModelConfig,
    samples: Sequence[Sample],
    device: torch.device,
    dtype: torch.dtype,
    group: ProcessGroup,
) -> str:
    """Choose how a CPU multiplies float32 matrices, and estimate the run from the measured rate; both as text."""
    rate, machine = measure_machine(config, device, dtype)
    estimate = estimate_run(model_config, samples, config, dtype=dtype, matmul_rate=rate, processes=group.size)
    return f"machine: {machine}; {group.size} process{'es' * (group.size > 1)}\n{estimate}"


def measure_machine(config: RunConfig, device: torch.device, dtype: torch.dtype) -> tuple[float, str]:
    """(matmul rate in operations per second, a summary); on a CPU it also chooses how float32 is multiplied.

    A resumed run multiplies as it did when it began, so that its numbers do not depend on a new measurement.
    """
    if device.type == "cpu":
        previous_mode = read_matmul_mode(Path(config.out) / "run.json") if config.resume else None
        return choose_float32_matmul(dtype, previous_mode)
    return measure_matmul_rate(device, dtype, rows=8192, columns=4096), torch.cuda.get_device_name(device)


def load_model_with_lora(config: RunConfig, device: torch.device, dtype: torch.dtype) -> Decoder:
    """The frozen base model with LoRA layers to train, in train mode; with --fsdp, split among the processes."""
    model = load_model(config.model, device="cpu" if config.fsdp else device, dtype=dtype, mapped=config.fsdp)
    add_lora(model, config.rank, config.alpha, config.dropout, seed=config.seed)
    if config.fsdp:
        shard_blocks(model, [parameter for _, parameter in lora_parameters(model)], device)
    model.model.recompute = config.recompute
    return model.train()


def run_steps(task: Task, config: RunConfig, device: torch.device, group: ProcessGroup) -> None:
    """Train from the newest checkpoint to the last step or a stop signal, and write the files of the run."""
    out = Path(config.out)
    parameters, settings = task.parameters, task.settings
    optimizer = torch.optim.AdamW(
        parameters.values(), lr=config.lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=config.weight_decay
    )
    total_steps, first_step = count_steps(task.samples, config), 0
    if config.resume:
        first_step = load_checkpoint(out / "checkpoints", parameters, optimizer, settings, total_steps)
    steps, _ = plan_steps(task.samples, config, first_step, group, task.build_step)
    group.barrier()  # every process has read the checkpoint before the main process writes
    if group.is_main:
        if config.resume and first_step == 0:
            print(f"--resume: {out} has no checkpoint yet, so the run begins at its first step", file=sys.stderr)
        truncate_metrics(out / "metrics.jsonl", first_step)
        remove_older_checkpoints(out / "checkpoints", first_step)
        write_run_json(out / "run.json", config)
    done = first_step
    with (
        StopSignals() as stop,
        report_not_finite(task.samples, out, group.is_main),  # after the progress bar is closed
        MetricsLog(out, first_step, total_steps, enabled=group.is_main) as log,
    ):
        for record in train_steps(
            task.model,
            list(parameters.values()),
            optimizer,
            steps,
            forward_backward=task.forward_backward,
            first_step=first_step,
            total_steps=total_steps,
            config=config,
            device=device,
            group=group,
        ):
            log.add(record)
            done = record["step"]
            [stopping] = group.sum(stop.requested)  # a signal to one process stops all after the same step
            if group.is_main and (done % config.save_every == 0 or done == total_steps or stopping):
                save_checkpoint(out / "checkpoints", done, parameters, optimizer, settings)
            if stopping:
                break
    if group.is_main:
        saved = task.save(done == total_steps)
        remark = "" if learns(config, total_steps) else " (learning rate 0: it changes nothing)"
        print(f"{saved} after {done} of {total_steps} steps{remark}: {out}", file=sys.stderr)
        print(plot_losses(out), file=sys.stderr)
    if done < total_steps:
        raise SystemExit(stop.exit_status)


@contextlib.contextmanager
def report_not_finite(samples: Sequence[Named], out: Path, is_main: bool) -> Iterator[None]:
    """NotFinite → one line naming the samples and the last good checkpoint, and exit status 1: the run failed."""
    try:
        yield
    except NotFinite as error:
        names = printable(", ".join(samples[index].name or f"sample {index + 1}" for index in error.sample_indices))
        if is_main:
            print(
                f"minscl: {error}; samples: {names}; nothing was trained on it; "
                f"the last good checkpoint is {newest_checkpoint(out / 'checkpoints', error.step) or 'none yet'}",
                file=sys.stderr,
            )
        raise SystemExit(1) from None
