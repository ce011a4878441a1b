"""Which model or adapter a folder holds, as a short digest: so that results of two are not mixed under one name.

Read next: ../training/checkpoint.py and ../generate.py, which store it.
"""

import hashlib
from pathlib import Path

from minscl.files import list_folder, path_kind, read_bytes, read_errors, require_file

TOKENIZER_FILES = (  # besides config.json and the weights, what a model folder may hold
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
SAMPLES = 64  # pieces of a weight file that are read, spread evenly; all of an 8B model would take a minute
SAMPLE_BYTES = 2**14


def folder_digest(folder: str | Path, config_name: str = "config.json") -> str:
    """16 hex digits of SHA-256 over a folder's settings and tokenizer, and of its safetensors the names, sizes and
    pieces of content.

    Raises InputError where a file cannot be read.
    """
    digest = hashlib.sha256(read_bytes(Path(folder) / config_name, "name a complete folder"))
    for path in list_folder(folder):
        if path.name in TOKENIZER_FILES and path_kind(path) == "file":
            digest.update(f"{path.name}\n".encode() + hashlib.sha256(read_bytes(path)).digest())
        if path.suffix != ".safetensors":
            continue
        require_file(path, "fetch the file again")
        with read_errors(path, "fetch the file again"), open(path, "rb") as file:
            size = file.seek(0, 2)
            digest.update(f"{path.name} {size}\n".encode())
            for number in range(SAMPLES):
                file.seek(max(0, size - SAMPLE_BYTES) * number // (SAMPLES - 1))
                digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()[:16]
