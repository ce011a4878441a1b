"""A model folder and an adapter folder → a decoder with the adapter merged in, and its tokenizer.

Several commands load both this way. It is a top-level module because model/ and lora/ do not import each other.

Read next: model/load.py, lora/peft_io.py.
"""

from pathlib import Path

from minscl.cli import require
from minscl.errors import InputError
from minscl.hardware import choose_device
from minscl.lora import load_adapter, merge_lora
from minscl.model import Decoder, Tokenizer, load_model, load_tokenizer


def load_pretrained(
    model_folder: str, adapter: str = "", *, device: str = "auto", dtype: str = "auto"
) -> tuple[Decoder, Tokenizer]:
    """(decoder in eval mode, tokenizer). `device` and `dtype` as for hardware.choose_device.

    `adapter`: a PEFT folder; "" is the model folder's own `adapter/`, if it has one; "none" is the model alone. Raises
    InputError naming the file for anything missing or damaged, and where tokenizer and model do not belong together.
    """
    torch_device, torch_dtype = choose_device(device, dtype)
    folder = require(model_folder, "--model")
    tokenizer = load_tokenizer(folder)
    model = load_model(folder, device=torch_device, dtype=torch_dtype)
    check_vocabulary(tokenizer, model.config.vocab_size, folder)
    if not adapter and (folder / "adapter" / "adapter_config.json").exists():
        adapter = str(folder / "adapter")
    if adapter and adapter != "none":
        load_adapter(model, require(adapter, "--adapter"))
        merge_lora(model)
    return model, tokenizer


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
