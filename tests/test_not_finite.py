"""NaN and infinity, in weights, adapters and logits: one line that names where, never an answer."""

import copy
import json
import shutil
from array import array

import pytest
import torch
from safetensors.torch import load_file, save_file

from minscl import export
from minscl.config import DEMO
from minscl.errors import InputError
from minscl.infer.cuda_graph import Graphs
from minscl.infer.decode import greedy
from minscl.infer.engine import Engine, Request
from minscl.infer.sampling import Sampler
from minscl.lora import add_lora, load_adapter, lora_parameters, merge_lora, save_adapter
from minscl.model import load_model, save_model
from tests.conftest import call_command
from tests.tiny_models import V, decoder, make_prompts

NOTE = "He was admitted with pneumonia and atrial fibrillation."


class AnyGuide:
    """Allows the tokens from `first` on, forces none."""

    closed_by_limit = finished = False

    def __init__(self, first=0):
        self.first = first

    def forced(self):
        return []

    def allowed(self, stop_ids):
        return array("q", range(self.first, V))

    def advance(self, token):
        pass


MODES = {
    "greedy": {},
    "grounded": {"guide": AnyGuide()},
    "sampled": {"sampler": Sampler(0.7, 0.9)},
    "speculative": {"drafter": lambda ids: [1, 2, 3]},
}


@pytest.mark.parametrize("cuda_graphs", [False, True])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_end_decoding(value, mode, cuda_graphs):
    """Guards argmax over NaN taken for an answer: the first token, or "none" in grounded mode, with a score of NaN."""
    model = decoder()
    model.model.norm.weight.data[5] = value
    engine = Engine(model, slots=2, length=60, stop_ids=(3,))
    engine.graphs = Graphs(model, engine.cache) if cuda_graphs else None
    requests = [Request(prompt, 9, name=f"note {length}", **MODES[mode]) for length, prompt in prompts()]
    with pytest.raises(InputError, match=r"note 7: the model's logits are not finite \(in float32\): the weights or"):
        list(engine.run(requests))


def prompts():
    return [(length, make_prompts((length,))[0]) for length in (7, 12, 30)]


def test_the_limit_of_float16_is_named_with_its_remedy():
    """Guards a message that sends the user to fetch a sound model again."""
    model = decoder(dtype=torch.float16)
    model.model.norm.weight.data.fill_(6e4)
    with pytest.raises(InputError, match="prompt 0: .* 65,504; use --dtype float32 or bfloat16"):
        greedy(model, make_prompts((5,)), max_new_tokens=4, stop_ids=())


def test_a_later_token_that_is_not_finite_ends_decoding_too():
    """Guards a check of the prompt's logits only: here the embedding of the token chosen first is NaN."""
    model = decoder()
    [prompt] = make_prompts((7,))
    [answer] = greedy(model, [prompt], max_new_tokens=1, stop_ids=())
    assert answer.ids[0] not in prompt
    model.model.embed_tokens.weight.data[answer.ids[0]] = float("nan")
    with pytest.raises(InputError, match="not finite"):
        greedy(model, [prompt], max_new_tokens=2, stop_ids=())


def test_allowed_tokens_of_probability_zero_are_no_choice():
    """Guards a score of NaN where the logits of all tokens that the grammar allows are minus infinity."""
    model = decoder()
    model.lm_head.weight.data[20:] = 0

    def overflow(module, inputs, output):
        output[..., 20:] = float("-inf")

    handle = model.lm_head.register_forward_hook(overflow)
    with pytest.raises(InputError, match="not finite"):
        greedy(model, make_prompts((7,)), max_new_tokens=2, stop_ids=(), guides=[AnyGuide(first=20)])
    handle.remove()


def test_an_extreme_temperature_is_the_most_probable_token():
    """Guards logits that overflow when they are divided by a tiny temperature, and draw the least probable token."""
    logits = torch.tensor([1.0, 900.0, -3.0])
    assert {Sampler(1e-310, 0.9, seed)(logits) for seed in range(20)} == {1}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_and_adapters_that_are_not_finite_are_not_loaded(value, tmp_path):
    """Guards a damaged file that is noticed only by its answers, or never."""
    model = decoder()
    save_model(model, tmp_path / "model")
    name = change_last_tensor(tmp_path / "model" / "model.safetensors", value)
    with pytest.raises(InputError, match=f"model.safetensors: tensor {name} holds NaN or infinity") as error:
        load_model(tmp_path / "model")
    assert "\n" not in str(error.value)
    add_lora(model, rank=2)
    save_adapter(model, tmp_path / "adapter")
    name = change_last_tensor(tmp_path / "adapter" / "adapter_model.safetensors", value)
    with pytest.raises(InputError, match=f"adapter_model.safetensors: tensor {name} holds NaN or infinity"):
        load_adapter(base := decoder(), tmp_path / "adapter")
    assert not lora_parameters(base)


def change_last_tensor(path, value) -> str:
    """Set the last number of the last tensor in `path`; returns the tensor's name."""
    tensors = load_file(path)
    name = max(tensors)
    tensors[name].view(-1)[-1] = value
    save_file(tensors, path, metadata={"format": "pt"})
    return name


def test_weights_beyond_the_requested_dtype_are_not_loaded(tmp_path):
    """Guards infinity made by the cast to float16."""
    model = decoder()
    model.model.norm.weight.data[3] = 1e6
    save_model(model, tmp_path)
    with pytest.raises(InputError, match="tensor model.norm.weight .* too large for torch.float16; use --dtype"):
        load_model(tmp_path, dtype="float16")
    load_model(tmp_path, dtype="bfloat16")


def test_a_model_that_is_not_finite_is_not_saved(tmp_path):
    """Guards a merged folder of NaN: here each of A and B is finite, and their product is not."""
    model = decoder()
    add_lora(model, rank=2)
    for _, parameter in lora_parameters(model):
        parameter.data.fill_(1e30)
    merge_lora(model)
    with pytest.raises(InputError, match="not written, tensor model.layers.0.self_attn.q_proj.weight"):
        save_model(model, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


@pytest.fixture(scope="module")
def large_activations(embedded, tmp_path_factory):
    """A folder with the embedded model's function whose activations exceed float16's range, as Qwen2's do.

    The residual stream is multiplied by 2^14, which each RMSNorm takes away again, and so does the last one's weight
    for the tied head.
    """
    folder = tmp_path_factory.mktemp("large") / "model"
    shutil.copytree(DEMO, folder, ignore=shutil.ignore_patterns("adapter", "*.safetensors"))
    model = copy.deepcopy(embedded[0])
    for name, parameter in model.named_parameters():
        if name.endswith(("embed_tokens.weight", "o_proj.weight", "down_proj.weight")):
            parameter.data *= 2.0**14
        elif name == "model.norm.weight":
            parameter.data /= 2.0**14
    save_model(model, folder)
    return folder


@pytest.mark.parametrize("flags", [(), ("--free",), ("--min-score", "0.99"), ("--system", "cot-sc")])
def test_generate_stops_with_a_line(flags, large_activations, tmp_path, generate):
    """Guards "nothing to code was found", an invented code, and NaN in JSON, for a model that float16 cannot hold."""
    note, out = tmp_path / "note.txt", tmp_path / "coded.jsonl"
    note.write_text(NOTE)
    run = generate(note, "--model", large_activations, "--dtype", "float16", "--out", out, *flags)
    assert run.returncode == 2 and not run.stdout and not out.exists()
    [line] = run.stderr.strip().splitlines()
    assert line.startswith(f"minscl: {note}: ") and line.endswith("use --dtype float32 or bfloat16")


def test_the_same_model_codes_in_float32(large_activations, tmp_path, generate):
    """Guards a check that refuses large but finite activations."""
    (tmp_path / "note.txt").write_text(NOTE)
    run = generate(tmp_path / "note.txt", "--model", large_activations, "--dtype", "float32", "--free", "--json")
    assert run.returncode == 0 and json.loads(run.stdout)["codes"], run.stderr


def test_export_writes_nothing_that_is_not_finite(tmp_path):
    """Guards an adapter's NaN, or the base's, merged into a folder that other software serves."""
    shutil.copytree(DEMO, tmp_path / "base")
    name = change_last_tensor(tmp_path / "base" / "adapter" / "adapter_model.safetensors", float("nan"))
    flags = ["--out", tmp_path / "out", "--adapter", tmp_path / "base" / "adapter"]
    run = call_command(export.main, *flags)
    assert run.returncode == 2 and f"tensor {name} holds NaN" in run.stderr, run.stderr
    change_last_tensor(tmp_path / "base" / "model.safetensors", float("nan"))
    run = call_command(export.main, "--out", tmp_path / "out", "--model", tmp_path / "base")
    assert run.returncode == 2 and "model.safetensors: tensor " in run.stderr
    assert not (tmp_path / "out").exists()
