"""Model folders: strict loading, low memory, and a `save_model` that transformers reads without a warning."""

import json
import logging
import os
import subprocess
import sys
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file

from minscl import disk
from minscl.errors import InputError
from minscl.lora import add_lora
from minscl.model import load as load_module
from minscl.model import load_model, read_config, save_model
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


def change_types(dtype):
    """A change for change_tensors: all matrices in another type."""
    return lambda tensors: tensors.update({name: t.to(dtype) for name, t in tensors.items() if t.ndim == 2})


def change_settings(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


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
        (lambda f: change_settings(f, num_hidden_layers=900), "a model of .* weights, and the files hold"),
        (lambda f: change_settings(f, torch_dtype="float8_e4m3fn"), "dtype float8_e4m3fn is not supported"),
        (lambda f: change_tensors(f, change_types(torch.int8)), "tensor lm_head.weight is of type I8; weights are of"),
        (lambda f: change_tensors(f, change_types(torch.bool)), "tensor lm_head.weight is of type BOOL"),
        (
            lambda f: change_tensors(f, change_types(torch.float8_e4m3fn)),
            "tensor lm_head.weight is of type F8_E4M3; .* use the unquantised weights",
        ),
        (lambda f: ((f / "model.safetensors").unlink(), (f / "model.safetensors").mkdir()), "a folder, not a file"),
        (lambda f: ((f / "model.safetensors").unlink(), os.mkfifo(f / "model.safetensors")), "a pipe or device"),
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


@pytest.mark.parametrize(
    "value", [None, True, 3, -1, 1.5, "", "..", "a/b", "a\0b", "x" * 300, [], ["x"], {}, {"a": "b"}, 10**400, "\ud800"]
)
def test_an_index_of_other_types_is_refused(value, folder):
    """Guards tracebacks from Path for what is no file name."""
    index = shard(folder)
    weight_map = index["weight_map"] | {"lm_head.weight": value}
    for changed in (index | {"weight_map": value}, index | {"weight_map": weight_map}):
        (folder / "model.safetensors.index.json").write_text(json.dumps(changed))
        with pytest.raises(InputError) as error:
            load_model(folder)
        assert str(error.value).startswith(str(folder)) and "\n" not in str(error.value)
    for text in ("[" * 10**5, '{"a":' * 10**5, '{"weight_map": NaN}', '\ufeff{"weight_map": 1}'):
        (folder / "model.safetensors.index.json").write_text(text)
        with pytest.raises(InputError, match="model.safetensors.index.json: "):
            load_model(folder)


def test_a_utf8_signature_is_no_part_of_the_settings(folder):
    """Guards "not JSON" for files saved by an editor on Windows."""
    expected = load_model(folder)(IDS)
    shard(folder)
    for name in ("config.json", "model.safetensors.index.json"):
        (folder / name).write_bytes(b"\xef\xbb\xbf" + (folder / name).read_bytes())
    assert torch.equal(load_model(folder)(IDS), expected)


EMBEDDINGS, HEAD = "model.embed_tokens.weight", "lm_head.weight"
HEADS = {  # what a folder with tie_word_embeddings true may hold → whether the model is tied, as in transformers
    "embeddings alone": (lambda t: None, True),
    "an equal head": (lambda t: t.update({HEAD: t[EMBEDDINGS].clone()}), True),
    "a head alone": (lambda t: t.update({HEAD: t.pop(EMBEDDINGS)}), True),
    "another head": (lambda t: t.update({HEAD: t[EMBEDDINGS] * 0.5 + 0.1}), False),
}


@pytest.mark.parametrize("case", HEADS)
@pytest.mark.parametrize("sharded", [False, True])
def test_a_head_of_its_own_is_kept(case, sharded, tmp_path):
    """Guards a trained output head thrown away because config.json says tied, or a head alone taken for damage."""
    change, tied = HEADS[case]
    save_model(decoder("qwen2"), tmp_path / "model")
    change_tensors(tmp_path / "model", change)
    if sharded:
        shard(tmp_path / "model")
    model = load_model(tmp_path / "model")
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied == model.config.tie_word_embeddings
    assert read_config(tmp_path / "model") == model.config  # by which training estimates its memory
    save_model(model, tmp_path / "again")
    again = load_model(tmp_path / "again")
    assert again.config == model.config and torch.equal(again(IDS), model(IDS))
    if not tied:
        add_lora(model, targets=["lm_head"])  # not refused as a shared weight
    transformers = pytest.importorskip("transformers", reason="the teacher extra is not installed")
    for folder in ("model", "again"):
        theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / folder, dtype=torch.float32)
        with torch.no_grad():
            torch.testing.assert_close(theirs(IDS).logits, again(IDS), atol=1e-4, rtol=0)


def test_a_head_untied_or_tied_in_memory_is_saved_as_it_is(tmp_path):
    """Guards config.json's word about a model that was changed after loading."""
    model = decoder("qwen2")
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight + 1)
    save_model(model, tmp_path / "untied")
    assert torch.equal(load_model(tmp_path / "untied")(IDS), model(IDS))
    model = decoder("qwen2.5")
    model.lm_head.weight = model.model.embed_tokens.weight
    save_model(model, tmp_path / "tied")
    assert torch.equal(load_model(tmp_path / "tied")(IDS), model(IDS))


def test_a_single_file_comes_before_an_index(folder):
    """Guards old weights: other software saves one file over shards and leaves the index behind."""
    new = load_model(folder)(IDS)
    single = (folder / "model.safetensors").read_bytes()
    change_tensors(folder, lambda tensors: tensors["model.norm.weight"].zero_())
    shard(folder)
    (folder / "model.safetensors").write_bytes(single)
    assert torch.equal(load_model(folder)(IDS), new)
    for path in folder.glob("model-*"):  # as transformers' save_pretrained removes them
        path.unlink()
    assert torch.equal(load_model(folder)(IDS), new)


LAYOUTS = {"one file": 10**9, "shards": 200_000, "more shards": 130_000}  # SHARD_BYTES


def old_and_new(folder, before):
    """Save a model into `folder`, in the layout `before`; returns (logits of the model, another model, its logits)."""
    old, new = decoder("llama3"), decoder("llama3")
    new.model.norm.weight.data += 1
    save_in(old, folder, before)
    (folder / "adapter_model.safetensors").write_bytes(b"another file")
    (folder / "model.safetensors.bak").write_bytes(b"a user's copy")
    return old(IDS), new, new(IDS)


def save_in(model, folder, layout):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load_module, "SHARD_BYTES", LAYOUTS[layout])
        save_model(model, folder)


@pytest.mark.parametrize("before", LAYOUTS)
@pytest.mark.parametrize("after", LAYOUTS)
def test_saving_over_a_model_leaves_no_file_of_it(before, after, tmp_path):
    """Guards the earlier weights being loaded, or loaded beside the new ones by software that reads every file."""
    _, new, expected = old_and_new(tmp_path / "over", before)
    save_in(new, tmp_path / "over", after)
    save_in(new, tmp_path / "alone", after)
    assert torch.equal(load_model(tmp_path / "over")(IDS), expected)
    others = {"adapter_model.safetensors", "model.safetensors.bak"}
    names = {path.name for path in (tmp_path / "over").iterdir()}
    assert others <= names and len(names - others) == len(list((tmp_path / "alone").iterdir()))
    save_in(new, tmp_path / "over", after)  # a third time, over names that had to be different
    assert len(list((tmp_path / "over").iterdir())) == len(names)


class Killed(BaseException):
    """Ends a save at a chosen call, as kill -9 would: nothing is cleaned up after it."""


@pytest.mark.parametrize("before", LAYOUTS)
@pytest.mark.parametrize("after", LAYOUTS)
def test_a_save_that_is_killed_leaves_the_old_model_or_the_new(before, after, tmp_path, monkeypatch):
    """Guards a moment without a model, or with shards of both, between any two changes of the folder."""
    seen = set()
    for survived in range(60):
        folder = tmp_path / str(survived)
        old, new, expected = old_and_new(folder, before)
        calls = 0

        def kill(original, survived=survived):
            def call(*arguments, **keywords):
                nonlocal calls
                calls += 1
                if calls > survived:
                    raise Killed
                return original(*arguments, **keywords)

            return call

        with monkeypatch.context() as patch:
            for name in ("write", "rename", "unlink"):
                patch.setattr(disk, name, kill(getattr(disk, name)))
            try:
                save_in(new, folder, after)
            except Killed:
                pass
            else:
                break
        loaded = load_model(folder)(IDS)
        is_new = torch.equal(loaded, expected)
        assert is_new or torch.equal(loaded, old), f"killed after {survived} calls"
        seen.add(is_new)
        save_in(new, folder, after)  # and the next save is not in its way
        assert torch.equal(load_model(folder)(IDS), expected)
        assert not list(folder.glob(".minscl-*"))
    assert survived > 2 and False in seen


def test_a_save_that_fails_leaves_the_folder_as_it_was(tmp_path, monkeypatch):
    """Guards temporary files of gigabytes after a full disk; a second try that finds the folder not empty."""
    for layout in LAYOUTS:
        with monkeypatch.context() as patch:
            patch.setattr(disk, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "No space left")))
            with pytest.raises(InputError, match="cannot be written .*No space left"):
                save_in(decoder("llama3"), tmp_path, layout)
        assert list(tmp_path.iterdir()) == []


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
    "stored, requested",
    [
        pytest.param("bfloat16", "bfloat16", marks=pytest.mark.long),
        ("bfloat16", "float32"),
        pytest.param("float32", "bfloat16", marks=pytest.mark.long),
    ],
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
