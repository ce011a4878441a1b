"""Nothing is lost: a run that was stopped, killed or ran out of disk goes on and ends as if it had not been."""

import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import save_file

from minscl.errors import InputError
from minscl.hardware import prepare_cpu
from minscl.model import load_model, save_model
from minscl.train import train
from minscl.training import checkpoint
from minscl.training import metrics_log as progress
from tests.tiny_training import folder, metrics, minscl_train, run_config  # noqa: F401


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
    assert (
        caught.value.code == status and len(metrics(tmp_path / "broken")) == 10
    )  # the step that was asked to stop is whole
    assert (tmp_path / "broken" / "adapter_model.safetensors").exists()  # Ctrl-C saved what was learned
    asked = []
    monkeypatch.setattr(
        "minscl.train.prepare_cpu", lambda dtype, before: (asked.append(before), prepare_cpu(dtype, before))[1]
    )
    train(run_config(folder, tmp_path / "broken", dropout=0.1, save_every=4, resume=True))
    assert asked == [json.loads((tmp_path / "broken" / "run.json").read_text())["float32_products"]]
    whole, resumed = ((tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("whole", "broken"))
    assert whole == resumed
    assert [one["step"] for one in metrics(tmp_path / "broken")] == list(range(1, 22))


def test_killed_at_any_moment_it_goes_on_as_if_it_had_not_been(folder, tmp_path):
    """Guards: half a checkpoint, a step trained twice or lost. kill -9 while a run saves after every step, twice."""
    flags = [
        "--model",
        folder,
        "--samples",
        folder / "samples.jsonl",
        "--epochs",
        20,
        "--lr",
        5e-3,
        "--max-length",
        64,
        "--pack-length",
        128,
        "--device",
        "cpu",
        "--seed",
        3,
        "--dropout",
        0.1,
    ]
    done = minscl_train(*flags, "--out", tmp_path / "whole", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rng, out = random.Random(5), tmp_path / "killed"
    for target in (rng.randrange(5, 20), rng.randrange(30, 45)):
        with subprocess.Popen(
            [
                sys.executable,
                "-m",
                "minscl.train",
                *map(str, flags),
                "--out",
                str(out),
                "--save-every",
                "1",
                "--resume",
            ],
            stderr=subprocess.DEVNULL,
            cwd=tmp_path,
        ) as running:
            while running.poll() is None and not (
                (out / "metrics.jsonl").exists() and len((out / "metrics.jsonl").read_text().splitlines()) >= target
            ):
                time.sleep(0.002)
            time.sleep(rng.random() * 0.02)
            running.kill()
        assert running.returncode == -signal.SIGKILL
    done = minscl_train(*flags, "--out", out, "--resume", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [one["step"] for one in metrics(out)] == list(range(1, 61))
    assert (out / "adapter_model.safetensors").read_bytes() == (
        tmp_path / "whole" / "adapter_model.safetensors"
    ).read_bytes()


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
    with pytest.raises(
        InputError,
        match="No space left on device.*the last whole checkpoint is step-00000008; make room and go on with --resume",
    ):
        train(run_config(folder, tmp_path / "run", save_every=4))
    assert sorted(one.name for one in (tmp_path / "run" / "checkpoints").iterdir()) == [
        "step-00000004",
        "step-00000008",
    ]


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


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path / "state.safetensors").write_bytes(b"half"),
        lambda path: (path / "state.json").write_text("{"),
        lambda path: (path / "state.json").unlink(),
    ],
)
def test_a_damaged_checkpoint_is_passed_over(damage, folder, tmp_path, caplog):
    """Guards: a run that cannot go on though an older checkpoint is whole, and one that begins anew in silence."""
    config = run_config(folder, tmp_path / "run", save_every=4)
    train(config)
    expected = (tmp_path / "run" / "adapter_model.safetensors").read_bytes()
    (tmp_path / "run" / "run.json").write_text("{")  # only a record; the run goes on without it
    newest = sorted((tmp_path / "run" / "checkpoints").iterdir())
    damage(newest[-1])
    train(dataclasses.replace(config, resume=True))
    assert (
        f"{newest[-1].name} is damaged" in caplog.text
        and (tmp_path / "run" / "adapter_model.safetensors").read_bytes() == expected
    )
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        (path / "state.json").write_text("{")
    with pytest.raises(InputError, match="no checkpoint is whole"):
        train(dataclasses.replace(config, resume=True))


def test_other_settings_are_refused_by_name(folder, tmp_path):
    """Guards: a run resumed with another rank, learning rate or other data, and called the same."""
    train(run_config(folder, tmp_path / "run", epochs=1))
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    (other / "config.json").write_text((folder / "config.json").read_text().replace("10000.0", "20000.0"))
    assert (other / "config.json").read_text() != (folder / "config.json").read_text()
    for changes, word in (
        (dict(lr=1e-3), "lr was 0.005, now 0.001"),
        (dict(seed=4), "seed was 3"),
        (dict(rank=4), "rank was"),
        (dict(model=str(other)), "model was"),
        (dict(dtype="bfloat16"), "dtype was 'torch.float32', now 'torch.bfloat16'"),
    ):
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
    done = minscl_train(
        "--model",
        tmp_path / "model",
        "--samples",
        folder / "samples.jsonl",
        "--max-length",
        64,
        "--pack-length",
        128,
        "--out",
        tmp_path / "run",
        "--device",
        "cpu",
        cwd=tmp_path,
    )
    assert (
        done.returncode == 1
        and "step 1: loss nan" in done.stderr
        and "samples: " in done.stderr
        and "the last good checkpoint is none yet" in done.stderr
        and "Traceback" not in done.stderr
    )
    assert metrics(tmp_path / "run") == []


def test_a_checkpoint_comes_by_the_clock_too(folder, tmp_path):
    """Guards: hours lost between two counts of steps."""
    train(run_config(folder, tmp_path / "run", epochs=2, save_every=1000, save_minutes=1e-9))
    assert sorted(one.name for one in (tmp_path / "run" / "checkpoints").iterdir()) == [
        "step-00000005",
        "step-00000006",
    ]
    assert (tmp_path / "run" / "loss.png").read_bytes().startswith(b"\x89PNG")
