"""The model: Llama and Qwen decoders, their weights and their tokenizers. Read decoder.py first."""

from minscl.model.config import ModelConfig, RopeConfig
from minscl.model.decoder import Decoder
from minscl.model.folder_config import read_config
from minscl.model.load import load_model, save_model
from minscl.model.shared_prefix import SharedPrefixMask
from minscl.model.tokenizer import Tokenizer, load_tokenizer

__all__ = [
    "Decoder",
    "ModelConfig",
    "RopeConfig",
    "SharedPrefixMask",
    "Tokenizer",
    "load_model",
    "load_tokenizer",
    "read_config",
    "save_model",
]
