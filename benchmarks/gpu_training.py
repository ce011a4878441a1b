"""Parts 2 and 4 of gpu.py: training at Llama-3.1-8B's shape beside transformers + PEFT, and the embedded model's
pretraining.

Training: random weights in bfloat16, LoRA of rank 8, 16 samples a step, the same random samples for both sides:
`paper`, one document in 752 samples, which is the paper's mix (200 documents and 150,000 spans), and `documents` alone.
The peer's ways are those of train.py; each is looked at on `mix` for a few steps, and the fastest then trains on
`paper`. Both sides share one copy of the frozen weights, so either's peak memory counts them once.

Pretraining: the base of minscl/demo trains on, on notes not seen yet, for as many steps as fit into the time.

Read next: train.py, study/build_demo.py.
"""

import gc
import importlib.util
import json
import os
import tempfile
import traceback
from pathlib import Path

import torch

from benchmarks.gpu_checks import LLAMA_8B, TOY
from benchmarks.report import reason
from benchmarks.train import LOOK, make_samples, ours, per_second, random_model, theirs, with_peft
from minscl.config import DEMO
from minscl.data.icd import CodeBook
from minscl.data.spans.gold import gold_pairs
from minscl.hardware import measure_matmul_rate, peak_memory
from minscl.lora import add_lora
from study.build_demo import pretraining_stream, start_base
from study.codes import phrase_book
from study.pretrain import TOKENS_PER_STEP, pretrain

PAPER_SAMPLES, PAPER_HOURS = 150_200, 4  # of an epoch of SCL; Table 2 and the text to it: 4 hours on one H20
STEPS, TOY_STEPS = {"paper": 47, "documents": 4}, {"paper": 2, "documents": 1}  # 47 steps hold one document
PEER_WAYS = ("packed+autocast", "grouped+autocast", "padded+autocast", "single+autocast", "packed", "single")
TITLES = (
    "samples, side",
    "samples/s",
    "tokens/s",
    "share of the matmul rate",
    "peak memory, GB",
    "forecast of it, GB",
    "the paper's epoch, hours",
)
TIMED = 20  # pretraining steps that tell how long one takes
SEED = 27  # of the pretraining's notes: not one that minscl/demo/pretraining.json names


def measured(device: torch.device, run) -> tuple[dict, int]:
    """(what `run()` gave, or {"why": …} where it could not run; peak bytes on the GPU)."""
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        result = run()
    except torch.OutOfMemoryError:
        result = {"why": "out of memory"}
    except Exception as error:  # whatever a library raises: the other measurements still run
        traceback.print_exc()
        result = {"why": f"failed: {reason(error)}"}
    return result, peak_memory(device) if device.type == "cuda" else 0


def cells(result: dict, peak: float, samples, part: str) -> list[str]:
    """A row of the table."""
    if "why" in result:
        return [result["why"]]
    rate = len(samples) / result["ends"][-1]  # all steps: a run before has warmed up
    share = f"{result['operations'] / len(samples) * rate / result['rate']:.0%}" if "operations" in result else ""
    memory = f"{peak / 2**30:.1f}" if peak else "not measured on a CPU"
    forecast = f"{result['forecast_memory'] / 2**30:.1f}" if "forecast_memory" in result else ""
    epoch = f"{PAPER_SAMPLES / rate / 3600:.2f}" if part == "paper" else ""
    return [f"{rate:.1f}", f"{rate * sum(map(len, samples)) / len(samples):,.0f}", share, memory, forecast, epoch]


def training(record, device: torch.device) -> None:
    """Part 2."""
    shape, dtype = (TOY if record.toy else LLAMA_8B), torch.bfloat16
    steps = TOY_STEPS if record.toy else STEPS
    samples = {part: make_samples(part, number, shape["vocab_size"]) for part, number in steps.items()}
    jobs = [(part, recompute) for part in STEPS for recompute in (False, True)]
    names = {job: f"{job[0]}, minscl{' --recompute' * job[1]}" for job in jobs}
    record.plan(TITLES, [*names.values(), *(f"{part}, transformers + PEFT" for part in STEPS)])
    rate = measure_matmul_rate(device, dtype, *((512, 512) if record.toy else (8192, 8192)))
    record.note(
        f"bfloat16 matmul: {rate / 1e12:.2f} TFLOP/s. Tokens/s count every sample as if it stood alone, on "
        f"both sides. The paper's epoch: {PAPER_SAMPLES:,} samples; its own figure: {PAPER_HOURS} h, one H20."
    )
    model = random_model(shape, device=device, dtype=dtype)
    weights = dict(model.state_dict())
    add_lora(model)
    warm_up = make_samples("mix", 2, shape["vocab_size"])

    def train(chosen, recompute: bool):
        return measured(device, lambda: ours(model, chosen, device, rate, recompute))

    for part, recompute in jobs:
        train(warm_up, recompute)  # compiles FlexAttention
        result, peak = train(samples[part], recompute)
        record.row(names[part, recompute], *cells(result, peak, samples[part], part))
        record.keep(**{names[part, recompute]: {**result, "peak": peak}})
        if "computed" in result:
            record.note(f"{names[part, recompute]}: computed {result['computed']:,} of {result['tokens']:,} tokens.")
    if any(importlib.util.find_spec(name) is None for name in ("transformers", "peft", "accelerate")):
        return record.note("transformers + PEFT: not measured, transformers, peft or accelerate is missing.")
    peer = with_peft(peer_model(model.config, weights, device, dtype))
    return peer_rows(record, peer, samples, device, shape["vocab_size"])


def peer_model(config, weights: dict, device: torch.device, dtype: torch.dtype):
    """transformers' model of a ModelConfig over the same `weights`, not a copy of them."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    settings = transformers.AutoConfig.for_model(**config.to_dict())
    with torch.device(device):  # RoPE's buffers belong there too
        model = transformers.AutoModelForCausalLM.from_config(settings, dtype=dtype, attn_implementation="sdpa")
    model.load_state_dict(weights, assign=True)
    return model.requires_grad_(False).eval()


def peer_rows(record, model, samples: dict, device: torch.device, vocab_size: int) -> None:
    """transformers + PEFT: a look at each way, then the fastest on the same samples as minscl; documents always one at
    a time, of which 16 would fill the memory."""
    look, speeds = make_samples("mix", 2 if record.toy else LOOK, vocab_size), {}
    with tempfile.TemporaryDirectory() as scratch:

        def run(way: str, chosen):
            kind, _, autocast = way.partition("+")
            return measured(device, lambda: theirs(model, chosen, Path(scratch), kind, bool(autocast)))

        for way in ("packed", "single+autocast") if record.toy else PEER_WAYS:
            if record.left() < 0:
                break
            result, peak = run(way, look)
            speeds[way] = per_second(result["ends"], 1) if "ends" in result else 0.0
            speed = result.get("why") or f"{speeds[way]:.1f} samples/s" + f", peak {peak / 2**30:.1f} GB" * (peak > 0)
            record.note(f"transformers + PEFT, {way}, {len(look) // 16} steps with a document in 32 samples: {speed}.")
        best = max(speeds, key=lambda way: speeds[way], default=PEER_WAYS[0])
        for part, way in (("paper", best), ("documents", best.replace(best.partition("+")[0], "single"))):
            if record.left() < 0:
                break
            result, peak = run(way, samples[part])
            record.keep(**{f"{part}, transformers + PEFT": {**result, "way": way, "peak": peak}})
            record.row(f"{part}, transformers + PEFT", *cells(result, peak, samples[part], part))
            record.note(f"{part}, transformers + PEFT: {way}.")


def pretraining(record, device: torch.device) -> None:
    """Part 4: OUT/demo is a --work folder of study/build_demo.py, and goes on there; a second run of this part with the
    same --out resumes."""
    work, start = record.path.parent / "demo", Path(os.path.relpath(DEMO))
    base, plan = work / "base", work / "plan.json"
    gold, usual = gold_pairs(CodeBook.load()), phrase_book().pairs()
    start_base(base, gold, start)
    stream = pretraining_stream(base, gold, usual, SEED)
    settings = {"vocab_size": stream.tokenizer.vocab_size, "seed": SEED, "start": start, "device": device}
    if not plan.exists():
        with tempfile.TemporaryDirectory() as scratch:
            pretrain(stream, Path(scratch), total=2 if record.toy else TIMED, **settings)
            seconds = [step["step_seconds"] for step in read_metrics(Path(scratch))][1 if record.toy else TIMED // 2 :]
        total = 2 if record.toy else max(100, int(0.8 * record.left() / (sum(seconds) / len(seconds))))
        plan.write_text(json.dumps({"steps": total, "seed": SEED}))
    total = json.loads(plan.read_text())["steps"]
    record.note(
        f"{total:,} steps of about {TOKENS_PER_STEP:,} tokens from minscl/demo's base. To finish, score and "
        f"install: `python -m study.build_demo --work {work} --start {start} --seed {SEED} --steps {total}`."
    )
    if not (base / "model.safetensors").exists():
        pretrain(stream, base, total=total, save_seconds=20, **settings)
    steps = read_metrics(base)
    ends = [sum(step["loss"] for step in part) / len(part) for part in (steps[:50], steps[-50:])]
    speed = sum(step["tokens"] for step in steps) / sum(step["step_seconds"] for step in steps)
    record.note(
        f"{len(steps):,} steps done, {speed:,.0f} tokens/s; loss {ends[0]:.3f} (first 50 steps) to "
        f"{ends[1]:.3f} (last 50); the base: {base / 'model.safetensors'}."
    )


def read_metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
