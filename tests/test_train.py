"""The trainer against a plain loop of transformers + PEFT, and the command as a user runs it."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from minscl.config import PRESETS
from minscl.data.samples import encode_samples
from minscl.errors import InputError
from minscl.lora import add_lora, save_adapter
from minscl.model import load_model, load_tokenizer
from minscl.train import learning_rate_factor, plan, train
from tests.tiny_training import folder, metrics, minscl_train, run_config  # noqa: F401


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
            loss = (
                loss
                + torch.nn.functional.cross_entropy(logits, torch.tensor(one.target_ids), reduction="sum") / divisor
            )
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


def test_ids_of_another_tokenizer_are_refused(folder, tmp_path):
    """Guards: an index error out of the embedding in place of the sample's name."""
    (tmp_path / "samples.jsonl").write_text('{"prompt_ids": [1, 2], "target_ids": [99999]}\n')
    with pytest.raises(InputError, match="token id 99999, but the model's vocabulary has"):
        train(dataclasses.replace(run_config(folder, tmp_path / "run"), samples=str(tmp_path / "samples.jsonl")))


def test_command_trains_an_adapter_that_peft_loads(tmp_path):
    """Guards the README's first training command, end to end, on the bundled data."""
    done = minscl_train("--cfg", "tiny", "--out", "runs/tiny", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "runs" / "tiny"
    records = metrics(out)
    assert (
        len(records) >= 3
        and {
            "step",
            "epoch",
            "loss",
            "lr",
            "grad_norm",
            "samples",
            "tokens",
            "computed_tokens",
            "step_seconds",
            "elapsed_seconds",
            "peak_memory_bytes",
        }
        <= records[0].keys()
    )
    assert json.loads((out / "run.json").read_text())["rank"] == 8
    again = minscl_train("--cfg", "tiny", "--out", "runs/tiny", cwd=tmp_path)
    assert again.returncode == 2 and "--resume" in again.stderr and metrics(out) == records  # never trains over a run
    transformers, peft = pytest.importorskip("transformers"), pytest.importorskip("peft")
    model = transformers.AutoModelForCausalLM.from_pretrained(PRESETS["tiny"].model)
    assert peft.PeftModel.from_pretrained(model, out).peft_config["default"].r == 8


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--cfg", "llama8b"], ["models/Llama-3.1-8B-Instruct", "hf download"]),
        (["--documents", "none.jsonl"], ["none.jsonl", "study.notes"]),
        (["--spans", "none.jsonl"], ["none.jsonl", "minscl.expand gold"]),
        (["--batch-size", "0"], ["--batch-size 0", "at least 1"]),
        (["--dtype", "float8"], ["float8", "bfloat16"]),
    ],
)
def test_bad_usage_is_one_line_and_status_2(flags, words, tmp_path):
    """Guards tracebacks and silent defaults: the line names the value and the remedy."""
    done = minscl_train(*flags, "--out", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert all(word in done.stderr for word in words)
    assert not (tmp_path / "out" / "metrics.jsonl").exists()


def test_two_processes_train_what_one_does(folder, tmp_path):
    """Guards: gradients averaged or left out, a process that waits for ever, weights split wrongly. Losses and adapter within 1e-5, with and
    without --fsdp (there with --recompute); checkpoints of two processes are gone on with by one, and the other way round."""
    flags = [
        "--model",
        folder,
        "--samples",
        folder / "samples.jsonl",
        "--lr",
        5e-3,
        "--max-length",
        64,
        "--pack-length",
        64,
        "--device",
        "cpu",
        "--seed",
        3,
        "--epochs",
        2,
        "--save-every",
        3,
    ]
    config = run_config(folder, tmp_path / "one", epochs=2, pack_length=64, save_every=3)
    train(config)
    expected = metrics(tmp_path / "one")
    for name, more in (("both", []), ("split", ["--fsdp", "--recompute"])):
        out = tmp_path / name
        done = torchrun(*flags, *more, "--out", out, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        found = metrics(out)
        assert [one["step"] for one in found] == [one["step"] for one in expected]
        assert max(abs(a["loss"] - b["loss"]) for a, b in zip(found, expected, strict=True)) < 1e-5
        assert close(out, tmp_path / "one")
        shutil.rmtree(out / "checkpoints" / "step-00000006")  # as if it had been stopped after step 3
        train(dataclasses.replace(config, out=str(out), resume=True))
        assert close(out, tmp_path / "one") and [one["step"] for one in metrics(out)] == [1, 2, 3, 4, 5, 6]
    shutil.rmtree(tmp_path / "one" / "checkpoints" / "step-00000006")
    done = torchrun(*flags, "--out", tmp_path / "one", "--resume", cwd=tmp_path)
    assert done.returncode == 0 and close(tmp_path / "one", tmp_path / "split"), done.stderr


def torchrun(*flags, cwd):
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nproc-per-node",
            "2",
            "-m",
            "minscl.train",
            *map(str, flags),
        ],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
    )


def close(one, other) -> bool:
    a, b = (load_file(out / "adapter_model.safetensors") for out in (one, other))
    return a.keys() == b.keys() and all(torch.allclose(a[name], b[name], atol=1e-5, rtol=0) for name in a)


def test_recomputation_changes_nothing(folder, tmp_path):
    """Guards: dropout drawn anew, or a block that is run again with other positions."""
    for name, recompute in (("kept", False), ("again", True)):
        train(run_config(folder, tmp_path / name, epochs=2, dropout=0.1, recompute=recompute))
    a, b = ((tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("kept", "again"))
    assert a == b


def test_dry_run_shows_what_would_be_trained_and_writes_nothing(tmp_path):
    """Guards: a forecast that is not there before hours are spent, and trained tokens marked in the wrong place."""
    done = minscl_train("--cfg", "tiny", "--out", "runs/dry", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0 and not (tmp_path / "runs").exists(), done.stderr
    assert re.search(
        r"data: 24 documents, 240 gold spans; [\d,]+ tokens, [\d,]+ of them trained; the longest sample has",
        done.stderr,
    )
    assert re.search(r"model: 6,159,456 parameters, [\d,]+ of them trained", done.stderr) and re.search(
        r"run: 17 steps, .* about .* GB", done.stderr
    )
    shortest, *_, longest = done.stdout.split("--- ")[1:]
    assert shortest.startswith("span") and longest.startswith("document")
    trained = "".join(re.findall("⟦(.*?)⟧", longest, re.DOTALL))
    assert (
        trained.startswith("Evidence:\n1. ")
        and "\nCodes:\n" in trained
        and "Evidence:\n1. " not in longest.split("⟦")[0]
    )
