"""What test_faults.py lets fail in a training: checkpoints, adapter, best/, head, metrics.jsonl, TensorBoard's events.

Read next: fault_scenarios.py, the other ways in which minscl writes.
"""

import contextlib
import dataclasses
import json
import os
import re
import shutil

import pytest
import torch

from minscl.heads.train import train_head
from minscl.training.run import train_adapter
from tests.fault_points import ABSENT, Scenario
from tests.tiny_heads import head_config, write_documents
from tests.tiny_training import metrics, run_config


@contextlib.contextmanager
def replaced(owner, name, value):
    """Set an attribute for a while."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, value)
        yield


def in_any_run(name: str, content: bytes) -> bytes:
    """A file of a training without times, memory, and whether the run was resumed."""
    if name.endswith("run.json"):
        return content.replace(b'"resume": true', b'"resume": false')
    if name.endswith("metrics.jsonl"):
        times = rb'("step_seconds"|"elapsed_seconds"|"peak_memory_bytes"|"seconds"): [^,}]*'
        return re.sub(times, rb"\1: 0", content)
    return ABSENT if "tfevents" in name else content  # of TensorBoard's files there is one for each start


def trainer(train, config, stopped: bool) -> Scenario:
    """A run of three steps that saves at each; `stopped`: it was stopped after the second and is resumed.

    Going on: with --resume where the run has a checkpoint, else in a new folder, as the message says.
    """

    def configure(root, **changes):
        return dataclasses.replace(config, out=str(root / "run"), save_every=1, **changes)

    def stop(root):
        original, steps = torch.optim.AdamW.step, []

        def signal(self, *arguments, **keywords):
            steps.append(1)
            if len(steps) == 2:
                os.kill(os.getpid(), 2)
            return original(self, *arguments, **keywords)

        with replaced(torch.optim.AdamW, "step", signal), pytest.raises(SystemExit):
            train(configure(root))

    def go_on(root):
        if list(root.glob("run/checkpoints/step-*")):
            train(configure(root, resume=True))
        else:
            shutil.rmtree(root / "run", ignore_errors=True)
            train(configure(root))

    return Scenario(
        lambda root, acknowledge: train(configure(root, resume=stopped)),
        prepare=stop if stopped else lambda root: None,
        go_on=go_on,
        normalise=in_any_run,
    )


def training(folder, tmp_path, stopped=False) -> Scenario:
    """`train`: checkpoints, adapter, metrics.jsonl, run.json, loss.png."""
    return trainer(train_adapter, run_config(folder, "", epochs=1, dropout=0.1), stopped)


def validated(folder, tmp_path) -> Scenario:
    """`train --validate --tensorboard`: best/, written at the first step and again at the second; the events."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    held_out = tmp_path / "held_out.jsonl"
    held_out.write_text(json.dumps({"evidence": "hypertension", "code": "I10", "source": "gold"}) + "\n")
    changes = dict(validate=str(held_out), validate_every=1, max_length=256, pack_length=256)
    config = run_config(folder, "", epochs=1, batch_size=20, tensorboard=True, **changes)
    scenario = trainer(train_adapter, config, stopped=False)

    def run(root, acknowledge):
        scenario.run(root, acknowledge)
        check_end(root)

    def go_on(root):
        scenario.continue_(root)
        check_end(root)

    def check_end(root):
        records = metrics(root / "run")
        assert [record["validation"]["loss"] for record in records] == scalars(root, "validation/loss")
        assert [record["loss"] for record in records] == scalars(root, "train/loss")
        assert records[1]["validation"]["loss"] < records[0]["validation"]["loss"], "the first best/ was the last"

    def scalars(root, tag):
        events = EventAccumulator(str(root / "run" / "tensorboard")).Reload().Scalars(tag)
        assert [event.step for event in events] == [1, 2], f"{tag} of a step is lost, or twice"
        return pytest.approx([event.value for event in events])

    return dataclasses.replace(scenario, run=run, go_on=go_on)


def head(folder, tmp_path, stopped=False) -> Scenario:
    """`train --system plm-icd`: a head beside its adapter; never the one of another moment than the other."""
    config = head_config(folder, "", write_documents(tmp_path / "documents.jsonl"), epochs=3, batch_size=4)
    scenario = trainer(train_head, config, stopped)
    names = ("adapter_model.safetensors", "head.safetensors", "head.json")
    whole = []

    def files(root):
        return tuple((root / "run" / name).read_bytes() for name in names)

    def run(root, acknowledge):
        if stopped:
            whole.append(files(root))
        scenario.run(root, acknowledge)
        whole.append(files(root))

    def check(root, acknowledged):
        assert not (root / "run" / "head.json").exists() or files(root) in whole, "files of two heads"

    return dataclasses.replace(scenario, run=run, check=check)
