"""A model folder and an adapter folder → the model that codes, adapter merged in, and its tokenizer: what several commands load.

It stands beside the commands because it joins rooms that do not import one another: model/ and lora/.

Read next: model/load.py, lora/peft_io.py.
"""

from minscl.cli import require
from minscl.hardware import choose_device
from minscl.lora import load_adapter, merge_lora
from minscl.model import load_model, load_tokenizer


def load_pretrained(model_folder: str, adapter: str = "", *, device: str = "auto", dtype: str = "auto"):
    """(decoder in eval mode, tokenizer). `adapter`: a PEFT folder; "" takes the model folder's own, if it has one; "none" takes none.

    `device` and `dtype` as for hardware.choose_device. Raises InputError naming the file for anything missing or damaged.
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
