"""`minscl.export` as a user runs it: a merged folder that transformers loads and that answers as base + adapter do."""

import subprocess
import sys

import pytest
import torch

from minscl import export
from minscl.config import DEMO
from minscl.pretrained import load_pretrained
from tests.conftest import call_command


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
