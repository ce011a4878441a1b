"""--tensorboard: the numbers of metrics.jsonl as events, and one line where the package is missing."""

import dataclasses
import os
import shutil
import signal
import sys

import pytest

from minscl import disk
from minscl.errors import InputError
from minscl.training.run import train_adapter
from minscl.training.validation import Validation
from tests.tiny_training import metrics, run_config, run_flags, train_here

pytestmark = pytest.mark.usefixtures("fast_measurement")


def test_without_the_package_one_line_says_so(training_folder, tmp_path, monkeypatch, capsys):
    """Guards: ImportError once the model is loaded, or a run whose progress goes nowhere."""
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    assert train_here(*run_flags(training_folder), "--tensorboard", "--out", tmp_path / "run") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "--tensorboard: the tensorboard package is missing or of another kind" in line
    assert not (tmp_path / "run").exists()


def test_a_file_in_the_place_of_its_folder_is_named(training_folder, tmp_path, capsys):
    """Guards: a run that is refused after the model is loaded, with a remedy for another folder."""
    pytest.importorskip("tensorboard", reason="the tensorboard extra is not installed")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tensorboard").touch()
    assert train_here(*run_flags(training_folder), "--resume", "--tensorboard", "--out", tmp_path / "run") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "run/tensorboard: not a folder; move it away, or leave --tensorboard out" in line


def test_the_events_are_those_of_the_metrics(training_folder, tmp_path):
    """Guards: a step of events off by one, steps twice after a resume, an event folder that every user can read."""
    pytest.importorskip("tensorboard", reason="the tensorboard extra is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = run_config(training_folder, tmp_path / "run", epochs=2, save_every=3, tensorboard=True)
    train_adapter(config)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000006")
    train_adapter(dataclasses.replace(config, resume=True))  # steps 4 to 6 again
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    records = metrics(tmp_path / "run")
    for name in ("loss", "lr", "grad_norm"):
        scalars = events.Scalars(f"train/{name}")
        assert [event.step for event in scalars] == [record["step"] for record in records] == [1, 2, 3, 4, 5, 6]
        assert [event.value for event in scalars] == pytest.approx([record[name] for record in records], rel=1e-6)
    assert len(events.Scalars("train/tokens_per_second")) == 6
    assert (tmp_path / "run" / "tensorboard").stat().st_mode & 0o777 == 0o700
    files = sorted((tmp_path / "run" / "tensorboard").iterdir())
    assert [path.name[-4:] for path in files] == ["0001", "0002"]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in files)


def test_a_full_disk_is_one_line_and_a_validation_made_up_for_is_there(training_folder, tmp_path, monkeypatch):
    """Guards: a disk that is full for the events, blamed on "standard output"; a validation that Ctrl-C put off until
    --resume, in metrics.jsonl only."""
    pytest.importorskip("tensorboard", reason="the tensorboard extra is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    held_out = tmp_path / "held_out.jsonl"
    held_out.write_text('{"evidence": "hypertension", "code": "I10", "source": "gold"}\n')
    changes = dict(validate=str(held_out), validate_every=2, max_length=256, pack_length=256, tensorboard=True)
    config = run_config(training_folder, tmp_path / "run", epochs=1, save_every=1, **changes)
    original = disk.write

    def full(descriptor, content):
        if b"validation/loss" in bytes(content):  # the event of step 2
            raise OSError(28, "No space left on device")
        return original(descriptor, content)

    with monkeypatch.context() as patch:
        patch.setattr(disk, "write", full)
        with pytest.raises(InputError, match="tfevents.0001: cannot be written .No space.*; free some space and cont"):
            train_adapter(config)
    with monkeypatch.context() as patch:
        patch.setattr(Validation, "__call__", lambda self, is_stopping: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(SystemExit):
            train_adapter(dataclasses.replace(config, resume=True))
    train_adapter(dataclasses.replace(config, resume=True))
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3]
    assert [event.step for event in events.Scalars("validation/loss")] == [2, 3]
