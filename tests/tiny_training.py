"""A tiny model and samples to train on, and the trainer called in this process and as a user calls it."""

import json
import random
import subprocess
import sys

import pytest
import torch

from minscl import train
from minscl.command import run_command
from minscl.config import RunConfig
from minscl.model import Decoder, ModelConfig, save_model
from study.tokenizer import train_tokenizer

SHAPE = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
    "torch_dtype": "float32",
}


def write_training_folder(folder):
    """Write a tiny random Llama, its tokenizer and samples.jsonl, 40 token samples of very different lengths."""
    train_tokenizer(["invented text about hypertension and diabetes"] * 3, folder, vocab_size=300)
    torch.manual_seed(1)
    model = Decoder(ModelConfig.from_dict({**SHAPE, "vocab_size": 300}))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=1.0 if parameter.dim() == 1 else 0.0, std=0.1)
    save_model(model, folder)
    rng = random.Random(0)
    with open(folder / "samples.jsonl", "w") as file:
        for number in range(40):
            ids = [rng.randrange(5, 300) for _ in range(rng.randrange(6, 60))]
            cut = rng.randrange(2, len(ids) - 2)
            kind = "document" if number % 9 == 0 else "span"
            file.write(json.dumps({"prompt_ids": ids[:cut], "target_ids": ids[cut:], "kind": kind}) + "\n")
    return folder


SETTINGS = dict(epochs=7, lr=5e-3, max_length=64, pack_length=128, device="cpu", seed=3)  # 3 steps an epoch


def run_config(folder, out, **changes):
    """RunConfig of a run on `folder`, the fixture training_folder."""
    paths = dict(model=str(folder), samples=str(folder / "samples.jsonl"), out=str(out))
    return RunConfig(**{**paths, **SETTINGS, **changes})


def run_flags(folder, **changes):
    """The same settings, but for --out, as flags."""
    values = dict(model=folder, samples=folder / "samples.jsonl") | SETTINGS | changes
    return [word for name, value in values.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def metrics(out):
    """The records of metrics.jsonl."""
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def minscl_train(*flags, cwd):
    """The command in a process of its own, as a user starts it."""
    return subprocess.run(
        [sys.executable, "-m", "minscl.train", *map(str, flags)], cwd=cwd, capture_output=True, text=True, timeout=120
    )


def train_here(*flags):
    """The command in this process, through the same exit path; returns its exit status. Output goes to capsys."""
    with pytest.raises(SystemExit) as exit:
        run_command(lambda: train.main([str(word) for word in flags]))
    return exit.value.code
