"""The trainer against a plain loop of transformers + PEFT, and the command as a user runs it."""

import dataclasses
import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import minscl
from minscl.config import PRESETS
from minscl.data.jsonl import read_samples
from minscl.data.samples import encode_samples
from minscl.errors import InputError
from minscl.lora import add_lora, save_adapter
from minscl.model import load_model, load_tokenizer
from minscl.training.distributed import ProcessGroup
from minscl.training.loop import learning_rate_factor, plan_steps
from minscl.training.run import train_adapter
from tests.test_validation import write_held_out
from tests.tiny_training import metrics, minscl_train, run_config, run_flags, train_here

pytestmark = pytest.mark.usefixtures("fast_measurement")


@pytest.mark.slow
def test_training_equals_transformers_and_peft(training_folder, tmp_path):
    """Guards the whole step: packing, mask, divisor, clipping, AdamW's settings, schedule. Tolerance 1e-4."""
    transformers, peft = pytest.importorskip("transformers"), pytest.importorskip("peft")
    config = run_config(training_folder, tmp_path / "run")
    model = load_model(training_folder)
    add_lora(model, config.rank, config.alpha, seed=config.seed)
    save_adapter(model, tmp_path / "start")
    train_adapter(config)

    samples, skipped = encode_samples(load_tokenizer(config.model), read_samples(config.samples), config.max_length)
    assert not skipped
    steps, total_steps = plan_steps(samples, config, 0, ProcessGroup())
    teacher = transformers.AutoModelForCausalLM.from_pretrained(training_folder, dtype=torch.float32)
    teacher = peft.PeftModel.from_pretrained(teacher, tmp_path / "start", is_trainable=True)
    parameters = [parameter for parameter in teacher.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=config.lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, -(-total_steps // 10), total_steps)
    expected_losses = []
    for _, step in steps:
        members = [samples[index] for index in step.sample_indices]
        target_tokens, loss = sum(len(sample.target_ids) for sample in members), 0.0
        for sample in members:  # one sample at a time, never packed
            ids = torch.tensor([[*sample.prompt_ids, *sample.target_ids]])
            logits = teacher(ids).logits[0, len(sample.prompt_ids) - 1 : -1]
            labels = torch.tensor(sample.target_ids)
            loss = loss + torch.nn.functional.cross_entropy(logits, labels, reduction="sum") / target_tokens
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        expected_losses.append(loss.item())

    losses = [record["loss"] for record in metrics(tmp_path / "run")]
    assert len(losses) == len(expected_losses) == total_steps >= 20
    assert max(abs(a - b) for a, b in zip(losses, expected_losses, strict=True)) < 1e-4
    assert losses[-1] < losses[0] - 0.1  # it does learn
    tensors = load_file(tmp_path / "run" / "adapter_model.safetensors")
    teacher_tensors = peft.get_peft_model_state_dict(teacher)
    assert tensors.keys() == teacher_tensors.keys()
    assert max((tensors[name] - teacher_tensors[name]).abs().max().item() for name in tensors) < 1e-4
    assert (tmp_path / "run" / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_schedule_starts_at_zero_and_ends_at_zero():
    """Guards the off-by-one that trains the first step at full rate or never reaches zero."""
    factors = [learning_rate_factor(step, 100, 10) for step in range(101)]
    assert factors[0] == 0 and factors[5] == 0.5 and factors[10] == 1 and abs(factors[100]) < 1e-12
    assert all(a >= b for a, b in itertools.pairwise(factors[10:]))


@pytest.mark.parametrize(
    "changes, words",
    [
        (dict(batch_size=40), ["in every step of this run of 1, so", "--warmup-ratio 0"]),
        (dict(batch_size=40, warmup_ratio=0), []),
        (dict(batch_size=20), []),
    ],
)
def test_a_run_that_cannot_learn_says_so(changes, words, training_folder, tmp_path, capsys):
    """Guards: an adapter of zeros, called trained. The first step of a warm-up has learning rate 0."""
    status = train_here(*run_flags(training_folder, epochs=1, **changes), "--out", tmp_path / "run", "--dry-run")
    stderr = capsys.readouterr().err
    assert status == 0 and all(word in stderr for word in words)
    assert ("warning: the learning rate is 0" in stderr) == bool(words)


def test_more_steps_than_can_be_counted_are_refused(training_folder, tmp_path, monkeypatch):
    """Guards: checkpoints whose names no longer sort, and a count of AdamW's that stands still."""
    monkeypatch.setattr("minscl.training.loop.MAX_STEPS", 20)
    with pytest.raises(InputError, match="--epochs 7: 21 steps; the limit is 20, use fewer epochs"):
        train_adapter(run_config(training_folder, tmp_path / "run"))


def test_ids_of_another_tokenizer_are_refused(training_folder, tmp_path):
    """Guards: an index error out of the embedding in place of the sample's name."""
    (tmp_path / "samples.jsonl").write_text('{"prompt_ids": [1, 2], "target_ids": [99999]}\n')
    config = run_config(training_folder, tmp_path / "run", samples=str(tmp_path / "samples.jsonl"))
    with pytest.raises(InputError, match="token id 99999, but the model's vocabulary has"):
        train_adapter(config)


def test_what_cannot_be_written_is_named_before_training(training_folder, tmp_path):
    """Guards: hours of training before a folder is found where a file should be."""
    for name in ("adapter_config.json", "loss.png", "run.json"):
        (tmp_path / name / name).mkdir(parents=True)
        with pytest.raises(InputError, match=name):
            train_adapter(run_config(training_folder, tmp_path / name))
        assert [path.name for path in (tmp_path / name).iterdir()] == [name]
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written in .*file; choose a folder that can be written"):
        train_adapter(run_config(training_folder, tmp_path / "file"))


def test_half_of_torchruns_variables_are_named(training_folder, tmp_path, monkeypatch):
    """Guards: a traceback where a batch system sets WORLD_SIZE, and a wait for processes that nobody started."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="RANK is not a number, but WORLD_SIZE is set; unset it, or start with"):
        train_adapter(run_config(training_folder, tmp_path / "run"))
    for name, value in (("RANK", "0"), ("LOCAL_RANK", "0"), ("MASTER_PORT", "29500")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(InputError, match="MASTER_ADDR:MASTER_PORT :29500: processes cannot meet there .*MASTER_ADDR"):
        train_adapter(run_config(training_folder, tmp_path / "run"))


def test_a_sample_longer_than_the_context_is_refused(training_folder, tmp_path):
    """Guards: positions trained that the model has never seen and that generate refuses."""
    text = "Hypertension and cough. " * 60
    document = {"id": "long", "text": text, "codes": [{"code": "I10", "description": "", "evidence": []}]}
    (tmp_path / "long.jsonl").write_text(json.dumps(document) + "\n")
    config = run_config(
        training_folder,
        tmp_path / "run",
        samples="",
        documents=str(tmp_path / "long.jsonl"),
        max_length=4096,
        pack_length=4096,
    )
    with pytest.raises(InputError, match="--max-length 4096: a sample has .* tokens, and the context of .* holds 256"):
        train_adapter(config)
    assert not (tmp_path / "run" / "adapter_model.safetensors").exists()


def test_training_on_nothing_is_refused(training_folder, tmp_path):
    """Guards: an empty run, or a crash on the longest of no samples."""
    with pytest.raises(InputError, match="nothing to train on: give --documents FILE"):
        train_adapter(run_config(training_folder, tmp_path / "run", samples=""))


@pytest.mark.slow
def test_command_trains_an_adapter_that_peft_loads(tmp_path, monkeypatch, capsys):
    """Guards the README's first training command, end to end, on the bundled data."""
    done = minscl_train("--cfg", "tiny", "--out", "runs/tiny", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "runs" / "tiny"
    records = metrics(out)
    fields = (
        "step epoch loss lr grad_norm samples tokens computed_tokens step_seconds elapsed_seconds peak_memory_bytes"
    )
    assert len(records) >= 3 and set(fields.split()) <= records[0].keys()
    assert json.loads((out / "run.json").read_text())["rank"] == 8
    monkeypatch.chdir(tmp_path)
    status = train_here("--cfg", "tiny", "--out", "runs/tiny")  # never trains over a run
    assert status == 2 and "--resume" in capsys.readouterr().err and metrics(out) == records
    transformers, peft = pytest.importorskip("transformers"), pytest.importorskip("peft")
    model = transformers.AutoModelForCausalLM.from_pretrained(PRESETS["tiny"].model)
    assert peft.PeftModel.from_pretrained(model, out).peft_config["default"].r == 8


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--cfg", "llama8b"], ["models/Llama-3.1-8B-Instruct", "hf download"]),
        (["--documents", "none.jsonl"], ["none.jsonl", "minscl.expand documents codiesp"]),
        (["--spans", "none.jsonl"], ["none.jsonl", "minscl.expand gold"]),
        (["--batch-size", "0"], ["--batch-size 0", "at least 1"]),
        (["--weight-decay", "-1"], ["--weight-decay -1.0", "at least 0"]),
        (["--weight-decay", "nan"], ["--weight-decay nan", "at least 0"]),
        (["--seed", "-1"], ["--seed -1", "at least 0"]),
        (["--seed", str(10**40)], ["--seed (huge)"]),
        (["--lr", "inf"], ["--lr inf", "at least 1e-12", "finite"]),
        (["--lr", "1e300"], ["--lr 1e+300", "at most 100"]),
        (["--alpha", "0"], ["--alpha 0.0", "above 0"]),
        (["--alpha", "nan"], ["--alpha nan", "above 0"]),
        (["--alpha", "inf"], ["--alpha inf", "at most"]),
        (["--rank", str(2 * 10**9)], ["--rank 2000000000", "at most 65536"]),
        (["--save-every", "0"], ["--save-every 0", "at least 1"]),
        (["--epochs", str(10**12)], ["--epochs 1000000000000", "at most"]),
        (["--max-grad-norm", "nan"], ["--max-grad-norm nan", "above 0"]),
        (["--max-grad-norm", "inf"], ["--max-grad-norm inf"]),
        (["--dropout", "nan"], ["--dropout nan", "below 1"]),
        (["--warmup-ratio", "2"], ["--warmup-ratio 2.0", "at most 1"]),
        (["--samples", "out"], ["--out", "is also --samples"]),
        (["--dtype", "float8"], ["float8", "bfloat16"]),
    ],
)
def test_bad_usage_is_one_line_and_status_2(flags, words, tmp_path, monkeypatch, capsys):
    """Guards tracebacks and silent defaults: the line names the value and the remedy."""
    monkeypatch.chdir(tmp_path)
    status = train_here(*flags, "--out", "out")
    stderr = capsys.readouterr().err
    assert status == 2 and len(stderr.strip().splitlines()) == 1, stderr
    assert all(word in stderr for word in words)
    assert not (tmp_path / "out" / "metrics.jsonl").exists()


WATCHED = """
    import os, sys

    LOG = open(sys.argv[1], "a")

    def record(event, arguments):
        if event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            if not isinstance(arguments[0], int):  # a descriptor, whose file was opened before
                print("writes", arguments[0], file=LOG)
        elif event.startswith(("subprocess", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.system")):
            print("starts", *arguments, file=LOG)
        elif event in ("os.mkdir", "os.rename", "socket.connect"):
            print(event, arguments[0], file=LOG)

    from minscl import train

    sys.addaudithook(record)
    train.main(sys.argv[2:])
"""


@pytest.mark.slow
def test_a_run_writes_to_its_folder_only_and_starts_nothing(training_folder, tmp_path):
    """Guards: fonts searched, a cache written under HOME, a program started. HOME does not exist."""
    (tmp_path / "watched.py").write_text(textwrap.dedent(WATCHED))
    (tmp_path / "tmp").mkdir()
    environment = {  # torch sets its own in this process
        name: value for name, value in os.environ.items() if name not in ("MPLCONFIGDIR", "TORCHINDUCTOR_CACHE_DIR")
    }
    environment |= {"HOME": "/nonexistent", "TMPDIR": str(tmp_path / "tmp"), "PYTHONDONTWRITEBYTECODE": "1"}
    environment["PYTHONPATH"] = str(Path(minscl.__file__).parents[1])
    flags = [*run_flags(training_folder, epochs=1), "--out", str(tmp_path / "run")]
    command = [sys.executable, "watched.py", "log.txt", *flags]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    own = (str(tmp_path / "run"), str(tmp_path / "tmp"))  # torch tries whether it could write temporary files
    events = [line.split(maxsplit=1) for line in (tmp_path / "log.txt").read_text().splitlines()]
    assert events and [event for event in events if not event[1].startswith(own)] == []
    assert (tmp_path / "run" / "loss.png").read_bytes().startswith(b"\x89PNG")


TWO_PROCESSES = """
    import sys
    from minscl import train

    for arguments in sys.argv[1].splitlines():
        train.main(arguments.split())
"""


@pytest.mark.slow
@pytest.mark.long
def test_two_processes_train_what_one_does(training_folder, tmp_path):
    """Guards: gradients averaged or left out, a process that waits for ever, weights split wrongly.

    Losses and adapter within 1e-5, with and without --fsdp (there with --recompute), held-out ones too; checkpoints of
    two processes are resumed by one, and the other way round. torchrun's start costs most, so one start does all runs.
    """
    changes = dict(epochs=2, pack_length=64, save_every=3)
    config = run_config(training_folder, tmp_path / "single", **changes)
    train_adapter(config)
    expected = metrics(tmp_path / "single")
    stop_after_step_3(shutil.copytree(tmp_path / "single", tmp_path / "resumed"))
    write_held_out(tmp_path / "held_out.jsonl")
    validated = [
        "--validate",
        "held_out.jsonl",
        "--max-length",
        "1024",
        "--pack-length",
        "1024",
        "--validate-every",
        "3",
    ]
    runs = (
        ["--out", "plain"],
        ["--out", "sharded", "--fsdp", "--recompute"],
        ["--out", "resumed", "--resume"],
        ["--out", "validated", *validated],
        ["--out", "validated-sharded", "--fsdp", *validated],
    )
    (tmp_path / "runs.py").write_text(textwrap.dedent(TWO_PROCESSES))
    lines = "\n".join(" ".join([*run_flags(training_folder, **changes), *flags]) for flags in runs)
    done = torchrun("runs.py", lines, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name in ("plain", "sharded"):
        out = tmp_path / name
        records = metrics(out)
        assert [record["step"] for record in records] == [record["step"] for record in expected]
        assert max(abs(a["loss"] - b["loss"]) for a, b in zip(records, expected, strict=True)) < 1e-5
        assert same_adapter(out, tmp_path / "single")
        stop_after_step_3(out)
        train_adapter(dataclasses.replace(config, out=str(out), resume=True))
        assert same_adapter(out, tmp_path / "single")
        assert [record["step"] for record in metrics(out)] == [1, 2, 3, 4, 5, 6]
    assert same_adapter(tmp_path / "resumed", tmp_path / "sharded")
    lengths = dict(validate=str(tmp_path / "held_out.jsonl"), validate_every=3, max_length=1024, pack_length=1024)
    train_adapter(dataclasses.replace(config, out=str(tmp_path / "alone"), **lengths))
    losses = [record["validation"]["loss"] for record in metrics(tmp_path / "alone") if "validation" in record]
    for name, scores in (("validated", {"code_f1", "evidence_f1"}), ("validated-sharded", set())):
        validations = [record["validation"] for record in metrics(tmp_path / name) if "validation" in record]
        assert [item["loss"] for item in validations] == pytest.approx(losses, abs=1e-5) and len(losses) == 2
        assert all(item.keys() == {"loss", "seconds"} | scores for item in validations)
        assert same_adapter(tmp_path / name / "best", tmp_path / "alone" / "best")


@pytest.mark.slow
def test_a_process_that_ends_is_one_line_in_the_others(tmp_path):
    """Guards: the traceback of gloo in every process that is left, and no word of --resume. Two processes, no model."""
    program = """
        import os, sys, torch
        from minscl.command import run_command
        from minscl.training.distributed import join_process_group

        def main():
            group, _ = join_process_group(torch.device("cpu"))
            group.barrier()
            if group.rank == 1:
                os._exit(9)
            parameter = torch.nn.Parameter(torch.zeros(1))
            parameter.grad = torch.ones(1)
            calls = {"sum": lambda: group.sum(1), "barrier": group.barrier}
            calls.get(sys.argv[1], lambda: group.all_reduce_gradients([parameter]))()

        run_command(main)
    """
    for call in ("sum", "barrier", "gradients"):
        environment = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", textwrap.dedent(program), call],
                env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(2)
        ]
        _, stderr = processes[0].communicate(timeout=60)
        processes[1].communicate(timeout=60)
        lines = [line for line in stderr.splitlines() if line.startswith("minscl: ")]
        assert processes[0].returncode == 2 and "Traceback" not in stderr, stderr
        assert len(lines) == 1 and lines[0].startswith("minscl: process 0 of 2: another process has ended"), stderr
        assert "with --resume the run continues from its newest checkpoint" in lines[0]


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def stop_after_step_3(out):
    """Make a run of 6 steps one that was stopped after step 3."""
    shutil.rmtree(out / "checkpoints" / "step-00000006")


def torchrun(*arguments, cwd):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


def same_adapter(out, other) -> bool:
    a, b = (load_file(folder / "adapter_model.safetensors") for folder in (out, other))
    return a.keys() == b.keys() and all(torch.allclose(a[name], b[name], atol=1e-5, rtol=0) for name in a)


@pytest.mark.slow
def test_recomputation_changes_nothing(training_folder, tmp_path):
    """Guards: dropout drawn anew, or a block that is run again with other positions."""
    for recompute in ("off", "on"):
        train_adapter(run_config(training_folder, tmp_path / recompute, epochs=2, dropout=0.1, recompute=recompute))
    a, b = ((tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("off", "on"))
    assert a == b


def test_dry_run_shows_what_would_be_trained_and_writes_nothing(tmp_path, monkeypatch, capsys):
    """Guards: no estimate before hours are spent, and trained tokens marked in the wrong place."""
    monkeypatch.chdir(tmp_path)
    status = train_here("--cfg", "tiny", "--out", "runs/dry", "--dry-run")
    stdout, stderr = capsys.readouterr()
    assert status == 0 and not (tmp_path / "runs").exists(), stderr
    assert re.search(
        r"data: 24 documents, 240 gold spans; [\d,]+ tokens, [\d,]+ of them trained; the longest sample has", stderr
    )
    assert re.search(r"model: 10,326,816 parameters, [\d,]+ of them trained", stderr)
    assert re.search(r"run: 17 steps, .* about .* GiB", stderr)
    shortest, *_, longest = stdout.split("--- ")[1:]
    assert shortest.startswith("span") and longest.startswith("document")
    trained = "".join(re.findall("⟦(.*?)⟧", longest, re.DOTALL))
    assert trained.startswith("Evidence:\n1. ") and "\nCodes:\n" in trained
    assert "Evidence:\n1. " not in longest.split("⟦")[0]
