"""Command: base model + LoRA adapter → one merged Hugging Face folder that transformers and vLLM load.

    python -m minscl.export --model DIR --adapter DIR --out DIR [--weights int8 | --gguf]

With --weights int8 the folder holds int8 weights (model/int8.py), which minscl alone loads.

Read next: pretrained.py (load_merged), model/load.py (save_model).
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from minscl import disk, gguf_export
from minscl.cli import flag, parse_flags, path_flag, require
from minscl.command import run_command
from minscl.config import DEMO, WEIGHTS
from minscl.data import calibration
from minscl.errors import InputError
from minscl.files import list_folder, lock_folder, output_path, path_kind, read_bytes, replace_file
from minscl.model import save_model
from minscl.model.digest import TOKENIZER_FILES
from minscl.model.load import SAVED_WEIGHTS
from minscl.pretrained import load_merged


@dataclass(frozen=True)
class ExportConfig:
    """Settings of `export`; each is a flag."""

    model: str = flag(str(DEMO), "base model folder", role="input")
    adapter: str = flag(str(DEMO / "adapter"), "LoRA adapter folder; none: the model alone", role="input")
    weights: str = flag(
        "", "int8: projections in int8, for minscl alone, a folder about half the size", choices=WEIGHTS
    )
    out: str = path_flag("folder to write, new or empty", role="output folder")
    gguf: bool = flag(False, "write one file for llama.cpp, model.gguf, instead (the gguf extra)")


def export(config: ExportConfig) -> Path:
    """Merge the adapter into the base model, in the base's dtype or int8, and write it with the base's tokenizer files.

    The calibration.json of the adapter, or of a model exported alone, is copied. config.json is written last, so a
    folder that has it is complete. Returns the folder written. Raises InputError where it exists and is not empty, and
    for a missing or damaged model or adapter; nothing is left in it then.
    """
    out = Path(config.out)
    check_empty(out)
    output_path(out / "config.json")  # a folder that cannot be written is said before minutes of loading
    folder = require(config.model, "--model")
    if config.gguf and config.weights:
        raise InputError("--gguf --weights int8: llama.cpp quantises by its own tools; leave one of them out")
    if config.gguf:
        gguf_export.check_gguf(folder)
    adapter = None if config.adapter == "none" else require(config.adapter, "--adapter")
    calibrated = adapter or folder
    calibration.read_calibrations(calibrated)  # a damaged file is not copied
    model = load_merged(folder, adapter, weights=config.weights)
    existed = path_kind(out) == "folder"
    with lock_folder(out):
        check_empty(out)  # another run may have written it since
        with removed_on_error(out, existed):
            names = () if config.gguf else TOKENIZER_FILES  # model.gguf holds the tokenizer
            for path in (*(folder / name for name in names), calibrated / calibration.FILE):
                if path_kind(path) != "missing":
                    content = read_bytes(path)
                    with replace_file(out / path.name, "wb") as file:
                        file.write(content)
            if config.gguf:
                gguf_export.write_gguf(model, folder, out / gguf_export.FILE)
            else:
                save_model(model, out)
    return out


def check_empty(out: Path) -> None:
    """Raises InputError where `out` is anything but a new or empty folder."""
    if path_kind(out) != "missing" and (path_kind(out) != "folder" or list_folder(out)):
        raise InputError(f"--out {out}: not empty; name a new or empty folder")


@contextlib.contextmanager
def removed_on_error(out: Path, existed: bool) -> Iterator[None]:
    """Empty the new folder `out` again where writing it fails, so that a second try finds it as the first did.

    `existed`: whether it was there, empty, before.
    """
    names = (*TOKENIZER_FILES, calibration.FILE, "config.json", gguf_export.FILE)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError, InputError):
            for path in list_folder(out):
                if path.name in names or SAVED_WEIGHTS.fullmatch(path.name):
                    disk.unlink(path)
            if not existed:
                disk.remove_folder(out)
        raise


def main(argv=None) -> int:
    """Parse the flags, export, print the folder; returns the exit status."""
    print(export(parse_flags(ExportConfig, "export", "Merge an adapter into its base model.", argv)))
    return 0


if __name__ == "__main__":
    run_command(main)
