"""Command: base model + LoRA adapter → one merged Hugging Face folder that transformers and vLLM load.

    python -m minscl.export --model DIR --adapter DIR --out DIR

Read next: lora/inject.py (merge_lora), model/load.py (save_model).
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from minscl.cli import flag, parse_flags, path_flag, require, run_command
from minscl.config import DEMO
from minscl.errors import InputError
from minscl.lora import load_adapter, merge_lora
from minscl.model import load_model, save_model

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "generation_config.json",
    "vocab.json",
    "merges.txt",
)


@dataclass(frozen=True)
class ExportConfig:
    """Settings of `export`; each is a flag."""

    model: str = flag(str(DEMO), "base model folder")
    adapter: str = flag(str(DEMO / "adapter"), "LoRA adapter folder")
    out: str = path_flag("folder to write, new or empty")


def export(config: ExportConfig) -> Path:
    """Merge the adapter into the base model, in the base's dtype, and write it with the base's tokenizer files.

    Returns the folder written. Raises InputError where it exists and is not empty, and for a missing model or adapter.
    """
    out = Path(config.out)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"--out {config.out}: not empty; name a new or empty folder")
    folder = require(config.model, "--model")
    model = load_model(folder)
    load_adapter(model, require(config.adapter, "--adapter"))
    merge_lora(model)
    save_model(model, out)
    for name in TOKENIZER_FILES:
        if (folder / name).exists():
            shutil.copyfile(folder / name, out / name)
    return out


def main(argv=None) -> int:
    """Parse the flags, export, print the folder; returns the exit status."""
    print(export(parse_flags(ExportConfig, "export", "Merge an adapter into its base model.", argv)))
    return 0


if __name__ == "__main__":
    run_command(main)
