"""The ModelConfig of a model folder: config.json, compared with the weights beside it.

Read next: config.py, the fields; ../weights.py, the files.
"""

import dataclasses
from pathlib import Path

import torch

from minscl.errors import InputError
from minscl.model.config import ModelConfig
from minscl.settings import read_settings
from minscl.weights import count_elements, read_tensors, weight_files

EMBEDDINGS, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def read_config(folder) -> ModelConfig:
    """The ModelConfig of a model folder: config.json's, but untied where the weights have a head of their own.

    Raises InputError naming the file: missing, not JSON, not supported, sizes that the weights cannot have.
    """
    folder = Path(folder)
    settings = read_settings(folder / "config.json", "name a complete Hugging Face model folder")
    config = ModelConfig.from_dict(settings.values, settings.source)
    held = sum(map(count_elements, weight_files(folder)))
    if config.matrix_elements > 2 * held:  # said before a model of that size is built; load_model compares all shapes
        raise InputError(
            f"{folder / 'config.json'}: num_hidden_layers, hidden_size and the other sizes make a model of "
            f"{config.matrix_elements:,} weights, and the files hold {held:,}; the folder mixes two models"
        )
    if config.tie_word_embeddings and not config.weights and has_own_head(folder):
        return dataclasses.replace(config, tie_word_embeddings=False)
    return config


def has_own_head(folder: Path) -> bool:
    """Whether the weights hold both embeddings and output head, and these differ. As in transformers, such a model is
    not tied, whatever its config.json says.
    """
    tensors: dict[str, torch.Tensor] = {}
    for path, promised in weight_files(folder).items():
        if promised is None or promised & {EMBEDDINGS, HEAD}:
            tensors |= dict(read_tensors(path, promised, only=(EMBEDDINGS, HEAD)))
    if len(tensors) < 2:
        return False
    dtype = torch.promote_types(tensors[HEAD].dtype, tensors[EMBEDDINGS].dtype)
    return not torch.equal(tensors[HEAD].to(dtype), tensors[EMBEDDINGS].to(dtype))
