"""Command: samples → packs → loss → step → adapter (Eq. 3 and 6).

    python -m minscl.train --cfg llama8b --documents documents.jsonl --spans spans.jsonl --out runs/scl

Eq. 3 is a sum of two expectations, documents and spans; trained as the paper says ("we mix"): both kinds in one
shuffled list, so that a step's 16 samples hold each kind in proportion. The loss of a step is
    L = Σ over its samples, Σ over target tokens t, -log p(y_t | x, y_<t)  /  number of target tokens of the step.
deviates: Eq. 6 prints the sum alone; dividing makes the learning rate mean the same for any mix of lengths.

Reading order: data/samples.py, data/packing.py, model/decoder.py (ops.py), data/loss.py; LoRA is one detour (lora/layer.py).
parallel.py: the same with several processes. docs/training.md draws a pack.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import random
import signal
import sys
import time
from pathlib import Path

import torch

from minscl.cli import require, run_command
from minscl.config import RunConfig, parse_run
from minscl.data.loss import IGNORE, masked_loss
from minscl.data.packing import Step, epoch_order, pack_step
from minscl.data.samples import read_training_data
from minscl.errors import InputError, replace_file
from minscl.hardware import choose_device, float32_products, matmul_rate, memory_errors, peak_memory, prepare_cpu
from minscl.lora import add_lora, lora_parameters, save_adapter
from minscl.model import SharedPrefixMask, load_model, load_tokenizer, read_config
from minscl.training.checkpoint import StopSignals, forget_after, load_checkpoint, save_checkpoint
from minscl.training.distributed import ProcessGroup, join_process_group, shard_blocks
from minscl.training.estimate import describe_data, forecast, show
from minscl.training.metrics_log import Log, plot_losses

LOGIT_ROWS = 512  # target positions whose logits exist at a time: 0.25 GB in float32 with Llama 3's vocabulary


class NotFinite(ArithmeticError):
    """A loss or gradient that is not finite: step, loss, gradient norm, and which samples made it."""


def learning_rate_factor(step: int, total_steps: int, warmup_steps: int) -> float:
    """Linear from 0 over the warm-up, then cosine to 0; `step` counts from 0, so the first step trains nothing.

    The same numbers as transformers' `get_cosine_schedule_with_warmup`.
    """
    if step < warmup_steps:
        return step / max(1, warmup_steps)
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * progress)))


def forward_backward(model, step: Step, device) -> float:
    """Forward and backward of one optimiser step, pack by pack; gradients add up. Gives the step's loss."""
    total = 0.0
    for one in step.packs:
        one = one.to(device)
        trained = one.labels != IGNORE
        [hidden] = model.model(
            one.input_ids[None],
            positions=one.positions[None],
            mask=SharedPrefixMask(one.lengths, one.parents),
            logits_to_keep=trained,
        )  # (N, C)
        total = total + target_loss(model.lm_head, hidden, one.labels[trained], step.target_tokens)
    return total.item()


def target_loss(lm_head, hidden: torch.Tensor, labels: torch.Tensor, divisor: int) -> torch.Tensor:
    """Loss of the target positions alone, hidden (N, C) and labels (N,), with its backward: in chunks, so that (tokens, V) never exists."""
    leaf, total = hidden.detach().requires_grad_(), 0.0
    for rows, wanted in zip(leaf.split(LOGIT_ROWS), labels.split(LOGIT_ROWS), strict=True):
        loss = masked_loss(lm_head(rows), wanted) / divisor  # (chunk, V) inside
        loss.backward()
        total = total + loss.detach()
    hidden.backward(leaf.grad)
    return total


def train_steps(
    model,
    parameters,
    optimizer,
    steps,
    *,
    first: int,
    total: int,
    config: RunConfig,
    device,
    team: ProcessGroup,
    stop: StopSignals,
):
    """The loop, readable aloud: learning rate, loss, backward, sum, clip, step. Yields one metrics record a step.

    Raises NotFinite before such a gradient is trained on.
    """
    warmup = math.ceil(config.warmup_ratio * total)
    started = time.monotonic()
    for number, (epoch, step) in enumerate(steps, first):
        began = time.monotonic()
        lr = config.lr * learning_rate_factor(number, total, warmup)
        for group in optimizer.param_groups:
            group["lr"] = lr
        torch.manual_seed(random.Random(f"{config.seed}-{number}-{team.rank}").getrandbits(63))  # dropout
        loss = forward_backward(model, step, device)
        team.all_reduce_gradients(parameters)
        loss, computed, stops = team.sum(loss, step.computed_tokens, bool(stop.number))
        grad_norm = torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm).item()
        if not math.isfinite(loss) or not math.isfinite(grad_norm):
            raise NotFinite(number + 1, loss, grad_norm, step.sample_indices)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        stop.number = stop.number or (signal.SIGTERM if stops else 0)  # all processes stop after the same step
        now = time.monotonic()
        yield {
            "step": number + 1,
            "epoch": epoch,
            "loss": loss,
            "lr": lr,
            "grad_norm": grad_norm,
            "samples": len(step.sample_indices),
            "tokens": step.tokens,
            "computed_tokens": int(computed),
            "step_seconds": now - began,
            "elapsed_seconds": now - started,
            "peak_memory_bytes": peak_memory(device),
        }


def plan(samples, config: RunConfig, first: int, team: ProcessGroup = ProcessGroup()):
    """((epoch, Step) from step `first` on, total steps): every sample once an epoch."""
    per_epoch = math.ceil(len(samples) / config.batch_size)

    def steps():
        for epoch in range(first // per_epoch, config.epochs):
            for position, indices in enumerate(epoch_order(len(samples), config.batch_size, config.seed, epoch)):
                if epoch * per_epoch + position >= first:
                    yield epoch, pack_step(samples, indices, config.pack_length, team.rank, team.size)

    return steps(), per_epoch * config.epochs


def read_data(config: RunConfig, tokenizer) -> tuple[list, str]:
    """(samples, a line about them)."""
    if not (config.samples or config.documents or config.spans):
        raise InputError("nothing to train on: give --documents FILE, --spans FILE or --samples FILE")
    flags = ("samples",) if config.samples else ("documents", "spans")
    paths = {name: require(getattr(config, name), f"--{name}") if getattr(config, name) else "" for name in flags}
    samples, counts, skipped = read_training_data(
        paths.get("documents"),
        paths.get("spans"),
        paths.get("samples"),
        tokenizer,
        config.max_length,
        evidence_first=not config.no_evidence,
    )
    return samples, describe_data(samples, counts, skipped)


def check_ids(samples, vocab_size: int) -> None:
    """Ready samples bring ids of their own; one that the model does not know is refused by name."""
    for number, one in enumerate(samples, 1):
        largest = max((*one.prompt_ids, *one.target_ids), default=0)
        if largest >= vocab_size:
            raise InputError(
                f"{one.name or f'sample {number}'}: token id {largest}, but the model's vocabulary has {vocab_size}; use this model's tokenizer"
            )


def prepare(config: RunConfig, device, dtype, team: ProcessGroup, products: str | None = None):
    """(model with LoRA, samples, tokenizer); tells the leader's user what will happen before any weight is read. `products` as for prepare_cpu."""
    tokenizer = load_tokenizer(require(config.model, "--model"))
    samples, data = read_data(config, tokenizer)
    shape = read_config(Path(config.model))
    check_ids(samples, shape.vocab_size)
    rate, found = (
        prepare_cpu(dtype, products)
        if device.type == "cpu"
        else (matmul_rate(device, dtype, 8192, 4096), torch.cuda.get_device_name(device))
    )
    expected = forecast(shape, samples, config, dtype=dtype, rate=rate, logit_rows=LOGIT_ROWS, processes=team.size)
    if team.leads:
        print(f"{data}\nmachine: {found}; {team.size} process{'es' * (team.size > 1)}\n{expected}", file=sys.stderr)
    model = load_model(config.model, device="cpu" if config.fsdp else device, dtype=dtype, mapped=config.fsdp)
    add_lora(model, config.rank, config.alpha, config.dropout, seed=config.seed)
    if config.fsdp:
        shard_blocks(model, [one for _, one in lora_parameters(model)], device)
    model.model.recompute = config.recompute
    return model.train(), samples, tokenizer


def train(config: RunConfig) -> Path:
    """Run one training; gives the adapter's folder. Ctrl-C and SIGTERM save the adapter and a checkpoint, then raise SystemExit."""
    out = Path(config.out)
    if (out / "metrics.jsonl").exists() and not config.resume:
        raise InputError(f"--out {out}: holds a run already; name another folder, or go on with --resume")
    device, dtype = choose_device(config.device, config.dtype)
    team, device = join_process_group(device)
    if config.fsdp and team.size == 1:
        raise InputError(
            "--fsdp: splits weights among processes; start them with torchrun --nproc-per-node N -m minscl.train"
        )
    model, samples, tokenizer = prepare(
        config, device, dtype, team, products_before(out / "run.json") if config.resume else None
    )
    if config.dry_run:
        if team.leads:
            show(samples, tokenizer)
        return out
    named = dict(lora_parameters(model))
    optimizer = torch.optim.AdamW(
        named.values(), lr=config.lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=config.weight_decay
    )
    settings = checkpoint_settings(config, dtype, samples)
    first = load_checkpoint(out / "checkpoints", named, optimizer, settings) if config.resume else 0
    steps, total = plan(samples, config, first, team)
    team.wait()  # all have read what is there
    if team.leads:
        forget_after(out / "metrics.jsonl", first)
        with replace_file(out / "run.json") as handle:
            json.dump({**dataclasses.asdict(config), "float32_products": float32_products()}, handle, indent=1)
    with StopSignals() as stop, Log(out, first, total, shown=team.leads) as log, not_finite(samples, out, team.leads):
        done, saved = first, time.monotonic()
        for record in train_steps(
            model,
            list(named.values()),
            optimizer,
            steps,
            first=first,
            total=total,
            config=config,
            device=device,
            team=team,
            stop=stop,
        ):
            done = record["step"]
            log.add(record)
            late = time.monotonic() - saved > 60 * config.save_minutes
            if team.leads and (done % config.save_every == 0 or done == total or stop.number or late):
                save_checkpoint(out / "checkpoints", done, named, optimizer, settings)
                saved = time.monotonic()
            if stop.number:
                break
    if team.leads:
        save_adapter(model, out, base_model_name=config.model)
        print(f"adapter after {done} of {total} steps: {out}\n{plot_losses(out)}", file=sys.stderr)
    if done < total:
        raise SystemExit(128 + stop.number)  # the shell's convention; go on with --resume
    return out


def products_before(path: Path) -> str | None:
    """What float32_products gave when the run of this run.json began; None where it does not say."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))["float32_products"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def checkpoint_settings(config: RunConfig, dtype: torch.dtype, samples) -> dict:
    """What must be the same for a run to go on: everything that changes the arithmetic. The model counts by its config.json and the sizes of its
    files, wherever it lies; the data by its tokens."""
    digest, folder = hashlib.sha256(), Path(config.model)
    for one in samples:
        digest.update(repr((one.prompt_ids, one.target_ids)).encode())
    model = hashlib.sha256((folder / "config.json").read_bytes())
    model.update(repr(sorted((path.name, path.stat().st_size) for path in folder.glob("*.safetensors"))).encode())
    kept = dataclasses.asdict(config)
    for name in (
        "documents",
        "spans",
        "samples",
        "out",
        "resume",
        "device",
        "save_every",
        "save_minutes",
        "recompute",
        "fsdp",
        "dry_run",
    ):
        kept.pop(name)
    return {**kept, "model": model.hexdigest()[:16], "dtype": str(dtype), "data": digest.hexdigest()}


@contextlib.contextmanager
def not_finite(samples, out: Path, leads: bool):
    """NotFinite as one line, of the leading process, that names the samples and the last good checkpoint; and exit status 1: the program failed, not
    its user."""
    try:
        yield
    except NotFinite as error:
        step, loss, grad_norm, indices = error.args
        names = ", ".join(samples[one].name or f"sample {one + 1}" for one in indices)
        whole = sorted((out / "checkpoints").glob("step-*"))
        if leads:
            print(
                f"minscl: step {step}: loss {loss}, gradient norm {grad_norm}; samples: {names}; nothing was trained on it; the last good checkpoint is "
                f"{whole[-1] if whole else 'none yet'}",
                file=sys.stderr,
            )
        raise SystemExit(1) from None


def main() -> int:
    config = parse_run()
    with memory_errors("--recompute, a smaller --pack-length with --max-length, or several GPUs with --fsdp"):
        train(config)
    return 0


if __name__ == "__main__":
    run_command(main)
