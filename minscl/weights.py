"""Weights in safetensors files: read one tensor at a time, refused where a tensor cannot be a weight. Nothing is ever
unpickled.

model/load.py reads a model with it, lora/peft_io.py an adapter. Of minscl, this module imports errors.py only.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from minscl.errors import InputError

FLOAT_TYPES = ("F64", "F32", "BF16", "F16")  # safetensors' names; whole numbers and 8-bit floats need a scale


def read_tensors(
    path: Path, promised: set[str] | None = None, remedy: str = "fetch the file again"
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yields (name, tensor) of one file in order of name, memory-mapped.

    promised: the names that an index says are in the file. Raises InputError for a damaged file, a tensor that is not
    of a float type, and names other than the promised ones.
    """
    try:
        with safe_open(path, "pt") as file:
            names = set(file.keys())
            different = sorted(names ^ (promised or names))
            if different:
                raise InputError(f"{path}: the index and the file disagree about tensor {different[0]}; {remedy}")
            for name in sorted(names):
                if (dtype := file.get_slice(name).get_dtype()) not in FLOAT_TYPES:
                    raise InputError(
                        f"{path}: tensor {name} is of type {dtype}; weights are of {', '.join(FLOAT_TYPES)}: "
                        "use the unquantised weights"
                    )
                yield name, file.get_tensor(name)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: truncated or corrupt safetensors ({error}); {remedy}") from error


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether a tensor of floats holds neither NaN nor infinity.

    By its smallest and largest value, NaN if any is: one pass without a copy, a fifth of the time of copying the
    tensor, where isfinite takes four times as long as the copy.
    """
    return not tensor.numel() or bool(torch.stack(torch.aminmax(tensor)).isfinite().all())
