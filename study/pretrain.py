"""Pretraining of a small Llama from random weights or from another model's, all parameters trained (Muon and AdamW).

    stream.py's samples of a step → packs → forward_backward → clip → Muon, AdamW → checkpoint every few minutes

The data of a step is a pure function of (seed, step), so an interrupted run resumes as if it had not stopped.

Read next: stream.py; build_demo.py.
"""

import functools
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from minscl.data.packing import Step
from minscl.hardware import measure_matmul_rate
from minscl.model import Decoder, ModelConfig, save_model
from minscl.model.decoder import Attention, Block, RMSNorm
from minscl.model.ops import rope_frequencies
from minscl.training.checkpoint import ADAMW_STATE, load_checkpoint, save_checkpoint
from minscl.training.metrics_log import truncate_metrics
from study.evidence_tags import forward_backward, tag_heads, token_loss
from study.induction_head_init import in_circuit, write_induction_heads
from study.muon import Muon
from study.prepared import PreparedSteps, prepared_steps
from study.stream import Stream

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


@dataclass(frozen=True)
class StepSize:
    """`tokens`: of a step, about."""

    tokens: int
    peak_lr: float


STEP = {"cpu": StepSize(6144, 1.5e-3), "cuda": StepSize(65_536, 2.5e-3)}  # a GPU needs more to be busy
WARMUP_STEPS = 100
CIRCUIT_STEPS = 500  # until the induction heads and the embeddings train at the full learning rate
SAVE_SECONDS = 300
VALIDATE_EVERY = 250  # steps


def new_model(vocab_size: int, seed: int, **shape) -> Decoder:
    """A float32 model with random weights, then the heads of induction_head_init.py.

    Normal with standard deviation 0.02 (embeddings 0.03); output projections are scaled by 1 / sqrt(2 * layers).
    """
    torch.manual_seed(seed)
    model = Decoder(ModelConfig.from_dict({**SHAPE, **shape, "vocab_size": vocab_size}))
    config = model.config
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            torch.nn.init.ones_(parameter)
        else:
            is_output = name.endswith(("o_proj.weight", "down_proj.weight"))  # writes to the residual stream
            deviation = 0.03 if "embed" in name else 0.02
            if is_output:
                deviation = 0.02 / math.sqrt(2 * config.num_hidden_layers)
            torch.nn.init.normal_(parameter, std=deviation)
    frequencies = rope_frequencies(config.rope, config.head_dim, config.max_position_embeddings)[0]
    write_induction_heads(model, frequencies, seed)
    return model


class Optimizers:
    """Muon for the matrices of the blocks and AdamW for embeddings and norms, with the interface of one optimizer.

    The learning rate is set before every step.
    """

    def __init__(self, named: dict[str, torch.nn.Parameter]):
        matrices: dict[str, torch.nn.Parameter] = {}
        rest: dict[str, torch.nn.Parameter] = {}
        for name, parameter in named.items():
            (matrices if parameter.dim() == 2 and not name.startswith(("model.embed", "tags.")) else rest)[name] = (
                parameter
            )
        muon = [
            {"params": [p for name, p in matrices.items() if in_circuit(name) == circuit], "circuit": circuit}
            for circuit in (False, True)
        ]
        adamw = [
            {"params": [p for name, p in rest.items() if in_circuit(name) == circuit], "circuit": circuit}
            for circuit in (False, True)
        ]
        self.both = (
            Muon(muon, lr=0.0),
            torch.optim.AdamW(adamw, lr=0.0, betas=(0.9, 0.98), weight_decay=0.0),
        )
        self.owner = {
            parameter: optimizer
            for optimizer in self.both
            for group in optimizer.param_groups
            for parameter in group["params"]
        }
        self.param_groups = [group for optimizer in self.both for group in optimizer.param_groups]

    @property
    def state(self) -> dict:
        """{parameter: its optimizer's state}, which checkpoints save and restore."""
        return {parameter: optimizer.state[parameter] for parameter, optimizer in self.owner.items()}

    def state_keys(self, parameter: torch.nn.Parameter) -> tuple[str, ...]:
        """What the parameter's optimizer keeps of it."""
        return ("momentum_buffer",) if self.owner[parameter] is self.both[0] else ADAMW_STATE

    def set_rates(self, rate: float, circuit_factor: float) -> None:
        """The learning rate of the next step; of the induction heads and the embeddings, times `circuit_factor`."""
        for group in self.param_groups:
            group["lr"] = rate * (circuit_factor if group["circuit"] else 1.0)

    def step(self) -> None:
        for optimizer in self.both:
            optimizer.step()

    def zero_grad(self) -> None:
        for optimizer in self.both:
            optimizer.zero_grad(set_to_none=True)


def bfloat16_is_faster(device: torch.device) -> bool:
    """Whether the device multiplies matrices faster in bfloat16: a GPU does, a CPU without AMX or AVX512-BF16 not."""
    return measure_matmul_rate(device, torch.bfloat16) > measure_matmul_rate(device, torch.float32)


def compile_blocks(model: Decoder) -> None:
    """torch.compile what a block computes before and after its attention, in place: a small model's step on a GPU is
    a thousand kernels that take longer to launch than to run."""
    norm, heads, feed_forward = (
        torch.compile(function, dynamic=True) for function in (RMSNorm.forward, Attention.heads, Block.feed_forward)
    )
    for block in model.model.layers:
        block.input_layernorm.forward = functools.partial(norm, block.input_layernorm)
        block.self_attn.heads = functools.partial(heads, block.self_attn)
        block.feed_forward = functools.partial(feed_forward, block)


def learning_rate(step: int, total: int, decay: int, peak: float) -> float:
    """The learning rate of a step: linear warm-up, plateau, linear decay to 0 over the last `decay` steps."""
    return peak * min(1.0, (step + 1) / WARMUP_STEPS, (total - step) / max(1, decay))


def pretrain(
    stream: Stream,
    model: Decoder,
    out: Path,
    *,
    total: int,
    decay: int,
    seed: int = 0,
    gentle: int = 0,
    device="cpu",
    autocast: bool = False,
    save_seconds: float = SAVE_SECONDS,
    held_out: Mapping[str, Step] | None = None,
) -> Path:
    """Train `model` (float32) for `total` steps, resuming from `out/checkpoints`; write it in bfloat16 to `out`.

    `gentle`: steps until the induction heads and the embeddings train at the full learning rate. `autocast`: bfloat16
    matrix products, for a device that computes them faster. A checkpoint is written every `save_seconds` and can be
    resumed on another device and with another `total` or `decay`. `held_out`: samples that are not trained on, by name;
    metrics.jsonl gets their losses every VALIDATE_EVERY steps.
    """
    device = torch.device(device)
    size = STEP[device.type]
    out.mkdir(parents=True, exist_ok=True)
    model = model.to(device).train()
    if device.type == "cuda":
        compile_blocks(model)
    torch.manual_seed(seed)
    heads = tag_heads(model.config.hidden_size).to(device)
    named = dict(model.named_parameters()) | {f"tags.{name}": value for name, value in heads.named_parameters()}
    optimizer = Optimizers(named)
    settings = {"seed": seed, "config": model.config.to_dict()}
    keys = {name: optimizer.state_keys(parameter) for name, parameter in named.items()}
    first = load_checkpoint(out / "checkpoints", named, optimizer, settings, total, keys)
    last_save = began = time.monotonic()
    truncate_metrics(out / "metrics.jsonl", first)
    dataset = PreparedSteps(stream, total, seed, model.config.vocab_size, joined=device.type == "cuda")
    steps = prepared_steps(dataset, first, device)
    bar = tqdm(steps, initial=first, total=total, unit="step", dynamic_ncols=True, mininterval=10)
    with open(out / "metrics.jsonl", "a", encoding="utf-8") as metrics:
        for number, prepared in enumerate(bar, first):
            rate = learning_rate(number, total, decay, size.peak_lr)
            optimizer.set_rates(rate, min(1.0, 0.03 + number / gentle) if gentle else 1.0)
            with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
                losses = forward_backward(model, heads, prepared.step, prepared.tags, device)
            norm = torch.nn.utils.clip_grad_norm_(named.values(), 1.0).item()
            optimizer.step()
            optimizer.zero_grad()
            record = {"step": number + 1, "lr": rate, "grad_norm": norm, "device": device.type}
            record |= {**losses.named(), **prepared.counts(), "step_seconds": time.monotonic() - began}
            if held_out and ((number + 1) % VALIDATE_EVERY == 0 or number + 1 == total):
                with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
                    record["held_out_loss"] = {name: token_loss(model, part, device) for name, part in held_out.items()}
            metrics.write(json.dumps(record) + "\n")
            metrics.flush()
            bar.set_postfix_str(f"loss {losses.token:.3f}", refresh=False)
            if time.monotonic() - last_save > save_seconds or number + 1 == total:
                save_checkpoint(out / "checkpoints", number + 1, named, optimizer, settings)
                last_save = time.monotonic()
            began = time.monotonic()
    save_model(model.to(torch.bfloat16), out)
    return out
