"""Model folders: strict loading, low memory, and a `save_model` that transformers reads without a warning."""

import json
import logging
import subprocess
import sys
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file

from minscl.errors import InputError
from minscl.lora import add_lora
from minscl.model import load as load_module
from minscl.model import load_model, save_model
from tests.tiny_models import FAMILIES, decoder, make_prompts

IDS = torch.tensor(make_prompts((20,)))


@pytest.fixture
def folder(tmp_path):
    save_model(decoder("qwen2.5"), tmp_path)
    return tmp_path


def shard(folder):
    """Split model.safetensors into two files with an index, as large models are published."""
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, own in parts.items():
        save_file({name: tensors[name] for name in own}, folder / file)
    (folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {name: file for file, own in parts.items() for name in own}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return index


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_and_loaded_is_the_same_model(family, tmp_path):
    """Guards: a tensor or setting lost in the round trip; tied weights untied."""
    model = decoder(family)
    save_model(model, tmp_path)
    again = load_model(tmp_path)
    assert again.config == model.config and not again.training
    assert torch.equal(model(IDS), again(IDS))
    assert (again.lm_head.weight is again.model.embed_tokens.weight) == model.config.tie_word_embeddings


def test_shards_load_as_one_file_does(folder):
    """Guards: a shard that is not read."""
    expected = load_model(folder)(IDS)
    shard(folder)
    assert torch.equal(load_model(folder)(IDS), expected)


def test_large_models_are_saved_in_shards(tmp_path, monkeypatch):
    """Guards: an index that names the wrong file, a tensor in two shards."""
    monkeypatch.setattr(load_module, "SHARD_BYTES", 50_000)
    model = decoder("llama3")
    save_model(model, tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    assert torch.equal(load_model(tmp_path)(IDS), model(IDS))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_take_the_requested_dtype(folder, dtype):
    """Guards: a norm left in another dtype; names of dtypes not understood."""
    for requested in (dtype, str(dtype).removeprefix("torch.")):
        assert {parameter.dtype for parameter in load_model(folder, dtype=requested).parameters()} == {dtype}
    assert load_model(folder).lm_head.weight.dtype == torch.float32  # config.json's


def change_tensors(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda f: change_tensors(f, lambda t: t.pop("model.norm.weight")), "tensor model.norm.weight is missing"),
        (lambda f: change_tensors(f, lambda t: t.update(extra=torch.zeros(2))), "unexpected tensor extra"),
        (
            lambda f: change_tensors(f, lambda t: t.update({"model.norm.weight": torch.zeros(3)})),
            r"model.norm.weight is \[3\], config.json asks for \[64\]",
        ),
        (
            lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-100]),
            "truncated or corrupt",
        ),
        (lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 200), "truncated or corrupt"),
        (lambda f: (f / "model.safetensors").unlink(), "no model.safetensors"),
        (lambda f: ((f / "model.safetensors").unlink(), (f / "pytorch_model.bin").touch()), "convert the .bin weights"),
        (lambda f: (f / "config.json").unlink(), "config.json: no such file"),
        (lambda f: (f / "config.json").write_text("{"), "config.json: not JSON that can be used"),
        (lambda f: (f / "config.json").write_bytes(b"\xff{}"), "config.json: byte 0 is not UTF-8"),
        (lambda f: (f / "config.json").write_text("[]"), "config.json: not a JSON object"),
        (
            lambda f: (shard(f), (f / "model.safetensors.index.json").write_text('{"weight_map": 3}')),
            "weight_map is 3, but must be an object",
        ),
        (
            lambda f: (shard(f), (f / "model-00002-of-00002.safetensors").unlink()),
            "names shard model-00002-of-00002.safetensors",
        ),
        (
            lambda f: (shard(f), (f / "model.safetensors.index.json").write_text("[]")),
            "model.safetensors.index.json: not a JSON object",
        ),
        (
            lambda f: (
                shard(f),
                (f / "model-00001-of-00002.safetensors").write_bytes(
                    (f / "model-00002-of-00002.safetensors").read_bytes()
                ),
            ),
            "disagree about tensor",
        ),
    ],
)
def test_damage_is_reported_with_its_file(folder, damage, message):
    """Guards: a model that loads with random or foreign weights; an error without a remedy."""
    damage(folder)
    with pytest.raises(InputError, match=message) as error:
        load_model(folder)
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


def test_an_index_cannot_name_a_file_elsewhere(folder):
    """Guards: a path in a downloaded index that points outside the folder."""
    index = shard(folder)
    index["weight_map"] = {name: "../" + file for name, file in index["weight_map"].items()}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="names shard"):
        load_model(folder)


def test_unmerged_lora_is_not_saved_as_a_model(tmp_path):
    """Guards: a folder with lora_ tensors in it that nothing loads."""
    model = decoder()
    add_lora(model)
    with pytest.raises(InputError, match="merge_lora"):
        save_model(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_loads_our_folder_without_a_warning(family, tmp_path, caplog):
    """Guards: a config.json that transformers reads differently, tensors it misses or does not know."""
    transformers = pytest.importorskip("transformers", reason="the teacher extra is not installed")
    model = decoder(family)
    save_model(model, tmp_path)
    transformers.logging.enable_propagation()
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        theirs, notes = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    # YaRN's factor 4 does not fill the 256 positions: a warning about the test's config, not about the folder.
    expected = ["YaRN"] if family == "yarn" else []
    messages = [record.getMessage() for record in caplog.records]
    assert [message for message in messages if not any(word in message for word in expected)] == []
    assert not any(notes[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.no_grad():
        torch.testing.assert_close(theirs(IDS).logits, model(IDS), atol=1e-4, rtol=0)


MEASURE = """
import resource, sys, torch
from minscl.model import load_model
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model = load_model(sys.argv[1], dtype=sys.argv[2])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(peak * 1024 / sum(p.numel() * p.element_size() for p in model.parameters()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
@pytest.mark.parametrize(
    "stored, requested", [("bfloat16", "bfloat16"), ("bfloat16", "float32"), ("float32", "bfloat16")]
)
@pytest.mark.slow
def test_peak_memory_is_the_weights_themselves(tmp_path, stored, requested):
    """Guards: a second copy of the model while it loads. At most 1.15 times the weights in the requested dtype."""
    from minscl.model import Decoder, ModelConfig
    from tests.tiny_models import SIZE

    shape = SIZE | dict(
        model_type="llama", hidden_size=1024, intermediate_size=4096, num_hidden_layers=6, vocab_size=4000
    )
    with torch.device("meta"):
        model = Decoder(ModelConfig.from_dict(shape))
    model = model.to_empty(device="cpu").to(getattr(torch, stored))
    for parameter in model.parameters():
        parameter.data.zero_()
    save_model(model, tmp_path)
    del model
    result = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path), requested], capture_output=True, text=True, check=True
    )
    assert float(result.stdout) <= 1.15, result.stdout
