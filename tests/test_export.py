"""`minscl.export` as a user runs it: a merged folder that transformers loads and that answers as base + adapter do."""

import copy
import dataclasses
import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from minscl import export
from minscl.config import DEMO
from minscl.errors import InputError
from minscl.files import lock_folder
from minscl.model import load_model, save_model
from minscl.model.digest import folder_digest
from minscl.pretrained import load_merged, load_pretrained
from tests.conftest import call_command


@pytest.mark.long
@pytest.mark.slow
def test_the_merged_folder_answers_as_base_and_adapter_do(tmp_path, embedded):
    """Guards: an adapter merged twice or never, tokenizer files forgotten. bfloat16 weights: 2e-2 of the largest
    logit."""
    command = [sys.executable, "-m", "minscl.export", "--out", str(tmp_path / "merged")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    model, tokenizer = embedded
    merged, merged_tokenizer = load_pretrained(str(tmp_path / "merged"))
    message = {"role": "user", "content": "Pt with HTN."}
    ids = tokenizer.encode_chat([message])
    assert merged_tokenizer.encode_chat([message]) == ids
    with torch.no_grad():
        expected, logits = model(torch.tensor([ids])), merged(torch.tensor([ids]))
    assert (expected - logits).abs().max() <= 2e-2 * expected.abs().max()
    transformers = pytest.importorskip("transformers", reason="the teacher extra is not installed")
    teacher = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32).eval()
    with torch.no_grad():
        torch.testing.assert_close(teacher(torch.tensor([ids])).logits, logits, atol=1e-3, rtol=0)


def test_nothing_is_overwritten(tmp_path):
    """Guards a folder that already holds something being mixed with a model."""
    (tmp_path / "kept.txt").write_text("x")
    for arguments in (["--out", tmp_path], [], ["--out", tmp_path / "new", "--adapter", tmp_path / "none"]):
        run = call_command(export.main, *arguments)
        assert run.returncode == 2 and len(run.stderr.strip().splitlines()) == 1, run.stderr
    assert DEMO.exists() and [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


def no_space(*arguments, **keywords):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("fails", ["model.safetensors", "config.json", "generation_config.json"])
@pytest.mark.parametrize("exists", [False, True])
def test_a_failed_export_leaves_nothing_behind(fails, exists, tmp_path, monkeypatch):
    """Guards gigabytes of temporary files after a full disk, and a second try that finds the folder not empty."""
    out = tmp_path / "out"
    if exists:
        out.mkdir()
    with monkeypatch.context() as patch:
        original = os.replace
        patch.setattr(os, "replace", lambda a, b: no_space() if Path(b).name == fails else original(a, b))
        run = call_command(export.main, "--out", out)
    [line] = run.stderr.strip().splitlines()
    assert run.returncode == 2 and str(out) in line and "No space left on device" in line
    assert out.exists() == exists and not (exists and list(out.iterdir()))
    assert call_command(export.main, "--out", out).returncode == 0


def test_config_json_is_written_last(tmp_path, monkeypatch):
    """Guards a folder without its tokenizer that looks complete to whoever waits for config.json."""
    written = []
    original = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (written.append(Path(b).name), original(a, b)))
    assert call_command(export.main, "--out", tmp_path / "out").returncode == 0
    assert written[-1] == "config.json" and {"tokenizer.json", "model.safetensors"} < set(written)


def test_input_that_cannot_be_copied_is_one_line(tmp_path):
    """Guards a pipe that hangs, a folder in place of a file, a folder that cannot be written."""
    shutil.copytree(DEMO, tmp_path / "base")
    (tmp_path / "base" / "merges.txt").mkdir()
    flags = ["--model", tmp_path / "base", "--out", tmp_path / "out"]
    run = call_command(export.main, *flags)
    assert run.returncode == 2 and "merges.txt: a folder, not a file" in run.stderr and not (tmp_path / "out").exists()
    (tmp_path / "base" / "merges.txt").rmdir()
    os.mkfifo(tmp_path / "base" / "merges.txt")
    run = call_command(export.main, *flags)
    assert run.returncode == 2 and "merges.txt: a pipe or device, not a file" in run.stderr
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "out", tmp_path / ("x" * 300), tmp_path / "base"):
        run = call_command(export.main, "--model", tmp_path / "base", "--out", out)
        assert run.returncode == 2 and len(run.stderr.strip().splitlines()) == 1, run.stderr


def test_a_tokenizer_of_another_model_is_refused(tmp_path, generate):
    """Guards an index error for the first word that a smaller model does not have. A [PAD] added alone is harmless."""
    (tmp_path / "note.txt").write_text("He was admitted with pneumonia.")
    small = copy.deepcopy(load_model(DEMO))
    for linear in (small.model.embed_tokens, small.lm_head):
        linear.weight = torch.nn.Parameter(linear.weight[:2000].clone())
    small.config = dataclasses.replace(small.config, vocab_size=2000)
    save_model(small, tmp_path / "small")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(DEMO / name, tmp_path / "small" / name)
    run = generate(tmp_path / "note.txt", "--model", tmp_path / "small")
    [line] = run.stderr.strip().splitlines()
    assert run.returncode == 2 and "tokens beyond the model's vocabulary of 2,000, the first with id 2000" in line

    shutil.copytree(DEMO, tmp_path / "padded")
    settings = json.loads((DEMO / "tokenizer.json").read_text())
    padding = {"id": 4096, "content": "[PAD]", "special": True}
    settings["added_tokens"].append(settings["added_tokens"][0] | padding)
    (tmp_path / "padded" / "tokenizer.json").write_text(json.dumps(settings))
    run = generate(tmp_path / "note.txt", "--model", tmp_path / "padded")
    assert run.returncode == 0, run.stderr


def test_a_second_export_never_touches_the_first(tmp_path, monkeypatch):
    """Guards a finished model that a failing run deletes, and two runs that write one folder."""
    out = tmp_path / "out"
    with lock_folder(out):
        run = call_command(export.main, "--out", out)
        assert run.returncode == 2 and "another run is writing it" in run.stderr

    def load_while_another_run_finishes(*arguments, **keywords):
        (out / "config.json").write_text("another run's")
        return load_merged(*arguments, **keywords)

    monkeypatch.setattr(export, "load_merged", load_while_another_run_finishes)
    run = call_command(export.main, "--out", out)
    assert run.returncode == 2 and "not empty" in run.stderr
    assert [path.read_text() for path in out.iterdir()] == ["another run's"]


def test_the_digest_of_a_folder_changes_with_what_decides_about_codes(tmp_path):
    """Guards results of two models, templates or tokenizers that continue one file; a pipe that hangs."""
    shutil.copytree(DEMO, tmp_path / "demo")
    first = folder_digest(tmp_path / "demo")
    assert first == folder_digest(DEMO)
    (tmp_path / "demo" / "MODEL_CARD.md").write_text("changed")
    assert folder_digest(tmp_path / "demo") == first
    for name in ("tokenizer_config.json", "tokenizer.json", "config.json", "model.safetensors"):
        content = (DEMO / name).read_bytes()
        (tmp_path / "demo" / name).write_bytes(content[:-1] + b" ")
        assert folder_digest(tmp_path / "demo") != first, name
        (tmp_path / "demo" / name).write_bytes(content)
    os.mkfifo(tmp_path / "demo" / "x.safetensors")
    with pytest.raises(InputError, match="x.safetensors: a pipe"):
        folder_digest(tmp_path / "demo")


def test_a_damaged_adapter_of_the_models_own_is_not_left_out(tmp_path, generate):
    """Guards the model alone in place of the model with its adapter, silently."""
    shutil.copytree(DEMO, tmp_path / "demo")
    (tmp_path / "note.txt").write_text("He was admitted with pneumonia.")
    own = tmp_path / "demo" / "adapter"
    (own / "adapter_config.json").unlink()
    run = generate(tmp_path / "note.txt", "--model", tmp_path / "demo")
    assert run.returncode == 2 and "adapter_config.json: no such file" in run.stderr
    shutil.rmtree(own)
    own.symlink_to("nowhere")
    run = generate(tmp_path / "note.txt", "--model", tmp_path / "demo")
    assert run.returncode == 2 and "adapter" in run.stderr and run.stderr.count("\n") == 1
