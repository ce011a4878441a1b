"""A model folder and an adapter folder → a decoder with the adapter merged in, and its tokenizer.

Several commands load both this way. It is a top-level module because model/ and lora/ do not import each other.

Read next: model/load.py, lora/peft_io.py.
"""

import os
from pathlib import Path

import torch

from minscl.cli import require
from minscl.data.calibration import Calibration, decoding_name, read_calibrations
from minscl.errors import InputError
from minscl.files import path_kind
from minscl.hardware import choose_device
from minscl.lora import adapter_update, load_adapter, merge_lora
from minscl.lora.adapter_config import CONFIG_FILE
from minscl.lora.peft_io import TENSOR_FILE
from minscl.model import Decoder, Tokenizer, load_model, load_tokenizer, read_config
from minscl.model.config import INT8
from minscl.model.digest import folder_digest


def load_pretrained(
    model_folder: str, adapter: str = "", *, device: str = "auto", dtype: str = "auto", weights: str = ""
) -> tuple[Decoder, Tokenizer]:
    """(decoder in eval mode, tokenizer). `device` and `dtype` as for hardware.choose_device, `weights` for load_model.

    `adapter`: a PEFT folder; "" is the model folder's own `adapter/`, if it has one; "none" is the model alone. Raises
    InputError naming the file for anything missing or damaged, and where tokenizer and model do not belong together.
    """
    torch_device, torch_dtype = choose_device(device, dtype)
    folder = require(model_folder, "--model")
    tokenizer = load_tokenizer(folder)
    adapter_path = adapter_folder(folder, adapter)
    model = load_merged(folder, adapter_path, device=torch_device, dtype=torch_dtype, weights=weights)
    check_vocabulary(tokenizer, model.config.vocab_size, folder)
    return model, tokenizer


def load_merged(folder: Path, adapter: Path | None, *, device="cpu", dtype=None, weights: str = "") -> Decoder:
    """load_model(folder, ...) with the adapter merged in, if any.

    With `weights` int8 each weight is merged before it is quantised. Where the folder holds int8 weights already, they
    are dequantised, merged and quantised again, layer by layer.
    """
    config = read_config(folder)
    if adapter is None or weights != INT8 or config.weights == INT8:
        model = load_model(folder, device=device, dtype=dtype, weights=weights)
        if adapter:
            load_adapter(model, adapter)
            merge_lora(model)
        return model
    with torch.device("meta"):
        shapes = Decoder(config)
    update = adapter_update(shapes, adapter)
    return load_model(folder, device=device, dtype=dtype, weights=weights, update=update)


def adapter_folder(model_folder: str | Path, adapter: str) -> Path | None:
    """The folder of the adapter that load_pretrained merges; None: the model alone. Raises InputError if missing."""
    own = Path(model_folder) / "adapter"
    if not adapter:  # one of the two files alone, or a broken link, is a damaged adapter, which load_adapter names
        is_damaged = os.path.lexists(own) and path_kind(own) != "folder"
        return own if is_damaged or any(os.path.lexists(own / name) for name in (CONFIG_FILE, TENSOR_FILE)) else None
    return None if adapter == "none" else require(adapter, "--adapter")


def load_calibration(
    model_folder: str | Path, adapter: str = "", *, system: str = "scl", grounded: bool = True
) -> Calibration | None:
    """The calibration of one decoding of the model that load_pretrained(model_folder, adapter) loads, if it has one.

    It is in the adapter's folder, or in the model's if that is used alone. Raises InputError for a damaged file.
    """
    folder = adapter_folder(model_folder, adapter) or Path(model_folder)
    return read_calibrations(folder).get(decoding_name(system, grounded))


def describe_weights(model_folder: str, adapter: str = "") -> dict[str, str]:
    """{"model", "adapter"}: name and digest of each folder that load_pretrained reads, "none" without an adapter.

    Raises InputError for a missing folder.
    """
    folder, adapter_path = require(model_folder, "--model"), adapter_folder(model_folder, adapter)
    digest = f"{adapter_path.name} {folder_digest(adapter_path, CONFIG_FILE)}" if adapter_path else "none"
    return {"model": f"{folder.resolve().name} {folder_digest(folder)}", "adapter": digest}


def made_by(settings: dict[str, str], folder: str) -> bool:
    """Whether a document with these `settings` was coded by the adapter in `folder`, or without adapter by the model.

    `settings`: with the keys of describe_weights. Raises InputError for a file that cannot be read.
    """
    name, config = ("model", "config.json") if settings["adapter"] == "none" else ("adapter", CONFIG_FILE)
    is_whole = path_kind(Path(folder) / config) == "file"
    return is_whole and settings[name].split()[-1] == folder_digest(folder, config)


def check_vocabulary(tokenizer: Tokenizer, vocab_size: int, folder: Path) -> None:
    """Raises InputError where texts or the chat format may have token ids for which the model has no embedding.

    Special tokens that neither has, such as a [PAD] that was added without resizing the model, are harmless.
    """
    if tokenizer.vocab_size <= vocab_size:
        return
    format_ids = {*tokenizer.encode_chat([{"role": "user", "content": "note"}]), *tokenizer.stop_ids}
    text_ids = {token for token, piece in enumerate(tokenizer.pieces()) if piece is not None}
    too_large = {token for token in format_ids | text_ids if token >= vocab_size}
    if too_large:
        raise InputError(
            f"{folder}: the tokenizer has {len(too_large):,} tokens beyond the model's vocabulary of {vocab_size:,}, "
            f"the first with id {min(too_large)}; the folder mixes two models, or config.json's vocab_size is wrong"
        )
