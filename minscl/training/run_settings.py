"""Which settings of a run must be the same when it is resumed: those that change its numbers.

Read next: checkpoint.py, which keeps and compares them.
"""

import dataclasses
import hashlib
from collections.abc import Iterable

import torch

from minscl.config import HEAD_FIELDS, SCL, RunConfig
from minscl.model.digest import folder_digest

# Settings that may differ when a run is resumed: they change paths or cost, not the arithmetic.
PATHS = ("documents", "spans", "samples", "validate", "out")
RESUMABLE = (
    *PATHS,
    "resume",
    "device",
    "save_every",
    "validate_every",
    "patience",
    "tensorboard",
    "recompute",
    "fsdp",
    "dry_run",
)


def checkpoint_settings(config: RunConfig, dtype: torch.dtype, token_ids: Iterable[tuple]) -> dict:
    """What must be equal for a run to be resumed: everything that changes the arithmetic.

    The model is identified by a digest of its weights, whatever its path, the data by `token_ids`, one tuple a sample:
    those of its prompt and target, or of a note with its labels.
    """
    data_digest = hashlib.sha256()
    for ids in token_ids:
        data_digest.update(repr(ids).encode())
    unused = HEAD_FIELDS if config.system == SCL else ()  # so that runs of before heads/ can be resumed
    if not config.weights:  # and those of before int8
        unused = (*unused, "weights")
    settings = {name: value for name, value in dataclasses.asdict(config).items() if name not in (*RESUMABLE, *unused)}
    return settings | {
        "model": folder_digest(config.model),
        "dtype": str(dtype),
        "data": data_digest.hexdigest(),
    }
