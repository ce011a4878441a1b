"""A checkpoint is used only as it was written: every damage is noticed before anything is filled from it."""

import json
import os
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from minscl.errors import InputError
from minscl.training import checkpoint
from minscl.training.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint
from minscl.training.metrics_log import truncate_metrics
from minscl.training.run_folder import check_out
from tests.tiny_training import run_config

SETTINGS = {"lr": 0.1, "seed": 3}
TOTAL_STEPS = 10


def new_run():
    """(parameters, AdamW) of a run that has not begun."""
    parameters = {name: torch.nn.Parameter(torch.ones(2, 3)) for name in ("q.lora_A", "q.lora_B")}
    return parameters, torch.optim.AdamW(parameters.values(), lr=0.1)


@pytest.fixture
def checkpoints(tmp_path):
    """A folder with the checkpoints of steps 4 and 5, and the parameters after each step."""
    parameters, optimizer = new_run()
    history = []
    for step in range(1, 6):
        for parameter in parameters.values():
            parameter.grad = torch.full((2, 3), float(step))
        optimizer.step()
        history.append({name: parameter.detach().clone() for name, parameter in parameters.items()})
        save_checkpoint(tmp_path / "checkpoints", step, parameters, optimizer, SETTINGS)
    return tmp_path / "checkpoints", history


def seal(path, **changes):
    """Write the state with these changes and a checksum that fits, as no accident would."""
    state = json.loads((path / "state.json").read_text()) | changes
    state["sha256"] = checkpoint._checksum(path / "state.safetensors", state)
    (path / "state.json").write_text(json.dumps(state))


def change_tensors(path, change):
    tensors = load_file(path / "state.safetensors")
    change(tensors)
    save_file(tensors, path / "state.safetensors")
    seal(path)


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 16
    path.write_bytes(content)


def replace_by(path, make):
    path.unlink()
    make(path)


def rename_tensor(tensors):
    tensors["parameter.q.lora_C"] = tensors.pop("parameter.q.lora_A")


DAMAGES = {
    "a flipped bit": lambda path: flip_a_bit(path / "state.safetensors"),
    "half a file": lambda path: (path / "state.safetensors").write_bytes(b"half"),
    "no tensor file": lambda path: (path / "state.safetensors").unlink(),
    "a pipe": lambda path: replace_by(path / "state.safetensors", os.mkfifo),
    "no state": lambda path: (path / "state.json").unlink(),
    "a folder": lambda path: replace_by(path / "state.json", os.mkdir),
    "half a state": lambda path: (path / "state.json").write_text("{"),
    "a list": lambda path: (path / "state.json").write_text("[1]"),
    "deep JSON": lambda path: (path / "state.json").write_text('{"step":' + "[" * 100_000),
    "not UTF-8": lambda path: (path / "state.json").write_bytes(b"\xff\xfe"),
    "settings no object": lambda path: seal(path, settings=[1]),
    "a changed setting": lambda path: (path / "state.json").write_text(
        (path / "state.json").read_text().replace("0.1", "0.2")
    ),
    "another step": lambda path: seal(path, step=4),
    "a step of text": lambda path: seal(path, step="5"),
    "a step of true": lambda path: seal(path, step=True),
    "a huge step": lambda path: seal(path, step=10**400),
    "another count of AdamW": lambda path: change_tensors(path, lambda tensors: tensors["step.q.lora_A"].fill_(7)),
    "a renamed tensor": lambda path: change_tensors(path, rename_tensor),
    "no parameter": lambda path: change_tensors(path, lambda tensors: tensors.pop("parameter.q.lora_B")),
    "no moment": lambda path: change_tensors(path, lambda tensors: tensors.pop("exp_avg_sq.q.lora_B")),
    "another shape": lambda path: change_tensors(
        path, lambda tensors: tensors.update({"parameter.q.lora_A": torch.ones(1)})
    ),
    "another dtype": lambda path: change_tensors(
        path, lambda tensors: tensors.update({"exp_avg.q.lora_A": torch.ones(2, 3, dtype=torch.int32)})
    ),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damage_is_noticed_before_anything_is_filled(damage, checkpoints, caplog):
    """Guards: a run resumed from what is not its state; a traceback; half a model filled."""
    folder, history = checkpoints
    damage(folder / "step-00000005")
    parameters, optimizer = new_run()
    assert load_checkpoint(folder, parameters, optimizer, SETTINGS, TOTAL_STEPS) == 4
    assert "step-00000005 is damaged" in caplog.text
    for name, parameter in parameters.items():
        assert torch.equal(parameter, history[3][name]) and optimizer.state[parameter]["step"] == 4
    shutil.rmtree(folder / "step-00000004")
    parameters, optimizer = new_run()
    with pytest.raises(InputError, match="every checkpoint is damaged; start again with another --out"):
        load_checkpoint(folder, parameters, optimizer, SETTINGS, TOTAL_STEPS)
    assert not optimizer.state and all(torch.equal(tensor, torch.ones(2, 3)) for tensor in parameters.values())


def test_a_step_outside_the_run_or_the_name_is_damage(checkpoints):
    """Guards: a checkpoint copied to another step's name, which would repeat or leave out samples."""
    folder, _ = checkpoints
    with pytest.raises(InputError, match="every checkpoint is damaged"):
        load_checkpoint(folder, *new_run(), SETTINGS, 3)
    (folder / "step-00000005").rename(folder / "step-00000009")
    assert load_checkpoint(folder, *new_run(), SETTINGS, TOTAL_STEPS) == 4


def test_settings_are_compared_both_ways(checkpoints):
    """Guards: a setting that only the checkpoint has, or only this run, passed over."""
    folder, _ = checkpoints
    for settings, message in (({**SETTINGS, "lr": 0.2}, "lr was 0.1, now 0.2"), ({"lr": 0.1}, "seed was 3, now null")):
        with pytest.raises(InputError, match=message):
            load_checkpoint(folder, *new_run(), settings, TOTAL_STEPS)


def test_a_copy_of_the_users_is_left_alone(checkpoints):
    """Guards: a checkpoint kept under another name that is deleted, resumed, or counted as one of the two; a file of a
    checkpoint's name that ends in NotADirectoryError."""
    folder, _ = checkpoints
    copies = {"step-00000001.keep", "step-00000009-good", "step-9", "step-0000000009", "copy of step-00000005"}
    for name in copies:
        shutil.copytree(folder / "step-00000005", folder / name)
    (folder / "step-00000000").write_text("a note to myself")
    (folder / ".step-mine.tmp").mkdir()
    before = {path.name for path in folder.iterdir()}
    parameters, optimizer = new_run()
    assert newest_checkpoint(folder).name == "step-00000005"
    assert load_checkpoint(folder, parameters, optimizer, SETTINGS, TOTAL_STEPS) == 5
    save_checkpoint(folder, 6, parameters, optimizer, SETTINGS)
    assert {path.name for path in folder.iterdir()} == before - {"step-00000004"} | {"step-00000006"}


def test_the_new_checkpoint_outlives_damaged_ones_of_later_steps(checkpoints):
    """Guards: after two damaged checkpoints, the new one deleted as the oldest of three."""
    folder, _ = checkpoints
    for name in ("step-00000008", "step-00000009"):
        shutil.copytree(folder / "step-00000005", folder / name)
    parameters, optimizer = new_run()
    assert load_checkpoint(folder, parameters, optimizer, SETTINGS, TOTAL_STEPS) == 5
    for state in optimizer.state.values():
        state["step"] += 1
    save_checkpoint(folder, 6, parameters, optimizer, SETTINGS)
    assert [path.name[-1] for path in sorted(folder.iterdir())] == ["5", "6", "8", "9"]
    assert newest_checkpoint(folder, before=7).name == "step-00000006"
    assert load_checkpoint(folder, *new_run(), SETTINGS, TOTAL_STEPS) == 6


def test_the_folder_of_checkpoints_may_be_a_file(tmp_path):
    """Guards: a traceback for a file where the folder should be."""
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(InputError, match="checkpoints: "):
        load_checkpoint(tmp_path / "checkpoints", *new_run(), SETTINGS, TOTAL_STEPS)


def record(step):
    return json.dumps({"step": step, "loss": 0.5, "note": "\u2028"}, ensure_ascii=False).encode() + b"\n"


@pytest.mark.parametrize("tail", [b"", b'{"step": 4, "lo', b"\xff\xff\n", b"[" * 100_000, record(4) + b"torn", b"\n\n"])
def test_metrics_after_the_checkpoint_are_dropped(tail, tmp_path):
    """Guards: records counted by line number; a torn, binary or deep tail that stops the run."""
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(record(1) + b"\n" + record(3) + tail)
    truncate_metrics(path, 3)
    assert path.read_bytes() == record(1) + record(3)


@pytest.mark.parametrize("line", [b"{", b"\xff", b"7", b'{"step": "2", "loss": 1}', record(1), b'{"step": 2}'])
def test_a_torn_line_before_the_checkpoint_is_named_at_the_start(line, tmp_path):
    """Guards: a run that trains for hours and fails when it draws its losses."""
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(content := record(1) + line + b"\n" + record(3))
    message = re.escape(f"{path}, line 2: not the record of a step after step 1; remove the line")
    with pytest.raises(InputError, match=message):
        truncate_metrics(path, 3)
    assert path.read_bytes() == content


def test_a_log_that_lacks_steps_can_be_resumed_twice(tmp_path):
    """Guards: a run that goes on without the log of its first steps, is killed, and cannot go on again."""
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(record(1) + record(21) + record(22))
    truncate_metrics(path, 20)
    assert path.read_bytes() == record(1)
    path.write_bytes(record(21))
    truncate_metrics(path, 20)
    assert path.read_bytes() == b""


def test_metrics_that_are_a_folder_are_refused(tmp_path):
    """Guards: IsADirectoryError."""
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(InputError, match="metrics.jsonl: a folder, not a file; move it away"):
        truncate_metrics(tmp_path / "metrics.jsonl", 3)


def test_what_only_has_a_checkpoints_name_is_found_before_training(training_folder, tmp_path):
    """Guards: hours of steps and then a save that finds a file, or a link to elsewhere, in its place."""
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    path = folder / "step-00000006"
    path.write_text("a note to myself")
    with pytest.raises(InputError, match=f"{path.name}: not a checkpoint"):
        check_out(run_config(training_folder, tmp_path / "run"))
    path.unlink()
    path.symlink_to(tmp_path)
    with pytest.raises(InputError, match=f"{path.name}: not a checkpoint|already has a run"):
        check_out(run_config(training_folder, tmp_path / "run"))


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("name", ["run.json", "loss.png"])
def test_a_run_never_writes_over_what_it_reads(training_folder, tmp_path, name, resume):
    """Guards: samples in --out, or behind a link there, replaced by the run's settings or its picture."""
    samples = tmp_path / "samples.jsonl"
    shutil.copy(training_folder / "samples.jsonl", samples)
    for out, link in ((tmp_path / "a", True), (tmp_path / "b", False)):
        out.mkdir()
        if link:
            (out / name).symlink_to(samples)
        else:
            shutil.copy(samples, out / name)
        config = run_config(training_folder, out, samples=str(samples if link else out / name), resume=resume)
        with pytest.raises(InputError, match=f"{name}"):
            check_out(config)
