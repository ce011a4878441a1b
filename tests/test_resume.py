"""Nothing is lost: a run that was stopped, killed or ran out of disk continues and ends as if it had not been."""

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

from minscl.errors import InputError
from minscl.files import lock_folder
from minscl.hardware import choose_float32_matmul
from minscl.model import load_model, save_model
from minscl.training import checkpoint, run
from minscl.training.run import train_adapter
from minscl.weights import write_tensors
from tests.tiny_training import metrics, run_config, run_flags, train_here

pytestmark = pytest.mark.usefixtures("fast_measurement")


def adapter_bytes(out) -> bytes:
    return (out / "adapter_model.safetensors").read_bytes()


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 16
    path.write_bytes(content)


def checkpoint_names(out) -> list[str]:
    return sorted(path.name for path in (out / "checkpoints").iterdir())


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_resume_gives_the_uninterrupted_adapter(number, status, training_folder, finished_run, tmp_path, monkeypatch):
    """Guards lost optimiser state, a repeated or skipped step, a doubled record, another kernel than at the start."""
    out = tmp_path / "stopped"
    config = run_config(training_folder, out, dropout=0.1, save_every=4)
    original = torch.optim.AdamW.step
    calls = []

    def signal_at_step_10(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 10:
            os.kill(os.getpid(), number)
        return original(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", signal_at_step_10)
        with pytest.raises(SystemExit) as exit:
            train_adapter(config)
    assert exit.value.code == status and len(metrics(out)) == 10  # the step that was asked to stop is complete
    assert (out / "adapter_model.safetensors").exists()  # Ctrl-C saved what was learned
    modes = []

    def record_mode(dtype, previous_mode):
        modes.append(previous_mode)
        return choose_float32_matmul(dtype, previous_mode)

    monkeypatch.setattr(run, "choose_float32_matmul", record_mode)
    train_adapter(dataclasses.replace(config, resume=True))
    assert modes == [json.loads((out / "run.json").read_text())["float32_matmul"]]
    assert adapter_bytes(out) == adapter_bytes(finished_run)
    assert [record["step"] for record in metrics(out)] == list(range(1, 22))


@pytest.mark.slow
@pytest.mark.parametrize("kills", [1, pytest.param(2, marks=pytest.mark.long)])
def test_killed_at_any_moment_it_ends_as_if_it_had_not_been(training_folder, tmp_path, kills):
    """Guards: half a checkpoint, a step trained twice or lost. kill -9 while a run saves after every step, once or
    twice."""
    changes = dict(epochs=10, dropout=0.1)
    whole = train_adapter(run_config(training_folder, tmp_path / "whole", **changes))
    rng, out = random.Random(5), tmp_path / "killed"
    out.mkdir()
    shutil.copy(whole / "run.json", out)  # so that every process multiplies as this one does, whatever it measures
    flags = [*run_flags(training_folder, **changes), "--out", str(out), "--save-every", "1", "--resume"]
    for target in (rng.randrange(3, 9), rng.randrange(14, 22))[:kills]:
        command = [sys.executable, "-m", "minscl.train", *flags]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=tmp_path) as process:
            while process.poll() is None and not (
                (out / "metrics.jsonl").exists() and len((out / "metrics.jsonl").read_text().splitlines()) >= target
            ):
                time.sleep(0.002)
            time.sleep(rng.random() * 0.02)
            process.kill()
        assert process.returncode == -signal.SIGKILL
    train_adapter(run_config(training_folder, out, resume=True, **changes))
    assert [record["step"] for record in metrics(out)] == list(range(1, 31))
    assert adapter_bytes(out) == adapter_bytes(whole)


def test_a_full_disk_leaves_the_last_checkpoint(training_folder, tmp_path, monkeypatch):
    """Guards: a checkpoint replaced by half of another, a traceback in place of a remedy."""
    files = []

    def fail_at_third(file, tensors):
        files.append(file)
        if len(files) == 3:
            file.write(b"half")
            raise OSError(28, "No space left on device")
        write_tensors(file, tensors)

    monkeypatch.setattr(checkpoint, "write_tensors", fail_at_third)
    message = (
        "No space left on device.*free some space or make the folder writable, and continue with --resume; "
        "the last complete checkpoint is step-00000008"
    )
    with pytest.raises(InputError, match=message):
        train_adapter(run_config(training_folder, tmp_path / "run", save_every=4))
    assert checkpoint_names(tmp_path / "run") == ["step-00000004", "step-00000008"]


def test_a_full_disk_stops_the_log_in_one_line(training_folder, tmp_path, monkeypatch):
    """Guards: a traceback from the file that is written at every step, once more as it is closed; half a record read
    back by --resume."""
    original, lines = os.write, []

    def full_after_five_lines(descriptor, content):
        if b"step_seconds" in bytes(content):  # a line of metrics.jsonl
            lines.append(content)
        if len(lines) <= 5:
            return original(descriptor, content)
        original(descriptor, bytes(content)[:20])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full_after_five_lines)
    config = run_config(training_folder, tmp_path / "run", save_every=4)
    with pytest.raises(InputError, match="metrics.jsonl: .*No space.*free some space and continue with --resume"):
        train_adapter(config)
    monkeypatch.undo()
    assert [record["step"] for record in metrics(tmp_path / "run")] == [1, 2, 3, 4, 5]
    train_adapter(dataclasses.replace(config, resume=True))
    assert [record["step"] for record in metrics(tmp_path / "run")] == list(range(1, 22))


@pytest.mark.parametrize("lines, words", [(0, "is missing"), (15, "ends before step 16"), (20, "")])
def test_a_log_that_lacks_steps_is_named(lines, words, training_folder, finished_run, tmp_path, caplog):
    """Guards: metrics.jsonl lost with the user's other files, and a loss curve that begins in the middle unsaid."""
    out = shutil.copytree(finished_run, tmp_path / "run")
    shutil.rmtree(out / "checkpoints" / checkpoint_names(out)[-1])
    records = (out / "metrics.jsonl").read_text().splitlines(keepends=True)
    (out / "metrics.jsonl").write_text("".join(records[:lines])) if lines else (out / "metrics.jsonl").unlink()
    train_adapter(run_config(training_folder, out, dropout=0.1, save_every=4, resume=True))
    assert (f"metrics.jsonl {words}, so it and loss.png lack steps up to 20" in caplog.text) == bool(words)
    assert adapter_bytes(out) == adapter_bytes(finished_run)
    assert [record["step"] for record in metrics(out)] == [*range(1, lines + 1), 21]


def test_a_damaged_checkpoint_is_passed_over(training_folder, finished_run, tmp_path, caplog):
    """Guards: a run that cannot be resumed though an older checkpoint is complete; one that silently starts again."""
    out = shutil.copytree(finished_run, tmp_path / "run")
    config = run_config(training_folder, out, dropout=0.1, save_every=4, resume=True)
    (out / "run.json").write_text('{"float32_matmul": [1]}')  # only a record; the run continues without it
    newest = checkpoint_names(out)[-1]
    flip_a_bit(out / "checkpoints" / newest / "state.safetensors")
    train_adapter(config)
    assert f"{newest} is damaged" in caplog.text and adapter_bytes(out) == adapter_bytes(finished_run)
    assert "run.json: float32_matmul is a list of 1, but must be a string" in caplog.text
    for path in (out / "checkpoints").iterdir():
        (path / "state.json").write_text("{")
    with pytest.raises(InputError, match="every checkpoint is damaged"):
        train_adapter(config)


def test_resume_without_a_checkpoint_is_never_a_new_run_unsaid(training_folder, finished_run, tmp_path, capsys):
    """Guards: a run whose checkpoints are gone that begins anew over its own adapter."""
    out = shutil.copytree(finished_run, tmp_path / "run")
    flags = [*run_flags(training_folder, epochs=1), "--resume", "--out"]
    shutil.rmtree(out / "checkpoints")
    assert train_here(*flags, out) == 2
    assert "no checkpoint to continue from; name another --out, or remove the folder" in capsys.readouterr().err
    assert adapter_bytes(out) == adapter_bytes(finished_run) and len(metrics(out)) == 21
    (tmp_path / "empty").mkdir()
    assert train_here(*flags, tmp_path / "empty") == 0
    assert "empty has no checkpoint yet, so the run begins at its first step" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors", "metrics.jsonl", "checkpoints"])
def test_no_result_is_written_over(name, training_folder, finished_run, tmp_path, capsys):
    """Guards: an adapter that was copied into --out without its metrics.jsonl, replaced by that of another run."""
    out = tmp_path / "run"
    out.mkdir()
    copy = shutil.copytree if (finished_run / name).is_dir() else shutil.copy
    copy(finished_run / name, out / name)
    assert train_here(*run_flags(training_folder), "--out", out) == 2
    stderr = capsys.readouterr().err
    assert "name another folder" in stderr and len(stderr.splitlines()) == 1
    assert [path.name for path in out.iterdir()] == [name]


def test_two_runs_do_not_share_a_folder(training_folder, tmp_path, capsys):
    """Guards: the settings of one run beside the adapter of another, both with exit status 0."""
    with lock_folder(tmp_path / "run"):
        assert train_here(*run_flags(training_folder), "--out", tmp_path / "run") == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"minscl: {tmp_path / 'run'}: another run is writing it; wait for that run or name another path"
    )
    assert list((tmp_path / "run").iterdir()) == []


def test_what_a_run_writes_is_private(finished_run):
    """Guards: weights that have learned from notes, readable by every user of the machine."""
    for path in finished_run.rglob("*"):
        if path.is_file():
            assert path.stat().st_mode & 0o777 == 0o600, path
    assert (finished_run / "checkpoints").stat().st_mode & 0o777 == 0o700


def test_other_settings_are_refused_by_name(training_folder, finished_run, tmp_path):
    """Guards: a run resumed with another rank, learning rate or other data, and called the same."""
    other = tmp_path / "other"
    shutil.copytree(training_folder, other)
    (other / "config.json").write_text((training_folder / "config.json").read_text().replace("10000.0", "20000.0"))
    assert (other / "config.json").read_text() != (training_folder / "config.json").read_text()
    lines = (training_folder / "samples.jsonl").read_text().splitlines()
    (tmp_path / "other.jsonl").write_text("\n".join(reversed(lines)))
    for changes, message in (
        (dict(lr=1e-3), "lr was 0.005, now 0.001"),
        (dict(seed=4), "seed was 3"),
        (dict(rank=4), "rank was"),
        (dict(model=str(other)), "model was"),
        (dict(dtype="bfloat16"), 'dtype was "torch.float32", now "torch.bfloat16"'),
        (dict(samples=str(tmp_path / "other.jsonl")), "data was"),
    ):
        with pytest.raises(InputError, match=message):
            train_adapter(run_config(training_folder, finished_run, dropout=0.1, resume=True, **changes))


def test_a_loss_that_is_not_finite_stops_the_run(training_folder, tmp_path, capsys):
    """Guards: an adapter of NaN after hours of training."""
    broken = load_model(training_folder)
    broken.model.norm.weight.data.fill_(3e38)  # finite, so that it loads; its logits are not
    save_model(broken, tmp_path / "model")
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(training_folder / name, tmp_path / "model")
    flags = run_flags(training_folder, model=tmp_path / "model")
    status = train_here(*flags, "--out", tmp_path / "run")
    stderr = capsys.readouterr().err
    assert status == 1 and "step 1: loss nan" in stderr and "samples: " in stderr
    assert "the last good checkpoint is none yet" in stderr and "Traceback" not in stderr
    bar, message = stderr.splitlines()[-2:]
    assert "0/21" in bar and message.startswith("minscl: step 1: loss nan")  # on a line of its own
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    assert not (tmp_path / "run" / "adapter_model.safetensors").exists()
