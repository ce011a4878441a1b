"""The trainer against a plain loop of transformers + PEFT, and the command as a user runs it."""

import json
import os
import random
import signal
import subprocess
import sys

import pytest
import torch

from minscl.config import PRESETS, RunConfig
from minscl.data.samples import encode_samples
from minscl.lora import add_lora, save_adapter
from minscl.model import Decoder, ModelConfig, load_model, load_tokenizer, save_model
from minscl.train import learning_rate_factor, plan, train
from study.tokenizer import train_tokenizer

SHAPE = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
         "tie_word_embeddings": False, "hidden_act": "silu", "torch_dtype": "float32"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny random Llama with a tokenizer of its own, and 40 token samples of very different lengths."""
    folder = tmp_path_factory.mktemp("model")
    train_tokenizer(["invented text about hypertension and diabetes"] * 3, folder, vocab_size=300)
    torch.manual_seed(1)
    model = Decoder(ModelConfig.from_dict({**SHAPE, "vocab_size": 300}))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=1.0 if parameter.dim() == 1 else 0.0, std=0.1)
    save_model(model, folder)
    rng = random.Random(0)
    with open(folder / "samples.jsonl", "w") as handle:
        for number in range(40):
            ids = [rng.randrange(5, 300) for _ in range(rng.randrange(6, 60))]
            cut = rng.randrange(2, len(ids) - 2)
            handle.write(json.dumps({"prompt_ids": ids[:cut], "target_ids": ids[cut:], "kind": "document" if number % 9 == 0 else "span"}) + "\n")
    return folder


def run_config(folder, out, **changes):
    values = dict(model=str(folder), samples=str(folder / "samples.jsonl"), out=str(out), epochs=7, lr=5e-3, max_length=64, pack_length=128,
                  device="cpu", seed=3)
    return RunConfig(**{**values, **changes})


def metrics(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_training_equals_transformers_and_peft(folder, tmp_path):
    """Guards the whole step: packing, masking, the divisor, clipping, AdamW's settings and the schedule. Tolerance 1e-4."""
    transformers, peft = pytest.importorskip("transformers"), pytest.importorskip("peft")
    config = run_config(folder, tmp_path / "run")
    ours = load_model(folder)
    add_lora(ours, config.rank, config.alpha, seed=config.seed)
    save_adapter(ours, tmp_path / "start")
    train(config)

    samples = read(config)
    steps, total = plan(samples, config, 0)
    teacher = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    teacher = peft.PeftModel.from_pretrained(teacher, tmp_path / "start", is_trainable=True)
    trained = [p for p in teacher.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=config.lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, -(-total // 10), total)
    expected = []
    for _, step in steps:
        chosen = [samples[i] for i in step.sample_indices]
        divisor, loss = sum(len(one.target_ids) for one in chosen), 0.0
        for one in chosen:  # one sample at a time, never packed
            ids = torch.tensor([[*one.prompt_ids, *one.target_ids]])
            logits = teacher(ids).logits[0, len(one.prompt_ids) - 1 : -1]
            loss = loss + torch.nn.functional.cross_entropy(logits, torch.tensor(one.target_ids), reduction="sum") / divisor
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, config.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        expected.append(loss.item())

    found = [record["loss"] for record in metrics(tmp_path / "run")]
    assert len(found) == len(expected) == total >= 20
    assert max(abs(a - b) for a, b in zip(found, expected, strict=True)) < 1e-4
    assert found[-1] < found[0] - 0.1  # it does learn
    from safetensors.torch import load_file

    ours = load_file(tmp_path / "run" / "adapter_model.safetensors")
    teachers = peft.get_peft_model_state_dict(teacher)
    assert ours.keys() == teachers.keys()
    assert max((ours[name] - teachers[name]).abs().max().item() for name in ours) < 1e-4


def read(config):
    from minscl.data.jsonl import read_samples

    samples, skipped = encode_samples(load_tokenizer(config.model), read_samples(config.samples), config.max_length)
    assert not skipped
    return samples


def test_schedule_starts_at_zero_and_ends_at_zero():
    """Guards the off-by-one that trains the first step at full rate or never reaches zero."""
    factors = [learning_rate_factor(step, 100, 10) for step in range(101)]
    assert factors[0] == 0 and factors[5] == 0.5 and factors[10] == 1 and abs(factors[100]) < 1e-12
    assert all(a >= b for a, b in zip(factors[10:], factors[11:]))


def test_resume_gives_the_uninterrupted_adapter(folder, tmp_path):
    """Guards lost optimiser state, a repeated or skipped step, and a doubled line in metrics.jsonl."""
    train(run_config(folder, tmp_path / "whole", dropout=0.1))
    broken = run_config(folder, tmp_path / "broken", dropout=0.1, save_every=4)
    original = torch.optim.AdamW.step
    calls = []

    def stopping(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 10:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, *args, **kwargs)

    torch.optim.AdamW.step = stopping
    try:
        with pytest.raises(SystemExit) as caught:
            train(broken)
    finally:
        torch.optim.AdamW.step = original
    assert caught.value.code == 130 and len(metrics(tmp_path / "broken")) == 10  # the step that was asked to stop is whole
    assert (tmp_path / "broken" / "adapter_model.safetensors").exists()  # Ctrl-C saved what was learned
    train(run_config(folder, tmp_path / "broken", dropout=0.1, save_every=4, resume=True))
    whole, resumed = ((tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("whole", "broken"))
    assert whole == resumed
    assert [one["step"] for one in metrics(tmp_path / "broken")] == list(range(1, 22))


def minscl_train(*flags, cwd):
    return subprocess.run([sys.executable, "-m", "minscl.train", *map(str, flags)], cwd=cwd, capture_output=True, text=True, timeout=120)


def test_command_trains_an_adapter_that_peft_loads(tmp_path):
    """Guards the README's first training command, end to end, on the bundled data."""
    done = minscl_train("--cfg", "tiny", "--out", "runs/tiny", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "runs" / "tiny"
    records = metrics(out)
    assert len(records) >= 3 and {"step", "epoch", "loss", "lr", "grad_norm", "samples", "tokens", "computed_tokens", "step_seconds",
                                  "elapsed_seconds", "peak_memory_bytes"} <= records[0].keys()
    assert json.loads((out / "run.json").read_text())["rank"] == 8
    again = minscl_train("--cfg", "tiny", "--out", "runs/tiny", cwd=tmp_path)
    assert again.returncode == 2 and "--resume" in again.stderr and metrics(out) == records  # never trains over a run
    transformers, peft = pytest.importorskip("transformers"), pytest.importorskip("peft")
    model = transformers.AutoModelForCausalLM.from_pretrained(PRESETS["tiny"].model)
    assert peft.PeftModel.from_pretrained(model, out).peft_config["default"].r == 8


@pytest.mark.parametrize("flags, words", [
    (["--cfg", "llama8b"], ["models/Llama-3.1-8B-Instruct", "hf download"]),
    (["--documents", "none.jsonl"], ["none.jsonl", "study.notes"]),
    (["--spans", "none.jsonl"], ["none.jsonl", "minscl.expand gold"]),
    (["--batch-size", "0"], ["--batch-size 0", "at least 1"]),
    (["--dtype", "float8"], ["float8", "bfloat16"]),
])
def test_bad_usage_is_one_line_and_status_2(flags, words, tmp_path):
    """Guards tracebacks and silent defaults: the line names the value and the remedy."""
    done = minscl_train(*flags, "--out", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert all(word in done.stderr for word in words)
    assert not (tmp_path / "out" / "metrics.jsonl").exists()
