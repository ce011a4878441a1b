"""LoRA into a model and out again: wrap linear layers in place, list the trainable parameters, merge.

Works on any nn.Module with linear children (layer.is_linear); names are those of `model.named_modules()`, such as
`model.layers.0.self_attn.q_proj`.

Read next: peft_io.py for the files.
"""

import re
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import nn

from minscl.errors import InputError
from minscl.hardware import memory_errors
from minscl.lora.layer import LoRALinear, is_linear

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
ALL_LINEAR = "all-linear"  # PEFT's name for every linear layer but the output head


def add_lora(
    model: nn.Module, rank: int = 8, alpha: float = 16, dropout: float = 0.0, targets=TARGETS, seed: int = 0
) -> list[str]:
    """Freeze `model` and wrap the linear layers that `targets` matches, in place; returns their names in model order.

    targets: as in PEFT, names, each matching a whole module name or its end after a dot; or one string, a regular
    expression for the whole module name, or "all-linear". seed: of the initial A. Only the adapter's parameters keep
    requires_grad.

    Raises InputError where a target matches nothing or something that is not a linear layer, where the model already
    has LoRA, for a weight shared with another module (tied embeddings: merging would change both), and for a rank or
    dropout out of range.
    """
    if lora_layers(model):
        raise InputError(
            "add_lora: the model already has LoRA layers; merge_lora(model) first, or load the model again"
        )
    matched, unmatched = match_targets(model, targets)
    if unmatched:
        kinds = sorted({name.rpartition(".")[2] for name, module in model.named_modules() if is_linear(module)})
        raise InputError(
            f"add_lora: target {unmatched[0]!r} matches no linear layer; this model has: {', '.join(kinds)}"
        )
    wrap(model, matched, rank=rank, alpha=alpha, dropout=dropout, seed=seed)
    return matched


def match_targets(model: nn.Module, targets) -> tuple[list[str], list[str]]:
    """(names of the linear layers that `targets` matches, in model order; targets that match nothing).

    Raises InputError where a target matches a module that is not a linear layer.
    """
    hits_of = _pattern(targets) if isinstance(targets, str) else _name_ends(set(targets))
    targets = (targets,) if isinstance(targets, str) else tuple(targets)
    matched, used = [], set()
    for name, module in model.named_modules():
        hits = hits_of(name)
        if hits and not is_linear(module):
            if targets == (ALL_LINEAR,):  # means linear layers only, so other modules are no mistake
                continue
            raise InputError(
                f"LoRA target {min(hits)!r} matches {name}, a {type(module).__name__}; "
                "only linear layers can be wrapped"
            )
        if hits:
            matched.append(name)
            used |= hits
    return matched, [target for target in targets if target not in used] if targets else ["(none given)"]


Hits: TypeAlias = Callable[[str], set[str]]  # module name → the targets that match it


def _name_ends(targets: set[str]) -> Hits:
    """A target matches a whole module name, or its end after a dot."""

    def hits(name: str) -> set[str]:
        parts = name.split(".")
        return targets & {".".join(parts[start:]) for start in range(len(parts))}

    return hits


def _pattern(text: str) -> Hits:
    """What a `targets` string matches, as PEFT reads it."""
    if text == ALL_LINEAR:
        return lambda name: {text} if name.rpartition(".")[2] != "lm_head" else set()
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise InputError(
            f"LoRA target {text!r} is not a regular expression ({error}); give a list of layer names"
        ) from error
    return lambda name: {text} if pattern.fullmatch(name) else set()


def wrap(model: nn.Module, names, *, rank: int, alpha: float, dropout: float, seed: int) -> None:
    """Freeze `model` and replace each linear layer of `names` by a LoRALinear, drawn from `seed` in model order.

    Raises InputError for a rank or dropout out of range and for a tied weight.
    """
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise InputError(f"LoRA rank {rank!r}: give a whole number of at least 1")
    if not 0 <= dropout < 1:
        raise InputError(f"LoRA dropout {dropout!r}: give a probability of at least 0 and below 1")
    linears = linear_modules(model, names)
    largest = max((max(linear.weight.shape) for linear in linears.values()), default=1)
    if rank > largest:
        raise InputError(f"LoRA rank {rank}: more than the layers' largest side, {largest}; give a smaller rank")
    check_untied(model, linears)
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    with memory_errors("a smaller rank"):
        for name, linear in linears.items():
            _replace(model, name, LoRALinear(linear, rank, alpha, dropout, generator))


def check_untied(model: nn.Module, linears: dict[str, Any]) -> None:
    """Raises InputError where the weight of one of `linears` is tied to another module's.

    An int8 head of tied embeddings is a copy of them (model/int8.py), which is not saved but made anew.
    """
    tied = getattr(getattr(model, "config", None), "tie_word_embeddings", False)
    owners = [id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False)]
    for name, linear in linears.items():
        if owners.count(id(linear.weight)) > 1 or (tied and name == "lm_head" and linear.weight.dtype == torch.int8):
            raise InputError(
                f"LoRA target {name}: its weight is tied to another module's, so an update could not be merged; "
                "leave it out"
            )


def merge_lora(model: nn.Module) -> list[str]:
    """Add every update to its base weight and restore the plain linear layer, in place; returns the layers' names.

    Outputs stay the same up to rounding in the base dtype (the sum is computed in float32). Raises InputError where the
    model has no LoRA.
    """
    layers = lora_layers(model)
    if not layers:
        raise InputError(
            "merge_lora: the model has no LoRA layers; load_adapter(model, folder) or add_lora(model) first"
        )
    for name, layer in layers:
        _replace(model, name, layer.merged())
    return [name for name, _ in layers]


def linear_modules(model: nn.Module, names) -> dict[str, Any]:
    """The plain linear modules (is_linear) of these names, in model order."""
    return {name: module for name, module in model.named_modules() if name in names and is_linear(module)}


def lora_layers(model: nn.Module) -> list[tuple[str, LoRALinear]]:
    """(name, layer) of every wrapped layer, in model order."""
    return [(name, module) for name, module in model.named_modules() if isinstance(module, LoRALinear)]


def lora_parameters(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """(name, parameter) of every A and B, in model order: `model.layers.0.self_attn.q_proj.lora_A`."""
    return [
        (f"{name}.{half}", getattr(layer, half)) for name, layer in lora_layers(model) for half in ("lora_A", "lora_B")
    ]


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
