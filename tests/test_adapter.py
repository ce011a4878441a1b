"""An adapter's files on a toy network: the round trip, and every file that is refused. test_peft.py swaps with PEFT."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from minscl.errors import InputError
from minscl.lora import add_lora, load_adapter, lora_parameters, save_adapter
from minscl.settings import show_value
from tests.toy_lora import PROJECTIONS, inputs, toy, trained


def test_adapter_round_trip_and_its_names(tmp_path):
    """Guards: keys without PEFT's prefix, lost settings, a loaded adapter in training mode or with dropout active."""
    model, x = toy(), inputs()
    add_lora(model, rank=2, alpha=3, dropout=0.25, targets=PROJECTIONS)
    save_adapter(trained(model), tmp_path / "new" / "adapter", base_model_name="base")
    folder = tmp_path / "new" / "adapter"
    assert sorted(path.name for path in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert "base_model.model.layers.1.down_proj.lora_B.weight" in load_file(folder / "adapter_model.safetensors")
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["target_modules"] == sorted(PROJECTIONS) and config["base_model_name_or_path"] == "base"
    again = toy()
    load_adapter(again, folder)
    assert torch.equal(again(x), model(x))
    layer = again.layers[0].q_proj
    assert (layer.rank, layer.alpha, layer.dropout, layer.training) == (2, 3, 0.25, False)
    layer.dropout = 0.5
    load_adapter(again, folder)  # a second time, over the same LoRA
    assert torch.equal(again(x), model(x)) and layer.dropout == 0.25


def test_layers_targeted_by_full_name_keep_it(tmp_path):
    """Guards: target_modules that would wrap more layers on loading than were saved."""
    model = toy()
    add_lora(model, rank=2, targets=["layers.1.q_proj"])
    save_adapter(model, tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"] == ["layers.1.q_proj"]
    load_adapter(again := toy(), tmp_path)
    assert [name for name, _ in lora_parameters(again)] == ["layers.1.q_proj.lora_A", "layers.1.q_proj.lora_B"]


@pytest.fixture
def saved(tmp_path):
    model = toy()
    add_lora(model, rank=2, targets=PROJECTIONS)
    save_adapter(model, tmp_path)
    return tmp_path


REFUSED = {
    "use_dora": True,
    "use_rslora": True,
    "rank_pattern": {"q_proj": 4},
    "alpha_pattern": {"q_proj": 4},
    "modules_to_save": ["lm_head"],
    "bias": "all",
    "lora_bias": True,
    "layers_to_transform": [0],
    "layers_pattern": "layers",
    "fan_in_fan_out": True,
    "target_parameters": ["w"],
    "trainable_token_indices": [1],
    "alora_invocation_tokens": [5],
    "eva_config": {"rho": 2.0},
    "corda_config": {"a": 1},
    "loftq_config": {"loftq_bits": 4},
    "init_lora_weights": "pissa",
    "layer_replication": [[0, 1]],
    "exclude_modules": ["k_proj"],
    "use_qalora": True,
    "megatron_config": {"x": 1},
    "use_bdlora": {"nblocks": 2},
    "peft_type": "IA3",
    "task_type": "SEQ_CLS",
    "setting_of_a_future_release": 1,
    "r": 0,
    "lora_alpha": "16",
    "lora_dropout": 1.5,
    "target_modules": None,
}


@pytest.mark.parametrize("field", REFUSED)
def test_settings_that_are_not_implemented_are_refused_by_name(saved, field):
    """Guards: an adapter of another kind, or of a future PEFT, that loads and computes something else."""
    path = saved / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: REFUSED[field]}))
    with pytest.raises(InputError) as error:
        load_adapter(model := toy(), saved)
    message = str(error.value)
    assert re.match(f"{path}: {field} (=|is) {re.escape(show_value(REFUSED[field]))}", message), message
    assert "\n" not in message
    assert isinstance(model.layers[0].q_proj, nn.Linear)


def test_harmless_settings_are_not_refused(saved):
    """Guards: refusing settings without effect that every PEFT release writes."""
    path = saved / "adapter_config.json"
    harmless = {
        "megatron_core": "megatron.core",
        "qalora_group_size": 16,
        "peft_version": "9.9",
        "revision": "main",
        "auto_mapping": {"x": "y"},
        "task_type": None,
        "init_lora_weights": "gaussian",
        "setting_of_a_future_release": None,
        "target_modules": [*PROJECTIONS, "projection_of_another_architecture"],
    }
    path.write_text(json.dumps(json.loads(path.read_text()) | harmless))
    load_adapter(toy(), saved)


def damage(folder, change):
    tensors = load_file(folder / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, folder / "adapter_model.safetensors")


KEY = "base_model.model.layers.0.q_proj.lora_A.weight"


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t.pop(KEY), f"tensor {KEY} is missing"),
        (
            lambda t: t.update({"base_model.model.lm_head.weight": torch.ones(1)}),
            "unexpected tensor base_model.model.lm_head.weight",
        ),
        (lambda t: t.update({KEY: torch.ones(2, 7)}), f"tensor {KEY} is (2, 7), this model and r = 2 need (2, 6)"),
        (lambda t: t.update({KEY: torch.ones(2, 6, dtype=torch.int8)}), f"tensor {KEY} is of type I8"),
    ],
)
def test_an_adapter_for_another_model_names_file_and_tensor(saved, change, message):
    """Guards: part of an adapter loaded silently."""
    damage(saved, change)
    with pytest.raises(InputError) as error:
        load_adapter(model := toy(), saved)
    assert message in str(error.value) and "adapter_model.safetensors" in str(error.value)
    assert isinstance(model.layers[0].q_proj, nn.Linear)


def test_files_that_are_not_an_adapter(saved):
    """Guards: a traceback, or a pickle opened, for a folder that holds something else."""
    config, tensors = saved / "adapter_config.json", saved / "adapter_model.safetensors"
    other = toy()
    add_lora(other, rank=4, targets=PROJECTIONS)
    with pytest.raises(InputError, match="already has LoRA of rank 4"):
        load_adapter(other, saved)
    with pytest.raises(InputError, match="match no layer of this model"):
        load_adapter(nn.ModuleDict({"x": nn.Linear(2, 2)}), saved)
    tensors.write_bytes(tensors.read_bytes()[:-8])
    with pytest.raises(InputError, match="truncated or corrupt safetensors"):
        load_adapter(toy(), saved)
    tensors.rename(saved / "adapter_model.bin")
    with pytest.raises(InputError, match="adapter_model.bin: a pickle"):
        load_adapter(toy(), saved)
    (saved / "adapter_model.bin").unlink()
    with pytest.raises(InputError, match="adapter_model.safetensors: no such file"):
        load_adapter(toy(), saved)
    for content, message in (
        ("{", "not JSON"),
        ("[]", "adapter_config.json: not a JSON object"),
        ("{}", "no peft_type"),
    ):
        config.write_text(content)
        with pytest.raises(InputError, match=message):
            load_adapter(toy(), saved)
    config.unlink()
    with pytest.raises(InputError, match="adapter_config.json: no such file"):
        load_adapter(toy(), saved)
    with pytest.raises(InputError, match="nothing to save"):
        save_adapter(toy(), saved)


WRONG = (
    *(None, True, False, "", "x", [], [1], ["x"], [["x"]], {}, {"a": 1}, -1, 0, 1, 1.5, 1e30, 10**30, 10**400),
    *(float("inf"), float("-inf"), float("nan"), "x" * 10**5, ["x"] * 10**5, "\ud800"),
)
KEYS = ("r", "lora_alpha", "lora_dropout", "target_modules", "peft_type", "task_type", "bias", "init_lora_weights")


@pytest.mark.parametrize("field", [*KEYS, "inference_mode", "revision", "a_new_setting", "x" * 10**5, "\x1b[2J"])
def test_a_setting_of_another_type_is_refused_or_harmless(field, saved):
    """Guards tracebacks, and lines of 100,000 letters, for any value of any setting."""
    path = saved / "adapter_config.json"
    original = json.loads(path.read_text())
    for value in WRONG:
        path.write_text(json.dumps(original | {field: value}))
        model = toy()
        try:
            load_adapter(model, saved)
            assert lora_parameters(model)
        except InputError as error:
            assert str(error).startswith(str(saved)) and len(str(error)) < 500 and "\n" not in str(error)
            assert not lora_parameters(model)


@pytest.mark.parametrize("text", ["[" * 10**5, '{"a":' * 10**5, '{"r": 1' + "0" * 5000 + "}", "{} {}", "NaN", "\x00"])
def test_settings_that_are_no_json_are_refused(text, saved):
    """Guards RecursionError and the limit on digits of a number."""
    (saved / "adapter_config.json").write_text(text)
    with pytest.raises(InputError, match="adapter_config.json: ") as error:
        load_adapter(toy(), saved)
    assert len(str(error.value)) < 500


def test_a_utf8_signature_is_no_part_of_the_settings(saved):
    """Guards "not JSON" for a file saved by an editor on Windows."""
    path = saved / "adapter_config.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    load_adapter(toy(), saved)


@pytest.mark.parametrize("pattern", [r"(\w+\.?)+!", r".*\.(q|k|down)_proj", "(", r"((a+)+)+$"])
def test_a_regular_expression_is_not_run(pattern, saved):
    """Guards a downloaded expression that takes years to match: the tensors name the layers, whatever it says."""
    path = saved / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"target_modules": pattern}))
    expected = toy()
    add_lora(expected, rank=2, targets=PROJECTIONS)
    load_adapter(model := toy(), saved)
    assert [name for name, _ in lora_parameters(model)] == [name for name, _ in lora_parameters(expected)]
    damage(saved, lambda tensors: tensors.pop(KEY))  # a layer without its A is still noticed
    with pytest.raises(InputError, match=r"unexpected tensor base_model.model.layers.0.q_proj.lora_B.weight"):
        load_adapter(toy(), saved)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.uint8, torch.int64, torch.bool])
def test_tensors_of_types_that_need_a_scale_are_refused(dtype, saved):
    """Guards whole numbers and 8-bit floats used as if they were the weights themselves."""
    damage(saved, lambda tensors: tensors.update({KEY: tensors[KEY].to(dtype)}))
    with pytest.raises(InputError, match=f"tensor {KEY} is of type .*; weights are of F64, F32, BF16, F16"):
        load_adapter(toy(), saved)
