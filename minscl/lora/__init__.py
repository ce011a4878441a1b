"""LoRA: the layer (layer.py), putting it into a model (inject.py), PEFT's adapter files (peft_io.py,
adapter_config.py)."""

from minscl.lora.inject import TARGETS, add_lora, lora_layers, lora_parameters, merge_lora
from minscl.lora.layer import LoRALinear
from minscl.lora.peft_io import adapter_update, load_adapter, save_adapter

__all__ = [
    "TARGETS",
    "LoRALinear",
    "adapter_update",
    "add_lora",
    "load_adapter",
    "lora_layers",
    "lora_parameters",
    "merge_lora",
    "save_adapter",
]
