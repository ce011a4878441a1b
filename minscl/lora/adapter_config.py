"""`adapter_config.json`: the settings of a LoRA adapter as PEFT writes them, both ways.

deviates: PEFT has some thirty settings that change the arithmetic. Those not implemented here raise InputError, and so
does any unknown setting with a value: an error is better than silently wrong outputs.

Read next: inject.py, which finds the layers.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minscl.errors import InputError
from minscl.settings import read_settings, show_value

CONFIG_FILE = "adapter_config.json"

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
    "target_modules": None,  # checked in read_adapter_config
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

    def to_dict(self, base_model_name: str = "") -> dict[str, Any]:
        """The adapter_config.json that PEFT reads as these settings."""
        return {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base_model_name or None,
            "r": self.rank,
            "lora_alpha": self.alpha,
            "lora_dropout": self.dropout,
            "target_modules": self.targets if isinstance(self.targets, str) else list(self.targets),
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


def read_adapter_config(folder) -> AdapterConfig:
    """The settings of an adapter folder. Raises InputError naming the file and the first setting not implemented, or of
    another type.
    """
    path = Path(folder) / CONFIG_FILE
    settings = read_settings(path, "give a folder that holds a PEFT adapter, saved whole")
    if "peft_type" not in settings:
        raise InputError(f"{path}: no peft_type, so this is not a PEFT adapter; give a folder that holds one")
    for field, value in settings.values.items():
        accepted = ACCEPTED.get(field, ())
        harmless = accepted is None or value in accepted if field in ACCEPTED else not value
        if not harmless:
            raise InputError(
                f"{path}: {show_value(field)[1:-1]} = {show_value(value)} is not supported (plain LoRA only: one rank, "
                "no bias, base weights unchanged); merge this adapter into its base with PEFT and load the merged model"
            )
    dropout = settings.number("lora_dropout", 0.0, minimum=0)
    if dropout >= 1:
        raise settings.error("lora_dropout", "a probability below 1")
    targets = settings.values.get("target_modules")
    names = [targets] if isinstance(targets, str) else targets
    if not (names and isinstance(names, list) and all(name and isinstance(name, str) for name in names)):
        raise settings.error("target_modules", "a list of layer names, or a string")
    return AdapterConfig(
        settings.integer("r", minimum=1),
        settings.number("lora_alpha", minimum=-1e9, maximum=1e9),
        dropout,
        targets if isinstance(targets, str) else tuple(names),
    )
