"""The model: Llama and Qwen decoders, their weights and their tokenizers. Read decoder.py first."""

from minscl.model.config import ModelConfig, RopeConfig
from minscl.model.decoder import Decoder
from minscl.model.forest import Forest
from minscl.model.load import DTYPES, load_model, read_config, save_model
from minscl.model.tokenizer import Tokenizer, load_tokenizer

__all__ = ["DTYPES", "Decoder", "Forest", "ModelConfig", "RopeConfig", "Tokenizer", "load_model", "load_tokenizer", "read_config", "save_model"]
