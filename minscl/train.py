"""Command: samples → packs → loss → step → adapter (Eq. 3 and 6).

    python -m minscl.train --cfg llama8b --documents documents.jsonl --spans spans.jsonl --out runs/scl

Eq. 3 is a sum of two expectations, documents and spans; trained as the paper says ("we mix"): both kinds in one
shuffled list, so that a step's 16 samples hold each kind in proportion. The loss of a step is
    L = Σ over its samples, Σ over target tokens t, -log p(y_t | x, y_<t)  /  number of target tokens of the step.
deviates: Eq. 6 prints the sum alone; dividing makes the learning rate mean the same for any mix of lengths.

Reading order: data/samples.py, data/packing.py, model/decoder.py (ops.py), data/loss.py; LoRA is one detour (lora/layer.py).
"""

import dataclasses
import hashlib
import json
import math
import resource
import sys
import time
from pathlib import Path

import torch
from tqdm import tqdm

from minscl.checkpoint import StopSignals, forget_after, load_checkpoint, save_checkpoint
from minscl.config import RunConfig, parse_run, require
from minscl.data.icd import CodeBook
from minscl.data.jsonl import read_jsonl, read_samples
from minscl.data.loss import IGNORE, masked_loss
from minscl.data.packing import Step, pack
from minscl.data.samples import document_sample, encode_samples, span_sample
from minscl.data.types import CodedDocument, Pair
from minscl.errors import InputError, replace_file, run_command
from minscl.lora import add_lora, lora_parameters, save_adapter
from minscl.model import Forest, load_model, load_tokenizer


LOGIT_ROWS = 1024  # target positions whose logits exist at a time: 0.5 GB in float32 with Llama 3's vocabulary


def learning_rate_factor(step: int, total_steps: int, warmup_steps: int) -> float:
    """Linear from 0 over the warm-up, then cosine to 0; `step` counts from 0, so the first step trains nothing.

    The same numbers as transformers' `get_cosine_schedule_with_warmup`.
    """
    if step < warmup_steps:
        return step / max(1, warmup_steps)
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * progress)))


def step_loss(model, step: Step, device) -> float:
    """Forward and backward of one optimiser step, pack by pack; gradients add up. Gives the step's loss."""
    total = 0.0
    for one in step.packs:
        one = one.to(device)
        hidden = model.model(one.input_ids[None], positions=one.positions[None], mask=Forest(one.lengths, one.parents))  # (1, T, C)
        trained = one.labels != IGNORE
        total = total + target_loss(model.lm_head, hidden[0, trained], one.labels[trained], step.target_tokens)
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


def train_steps(model, parameters, optimizer, steps, *, first: int, total: int, config: RunConfig, device):
    """The loop, readable aloud: learning rate, loss, backward, clip, step. Yields one metrics record a step."""
    warmup = math.ceil(config.warmup_ratio * total)
    started = time.monotonic()
    for number, (epoch, step) in enumerate(steps, first):
        began = time.monotonic()
        lr = config.lr * learning_rate_factor(number, total, warmup)
        for group in optimizer.param_groups:
            group["lr"] = lr
        loss = step_loss(model, step, device)
        grad_norm = torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm).item()
        if not math.isfinite(loss) or not math.isfinite(grad_norm):
            raise FloatingPointError(f"step {number + 1}: loss {loss}, gradient norm {grad_norm}; samples {list(step.sample_indices)}")
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        now = time.monotonic()
        yield {"step": number + 1, "epoch": epoch, "loss": loss, "lr": lr, "grad_norm": grad_norm,
               "samples": len(step.sample_indices), "tokens": step.tokens, "computed_tokens": step.computed_tokens,
               "step_seconds": now - began, "elapsed_seconds": now - started, "peak_memory_bytes": peak_memory(device)}


def peak_memory(device: torch.device) -> int:
    """Bytes: the most this process has held, on the GPU if it trains there."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def load_samples(config: RunConfig, tokenizer) -> list:
    """Documents and spans (or ready samples) as token samples, in file order; says what it read and skipped."""
    if config.samples:
        texts = read_samples(require(config.samples, "--samples"))
    else:
        if not config.documents and not config.spans:
            raise InputError("nothing to train on: give --documents FILE, --spans FILE or --samples FILE")
        codebook = CodeBook.load()
        documents = read_jsonl(require(config.documents, "--documents"), CodedDocument) if config.documents else []
        pairs = read_jsonl(require(config.spans, "--spans"), Pair) if config.spans else []
        texts = [document_sample(one) for one in documents] + [span_sample(one, codebook) for one in pairs]
    samples, skipped = encode_samples(tokenizer, texts, config.max_length)
    if not samples:
        raise InputError(f"no sample is left to train on ({len(skipped)} too long); raise --max-length {config.max_length}")
    kinds = {kind: sum(one.kind == kind for one in samples) for kind in ("document", "span", None)}
    print(f"samples: {kinds['document']} documents, {kinds['span']} spans, {kinds[None]} of no kind; skipped {len(skipped)}; "
          f"{sum(len(s.prompt_ids) + len(s.target_ids) for s in samples):,} tokens, "
          f"{sum(len(s.target_ids) for s in samples):,} of them trained", file=sys.stderr)
    return samples


def choose_device(config: RunConfig) -> tuple[torch.device, torch.dtype]:
    name = config.device if config.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    automatic = torch.bfloat16 if device.type == "cuda" else torch.float32
    dtypes = {"auto": automatic, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if config.dtype not in dtypes:
        raise InputError(f"--dtype {config.dtype}: choose one of {', '.join(dtypes)}")
    return device, dtypes[config.dtype]


def train(config: RunConfig) -> Path:
    """Run one training; gives the adapter's folder. Ctrl-C and SIGTERM save the adapter and a checkpoint, then raise SystemExit."""
    out = Path(config.out)
    if (out / "metrics.jsonl").exists() and not config.resume:
        raise InputError(f"--out {out}: holds a run already; name another folder, or go on with --resume")
    device, dtype = choose_device(config)
    tokenizer = load_tokenizer(require(config.model, "--model"))
    samples = load_samples(config, tokenizer)
    torch.manual_seed(config.seed)  # dropout
    model = load_model(config.model, device=device, dtype=dtype)
    add_lora(model, config.rank, config.alpha, config.dropout, seed=config.seed)
    model.train()
    named = dict(lora_parameters(model))
    optimizer = torch.optim.AdamW(named.values(), lr=config.lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=config.weight_decay)

    with replace_file(out / "run.json") as handle:
        json.dump(dataclasses.asdict(config), handle, indent=1)
    settings = checkpoint_settings(config, samples)
    first = load_checkpoint(out / "checkpoints", named, optimizer, settings) if config.resume else 0
    forget_after(out / "metrics.jsonl", first)
    steps, total = plan(samples, config, first)
    bar, done = tqdm(total=total, initial=first, unit="step", dynamic_ncols=True), first
    with open(out / "metrics.jsonl", "a", encoding="utf-8") as metrics, StopSignals() as stop, bar:
        for record in train_steps(model, list(named.values()), optimizer, steps, first=first, total=total, config=config, device=device):
            done = record["step"]
            metrics.write(json.dumps(record) + "\n")
            metrics.flush()
            bar.set_postfix_str(f"loss {record['loss']:.3f}, {record['tokens'] / record['step_seconds']:,.0f} tokens/s")
            bar.update()
            if done % config.save_every == 0 or done == total or stop.number:
                save_checkpoint(out / "checkpoints", done, named, optimizer, settings)
            if stop.number:
                break
    save_adapter(model, out, base_model_name=config.model)
    print(f"adapter after {done} of {total} steps: {out}", file=sys.stderr)
    if done < total:
        raise SystemExit(128 + stop.number)  # the shell's convention; go on with --resume
    return out


def plan(samples, config: RunConfig, first: int):
    """((epoch, Step) from step `first` on, total steps): every sample once an epoch."""
    per_epoch = math.ceil(len(samples) / config.batch_size)

    def steps():
        for epoch in range(first // per_epoch, config.epochs):
            packed = pack(samples, pack_length=config.pack_length, batch_size=config.batch_size, seed=config.seed, epoch=epoch)
            skip = first % per_epoch if epoch == first // per_epoch else 0
            for position, step in enumerate(packed):
                if position >= skip:
                    yield epoch, step

    return steps(), per_epoch * config.epochs


def checkpoint_settings(config: RunConfig, samples) -> dict:
    """What must be the same for a run to go on: everything that changes the arithmetic."""
    digest = hashlib.sha256()
    for one in samples:
        digest.update(repr((one.prompt_ids, one.target_ids)).encode())
    kept = dataclasses.asdict(config)
    for name in ("documents", "spans", "samples", "out", "resume", "device", "save_every"):
        kept.pop(name)
    return {**kept, "data": digest.hexdigest()}


def main() -> int:
    config = parse_run()
    try:
        train(config)
    except FloatingPointError as error:
        print(f"minscl: {error}; nothing was trained on it; the last good checkpoint is in {config.out}/checkpoints", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    run_command(main)
