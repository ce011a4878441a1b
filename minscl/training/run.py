"""One training run, from settings to adapter folder: data, estimate, model with LoRA, the loop, checkpoints.

Read next: task.py for the steps; validation.py; run_folder.py for what is written.
"""

import contextlib
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from minscl.config import ON, RunConfig
from minscl.data.sample_types import Sample
from minscl.data.samples import Tokenizer, read_training_data
from minscl.errors import InputError
from minscl.files import lock_folder
from minscl.hardware import choose_device, choose_float32_matmul, measure_matmul_rate
from minscl.lora import add_lora, lora_parameters, save_adapter
from minscl.model import Decoder, ModelConfig, load_model, load_tokenizer, read_config
from minscl.settings import show_value
from minscl.training.distributed import ProcessGroup, join_process_group, shard_blocks
from minscl.training.estimate import describe_data, estimate_run, print_samples
from minscl.training.loop import count_steps, forward_backward, learns
from minscl.training.memory import decide_memory
from minscl.training.run_folder import BEST, check_out, read_matmul_mode
from minscl.training.run_settings import checkpoint_settings
from minscl.training.task import Task, run_steps
from minscl.training.tensorboard import check_tensorboard
from minscl.training.validation import CodeDocuments, HeldOut, Validation, read_held_out


def train_adapter(
    config: RunConfig, code_documents: CodeDocuments | None = None, free_bytes: int | None = None
) -> Path:
    """Train one adapter; returns its folder, `config.out`.

    `code_documents`: codes the documents of `config.validate`; None: their loss alone is computed. `free_bytes`: the
    memory that a process may use; None: what is free now.
    Ctrl-C and SIGTERM save the adapter and a checkpoint after the current step and then raise SystemExit. Raises
    InputError for input that cannot be used, before the first step; SystemExit(1) for a loss or gradient that is not
    finite.
    """
    out = Path(config.out)
    check_out(config)
    check_tensorboard(config)
    device, dtype = choose_device(config.device, config.dtype)
    group, device = join_process_group(device)
    if config.fsdp and group.size == 1:
        raise InputError(
            "--fsdp: splits weights among processes; start them with torchrun --nproc-per-node N -m minscl.train"
        )
    tokenizer, model_config = load_tokenizer(config.model), read_config(Path(config.model))
    if config.fsdp and model_config.weights:
        raise InputError(f"--fsdp: {config.model} holds int8 weights, which FSDP cannot split; leave --fsdp out")
    samples, data_summary = read_data(config, tokenizer)
    check_token_ids(samples, model_config.vocab_size)
    held_out = read_held_out(config, tokenizer, samples) if config.validate else None
    check_context(samples, model_config.context_length, config)
    if group.is_main:
        print(data_summary, *([held_out.describe(config)] if held_out else []), sep="\n", file=sys.stderr)
    config, decision = decide_memory(config, model_config, samples, device, dtype, group, free_bytes)
    machine_summary = prepare_machine(config, model_config, samples, device, dtype, group)
    if group.is_main:  # before any weight is read
        print("\n".join([*decision, machine_summary]), file=sys.stderr)
        warn_if_nothing_is_learned(config, count_steps(samples, config))
    if config.dry_run:
        load_model_with_lora(config, device, dtype)
        if group.is_main:
            print_samples(samples, tokenizer)
        return out
    with lock_folder(out) if group.is_main else contextlib.nullcontext():
        check_out(config)  # again: another run may have written since
        model = load_model_with_lora(config, device, dtype)
        task = lora_task(model, samples, config, dtype)
        if held_out:
            validation = Validation(model, tokenizer, held_out, config, device, group, code_documents)
            task = with_validation(task, config, held_out, validation)
        run_steps(task, config, device, group)
    return out


def lora_task(model: Decoder, samples: Sequence[Sample], config: RunConfig, dtype: torch.dtype) -> Task:
    """LoRA of `model`, trained on the targets of `samples`."""

    def save(finished: bool) -> str:
        save_adapter(model, Path(config.out), base_model_name=config.model)
        return "adapter"

    ids = ((sample.prompt_ids, sample.target_ids) for sample in samples)
    settings = checkpoint_settings(config, dtype, ids)
    return Task(model, samples, dict(lora_parameters(model)), settings, forward_backward, save)


def with_validation(task: Task, config: RunConfig, held_out: HeldOut, validation: Validation) -> Task:
    """`task` with a validation, after the best of which its adapter is saved in --out/best."""

    def save_best() -> None:
        save_adapter(task.model, Path(config.out) / BEST, base_model_name=config.model)

    settings = task.settings | {"validation": held_out.digest()}
    return dataclasses.replace(task, settings=settings, validate=validation, save_best=save_best)


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
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return measure_matmul_rate(device, dtype, rows=8192, columns=4096), name


def check_context(samples: Sequence[Sample], context_length: int, config: RunConfig) -> None:
    """Raises InputError for a sample that is longer than the model's context: its last positions mean nothing to it."""
    longest = max(map(len, samples))
    if longest > context_length:
        raise InputError(
            f"--max-length {config.max_length}: a sample has {longest:,} tokens, and the context of {config.model} "
            f"holds {context_length:,}; use --max-length {context_length}"
        )


def load_model_with_lora(config: RunConfig, device: torch.device, dtype: torch.dtype) -> Decoder:
    """The frozen base model with LoRA layers to train, in train mode; with --fsdp, split among the processes."""
    model = load_model(
        config.model,
        device="cpu" if config.fsdp else device,
        dtype=dtype,
        mapped=config.fsdp,
        weights=config.weights,
    )
    add_lora(model, config.rank, config.alpha, config.dropout, seed=config.seed)
    if config.fsdp:
        shard_blocks(model, [parameter for _, parameter in lora_parameters(model)], device)
    model.model.recompute = config.recompute == ON
    return model.train()
