"""Adapters as PEFT writes them: a folder with `adapter_config.json` and `adapter_model.safetensors`, both ways.

A tensor's key is PEFT's `base_model.model.` + the module's name + `.lora_A.weight`; Llama's own names begin with
`model.`, so keys read `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`. Nothing is unpickled:
`adapter_model.bin` is refused.

deviates: PEFT has some thirty settings that change the arithmetic. Those not implemented here raise InputError, and
so is any unknown setting with a value: an error is better than silently wrong outputs.

Read next: inject.py.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from minscl.errors import InputError, read_json_object
from minscl.files import replace_file
from minscl.lora.inject import linear_modules, lora_layers, match_targets, wrap

CONFIG_FILE, TENSOR_FILE, PICKLE_FILE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
PREFIX = "base_model.model."

# The values accepted for a setting; None: any, since it does not change a trained adapter's arithmetic. A setting
# that is not listed may only be null, false, 0, "", [] or {}.
ACCEPTED: dict[str, tuple | None] = {
    "peft_type": ("LORA",),
    "task_type": ("CAUSAL_LM", None),
    "bias": ("none",),
    # Others (PiSSA, OLoRA, CorDA, LoftQ) change the base weights.
    "init_lora_weights": (True, False, "gaussian", "orthogonal"),
    "r": None,
    "lora_alpha": None,
    "lora_dropout": None,
    "target_modules": None,  # checked in _plain_settings
    "auto_mapping": None,
    "base_model_name_or_path": None,
    "inference_mode": None,
    "peft_version": None,
    "revision": None,
    "megatron_core": None,  # the name of a package, used only with megatron_config
    "qalora_group_size": None,  # used only with use_qalora
    "runtime_config": None,  # where PEFT keeps the weights at run time
}


@dataclass(frozen=True)
class AdapterConfig:
    """The settings that define an adapter: update = alpha/rank · B A on the layers that `targets` matches."""

    rank: int
    alpha: float
    dropout: float
    targets: tuple[str, ...] | str


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
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model_name or None,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": dropout,
        "target_modules": _shortest_targets(model, [name for name, _ in layers]),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "use_dora": False,
        "use_rslora": False,
        "modules_to_save": None,
        "layers_to_transform": None,
        "layers_pattern": None,
        "rank_pattern": {},
        "alpha_pattern": {},
    }
    tensors = {key: parameter.detach().cpu().contiguous() for key, parameter in _tensors(layers).items()}
    with replace_file(Path(folder) / TENSOR_FILE, "wb") as handle:
        handle.write(save(tensors, metadata={"format": "pt"}))
    with replace_file(Path(folder) / CONFIG_FILE) as handle:
        handle.write(json.dumps(config, indent=2) + "\n")


def load_adapter(model: nn.Module, folder) -> None:
    """Load a PEFT LoRA adapter into `model`, in place: the base frozen, the update not merged, training mode unchanged.

    A model that already has LoRA must have the adapter's rank, alpha and layers; A, B and dropout are replaced.
    Tensors of any float dtype are cast to the layer's (float32). Everything is checked before the model is changed.
    Raises InputError naming the file and the setting or tensor: a setting that is not implemented, an adapter for
    another model (layers, shapes, missing or unexpected tensors), a truncated file, a pickle.
    """
    folder = Path(folder)
    config = read_adapter_config(folder)
    tensors = _read_tensors(folder)
    names = _layer_names(model, config, folder)
    layers = dict(lora_layers(model))
    _check_tensors(
        folder / TENSOR_FILE,
        tensors,
        {name: layer.linear for name, layer in layers.items()} or linear_modules(model, names),
        config.rank,
    )
    if not layers:
        wrap(model, names, rank=config.rank, alpha=config.alpha, dropout=config.dropout, seed=0)
    with torch.no_grad():
        for key, parameter in _tensors(lora_layers(model)).items():
            parameter.copy_(tensors[key])  # cast to the parameter's dtype and device
    for _, layer in lora_layers(model):
        layer.dropout = config.dropout


def read_adapter_config(folder) -> AdapterConfig:
    """The settings of an adapter folder. Raises InputError naming the file and the first setting not implemented."""
    path = Path(folder) / CONFIG_FILE
    settings = read_json_object(path, "give a folder that holds a PEFT adapter, saved whole")
    if "peft_type" not in settings:
        raise InputError(f"{path}: no peft_type, so this is not a PEFT adapter; give a folder that holds one")
    for field, value in settings.items():
        accepted = ACCEPTED.get(field, ())
        harmless = accepted is None or value in accepted if field in ACCEPTED else not value
        if not harmless:
            raise InputError(
                f"{path}: {field} = {json.dumps(value)} is not supported (plain LoRA only: one rank, no bias, base "
                "weights unchanged); merge this adapter into its base with PEFT and load the merged model"
            )
    return _plain_settings(path, settings)


def _plain_settings(path: Path, settings: dict) -> AdapterConfig:
    """Check and convert the four settings that are used."""

    def is_number(value) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)

    def is_targets(value) -> bool:
        names = isinstance(value, list) and all(isinstance(name, str) for name in value)
        return bool(value) and (isinstance(value, str) or names)

    checks = {
        "r": ("a whole number of at least 1", lambda x: is_number(x) and isinstance(x, int) and x >= 1),
        "lora_alpha": ("a number", is_number),
        "lora_dropout": ("a probability of at least 0 and below 1", lambda x: is_number(x) and 0 <= x < 1),
        "target_modules": ("a list of layer names, or a string", is_targets),
    }
    settings = {"lora_dropout": 0.0, **settings}
    for field, (expected, is_valid) in checks.items():
        value = settings.get(field)
        if not is_valid(value):
            raise InputError(f"{path}: {field} = {json.dumps(value)}: expected {expected}; save the adapter again")
    targets = settings["target_modules"]
    return AdapterConfig(
        settings["r"],
        settings["lora_alpha"],
        settings["lora_dropout"],
        targets if isinstance(targets, str) else tuple(targets),
    )


def _layer_names(model: nn.Module, config: AdapterConfig, folder: Path) -> list[str]:
    """The layers that the adapter updates. Raises InputError where there are none, or the model's LoRA differs."""
    layers = lora_layers(model)
    if not layers:
        names, _ = match_targets(model, config.targets)  # as in PEFT, some targets may be another architecture's
        if not names:
            raise InputError(
                f"{folder / CONFIG_FILE}: target_modules {json.dumps(config.targets)} match no layer of this model; "
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
    """The adapter's tensors by key. Raises InputError for a missing or truncated file, and for a pickle."""
    path = folder / TENSOR_FILE
    if not path.exists():
        if (folder / PICKLE_FILE).exists():
            raise InputError(
                f"{folder / PICKLE_FILE}: a pickle can run code and is never opened; load it once with PEFT where you "
                f"trust it and save_pretrained(folder, safe_serialization=True) to get {TENSOR_FILE}"
            )
        raise InputError(f"{path}: no such file; give a folder that holds a PEFT adapter")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a whole safetensors file ({error}); copy it again") from error


def _check_tensors(path: Path, tensors: dict, linears: dict[str, nn.Linear], rank: int) -> None:
    """Raise InputError unless `tensors` are exactly those that the layers need, in their shapes."""
    shapes = {}
    for name, linear in linears.items():
        shapes[_key(name, "A")] = (rank, linear.in_features)
        shapes[_key(name, "B")] = (linear.out_features, rank)
    for key, shape in shapes.items():
        if key not in tensors:
            raise InputError(f"{path}: tensor {key} is missing; the adapter was made for another model or other layers")
        if tuple(tensors[key].shape) != shape or not tensors[key].is_floating_point():
            raise InputError(
                f"{path}: tensor {key} is {tensors[key].dtype} {tuple(tensors[key].shape)}, this model and r = {rank} "
                f"need floats of shape {shape}; the adapter was made for another model"
            )
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
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module not in wrapped
    }
    return names if others & short else sorted(short)


def _tensors(layers) -> dict[str, nn.Parameter]:
    """Every A (R, in) and B (out, R) under its PEFT key."""
    return {_key(name, half): getattr(layer, f"lora_{half}") for name, layer in layers for half in "AB"}


def _key(name: str, half: str) -> str:
    return f"{PREFIX}{name}.lora_{half}.weight"
