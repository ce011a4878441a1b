"""Training runs on the same random samples: minscl's own loop, and transformers' Trainer over a PEFT model.

Read next: train.py, gpu_training.py.
"""

import random
import time
from pathlib import Path

import torch

from benchmarks.models import LLAMA_125M
from minscl.config import RunConfig
from minscl.data.sample_types import Sample

DOCUMENT_EVERY = {"spans": None, "mix": 32, "paper": 752, "documents": 1}  # samples; the paper: 200 in 150,200
PEER_WAYS = ("padded", "grouped", "packed", "single")
TRIAL_STEPS = 4  # of each of the peer's ways, to find the fastest


def make_samples(part: str, steps: int, vocab_size: int = LLAMA_125M["vocab_size"], shrink: int = 1) -> list[Sample]:
    """Random tokens, 16 samples a step: spans, of which every DOCUMENT_EVERY[part]-th is replaced by a document.

    shrink: divides the lengths of documents, for toy runs.
    """
    rng = random.Random(0)

    def ids(low: int, high: int) -> tuple[int, ...]:
        return tuple(rng.randrange(3, vocab_size) for _ in range(rng.randint(low, high)))

    span_prompt, document_prompt = ids(60, 60), ids(40, 40)
    samples = [Sample(span_prompt + ids(6, 12), ids(12, 20), "span") for _ in range(16 * steps)]
    if every := DOCUMENT_EVERY[part]:
        note, target = (1460 // shrink, 2960 // shrink), (200 // shrink, 400 // shrink)
        samples[::every] = [Sample(document_prompt + ids(*note), ids(*target), "document") for _ in samples[::every]]
    return samples


def train_minscl(model, samples, device: torch.device, matmul_rate: float, recompute: bool = False) -> dict:
    """One epoch of minscl.train's loop over `model`, which has LoRA; matmul_rate: operations a second.

    Gives "ends" (seconds from the start to each step's end), "losses", "tokens", "computed" (tokens), "operations" (by
    minscl's own count), "rate" (matmul_rate) and "estimated_memory" (bytes).
    """
    from minscl.lora import lora_parameters
    from minscl.training.distributed import ProcessGroup
    from minscl.training.estimate import EFFICIENCY, estimate_run
    from minscl.training.loop import forward_backward, plan_steps, train_steps

    config = RunConfig(epochs=1, max_length=4096, pack_length=4096, recompute="on" if recompute else "off")
    model.train().model.recompute = recompute
    parameters = [parameter for _, parameter in lora_parameters(model)]
    optimizer = torch.optim.AdamW(parameters, lr=config.lr)
    steps, total = plan_steps(samples, config, 0, ProcessGroup())
    run = train_steps(
        model,
        parameters,
        optimizer,
        steps,
        forward_backward=forward_backward,
        first_step=0,
        total_steps=total,
        config=config,
        device=device,
        group=ProcessGroup(),
    )
    records = list(run)
    dtype = model.lm_head.weight.dtype
    estimate = estimate_run(model.config, samples, config, dtype=dtype, matmul_rate=matmul_rate)
    return {
        "ends": [record["elapsed_seconds"] for record in records],
        "losses": [record["loss"] for record in records],
        "tokens": sum(record["tokens"] for record in records),
        "computed": sum(record["computed_tokens"] for record in records),
        "operations": estimate.seconds * EFFICIENCY * matmul_rate,
        "rate": matmul_rate,
        "estimated_memory": estimate.memory,
    }


def train_peer(model, samples, scratch: Path, way: str, autocast: bool) -> dict:
    """One epoch of transformers' Trainer over a PEFT model: {"ends": seconds from the start to each step's end}.

    way: one of PEER_WAYS. On a GPU the clock waits for the first two steps and for the last; the ends between are those
    of the launch.
    """
    import transformers

    ends: list[float] = []

    class Clock(transformers.TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            self.began = time.perf_counter()

        def on_step_end(self, args, state, control, **kwargs):
            if model.device.type == "cuda" and state.global_step in (1, 2, state.max_steps):
                torch.cuda.synchronize()
            ends.append(time.perf_counter() - self.began)

    batch_size = 1 if way == "single" else 16
    arguments = transformers.TrainingArguments(
        output_dir=str(scratch),
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=16 // batch_size,
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
    collate = transformers.DataCollatorWithFlattening(return_position_ids=True) if way == "packed" else pad_rows
    rows = [
        {
            "input_ids": [*sample.prompt_ids, *sample.target_ids],
            "labels": [-100] * len(sample.prompt_ids) + list(sample.target_ids),
        }
        for sample in samples
    ]
    transformers.Trainer(
        model=model, args=arguments, train_dataset=rows, data_collator=collate, callbacks=[Clock()]
    ).train()
    return {"ends": ends}


def pad_rows(rows: list[dict]) -> dict[str, torch.Tensor]:
    """A batch padded on the right to its longest row: input_ids, labels and attention_mask, int64 (B, T)."""
    longest = max(len(row["input_ids"]) for row in rows)
    fill = {"input_ids": 0, "labels": -100, "attention_mask": 0}
    rows = [{**row, "attention_mask": [1] * len(row["input_ids"])} for row in rows]
    return {
        name: torch.tensor([row[name] + [value] * (longest - len(row[name])) for row in rows])
        for name, value in fill.items()
    }


def samples_per_second(ends: list[float], warm_up: int) -> float:
    """Samples a second after the first `warm_up` steps."""
    return 16 * (len(ends) - warm_up) / (ends[-1] - ends[warm_up - 1])
