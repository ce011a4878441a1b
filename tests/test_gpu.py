"""minscl on a GPU: with a pretended GPU (pretend_gpu.py) on a CPU, with the checks of gpu_checks.py on a GPU;
and benchmarks/gpu.py, the command that runs these there.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import gpu, gpu_checks
from minscl.data.packing import pack
from minscl.data.sample_types import Sample
from minscl.infer import cuda_graph, passes
from minscl.infer.engine import Engine, Request
from minscl.lora import add_lora, lora_parameters
from minscl.model import flex, load_model, save_model
from minscl.model.ops import rope_frequencies
from minscl.training.loop import forward_backward
from tests.pretend_gpu import GPU, DeviceMismatch, PretendGPU, PretendTensor
from tests.tiny_models import V, decoder, make_prompts

ROOT = Path(__file__).parents[1]


@pytest.fixture
def pretended(monkeypatch):
    """The pretended GPU. What only a real one can do is replaced: CUDA graphs are computed, not recorded, and
    FlexAttention does not run."""

    def lower_right(T: int, S: int):
        return torch.ones(T, S, dtype=torch.bool, device="cuda").tril(S - T)

    monkeypatch.setattr("torch.nn.attention.bias.causal_lower_right", lower_right)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(flex, "usable", lambda device: False)
    rope_frequencies.cache_clear()
    with PretendGPU():
        yield
    rope_frequencies.cache_clear()


def both(family: str, folder: Path):
    """(the model on the CPU, the same on the pretended GPU)."""
    model = decoder(family)
    save_model(model, folder)
    return model, load_model(folder, device="cuda")


@pytest.mark.parametrize("family", ["llama3.1", "llama3.2", "qwen2.5", "qwen3", "yarn"])
def test_logits_on_a_gpu(pretended, tmp_path, family):
    """Guards: positions, RoPE's frequencies or a mask made on the CPU; and that the pretended GPU notices."""
    model, on_gpu = both(family, tmp_path)
    input_ids = torch.tensor(make_prompts([40, 40]))
    with torch.inference_mode():
        logits = on_gpu(input_ids.to("cuda"))
        assert (logits.device, logits.shape, logits.dtype) == (GPU, (2, 40, V), torch.float32)
        torch.testing.assert_close(logits.cpu(), model(input_ids), rtol=0, atol=1e-5)
        with pytest.raises(DeviceMismatch, match="left on the CPU"):
            on_gpu(input_ids)
        with pytest.raises(DeviceMismatch, match="left on the CPU"):
            on_gpu(input_ids.to("cuda"), mask=torch.ones(1, 1, 40, 40, dtype=torch.bool))


def test_a_training_step_on_a_gpu(pretended, tmp_path):
    """Guards: labels, target positions, padding indices or LoRA's tensors left on the CPU. Loss and gradients as on
    the CPU."""
    instruction, note = make_prompts([12, 64])
    samples = [Sample((*instruction, 30 + number, 7), (5, 6, *range(9, 9 + number)), "span") for number in range(5)]
    [step] = pack([*samples, Sample(tuple(note), (5, 6, 7, 8), "document")], pack_length=256)
    results = []
    for model, device in zip(both("llama3.1", tmp_path), ("cpu", "cuda"), strict=True):
        add_lora(model, rank=4)
        parameters = [parameter for _, parameter in lora_parameters(model)]
        assert all(parameter.device.type == device for parameter in parameters)
        for number, parameter in enumerate(parameters):
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
            parameter.data.copy_(0.1 * noise)
        loss = forward_backward(model.train(), step, torch.device(device))
        results.append((loss, [parameter.grad.cpu() for parameter in parameters]))
    (loss, gradients), (loss_gpu, gradients_gpu) = results
    assert abs(loss - loss_gpu) < 1e-5
    for a, b in zip(gradients, gradients_gpu, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_answers_on_a_gpu(pretended, monkeypatch, tmp_path, cuda_graphs):
    """Guards: tokens, slots, positions or masks of a pass over the cache left on the CPU. Prompts take several passes,
    slots are reused and moved, and one token a slot is a CUDA graph's pass (computed)."""
    monkeypatch.setattr(passes, "MAX_PREFILL_TOKENS", 24)
    monkeypatch.setattr(cuda_graph, "WIDTH_STEP", 16)
    model, on_gpu = both("llama3.1", tmp_path)
    prompts = make_prompts([40, 5, 17, 64, 33, 2, 21])
    requests = [Request(prompt, 3 + number % 5) for number, prompt in enumerate(prompts)]
    answers = []
    for side, compile in ((model, "off"), (on_gpu, "on" if cuda_graphs else "off")):
        engine = Engine(side, slots=3, length=80, stop_ids=(), compile=compile)
        answers.append({number: answer.ids for number, answer in engine.run(requests)})
        assert all(isinstance(keys, PretendTensor) == (side is on_gpu) for keys in engine.cache.keys)
    assert answers[0] == answers[1]
    assert not cuda_graphs or engine.graphs.graphs


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", gpu_checks.CHECKS)
def test_on_a_gpu(name):
    """The docstrings in gpu_checks.py say what each guards; the weights that are loaded are small here."""
    check = gpu_checks.CHECKS[name]
    check(torch.device("cuda"), check is gpu_checks.weights_load_in_place)


def run_gpu(*flags, seconds=180):
    """`python -m benchmarks.gpu` with `flags`."""
    command = [sys.executable, "-m", "benchmarks.gpu", *map(str, flags)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds)


def results(out: Path, name: str) -> dict:
    """What the part `name` wrote to `out`."""
    return json.loads((out / f"{name}.json").read_text())


@pytest.mark.slow
@pytest.mark.long
def test_the_checks_run_through_the_command(tmp_path):
    """Guards: a check that has never run before it runs on a machine that is there for minutes; and a tracked file
    written without --write."""
    before = (ROOT / "docs" / "benchmarks.md").read_bytes()
    done = run_gpu("--toy", "--parts", "1", "--out", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = results(tmp_path, "checks")["rows"]
    assert list(rows) == list(gpu_checks.CHECKS) and all(cells[0] == "passed" for cells in rows.values())
    assert "## GPU: checks" in (tmp_path / "results.md").read_text()
    assert (ROOT / "docs" / "benchmarks.md").read_bytes() == before


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("number", ["2", "3", "4"])
def test_every_part_runs_at_toy_size(tmp_path, number):
    """Guards: a measurement that has never run before it runs on a machine that is there for minutes."""
    pytest.importorskip("peft", reason="the teacher extra is not installed")
    done = run_gpu("--toy", "--parts", number, "--out", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    content = results(tmp_path, gpu.PARTS[number].name)
    assert content["ended"].startswith("ended") and content["machine"] and content["notes"]
    assert not any(cells == [gpu.NOT_MEASURED] for cells in content["rows"].values()), content["rows"]


def test_a_stopped_part_keeps_its_results(tmp_path):
    """Guards: a hang that takes all the time, and results that are lost when a process is killed."""
    record = gpu.Record(tmp_path / "checks.json", seconds=100, toy=True)
    record.plan(["check", "result"], ["first", "second"])
    record.set_row("first", "passed")
    ended = gpu.run_part(gpu.PARTS["4"], tmp_path, 1.0, toy=True)
    assert ended.startswith("stopped at its limit of 1 s")
    (tmp_path / f"{gpu.PARTS['2'].name}.json").write_text('{"machine": "2 cores"}')  # of a run that was killed
    gpu.write_results(gpu.PARTS["1"], tmp_path, ended, "command")
    text = (tmp_path / "results.md").read_text()
    assert "| first | passed |" in text and f"| second | {gpu.NOT_MEASURED} |" in text and ended in text
    assert "`python -m benchmarks.gpu`. 2 cores; killed." in text


def test_a_failed_part_says_why(tmp_path):
    """Guards: a failed part that stops the others, or that leaves no trace in the results."""
    broken = gpu.Part("broken", 1, "benchmarks.gpu:no_such_function")
    ended = gpu.run_part(broken, tmp_path, 60, toy=True)
    assert ended.startswith("failed after") and "ValueError" in ended


@pytest.mark.parametrize(
    "flags, words",
    [(["--parts", "5"], "'5' is none of 1, 2, 3, 4"), (["--toy", "--write"], "leave one of the two out")],
)
def test_bad_flags_are_refused(flags, words):
    """Guards: toy figures in docs/benchmarks.md; an unknown part that is silently left out."""
    done = run_gpu(*flags)
    assert done.returncode == 2 and words in done.stderr
