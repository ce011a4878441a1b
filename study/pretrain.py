"""Pretraining of the embedded base: a 6 M-parameter Llama from random weights, on invented notes and code phrases.

All parameters train (Muon and AdamW), with loss on the targets only (what it must learn is to quote and to code). A curriculum:
one-finding sentences first, where quoting is learned within minutes, then paragraphs, then full notes. Codes that occur
only in MDACE's val and test charts appear in spans, never in a note (study/notes.py), so that the paper's question, can
spans alone teach a code, stays open.

Every step's data is a pure function of (seed, step), so a run that was stopped goes on as if it had not been.

Read next: build_demo.py.
"""

import dataclasses
import json
import math
import random
import time
from collections import Counter
from pathlib import Path

import torch
from tqdm import tqdm

from minscl.data.icd import CodeBook
from minscl.data.packing import pack
from minscl.data.samples import document_sample, encode_sample, span_sample
from minscl.data.types import Sample
from minscl.model import Decoder, ModelConfig, load_model, save_model
from minscl.model.ops import rope_frequencies
from minscl.training.checkpoint import load_checkpoint, save_checkpoint, truncate_metrics
from minscl.training.loop import forward_backward
from study.error_injection import learn, mislead, unlearned
from study.induction_head_init import is_part, write_copying_circuit

SHAPE = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 288,
    "intermediate_size": 896,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "tie_word_embeddings": True,
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "torch_dtype": "bfloat16",
    "bos_token_id": 0,
    "eos_token_id": 1,
}
TOKENS_PER_STEP = 6144
PACK_LENGTH = 4096  # a step is two packs or so; attention stays inside each sample, so packing costs nothing
PEAK_LR = 1e-3
WARMUP_STEPS = 100
CIRCUIT_STEPS = 500  # until the copying circuit and the embeddings train at the full rate
DECAY_SHARE = 0.4  # of the steps, at the end, with a falling learning rate
SPAN_SHARE = 0.15  # of a step's tokens
SAVE_SECONDS = 300


def new_model(vocab_size: int, seed: int) -> Decoder:
    """Random weights: normal with deviation 0.02 (embeddings 0.03), the projections back into the residual stream scaled down by depth;
    then the copying circuit of induction_head_init.py."""
    torch.manual_seed(seed)
    model = Decoder(ModelConfig.from_dict({**SHAPE, "vocab_size": vocab_size}))
    config = model.config
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            torch.nn.init.ones_(parameter)
        else:
            residual = name.endswith(("o_proj.weight", "down_proj.weight"))
            torch.nn.init.normal_(
                parameter,
                std=0.02 / math.sqrt(2 * config.num_hidden_layers) if residual else 0.03 if "embed" in name else 0.02,
            )
    write_copying_circuit(
        model, rope_frequencies(config.rope, config.head_dim, config.max_position_embeddings)[0], seed
    )
    return model


class Stream:
    """The samples of each step. `notes(rng, size)` invents a coded document; `pairs` are weighted span pairs; `phrases` what may be a disease."""

    def __init__(self, tokenizer, notes, pairs, weights, phrases: frozenset[str], seed: int):
        self.tokenizer, self.notes, self.pairs, self.phrases, self.seed = tokenizer, notes, pairs, phrases, seed
        self.pieces = tokenizer.pieces()
        self.cumulative = [0.0]
        for weight in weights:
            self.cumulative.append(self.cumulative[-1] + weight)
        self.cumulative.pop(0)  # the running sum starts at the first weight
        self.codebook = CodeBook.load()

    def samples(self, step: int, progress: float) -> list:
        """About TOKENS_PER_STEP tokens of samples; `progress` in 0..1 moves the mix from sentences to full notes."""
        rng = random.Random(f"{self.seed}-{step}")
        samples, tokens = [], 0
        while tokens < TOKENS_PER_STEP * (1 - SPAN_SHARE):
            samples.append(self.document(self.notes(rng, self.size(rng, progress)), rng))
            tokens += len(samples[-1].prompt_ids) + len(samples[-1].target_ids)
        while tokens < TOKENS_PER_STEP:
            pair = rng.choices(self.pairs, cum_weights=self.cumulative)[0]
            samples.append(encode_sample(self.tokenizer, span_sample(pair, self.codebook)))
            tokens += len(samples[-1].prompt_ids) + len(samples[-1].target_ids)
        return samples

    def document(self, note, rng) -> Sample:
        """x → E → C, with lines that do not belong in E, unlearned."""
        text = document_sample(note)
        target, places = mislead(text.target, note.text, self.phrases, rng)
        return unlearned(
            encode_sample(self.tokenizer, dataclasses.replace(text, target=target)), self.pieces, target, places
        )

    def size(self, rng, progress: float) -> str:
        sentence, paragraph = max(0.05, 1 - 8 * progress), max(0.3, min(0.7, 1.2 - 4 * progress))
        draw = rng.random()
        return (
            "sentence" if draw < sentence else "paragraph" if draw < sentence + (1 - sentence) * paragraph else "note"
        )


class Optimizers:
    """Muon for the blocks' matrices, AdamW for embeddings and norms, as one optimizer."""

    def __init__(self, named: dict[str, torch.nn.Parameter]):
        matrices, rest = {}, {}
        for name, parameter in named.items():
            (matrices if parameter.dim() == 2 and "embed" not in name else rest)[name] = parameter
        muon = [
            {"params": [p for name, p in matrices.items() if is_part(name) == circuit], "circuit": circuit}
            for circuit in (False, True)
        ]
        adamw = [
            {"params": [p for name, p in rest.items() if is_part(name) == circuit], "circuit": circuit}
            for circuit in (False, True)
        ]
        self.both = (
            torch.optim.Muon(muon, lr=PEAK_LR, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(adamw, lr=PEAK_LR, betas=(0.9, 0.98), weight_decay=0.0),
        )
        self.owner = {p: one for one in self.both for group in one.param_groups for p in group["params"]}
        self.param_groups = [group for one in self.both for group in one.param_groups]

    @property
    def state(self) -> dict:
        """Each parameter's state, in the optimizer that owns it: what a checkpoint saves and fills."""
        return {parameter: one.state[parameter] for parameter, one in self.owner.items()}

    def step(self) -> None:
        for one in self.both:
            one.step()

    def zero_grad(self) -> None:
        for one in self.both:
            one.zero_grad(set_to_none=True)


def learning_rate(step: int, total: int) -> float:
    """Warm-up, plateau, then linear to zero."""
    decay = (total - step) / (DECAY_SHARE * total)
    return PEAK_LR * min(1.0, (step + 1) / WARMUP_STEPS, decay)


def pretrain(
    stream: Stream,
    out: Path,
    *,
    total: int,
    vocab_size: int,
    seed: int = 0,
    start: Path | None = None,
    device="cpu",
    save_seconds: float = SAVE_SECONDS,
) -> Path:
    """Train `total` steps, resuming from `out/checkpoints`; writes the base in bfloat16 to `out` and gives the folder.

    `start`: a model folder whose weights to go on from; the curriculum's short samples and the slow beginning are then
    left out. A checkpoint is written every `save_seconds`; it can be taken up on another device.
    """
    device = torch.device(device)
    model = (load_model(start, dtype=torch.float32) if start else new_model(vocab_size, seed)).to(device).train()
    named = dict(model.named_parameters())
    optimizer = Optimizers(named)
    settings = {"total": total, "seed": seed, "shape": SHAPE, "vocab_size": vocab_size, "start": str(start or "")}
    first, saved = load_checkpoint(out / "checkpoints", named, optimizer, settings), time.monotonic()
    truncate_metrics(out / "metrics.jsonl", first)
    bar = tqdm(range(first, total), initial=first, total=total, unit="step", dynamic_ncols=True, mininterval=10)
    with open(out / "metrics.jsonl", "a", encoding="utf-8") as metrics:
        for number in bar:
            began, rate = time.monotonic(), learning_rate(number, total)
            slow = 1.0 if start else min(1.0, 0.03 + number / CIRCUIT_STEPS)
            for group in optimizer.param_groups:
                group["lr"] = rate * (slow if group["circuit"] else 1.0)
            samples = stream.samples(number, (0.2 + 0.8 * number / total) if start else number / total)
            longest = max(len(one.prompt_ids) + len(one.target_ids) for one in samples)
            step = pack(
                samples, pack_length=max(PACK_LENGTH, longest), batch_size=len(samples), seed=seed, epoch=number
            )[0]
            step = learn(step, random.Random(f"{seed}-{number}-mistakes"))
            with torch.autocast(device.type, torch.bfloat16):
                loss = forward_backward(model, step, device)
            norm = torch.nn.utils.clip_grad_norm_(named.values(), 1.0).item()
            optimizer.step()
            optimizer.zero_grad()
            kinds = Counter(one.kind for one in samples)
            record = {
                "step": number + 1,
                "loss": loss,
                "lr": rate,
                "grad_norm": norm,
                "documents": kinds["document"],
                "spans": kinds["span"],
                "tokens": step.tokens,
                "computed_tokens": step.computed_tokens,
                "step_seconds": time.monotonic() - began,
            }
            metrics.write(json.dumps(record) + "\n")
            metrics.flush()
            bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
            if time.monotonic() - saved > save_seconds or number + 1 == total:
                save_checkpoint(out / "checkpoints", number + 1, named, optimizer, settings)
                saved = time.monotonic()
    save_model(model.to(torch.bfloat16), out)
    return out
