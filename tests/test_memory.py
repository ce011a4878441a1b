"""A run that does not fit in memory is changed or refused before its weights are read; a resumed one stays the same."""

import dataclasses
import json

import pytest
import torch

from benchmarks.models import LLAMA_8B
from minscl import train
from minscl.config import PRESETS, parse_run
from minscl.data.packing import pack
from minscl.data.sample_types import Sample
from minscl.errors import InputError
from minscl.model import ModelConfig, read_config
from minscl.training import distributed, memory
from minscl.training.distributed import ProcessGroup
from minscl.training.estimate import estimate_memory, longest_pack
from minscl.training.run import train_adapter
from tests.tiny_training import metrics, run_config, run_flags, train_here

pytestmark = pytest.mark.usefixtures("fast_measurement")

CASES = [Sample((1,) * 3500 + (number,) * 200, (3,) * 300, "document") for number in range(20)]  # 4,000 tokens each


def fit(free, **changes):
    """fit_to_memory of the preset llama8b on CASES, in bfloat16; free: GiB."""
    config = dataclasses.replace(PRESETS["llama8b"], **changes)
    shape = ModelConfig.from_dict(LLAMA_8B)
    return memory.fit_to_memory(config, shape, CASES, dtype=torch.bfloat16, free=int(free * 2**30))


@pytest.mark.parametrize(
    "free, changes, recompute, pack_length, line",
    [
        (80, {}, "off", 8192, ""),
        (23.5, {}, "on", 8192, "23.5 GiB are free and the forecast is 63.5 GiB; with --recompute on it is 19.9 GiB"),
        (19, {}, "on", 4096, "63.5 GiB; with --recompute on and --pack-length 4096 it is 18.2 GiB, so the run"),
        (45, {"recompute": "off"}, "off", 4096, "45.0 GiB are free and the forecast is 63.5 GiB; with --pack-length"),
        (23.5, {"recompute": "on"}, "on", 8192, ""),
        (19, {"recompute": "on"}, "on", 4096, "forecast is 19.9 GiB; with --pack-length 4096 it is 18.2 GiB"),
    ],
)
def test_the_first_way_that_fits_is_taken(free, changes, recompute, pack_length, line):
    """Guards the 24 GB GPU on which --cfg llama8b ran out of memory, and a run slowed down that had space."""
    config, text = fit(free, **changes)
    assert (config.recompute, config.pack_length, config.max_length) == (recompute, pack_length, pack_length)
    assert line in text and bool(line) == bool(text) and "\n" not in text


@pytest.mark.parametrize(
    "free, changes, words",
    [
        (15, {}, "is 63.5 GiB, 18.2 GiB with --recompute on and --pack-length 4000, and 15.0 GiB are free; use"),
        (23.5, {"recompute": "off"}, "63.5 GiB, 39.4 GiB with --pack-length 4000, and 23.5 .*, --recompute auto"),
        (15, {"recompute": "on", "pack_length": 4000, "max_length": 4000}, "is 18.2 GiB, and 15.0 GiB are free; use"),
    ],
)
def test_what_fits_in_no_way_is_refused_with_the_numbers(free, changes, words):
    """Guards: an out-of-memory error after minutes of loading, without what would have been enough."""
    with pytest.raises(InputError, match=words):
        fit(free, **changes)


def test_no_pack_is_longer_than_the_forecasts(training_folder, tmp_path):
    """Guards the rare step of two long documents, which the forecast of a few steps had never seen."""
    generator = torch.Generator().manual_seed(0)
    instruction, samples = (7,) * 20, []
    for number in range(200):
        rest = tuple(torch.randint(0, 99, (int(torch.randint(3, 40, (), generator=generator)),)).tolist())
        samples.append(Sample(instruction + rest, (1, 2), "span"))
        if number % 8 == 0:
            samples.append(Sample((8,) * 9 + rest * 9, (5,) * 20, "document"))
    for pack_length in (400, 1000, 5000):
        config = run_config(training_folder, tmp_path, pack_length=pack_length, max_length=400)
        lengths = [
            len(packed.input_ids)
            for epoch in range(3)
            for step in pack(samples, pack_length=pack_length, epoch=epoch)
            for packed in step.packs
        ]
        assert max(lengths) <= longest_pack(samples, config) <= pack_length
    spans = [sample for sample in samples if sample.kind == "span"]
    assert longest_pack(spans, config) <= 20 + 16 * 41  # the instruction counts once


def test_a_shortened_run_is_recorded_and_resumed_alike(training_folder, tmp_path, capsys):
    """Guards: numbers that depend on the memory free at the time of resuming. Losses as with long packs, 1e-5."""
    config = run_config(training_folder, tmp_path / "whole", epochs=2)
    train_adapter(config, free_bytes=2**40)
    recomputed = dataclasses.replace(config, recompute="on")
    enough = estimate_memory(read_config(training_folder), 66, recomputed, dtype=torch.float32)  # not for packs of 128
    short = dataclasses.replace(config, out=str(tmp_path / "short"), save_every=3)
    train_adapter(short, free_bytes=enough)
    assert "with --recompute on and --pack-length 64 it is" in capsys.readouterr().err
    run = json.loads((tmp_path / "short" / "run.json").read_text())
    assert (run["recompute"], run["pack_length"]) == ("on", 64)
    whole, shortened = metrics(tmp_path / "whole"), metrics(tmp_path / "short")
    assert max(abs(a["loss"] - b["loss"]) for a, b in zip(whole, shortened, strict=True)) < 1e-5

    expected, other = ((tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("short", "whole"))
    assert expected != other  # rounded otherwise, so that the next comparison can fail
    stop_after_step_3(tmp_path / "short")
    train_adapter(dataclasses.replace(short, resume=True), free_bytes=2**40)
    assert "memory: packs of 64 tokens, as when the run began" in capsys.readouterr().err
    assert (tmp_path / "short" / "adapter_model.safetensors").read_bytes() == expected
    stop_after_step_3(tmp_path / "short")
    with pytest.raises(InputError, match="are free; use another --out, to begin again with shorter packs"):
        train_adapter(dataclasses.replace(short, resume=True), free_bytes=2**20)


def stop_after_step_3(out):
    """Make a run of 6 steps one that was stopped after step 3."""
    for path in (out / "checkpoints" / "step-00000006").iterdir():
        path.unlink()
    (out / "checkpoints" / "step-00000006").rmdir()


def test_too_little_memory_ends_before_the_weights_are_read(training_folder, tmp_path, monkeypatch, capsys):
    """Guards: minutes of loading first; a traceback; a folder left behind."""
    monkeypatch.setattr(memory, "free_memory", lambda device: 2**20)
    monkeypatch.setattr("minscl.training.run.load_model", pytest.fail)
    assert train_here(*run_flags(training_folder), "--out", tmp_path / "run") == 2
    data, refusal = capsys.readouterr().err.splitlines()
    assert data.startswith("data: ") and refusal.startswith("minscl: memory: the forecast is 0.")
    assert "and 0.0 GiB are free; use a smaller --max-length, --weights int8, --dtype bfloat16" in refusal
    assert not (tmp_path / "run").exists()


def test_processes_of_one_machine_share_its_memory_and_decide_alike(training_folder, tmp_path, monkeypatch):
    """Guards: two processes that each count the same memory as theirs; one of them in another shape than the other."""
    seen = []

    def reduce(totals, operation):
        seen.append((totals.tolist(), operation))
        totals.fill_(7.0 * 2**30)  # another process's

    monkeypatch.setattr(distributed.distributed, "all_reduce", reduce)
    monkeypatch.setattr(distributed.distributed, "get_backend", lambda: "gloo")
    monkeypatch.setattr(memory, "free_memory", lambda device: 100 * 2**30)
    free = []
    monkeypatch.setattr(memory, "fit_to_memory", lambda config, *args, **values: (config, free.append(values) or ""))
    config, shape = run_config(training_folder, tmp_path), ModelConfig.from_dict(LLAMA_8B)
    for local_size, share in (("4", 25), ("", 50)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", local_size)
        memory.decide_memory(config, shape, CASES, torch.device("cpu"), torch.float32, ProcessGroup(0, 2))
        assert seen[-1] == ([share * 2**30], torch.distributed.ReduceOp.MIN)
        assert (free[-1]["free"], free[-1]["processes"]) == (7 * 2**30, 2)


@pytest.mark.parametrize(
    "flags, value",
    [([], "auto"), (["--recompute"], "on"), (["--recompute", "--dry-run"], "on"), (["--recompute=off"], "off")],
)
def test_recompute_alone_means_on(flags, value):
    """Guards scripts of before, in which --recompute was a switch."""
    assert parse_run(flags).recompute == value


def test_another_value_of_recompute_is_refused(capsys):
    """Guards: True out of older Python code, silently taken for off."""
    with pytest.raises(InputError, match="--recompute True: use auto, on, off"):
        dataclasses.replace(PRESETS["tiny"], recompute=True)
    with pytest.raises(InputError, match="--recompute yes: use auto, on, off"):
        train.main(["--recompute", "yes"])
