"""Training speed and memory against transformers + PEFT + Trainer, on the same samples, in one run.

    python -m benchmarks.train [--rounds 3] [--dtypes float32 bfloat16] [--parts spans mix] [--write]        (needs the teacher extra)

A 125 M-parameter Llama with random weights and LoRA of rank 8. `spans`: 512 spans that share a 60-token instruction; `mix`: 62 spans and two
documents. Both sides take the very same token samples, 16 a step. Each measurement is a process of its own (so that its peak memory is its
own). The peer's ways, all with sdpa attention and dynamic padding: `padded`, `grouped` by length, `packed` (DataCollatorWithFlattening: one
sequence, no padding, attention inside each sample), `single` (one sample at a time, gradients accumulated); each in plain and, for bfloat16,
in autocast. Every way is looked at for a few steps; then its two fastest (in the mix, packed too) and minscl take turns.

Writes its section of docs/benchmarks.md with --write.
"""

import argparse
import json
import math
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

if not __package__:  # started as a file, not with -m
    sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.report import source, write_section
from minscl.config import RunConfig
from minscl.data.types import Sample

SHAPE = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 768,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_key_value_heads": 4,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
    "torch_dtype": "float32",
}
PEERS = ("padded", "grouped", "packed", "single")
DOCUMENT_EVERY = {"spans": None, "mix": 32, "paper": 752, "documents": 1}  # samples; the paper: 200 in 150,200
STEPS = {"spans": 32, "mix": 4}  # optimiser steps of a measurement
LOOK = 4  # of the first look at each of the peer's ways


def make_samples(part: str, steps: int, vocab_size: int = SHAPE["vocab_size"]) -> list[Sample]:
    """16 a step, of random tokens: spans, every DOCUMENT_EVERYth of them replaced by a document."""
    rng = random.Random(0)

    def ids(low: int, high: int) -> tuple[int, ...]:
        return tuple(rng.randrange(3, vocab_size) for _ in range(rng.randint(low, high)))

    span_prompt, document_prompt = ids(60, 60), ids(40, 40)
    samples = [Sample(span_prompt + ids(6, 12), ids(12, 20), "span") for _ in range(16 * steps)]
    if every := DOCUMENT_EVERY[part]:
        documents = [Sample(document_prompt + ids(1460, 2960), ids(200, 400), "document") for _ in samples[::every]]
        samples[::every] = documents
    return samples


def random_model(shape: dict, *, device="cpu", dtype: torch.dtype = torch.float32, std: float = 0.02):
    """A Decoder of config.json's `shape`, its weights drawn on the device where they stay; the same ones every time."""
    from minscl.model import Decoder, ModelConfig

    torch.manual_seed(0)
    with torch.device("meta"):
        model = Decoder(ModelConfig.from_dict(shape))
    model = model.to(dtype).to_empty(device=device)
    if model.config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=float(parameter.dim() == 1), std=std)
    return model


def make_model(folder: Path) -> None:
    from minscl.model import save_model

    save_model(random_model(SHAPE), folder)


def ours(model, samples, device: torch.device, rate: float, recompute: bool = False) -> dict:
    """minscl.train's own loop over `model`, which has LoRA: when each step ended (seconds), its forecast, and the
    operations that it counts. `rate`: of matrix products, operations a second."""
    from minscl.lora import lora_parameters
    from minscl.training.distributed import ProcessGroup
    from minscl.training.estimate import EFFICIENCY, estimate_run
    from minscl.training.loop import plan_steps, train_steps

    config = RunConfig(epochs=1, max_length=4096, pack_length=4096, recompute=recompute)
    model.train().model.recompute = recompute
    parameters = [parameter for _, parameter in lora_parameters(model)]
    optimizer = torch.optim.AdamW(parameters, lr=config.lr)
    steps, total = plan_steps(samples, config, 0, ProcessGroup())
    records = list(
        train_steps(
            model,
            parameters,
            optimizer,
            steps,
            first_step=0,
            total_steps=total,
            config=config,
            device=device,
            group=ProcessGroup(),
        )
    )
    dtype = model.lm_head.weight.dtype
    expected = estimate_run(model.config, samples, config, dtype=dtype, matmul_rate=rate)
    return {
        "ends": [record["elapsed_seconds"] for record in records],
        "losses": [record["loss"] for record in records],
        "tokens": sum(record["tokens"] for record in records),
        "computed": sum(record["computed_tokens"] for record in records),
        "operations": expected.seconds * EFFICIENCY * rate,
        "rate": rate,
        "forecast_memory": expected.memory,
    }


def theirs(model, samples, scratch: Path, way: str, autocast: bool) -> dict:
    """The same by transformers' Trainer over a PEFT model: when each step ended. A GPU is waited for where the clock is
    read for good, at the end of the first two steps and of the last."""
    import transformers

    class Clock(transformers.TrainerCallback):
        ends: list = []

        def on_train_begin(self, args, state, control, **kwargs):
            self.began = time.perf_counter()

        def on_step_end(self, args, state, control, **kwargs):
            if model.device.type == "cuda" and state.global_step in (1, 2, state.max_steps):
                torch.cuda.synchronize()
            self.ends.append(time.perf_counter() - self.began)

    def pad(rows):
        width = max(len(row["input_ids"]) for row in rows)
        fill = {"input_ids": 0, "labels": -100, "attention_mask": 0}
        rows = [{**row, "attention_mask": [1] * len(row["input_ids"])} for row in rows]
        return {
            name: torch.tensor([row[name] + [value] * (width - len(row[name])) for row in rows])
            for name, value in fill.items()
        }

    rows = [
        {
            "input_ids": [*sample.prompt_ids, *sample.target_ids],
            "labels": [-100] * len(sample.prompt_ids) + list(sample.target_ids),
        }
        for sample in samples
    ]
    size = 1 if way == "single" else 16
    arguments = transformers.TrainingArguments(
        output_dir=str(scratch),
        per_device_train_batch_size=size,
        gradient_accumulation_steps=16 // size,
        num_train_epochs=1,
        learning_rate=1e-4,
        lr_scheduler_type="cosine",
        warmup_steps=0.1,
        use_cpu=model.device.type == "cpu",
        bf16=autocast,
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        train_sampling_strategy="group_by_length" if way == "grouped" else "random",
    )
    collate = transformers.DataCollatorWithFlattening(return_position_ids=True) if way == "packed" else pad
    trainer = transformers.Trainer(
        model=model, args=arguments, train_dataset=rows, data_collator=collate, callbacks=[Clock()]
    )
    trainer.train()
    return {"ends": Clock.ends}


def with_peft(model):
    """transformers' model under PEFT's LoRA, of minscl's rank, alpha and layers."""
    import peft

    from minscl.lora import TARGETS

    settings = peft.LoraConfig(r=8, lora_alpha=16, target_modules=list(TARGETS), task_type="CAUSAL_LM")
    return peft.get_peft_model(model, settings)


def per_second(ends: list[float], warm: int) -> float:
    """Samples a second after the first `warm` steps."""
    return 16 * (len(ends) - warm) / (ends[-1] - ends[warm - 1])


def measure(folder: Path, side: str, part: str, dtype: str, steps: int) -> dict:
    """One process: `side` on `part`; samples a second without the first step (mix: the first two), and peak memory."""
    command = [sys.executable, "-m", "benchmarks.train", "--worker", side, part, dtype, str(folder), str(steps)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == -signal.SIGKILL:  # the system's own, when memory has run out
        return {"per_second": 0.0, "memory": math.inf}
    if done.returncode:
        raise SystemExit(f"{side} {part} {dtype} failed:\n{done.stderr[-2000:]}")
    result = json.loads(done.stdout.splitlines()[-1])
    return {**result, "per_second": per_second(result["ends"], 2 if part == "mix" else 1)}


def work(side: str, part: str, dtype: str, folder: str, steps: str) -> None:
    import resource

    samples, kind = make_samples(part, int(steps)), getattr(torch, dtype)
    if side == "minscl":
        from minscl.hardware import choose_float32_matmul
        from minscl.lora import add_lora
        from minscl.model import load_model

        rate, _ = choose_float32_matmul(kind)
        model = load_model(folder, dtype=kind)
        add_lora(model)
        result = ours(model, samples, torch.device("cpu"), rate)
    else:
        import transformers

        transformers.utils.logging.set_verbosity_error()
        way, _, autocast = side.partition("+")
        peer = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=kind, attn_implementation="sdpa")
        result = theirs(with_peft(peer), samples, Path(folder, "trainer"), way, bool(autocast))
    print(json.dumps({**result, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


def table(folder: Path, part: str, dtype: str, rounds: int) -> list[str]:
    """Rows of one part in one precision: the sides that took turns, medians, then the peer's slower ways by their one look."""
    ways = [*PEERS, *(f"{way}+autocast" for way in PEERS)] if dtype == "bfloat16" else list(PEERS)
    looks = {way: measure(folder, way, part, dtype, LOOK) for way in ways}
    ways.sort(key=lambda way: -looks[way]["per_second"])
    sides = ["minscl", *ways[:2], *(way for way in ways[2:] if (part, way) == ("mix", "packed"))]
    found = {side: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            found[side].append(measure(folder, side, part, dtype, STEPS[part]))
    speed, memory = (
        {side: statistics.median(one[name] for one in found.get(side, [looks.get(side)])) for side in ("minscl", *ways)}
        for name in ("per_second", "memory")
    )
    rows = []
    for side in ("minscl", *sorted(ways, key=lambda way: (way not in found, -speed[way]))):
        figures = (
            f"{speed[side]:.2f} | {memory[side] / 2**30:.2f} | {speed['minscl'] / speed[side]:.2f} | {memory['minscl'] / memory[side]:.2f}"
            if speed[side]
            else "out of memory | | |"
        )
        rows.append(
            f"| {part} | {dtype} | {side}{'' if side in found else f', one look of {LOOK} steps'} | {figures} |"
        )
    one = found["minscl"][0]
    share = one["operations"] / one["ends"][-1] / one["rate"]
    rows += [
        "",
        f"minscl computed {one['computed']:,} of {one['tokens']:,} tokens, at {share:.0%} of the matmul rate, {one['rate'] / 1e9:.0f} GFLOP/s; "
        f"its forecast of memory was {one['forecast_memory'] / 2**30:.2f} GB. {16 * STEPS[part]} samples, 16 a step; the first "
        f"{'two steps are' if part == 'mix' else 'step is'} not counted.",
    ]
    print("\n".join(rows), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each side; medians are printed")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--parts", nargs="+", default=["spans", "mix"])
    parser.add_argument("--write", action="store_true", help="write the section of docs/benchmarks.md")
    parser.add_argument("--worker", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return work(*args.worker)
    import peft
    import transformers

    head = f"{source(transformers, peft)}; medians of {args.rounds} rounds"
    titles = [
        "| part | precision | side | samples/s | peak memory, GB | minscl is faster by | minscl's share of its memory |",
        "|-|-|-|-|-|-|-|",
    ]
    print("\n".join([head, *titles]), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder))
        for dtype in args.dtypes:
            for part in args.parts:
                rows = table(Path(folder), part, dtype, args.rounds)
                if args.write:
                    write_section(f"Training: {part}, {dtype}", [head, "", *titles, *rows])


if __name__ == "__main__":
    main()
