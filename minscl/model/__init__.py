"""The decoder and its tokenizer: reads and writes Hugging Face model folders. Read next: decoder.py."""

from minscl.model.config import ModelConfig, RopeConfig
from minscl.model.decoder import Decoder
from minscl.model.load import load_model, save_model

__all__ = ["Decoder", "ModelConfig", "RopeConfig", "load_model", "save_model"]
