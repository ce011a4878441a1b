"""Adapters as PEFT writes them: a folder with `adapter_config.json` and `adapter_model.safetensors`, both ways.

A tensor's key is PEFT's `base_model.model.` + the module's name + `.lora_A.weight`; Llama's own names begin with
`model.`, so keys read `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`. Nothing is unpickled:
`adapter_model.bin` is refused.

Read next: adapter_config.py, the settings; inject.py.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from minscl.errors import InputError
from minscl.files import path_kind, replace_file
from minscl.lora.adapter_config import CONFIG_FILE, AdapterConfig, read_adapter_config
from minscl.lora.inject import ALL_LINEAR, check_untied, linear_modules, lora_layers, match_targets, wrap
from minscl.lora.layer import is_linear
from minscl.settings import show_value
from minscl.weights import is_finite, read_tensors, write_tensors

TENSOR_FILE, PICKLE_FILE = "adapter_model.safetensors", "adapter_model.bin"
PREFIX, SUFFIX = "base_model.model.", ".lora_A.weight"


def save_adapter(model: nn.Module, folder, base_model_name: str = "") -> None:
    """Write the model's LoRA as a PEFT adapter folder; tensors float32, or float64 on a float64 base.

    Each file is replaced atomically, the settings last, so a folder with `adapter_config.json` is complete. Raises
    InputError where the model has no LoRA, or its layers differ in rank, alpha or dropout.
    """
    layers = lora_layers(model)
    if not layers:
        raise InputError(f"{folder}: nothing to save, the model has no LoRA layers; add_lora(model) first")
    settings = {(layer.rank, layer.alpha, layer.dropout) for _, layer in layers}
    if len(settings) > 1:
        raise InputError(
            f"{folder}: layers differ in (rank, alpha, dropout): {sorted(settings)}; one adapter holds one setting"
        )
    rank, alpha, dropout = settings.pop()
    config = AdapterConfig(rank, alpha, dropout, tuple(_shortest_targets(model, [name for name, _ in layers])))
    with replace_file(Path(folder) / TENSOR_FILE, "wb") as handle:
        write_tensors(handle, _tensors(layers), {"format": "pt"})
    with replace_file(Path(folder) / CONFIG_FILE) as handle:
        handle.write(json.dumps(config.to_dict(base_model_name), indent=2) + "\n")


def load_adapter(model: nn.Module, folder) -> None:
    """Load a PEFT LoRA adapter into `model`, in place: the base frozen, the update not merged, training mode unchanged.

    A model that already has LoRA must have the adapter's rank, alpha and layers; A, B and dropout are replaced.
    Tensors of any float dtype are cast to the layer's (float32). Everything is checked before the model is changed.
    Raises InputError naming the file and the setting or tensor: a setting that is not implemented, an adapter for
    another model (layers, shapes, missing or unexpected tensors), a damaged file, NaN or infinity, a pickle.
    """
    config, tensors, linears = _read_adapter(model, Path(folder))
    if not lora_layers(model):
        wrap(model, linears, rank=config.rank, alpha=config.alpha, dropout=config.dropout, seed=0)
    with torch.no_grad():
        for key, parameter in _tensors(lora_layers(model)).items():
            parameter.copy_(tensors[key])  # cast to the parameter's dtype and device
    for _, layer in lora_layers(model):
        layer.dropout = config.dropout


def adapter_update(model: nn.Module, folder) -> Callable[[str, torch.Tensor], torch.Tensor]:
    """What load_adapter and merge_lora make of a single weight, for weights that are merged as they are read.

    `model`: the base without LoRA, which may be on the meta device. Returns update(layer, weight (out, in)) → the
    float32 sum, or `weight` itself where the adapter leaves the layer alone. Raises InputError as load_adapter does.
    """
    config, tensors, linears = _read_adapter(model, Path(folder))
    check_untied(model, linears)

    def update(layer: str, weight: torch.Tensor) -> torch.Tensor:
        if layer not in linears:
            return weight
        lora_A, lora_B = (tensors[_key(layer, half)].to(weight.device, torch.float32) for half in "AB")
        return weight + lora_B @ lora_A * (config.alpha / config.rank)

    return update


def _read_adapter(
    model: nn.Module, folder: Path
) -> tuple[AdapterConfig, dict[str, torch.Tensor], dict[str, nn.Module]]:
    """(settings, tensors by key, the layers they belong to by name), all checked. Raises InputError."""
    config = read_adapter_config(folder)
    tensors = _read_tensors(folder)
    names = _layer_names(model, config, tensors, folder)
    linears = {name: layer.linear for name, layer in lora_layers(model)} or linear_modules(model, names)
    _check_tensors(folder / TENSOR_FILE, tensors, linears, config.rank)
    return config, tensors, linears


def _layer_names(model: nn.Module, config: AdapterConfig, tensors: dict, folder: Path) -> list[str]:
    """The layers that the adapter updates. Raises InputError where there are none, or the model's LoRA differs.

    Where the settings have a regular expression, these are the layers that the tensors name: the result is the same,
    and an expression out of a downloaded file may take forever to match.
    """
    layers = lora_layers(model)
    if not layers:
        targets = config.targets
        if isinstance(targets, str) and targets != ALL_LINEAR:
            targets = tuple(key.removeprefix(PREFIX).removesuffix(SUFFIX) for key in tensors if key.endswith(SUFFIX))
        names, _ = match_targets(model, targets)  # as in PEFT, some targets may be another architecture's
        if not names:
            shown = config.targets if isinstance(config.targets, str) else ", ".join(config.targets)
            raise InputError(
                f"{folder / CONFIG_FILE}: target_modules {show_value(shown)} match no layer of this model; "
                "the adapter was made for another one"
            )
        return names
    for _, layer in layers:
        if (layer.rank, layer.alpha) != (config.rank, config.alpha):
            raise InputError(
                f"{folder / CONFIG_FILE}: r = {config.rank}, lora_alpha = {config.alpha}, but the model already has "
                f"LoRA of rank {layer.rank}, alpha {layer.alpha}; load the adapter into the base model"
            )
    return [name for name, _ in layers]


def _read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """The adapter's tensors by key. Raises InputError for a missing or damaged file, for a pickle, and for a type that
    is not a float.
    """
    path = folder / TENSOR_FILE
    if path_kind(path) == "missing":
        if path_kind(folder / PICKLE_FILE) != "missing":
            raise InputError(
                f"{folder / PICKLE_FILE}: a pickle can run code and is never opened; load it once with PEFT where you "
                f"trust it and save_pretrained(folder, safe_serialization=True) to get {TENSOR_FILE}"
            )
        raise InputError(f"{path}: no such file; give a folder that holds a PEFT adapter")
    return dict(read_tensors(path, remedy="copy it again"))


def _check_tensors(path: Path, tensors: dict, linears: dict[str, Any], rank: int) -> None:
    """Raise InputError unless `tensors` are exactly those that the layers need, in their shapes and finite."""
    shapes = {}
    for name, linear in linears.items():
        shapes[_key(name, "A")] = (rank, linear.in_features)
        shapes[_key(name, "B")] = (linear.out_features, rank)
    for key, shape in shapes.items():
        if key not in tensors:
            raise InputError(f"{path}: tensor {key} is missing; the adapter was made for another model or other layers")
        if tuple(tensors[key].shape) != shape:
            raise InputError(
                f"{path}: tensor {key} is {tuple(tensors[key].shape)}, this model and r = {rank} need {shape}; "
                "the adapter was made for another model"
            )
        if not is_finite(tensors[key]):
            raise InputError(f"{path}: tensor {key} holds NaN or infinity; copy the file again, or train it again")
    for key in tensors:
        if key not in shapes:
            raise InputError(
                f"{path}: unexpected tensor {key}; the adapter was made for another model, "
                "or holds more than plain LoRA"
            )


def _shortest_targets(model: nn.Module, names: list[str]) -> list[str]:
    """Target names that match exactly the layers `names`: their last components where that is enough, else in full."""
    short = {name.rpartition(".")[2] for name in names}
    wrapped = {layer.linear for _, layer in lora_layers(model)}
    others = {
        name.rpartition(".")[2] for name, module in model.named_modules() if is_linear(module) and module not in wrapped
    }
    return names if others & short else sorted(short)


def _tensors(layers) -> dict[str, nn.Parameter]:
    """Every A (R, in) and B (out, R) under its PEFT key."""
    return {_key(name, half): getattr(layer, f"lora_{half}") for name, layer in layers for half in "AB"}


def _key(name: str, half: str) -> str:
    return f"{PREFIX}{name}.lora_{half}.weight"
