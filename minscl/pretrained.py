"""A model folder and an adapter folder → a decoder with the adapter merged in, and its tokenizer.

Several commands load both this way. It is a top-level module because model/ and lora/ do not import each other.

Read next: model/load.py, lora/peft_io.py.
"""

from minscl.cli import require
from minscl.hardware import choose_device
from minscl.lora import load_adapter, merge_lora
from minscl.model import Decoder, Tokenizer, load_model, load_tokenizer


def load_pretrained(
    model_folder: str, adapter: str = "", *, device: str = "auto", dtype: str = "auto"
) -> tuple[Decoder, Tokenizer]:
    """(decoder in eval mode, tokenizer). `device` and `dtype` as for hardware.choose_device.

    `adapter`: a PEFT folder; "" is the model folder's own `adapter/`, if it has one; "none" is the model alone. Raises
    InputError naming the file for anything missing or damaged.
    """
    torch_device, torch_dtype = choose_device(device, dtype)
    folder = require(model_folder, "--model")
    tokenizer = load_tokenizer(folder)
    model = load_model(folder, device=torch_device, dtype=torch_dtype)
    if not adapter and (folder / "adapter" / "adapter_config.json").exists():
        adapter = str(folder / "adapter")
    if adapter and adapter != "none":
        load_adapter(model, require(adapter, "--adapter"))
        merge_lora(model)
    return model, tokenizer
