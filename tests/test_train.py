"""The trainer against a plain loop of transformers + PEFT, and the command as a user runs it."""

import dataclasses
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from minscl import checkpoint, progress
from minscl.config import PRESETS, RunConfig
from minscl.data.samples import encode_samples
from minscl.errors import InputError
from minscl.lora import add_lora, save_adapter
from minscl.machine import prepare_cpu
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


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_resume_gives_the_uninterrupted_adapter(number, status, folder, tmp_path, monkeypatch):
    """Guards lost optimiser state, a repeated or skipped step, a doubled line in metrics.jsonl, and another kernel than the run began with."""
    train(run_config(folder, tmp_path / "whole", dropout=0.1))
    broken = run_config(folder, tmp_path / "broken", dropout=0.1, save_every=4)
    original = torch.optim.AdamW.step
    calls = []

    def stopping(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 10:
            os.kill(os.getpid(), number)
        return original(self, *args, **kwargs)

    torch.optim.AdamW.step = stopping
    try:
        with pytest.raises(SystemExit) as caught:
            train(broken)
    finally:
        torch.optim.AdamW.step = original
    assert caught.value.code == status and len(metrics(tmp_path / "broken")) == 10  # the step that was asked to stop is whole
    assert (tmp_path / "broken" / "adapter_model.safetensors").exists()  # Ctrl-C saved what was learned
    asked = []
    monkeypatch.setattr("minscl.train.prepare_cpu", lambda dtype, before: (asked.append(before), prepare_cpu(dtype, before))[1])
    train(run_config(folder, tmp_path / "broken", dropout=0.1, save_every=4, resume=True))
    assert asked == [json.loads((tmp_path / "broken" / "run.json").read_text())["float32_products"]]
    whole, resumed = ((tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("whole", "broken"))
    assert whole == resumed
    assert [one["step"] for one in metrics(tmp_path / "broken")] == list(range(1, 22))


def test_killed_at_any_moment_it_goes_on_as_if_it_had_not_been(folder, tmp_path):
    """Guards: half a checkpoint, a step trained twice or lost. kill -9 while a run saves after every step, twice."""
    flags = ["--model", folder, "--samples", folder / "samples.jsonl", "--epochs", 20, "--lr", 5e-3, "--max-length", 64, "--pack-length", 128, "--device", "cpu",
             "--seed", 3, "--dropout", 0.1]
    done = minscl_train(*flags, "--out", tmp_path / "whole", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rng, out = random.Random(5), tmp_path / "killed"
    for target in (rng.randrange(5, 20), rng.randrange(30, 45)):
        with subprocess.Popen([sys.executable, "-m", "minscl.train", *map(str, flags), "--out", str(out), "--save-every", "1", "--resume"],
                              stderr=subprocess.DEVNULL, cwd=tmp_path) as running:
            while running.poll() is None and not ((out / "metrics.jsonl").exists() and len((out / "metrics.jsonl").read_text().splitlines()) >= target):
                time.sleep(0.002)
            time.sleep(rng.random() * 0.02)
            running.kill()
        assert running.returncode == -signal.SIGKILL
    done = minscl_train(*flags, "--out", out, "--resume", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [one["step"] for one in metrics(out)] == list(range(1, 61))
    assert (out / "adapter_model.safetensors").read_bytes() == (tmp_path / "whole" / "adapter_model.safetensors").read_bytes()


def test_a_full_disk_leaves_the_last_checkpoint(folder, tmp_path, monkeypatch):
    """Guards: a checkpoint replaced by half of another, a traceback in place of a remedy."""
    written = []

    def failing(tensors, path):
        written.append(path)
        if len(written) == 3:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        save_file(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", failing)
    with pytest.raises(InputError, match="No space left on device.*the last whole checkpoint is step-00000008; make room and go on with --resume"):
        train(run_config(folder, tmp_path / "run", save_every=4))
    assert sorted(one.name for one in (tmp_path / "run" / "checkpoints").iterdir()) == ["step-00000004", "step-00000008"]


def test_a_full_disk_stops_the_log_in_one_line(folder, tmp_path, monkeypatch):
    """Guards: a traceback from the file that is written at every step, and a half line read back by --resume."""
    begin = progress.Log.__init__

    def on_a_full_disk(self, *arguments, **named):
        begin(self, *arguments, **named)
        self._file = FullAfter(self._file, lines=5)

    monkeypatch.setattr(progress.Log, "__init__", on_a_full_disk)
    with pytest.raises(InputError, match="metrics.jsonl: cannot be written .*make room and go on with --resume"):
        train(run_config(folder, tmp_path / "run", save_every=4))
    monkeypatch.undo()
    train(run_config(folder, tmp_path / "run", save_every=4, resume=True))
    assert [one["step"] for one in metrics(tmp_path / "run")] == list(range(1, 22))


class FullAfter:
    """A file on a disk that has room for so many lines, and for half of the next."""

    def __init__(self, file, lines):
        self.file, self.lines, self.name, self.flush, self.close = file, lines, file.name, file.flush, file.close

    def write(self, text):
        self.lines -= 1
        self.file.write(text if self.lines >= 0 else text[:20])
        if self.lines < 0:
            raise OSError(28, "No space left on device")


@pytest.mark.parametrize("damage", [lambda path: (path / "state.safetensors").write_bytes(b"half"), lambda path: (path / "state.json").write_text("{"),
                                    lambda path: (path / "state.json").unlink()])
def test_a_damaged_checkpoint_is_passed_over(damage, folder, tmp_path, caplog):
    """Guards: a run that cannot go on though an older checkpoint is whole, and one that begins anew in silence."""
    config = run_config(folder, tmp_path / "run", save_every=4)
    train(config)
    expected = (tmp_path / "run" / "adapter_model.safetensors").read_bytes()
    newest = sorted((tmp_path / "run" / "checkpoints").iterdir())
    damage(newest[-1])
    train(dataclasses.replace(config, resume=True))
    assert f"{newest[-1].name} is damaged" in caplog.text and (tmp_path / "run" / "adapter_model.safetensors").read_bytes() == expected
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        (path / "state.json").write_text("{")
    with pytest.raises(InputError, match="no checkpoint is whole"):
        train(dataclasses.replace(config, resume=True))


def test_ids_of_another_tokenizer_are_refused(folder, tmp_path):
    """Guards: an index error out of the embedding in place of the sample's name."""
    (tmp_path / "samples.jsonl").write_text('{"prompt_ids": [1, 2], "target_ids": [99999]}\n')
    with pytest.raises(InputError, match="token id 99999, but the model's vocabulary has"):
        train(dataclasses.replace(run_config(folder, tmp_path / "run"), samples=str(tmp_path / "samples.jsonl")))


def test_other_settings_are_refused_by_name(folder, tmp_path):
    """Guards: a run resumed with another rank, learning rate or other data, and called the same."""
    train(run_config(folder, tmp_path / "run", epochs=1))
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    (other / "config.json").write_text((folder / "config.json").read_text().replace("10000.0", "20000.0"))
    assert (other / "config.json").read_text() != (folder / "config.json").read_text()
    for changes, word in ((dict(lr=1e-3), "lr was 0.005, now 0.001"), (dict(seed=4), "seed was 3"), (dict(rank=4), "rank was"), (dict(model=str(other)), "model was"),
                          (dict(dtype="bfloat16"), "dtype was 'torch.float32', now 'torch.bfloat16'")):
        with pytest.raises(InputError, match=word):
            train(run_config(folder, tmp_path / "run", epochs=1, resume=True, **changes))
    lines = (folder / "samples.jsonl").read_text().splitlines()
    (tmp_path / "other.jsonl").write_text("\n".join(reversed(lines)))
    with pytest.raises(InputError, match="data was"):
        train(run_config(folder, tmp_path / "run", epochs=1, resume=True, samples=str(tmp_path / "other.jsonl")))


def test_a_loss_that_is_not_finite_stops_the_run(folder, tmp_path):
    """Guards: an adapter of NaN after hours of training."""
    broken = load_model(folder)
    broken.model.norm.weight.data.fill_(float("inf"))
    save_model(broken, tmp_path / "model")
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        (tmp_path / "model" / name).write_bytes((folder / name).read_bytes())
    done = minscl_train("--model", tmp_path / "model", "--samples", folder / "samples.jsonl", "--max-length", 64, "--pack-length", 128, "--out", tmp_path / "run",
                        "--device", "cpu", cwd=tmp_path)
    assert done.returncode == 1 and "step 1: loss nan" in done.stderr and "samples: " in done.stderr and "the last good checkpoint is none yet" in done.stderr and "Traceback" not in done.stderr
    assert metrics(tmp_path / "run") == []


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


def test_two_processes_train_what_one_does(folder, tmp_path):
    """Guards: gradients averaged or left out, a process that waits for ever, weights split wrongly. Losses and adapter within 1e-5, with and
    without --fsdp (there with --recompute); checkpoints of two processes are gone on with by one, and the other way round."""
    flags = ["--model", folder, "--samples", folder / "samples.jsonl", "--lr", 5e-3, "--max-length", 64, "--pack-length", 64, "--device", "cpu", "--seed", 3,
             "--epochs", 2, "--save-every", 3]
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
    return subprocess.run([sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "minscl.train", *map(str, flags)], cwd=cwd,
                          capture_output=True, text=True, timeout=300)


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
    assert re.search(r"data: 24 documents, 240 gold spans; [\d,]+ tokens, [\d,]+ of them trained; the longest sample has", done.stderr)
    assert re.search(r"model: 6,159,456 parameters, [\d,]+ of them trained", done.stderr) and re.search(r"run: 17 steps, .* about .* GB", done.stderr)
    shortest, *_, longest = done.stdout.split("--- ")[1:]
    assert shortest.startswith("span") and longest.startswith("document")
    trained = "".join(re.findall("⟦(.*?)⟧", longest, re.DOTALL))
    assert trained.startswith("Evidence:\n1. ") and "\nCodes:\n" in trained and "Evidence:\n1. " not in longest.split("⟦")[0]


def test_a_checkpoint_comes_by_the_clock_too(folder, tmp_path):
    """Guards: hours lost between two counts of steps."""
    train(run_config(folder, tmp_path / "run", epochs=2, save_every=1000, save_minutes=1e-9))
    assert sorted(one.name for one in (tmp_path / "run" / "checkpoints").iterdir()) == ["step-00000005", "step-00000006"]
    assert (tmp_path / "run" / "loss.png").read_bytes().startswith(b"\x89PNG")
