"""int8 weights: the layer against the dequantised product, its gradient below LoRA, loading, folders, the commands."""

import dataclasses
import json
import shutil
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from minscl import export
from minscl.config import RunConfig
from minscl.errors import InputError
from minscl.lora import add_lora, load_adapter, lora_parameters, merge_lora, save_adapter
from minscl.model import Decoder, ModelConfig, int8, load_model, save_model
from minscl.model.int8 import Int8Linear, Int8Product, dequantise, quantise, quantise_weights
from minscl.pretrained import load_merged
from minscl.training.estimate import frozen_int8_bytes
from minscl.training.run import train_adapter
from tests.conftest import call_command
from tests.tiny_models import SIZE, V, decoder, make_prompts
from tests.tiny_training import run_config, run_flags, train_here

IDS = torch.tensor(make_prompts((20,)))
FAMILIES = ("llama3.1", "qwen2", "qwen3")  # a head of its own; tied, with biases; tied, with norms of each head


def random_linear(seed=0, bias=True) -> torch.nn.Linear:
    torch.manual_seed(seed)
    return torch.nn.Linear(96, 40, bias=bias)


def dequantised(model: Decoder) -> Decoder:
    """A float model with exactly the weights of an int8 one, each Int8Linear an nn.Linear."""
    config = dataclasses.replace(model.config, weights="", tie_word_embeddings=False)
    plain = Decoder(config)
    state = {name: tensor.float() for name, tensor in model.state_dict().items() if not name.endswith(".scale")}
    for name, layer in model.named_modules():
        if isinstance(layer, Int8Linear):
            state[f"{name}.weight"] = dequantise(layer.weight, layer.scale)
    plain.load_state_dict(state)
    return plain.eval()


def test_no_weight_is_further_off_than_half_a_step():
    """Guards: truncation in place of rounding, one scale for all rows, a row of zeros divided by zero, overflow to -128
    and a scale below float32's range."""
    weight = random_linear().weight.detach()
    weight[3], weight[5], weight[7] = 0, 1e-43, torch.linspace(-4, 1, 96)
    quantised, scale = quantise(weight)
    assert quantised.dtype == torch.int8 and scale.dtype == torch.float32 and quantised.min() >= -127
    error = (weight.double() - quantised.double() * scale.double()[:, None]).abs()
    assert (error <= scale[:, None].double() / 2 * (1 + 1e-6)).all()
    assert not quantised[3].any() and quantised[7, 0] == -127
    assert torch.isfinite(scale).all() and (scale > 0).all()


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.bfloat16, 1e-2), (torch.float16, 2e-3)])
@pytest.mark.parametrize("bias", [True, False])
def test_the_layer_is_the_dequantised_product(dtype, tolerance, bias, monkeypatch):
    """Guards: a scale of another row, blocks in another order, a bias that is scaled too, another dtype than x's.
    Relative to the norm of the output."""
    monkeypatch.setattr(int8, "CPU_BLOCK", 7 * 96)  # six blocks, the last one smaller
    linear = random_linear(bias=bias)
    layer = Int8Linear.from_linear(linear)
    if bias:
        layer.bias.data = layer.bias.to(dtype)
    for shape in ((96,), (1, 96), (2, 3, 96)):
        x = torch.randn(shape).to(dtype)
        bias64 = linear.bias.double() if bias else None
        expected = F.linear(x.double(), layer.weight.double() * layer.scale.double()[:, None], bias64)
        y = layer(x)
        assert y.dtype == dtype and y.shape == (*shape[:-1], 40)
        assert (y.double() - expected).norm() <= tolerance * expected.norm()


def test_large_activations_do_not_overflow_float16():
    """Guards sums of integers, hundreds of times the result, beyond float16's 65,504."""
    layer = Int8Linear.from_linear(random_linear(bias=False))
    x = torch.full((1, 96), 3000.0, dtype=torch.float16, requires_grad=True)
    y = layer(x)
    assert torch.isfinite(y).all()
    (y.float() * 1e-6).sum().backward()
    assert x.grad.any()  # gradient · scale did not vanish


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_below_lora_are_those_of_the_dequantised_model(family):
    """Guards a backward pass without the scale, or one that a layer's own weight would need. float32, 1e-5 of the
    largest."""
    model = decoder(family)
    quantise_weights(model)
    sides = [model, dequantised(model)]
    gradients = []
    for side in sides:
        add_lora(side, rank=4, alpha=8, seed=1)
        for number, (_, parameter) in enumerate(lora_parameters(side)):
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
        side.train()(IDS).logsumexp(-1).mean().backward()
        gradients.append({name: parameter.grad for name, parameter in lora_parameters(side)})
    largest = max(gradient.abs().max() for gradient in gradients[1].values())
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert (gradient - gradients[1][name]).abs().max() <= 1e-5 * largest, name


def test_no_float_copy_of_a_weight_is_saved_for_the_backward_pass(monkeypatch):
    """Guards the memory that int8 saves: autograd would keep every dequantised weight. Also the backward pass in
    several blocks."""
    monkeypatch.setattr(int8, "GPU_BLOCK", 40 * 30)
    layer = Int8Linear.from_linear(random_linear(bias=False))
    x, saved = torch.randn(5, 96, requires_grad=True), []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: (saved.append(tensor), tensor)[1], lambda item: item):
        y = layer(x)
    assert {tensor.dtype for tensor in saved if tensor.numel() >= layer.weight.numel()} == {torch.int8}
    y.backward(torch.ones_like(y))
    expected = torch.ones_like(y) @ dequantise(layer.weight, layer.scale)
    torch.testing.assert_close(x.grad, expected, atol=1e-5, rtol=0)
    y = Int8Product.apply(x.bfloat16(), layer.weight, layer.scale)
    assert y.dtype == torch.bfloat16


def bfloat16_folder(family, folder) -> Path:
    save_model(decoder(family, torch.bfloat16), folder)
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_quantised_at_load_saved_and_loaded_is_the_same_model(family, tmp_path):
    """Guards: a tensor lost in the folder, a tied head quantised otherwise than the embeddings say, weights that depend
    on the dtype of the activations."""
    folder = bfloat16_folder(family, tmp_path / "float")
    model = load_model(folder, dtype="float32", weights="int8")
    in_memory = load_model(folder, dtype="float32")
    quantise_weights(in_memory)
    assert model.config == in_memory.config and torch.equal(model(IDS), in_memory(IDS))
    save_model(load_model(folder, weights="int8"), tmp_path / "int8")  # embeddings in bfloat16, as they were
    for weights in ("", "int8"):
        again = load_model(tmp_path / "int8", dtype="float32", weights=weights)
        assert again.config == dataclasses.replace(model.config, torch_dtype="bfloat16")
        assert again.model.norm.weight.dtype == torch.float32 and torch.equal(again(IDS), model(IDS))
    float_bytes, int8_bytes = (
        sum(t.nbytes for t in load_file(tmp_path / name / "model.safetensors").values()) for name in ("float", "int8")
    )
    embeddings = V * SIZE["hidden_size"]
    assert int8_bytes < 0.58 * (float_bytes - 2 * embeddings) + 2 * embeddings  # scales are much of so small a model


def test_the_projections_of_an_int8_model_are_fused():
    """Guards scales that stay behind, or k's rows under q's scale; equal, since rows are independent."""
    model = decoder("qwen2.5")
    quantise_weights(model)
    with torch.no_grad():
        expected = model(IDS)
        for block in model.model.layers:
            block.self_attn.fuse_projections()
            block.mlp.fuse_projections()
            assert isinstance(block.self_attn.qkv_proj, Int8Linear) and isinstance(block.mlp.gate_up_proj, Int8Linear)
        torch.testing.assert_close(model(IDS), expected, atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """An adapter of rank 4 for the family llama3.1, large enough to change every weight by steps of int8."""
    folder = tmp_path_factory.mktemp("adapter")
    model = decoder("llama3.1")
    add_lora(model, rank=4, alpha=8)
    for number, (_, parameter) in enumerate(lora_parameters(model)):
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
    save_adapter(model, folder)
    return folder


def test_an_adapter_is_merged_before_weights_are_quantised(adapter, tmp_path):
    """Guards an adapter left out or added twice, and rounding it to the steps of weights that it does not belong to."""
    folder = bfloat16_folder("llama3.1", tmp_path / "float")
    expected = load_model(folder, dtype="float32")
    load_adapter(expected, adapter)
    merge_lora(expected)
    quantise_weights(expected)
    model = load_merged(folder, adapter, dtype="float32", weights="int8")
    for name, tensor in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


def test_an_adapter_is_merged_into_an_int8_folder(adapter, tmp_path):
    """Guards W + B A added to integers. Half a step of the merged weight, and the float32 sum before it."""
    save_model(load_model(bfloat16_folder("llama3.1", tmp_path / "float"), weights="int8"), tmp_path / "int8")
    unmerged = load_model(tmp_path / "int8", dtype="float32")
    load_adapter(unmerged, adapter)
    merged = load_merged(tmp_path / "int8", adapter, dtype="float32")
    for name, layer in unmerged.named_modules():
        if hasattr(layer, "lora_A"):
            expected = dequantise(layer.linear.weight, layer.linear.scale) + layer.lora_B @ layer.lora_A * layer.scaling
            result = merged.get_submodule(name)
            error = (dequantise(result.weight, result.scale) - expected).abs()
            assert (error <= result.scale[:, None] * 0.5001).all(), name


PROJECTION = "model.layers.0.self_attn.q_proj"


def change(folder, edit):
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors")


def to_float(name):
    return lambda tensors: tensors.update({name: tensors[name].float()})


def to_int8(name):
    return lambda tensors: tensors.update({name: tensors[name].to(torch.int8)})


@pytest.mark.parametrize(
    "edit, message",
    [
        (lambda t: t.pop(f"{PROJECTION}.scale"), f"tensor {PROJECTION}.scale is missing"),
        (lambda t: t.pop("lm_head.scale"), "tensor lm_head.scale is missing"),
        (lambda t: t.update({f"{PROJECTION}.scale": torch.ones(3)}), r"scale is \[3\], config.json asks for \[64\]"),
        (
            lambda t: t.update({f"{PROJECTION}.weight": t[f"{PROJECTION}.weight"][:, :5].clone()}),
            r"weight is \[64, 5\], config.json asks for",
        ),
        (to_float(f"{PROJECTION}.weight"), "is float32, config.json's quantization_config asks for int8"),
        (to_int8(f"{PROJECTION}.scale"), "is int8, config.json's quantization_config asks for floating point"),
        (to_int8("model.embed_tokens.weight"), "is int8, config.json's quantization_config asks for floating point"),
        (lambda t: t[f"{PROJECTION}.scale"].fill_(float("nan")), f"tensor {PROJECTION}.scale holds NaN"),
        (lambda t: t.update({"model.norm.scale": torch.ones(64)}), "unexpected tensor model.norm.scale"),
    ],
)
def test_a_damaged_int8_folder_is_one_line(edit, message, tmp_path):
    """Guards: weights under random or foreign scales, integers read as floats."""
    model = decoder("llama3.1")
    quantise_weights(model)
    save_model(model, tmp_path)
    change(tmp_path, edit)
    with pytest.raises(InputError, match=message) as error:
        load_model(tmp_path)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_a_folder_whose_settings_and_weights_disagree_is_refused(tmp_path):
    """Guards integers loaded as weights, by minscl and by transformers, and the format of a later version."""
    model = decoder("qwen2")
    quantise_weights(model)
    save_model(model, tmp_path)
    transformers = pytest.importorskip("transformers", reason="the teacher extra is not installed")
    with pytest.raises(ValueError, match="quantization config"):
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    quantised = settings.pop("quantization_config")
    for damaged in (quantised | {"bits": 4}, quantised | {"format": "minscl-int4"}, ["minscl-int8"], "minscl-int8"):
        (tmp_path / "config.json").write_text(json.dumps(settings | {"quantization_config": damaged}))
        with pytest.raises(InputError, match="quantization_config is not supported"):
            load_model(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match="unexpected tensor model.layers.0.mlp.down_proj.scale"):
        load_model(tmp_path)


MEASURE = """
import resource, sys
from minscl.model import load_model
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model = load_model(sys.argv[1], weights="int8")
peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
print(peak / sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers())))
"""


def test_each_float_weight_is_freed_before_the_next(tmp_path):
    """Guards the float model in memory before it is quantised."""
    live = []

    def update(layer, weight):
        assert all(reference() is None for reference in live), layer
        live.append(weakref.ref(weight))
        return weight

    load_model(bfloat16_folder("llama3.1", tmp_path), weights="int8", update=update)
    assert len(live) == 2 * 7 + 1


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
@pytest.mark.slow
@pytest.mark.long
def test_peak_memory_is_the_quantised_weights(tmp_path):
    """Guards the bfloat16 model, which would be 1.9 times as much, in memory before it is quantised. At most 1.4 times:
    torch's kernels for the arithmetic, and the blocks' float copies."""
    shape = SIZE | dict(model_type="llama", hidden_size=1024, intermediate_size=4096, num_hidden_layers=8)
    with torch.device("meta"):
        model = Decoder(ModelConfig.from_dict(shape))
    model = model.to_empty(device="cpu").to(torch.bfloat16)
    for parameter in model.parameters():
        parameter.data.fill_(0.5)
    save_model(model, tmp_path)
    del model
    result = subprocess.run([sys.executable, "-c", MEASURE, str(tmp_path)], capture_output=True, text=True, check=True)
    assert float(result.stdout) <= 1.4, result.stdout


def test_the_estimate_counts_int8_bytes():
    """Guards a forecast of bfloat16 weights for an 8B model that fits a 16 GB card in int8."""
    llama8b = dict(vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32)
    shape = SIZE | llama8b | dict(model_type="llama", num_attention_heads=32, num_key_value_heads=8)
    held = frozen_int8_bytes(ModelConfig.from_dict(shape), itemsize=2)
    matrices = 32 * (2 * 4096**2 + 2 * 4096 * 1024 + 3 * 4096 * 14336) + 128256 * 4096
    floats = 2 * (128256 * 4096 + 65 * 4096 + int8.GPU_BLOCK)
    assert matrices + floats < held < 1.001 * (matrices + floats)


@pytest.mark.usefixtures("fast_measurement")
def test_a_run_over_int8_weights_resumes_exactly(training_folder, tmp_path, capsys):
    """Guards: a base quantised otherwise after a restart, a checkpoint of another base taken over, a PEFT adapter that
    names other layers, a run of before --weights that cannot go on."""
    config = run_config(training_folder, tmp_path / "whole", weights="int8", epochs=2, save_every=2)
    whole = train_adapter(config)
    assert json.loads((whole / "run.json").read_text())["weights"] == "int8"
    shutil.copytree(whole, tmp_path / "resumed")
    shutil.rmtree(tmp_path / "resumed" / "checkpoints" / "step-00000006")
    train_adapter(dataclasses.replace(config, out=str(tmp_path / "resumed"), resume=True))
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "resumed" / name).read_bytes() == (whole / name).read_bytes()
    with pytest.raises(InputError, match="weights was"):
        train_adapter(dataclasses.replace(config, resume=True, weights=""))
    load_adapter(load_model(training_folder), whole)

    save_model(load_model(training_folder, weights="int8"), tmp_path / "int8")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(training_folder / name, tmp_path / "int8" / name)
    flags = run_flags(training_folder, model=tmp_path / "int8", epochs=2)
    assert train_here(*flags, "--out", tmp_path / "from_int8") == 0
    assert (tmp_path / "from_int8" / "adapter_model.safetensors").read_bytes() == (
        whole / "adapter_model.safetensors"
    ).read_bytes()
    for extra, message in (
        (["--weights", "int4"], "--weights int4: use int8"),
        (["--weights", "int8", "--fsdp"], "--fsdp --weights int8: FSDP splits float weights only"),
    ):
        assert train_here(*flags, "--out", tmp_path / "refused", *extra) == 2
        assert capsys.readouterr().err.strip().splitlines()[-1].startswith(f"minscl: {message}")


def test_a_run_of_before_int8_can_be_resumed():
    """Guards a setting in the checkpoint that no earlier run has."""
    from minscl.training.run_settings import checkpoint_settings

    config = RunConfig()
    assert "weights" not in checkpoint_settings(config, torch.float32, [])
    config = dataclasses.replace(config, weights="int8")
    assert checkpoint_settings(config, torch.float32, [])["weights"] == "int8"


def test_an_exported_int8_folder_codes_as_int8_at_load(tmp_path, generate):
    """Guards: an adapter merged twice or never, a calibration forgotten, codes of int8 continued as those of the float
    model, and flags that say nothing."""
    (tmp_path / "note.txt").write_text("He was admitted with pneumonia. History of type 2 diabetes and hypertension.")
    run = call_command(export.main, "--weights", "int8", "--out", tmp_path / "int8")
    assert run.returncode == 0, run.stderr
    run = call_command(export.main, "--model", tmp_path / "int8", "--adapter", "none", "--out", tmp_path / "again")
    assert run.returncode == 0, run.stderr
    names = sorted(path.name for path in (tmp_path / "int8").iterdir())
    assert "calibration.json" in names and names == sorted(path.name for path in (tmp_path / "again").iterdir())
    for name in names:
        assert (tmp_path / "int8" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    results = []
    for flags in (["--weights", "int8"], ["--model", tmp_path / "int8"]):
        run = generate(tmp_path / "note.txt", *flags, "--json")
        assert run.returncode == 0, run.stderr
        results.append(json.loads(run.stdout))
    first, second = results
    assert first["output"] == second["output"] and first["codes"] == second["codes"] and first["codes"]
    assert first["coded_with"]["weights"] == "int8" and first["coded_with"]["model"] != second["coded_with"]["model"]
    for flags in (["--weights", "int4"], ["--system", "lookup", "--spans", "x.jsonl", "--weights", "int8"]):
        run = generate(tmp_path / "note.txt", *flags)
        [line] = run.stderr.strip().splitlines()
        assert run.returncode == 2 and "--weights" in line
