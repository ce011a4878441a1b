"""Weights in safetensors files: read and written one tensor at a time, refused where a tensor cannot be a weight.
Nothing is ever unpickled.

safetensors' own writer opens a file by its name, and would leave gigabytes of a temporary file where it is killed.

model/load.py has models with it, lora/peft_io.py adapters, training/checkpoint.py checkpoints. Of minscl, this module
imports errors.py, files.py and settings.py.
"""

import contextlib
import json
import math
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError, safe_open

from minscl.errors import InputError
from minscl.files import path_kind, read_errors, require_file
from minscl.settings import read_settings, show_value

SINGLE_FILE, INDEX_FILE = "model.safetensors", "model.safetensors.index.json"  # of a model folder
# Of torch's types, in the order of a file's tensors: safetensors aligns them by beginning with the largest.
TYPE_NAMES = {
    torch.int64: "I64",
    torch.float64: "F64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
INT8_TYPE = "I8"
FLOAT_TYPES = ("F64", "F32", "BF16", "F16")  # safetensors' names; whole numbers and 8-bit floats need a scale


def weight_files(folder: Path) -> Mapping[Path, set[str] | None]:
    """Each safetensors file with the tensors that the index promises in it; None for a single file.

    A single file comes before an index, as in transformers: other software that saves a small model over a large one
    leaves the index behind. Raises InputError for a folder without weights, a damaged index, and a shard that is not in
    the folder.
    """
    index, single = folder / INDEX_FILE, folder / SINGLE_FILE
    if path_kind(single) != "missing":
        return {single: None}
    if path_kind(index) != "missing":
        files: dict[Path, set[str]] = {}
        for name, file in read_settings(index).section("weight_map").values.items():
            is_name = isinstance(file, str) and Path(file).name == file
            if not is_name or path_kind(folder / file) != "file":
                shown = file if is_name else show_value(file)
                raise InputError(
                    f"{index}: names shard {shown} for tensor {name}, which is not in the folder; fetch it"
                )
            files.setdefault(folder / file, set()).add(name)
        return files
    remedy = "convert the .bin weights to safetensors" if list(folder.glob("*.bin")) else "fetch the weights"
    raise InputError(f"{folder}: no {SINGLE_FILE} and no {INDEX_FILE}; {remedy}")


def read_tensors(
    path: Path,
    promised: set[str] | None = None,
    only: Container[str] | None = None,
    remedy: str = "fetch the file again",
    types: Container[str] = FLOAT_TYPES,
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yields (name, tensor) of one file in order of name, memory-mapped.

    promised: the names that an index says are in the file. only: the names that are read; None: all. types: those that
    a tensor may have. Raises InputError for a damaged file, a tensor of another type, and names other than the promised
    ones.
    """
    with _open(path, remedy) as file:
        names = set(file.keys())
        different = sorted(names ^ (promised or names))
        if different:
            raise InputError(f"{path}: the index and the file disagree about tensor {different[0]}; {remedy}")
        for name in sorted(names):
            if only is not None and name not in only:
                continue
            if (dtype := file.get_slice(name).get_dtype()) not in types:
                raise InputError(
                    f"{path}: tensor {name} is of type {dtype}; weights are of {', '.join(FLOAT_TYPES)}: "
                    "use the unquantised weights"
                )
            yield name, file.get_tensor(name)


def count_elements(path: Path) -> int:
    """Number of elements of all tensors in a file; only its header is read. Raises InputError for a damaged file."""
    with _open(path, "fetch the file again") as file:
        names = list(file.keys())
        return sum(math.prod(file.get_slice(name).get_shape()) for name in names)


def write_tensors(
    file: IO[bytes], tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file, byte for byte as safetensors' own writer does; one tensor at a time is copied.

    The format: the length of the header (8 bytes, little-endian), the header as JSON, padded with spaces to whole
    words, and the tensors in its order, row by row.
    """
    order = list(TYPE_NAMES)
    names = sorted(tensors, key=lambda name: (order.index(tensors[name].dtype), name))
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    end = 0
    for name in names:
        tensor = tensors[name]
        start, end = end, end + tensor.nbytes
        dtype, shape = TYPE_NAMES[tensor.dtype], list(tensor.shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    content = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    content += b" " * (-len(content) % 8)
    file.write(len(content).to_bytes(8, "little") + content)
    for name in names:
        file.write(tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())


@contextlib.contextmanager
def _open(path: Path, remedy: str) -> Iterator[Any]:
    """The open safetensors file; what cannot be read becomes an InputError with `remedy`."""
    require_file(path, remedy)
    try:
        with read_errors(path, remedy), safe_open(path, "pt") as file:
            yield file
    except SafetensorError as error:
        raise InputError(f"{path}: truncated or corrupt safetensors ({error}); {remedy}") from error


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether a tensor of floats holds neither NaN nor infinity.

    By its smallest and largest value, which are NaN if any is: one pass without a copy, in a fifth of the time that
    copying the tensor takes.
    """
    return not tensor.numel() or bool(torch.stack(torch.aminmax(tensor)).isfinite().all())
