"""`python -m minscl.export` as a user runs it: one merged folder that transformers loads and that answers as base + adapter does."""

import subprocess
import sys

import pytest
import torch

from minscl.config import DEMO
from minscl.pretrained import load_pretrained


def export(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "minscl.export", *map(str, arguments)], capture_output=True, text=True, timeout=120
    )


def test_the_merged_folder_answers_as_base_and_adapter_do(tmp_path):
    """Guards: an adapter merged twice or not at all, tokenizer files forgotten. bfloat16 weights: 2e-2 of the largest logit."""
    done = export("--out", tmp_path / "merged")
    assert done.returncode == 0, done.stderr
    model, tokenizer = load_pretrained(DEMO)
    again, same = load_pretrained(str(tmp_path / "merged"))
    ids = tokenizer.encode_chat([{"role": "user", "content": "Pt with HTN."}])
    assert same.encode_chat([{"role": "user", "content": "Pt with HTN."}]) == ids
    with torch.no_grad():
        a, b = model(torch.tensor([ids])), again(torch.tensor([ids]))
    assert (a - b).abs().max() <= 2e-2 * a.abs().max()
    transformers = pytest.importorskip("transformers", reason="the teacher extra is not installed")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32).eval()
    with torch.no_grad():
        torch.testing.assert_close(theirs(torch.tensor([ids])).logits, b, atol=1e-3, rtol=0)


def test_nothing_is_written_over(tmp_path):
    """Guards: a folder with something in it, mixed with a model."""
    (tmp_path / "kept.txt").write_text("x")
    for arguments in (["--out", tmp_path], [], ["--out", tmp_path / "new", "--adapter", tmp_path / "none"]):
        done = export(*arguments)
        assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert DEMO.exists() and [one.name for one in tmp_path.iterdir()] == ["kept.txt"]
