"""Command: base model + LoRA adapter → one merged Hugging Face folder that transformers and vLLM load.

    python -m minscl.export --model DIR --adapter DIR --out DIR

Read next: lora/inject.py (merge_lora), model/load.py (save_model).
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from minscl import disk
from minscl.cli import flag, parse_flags, path_flag, require
from minscl.command import run_command
from minscl.config import DEMO
from minscl.data import calibration
from minscl.errors import InputError
from minscl.files import list_folder, lock_folder, output_path, path_kind, read_bytes, replace_file
from minscl.lora import load_adapter, merge_lora
from minscl.model import load_model, save_model
from minscl.model.digest import TOKENIZER_FILES
from minscl.model.load import SAVED_WEIGHTS


@dataclass(frozen=True)
class ExportConfig:
    """Settings of `export`; each is a flag."""

    model: str = flag(str(DEMO), "base model folder", role="input")
    adapter: str = flag(str(DEMO / "adapter"), "LoRA adapter folder", role="input")
    out: str = path_flag("folder to write, new or empty", role="output folder")


def export(config: ExportConfig) -> Path:
    """Merge the adapter into the base model, in the base's dtype, and write it with the base's tokenizer files.

    The adapter's calibration.json is copied. config.json is written last, so a folder that has it is complete. Returns
    the folder written. Raises InputError where it exists and is not empty, and for a missing or damaged model or
    adapter; nothing is left in it then.
    """
    out = Path(config.out)
    check_empty(out)
    output_path(out / "config.json")  # a folder that cannot be written is said before minutes of loading
    folder = require(config.model, "--model")
    adapter = require(config.adapter, "--adapter")
    calibration.read_calibrations(adapter)  # a damaged file is not copied
    model = load_model(folder)
    load_adapter(model, adapter)
    merge_lora(model)
    existed = path_kind(out) == "folder"
    with lock_folder(out):
        check_empty(out)  # another run may have written it since
        with removed_on_error(out, existed):
            for path in (*(folder / name for name in TOKENIZER_FILES), adapter / calibration.FILE):
                if path_kind(path) != "missing":
                    content = read_bytes(path)
                    with replace_file(out / path.name, "wb") as file:
                        file.write(content)
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
    names = (*TOKENIZER_FILES, calibration.FILE, "config.json")
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
