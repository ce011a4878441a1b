"""A trained head as a folder: the head's tensors, their label list, and the decoder's adapter in PEFT's format.

    head.safetensors                               the parameters of label_attention.py or cross_attention.py, float32
    head.json                                      {"system", "labels", "window", "bidirectional", "threshold", ...}
    adapter_model.safetensors, adapter_config.json  LoRA of the decoder

head.json is written last, so a folder that has it is complete. The rows of the tensors are those of `labels`.

Read next: predict.py.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from minscl.config import HEADS
from minscl.errors import InputError
from minscl.files import replace_file
from minscl.heads.head_model import make_head
from minscl.settings import read_settings
from minscl.training.run_folder import HEAD_SETTINGS, HEAD_TENSORS
from minscl.weights import is_finite, read_tensors, write_tensors

CODE = re.compile(r"[A-Z][0-9A-Z]{2}(\.[0-9A-Z]{1,4})?")  # its form: an edition may lack it
REMEDY = "give a folder that train --system plm-icd, plm-ca or gki-icd has written"


@dataclass(frozen=True)
class HeadSettings:
    """head.json: `threshold` as for threshold.best_threshold, chosen on `validation_notes` notes where it had a
    micro-F1 of `validation_f1`; 0 notes: it is the default. `model`: digest of the model folder it was trained on."""

    system: str
    labels: tuple[str, ...]
    hidden_size: int
    window: int
    bidirectional: bool
    threshold: float
    validation_notes: int
    validation_f1: float
    model: str


def save_head(folder: str | Path, head: nn.Module, settings: HeadSettings) -> None:
    """Write the head's two files, each replaced at once. Raises InputError where the folder cannot be written."""
    with replace_file(Path(folder) / HEAD_TENSORS, "wb") as file:
        write_tensors(file, dict(head.named_parameters()), {"format": "pt"})
    with replace_file(Path(folder) / HEAD_SETTINGS) as file:
        file.write(json.dumps(asdict(settings), indent=1) + "\n")


def read_head_settings(folder: str | Path) -> HeadSettings:
    """head.json of a folder. Raises InputError naming the file, the key and the value."""
    path = Path(folder) / HEAD_SETTINGS
    settings = read_settings(path, REMEDY)
    labels = settings.strings("labels")
    if not labels or labels != sorted(set(labels)) or not all(map(CODE.fullmatch, labels)):
        raise settings.error("labels", "a list of codes, sorted, each once")
    return HeadSettings(
        settings.string("system", choices=HEADS),
        tuple(labels),
        settings.integer("hidden_size", minimum=1, maximum=10**6),
        settings.integer("window", minimum=8, maximum=10**8),
        settings.boolean("bidirectional"),
        float(settings.number("threshold", minimum=0, maximum=1)),
        settings.integer("validation_notes"),
        float(settings.number("validation_f1", minimum=0, maximum=1)),
        settings.string("model"),
    )


def load_head(folder: str | Path, settings: HeadSettings) -> nn.Module:
    """The head of a folder on the CPU, in eval mode; nothing is unpickled.

    Raises InputError naming the file and tensor for anything missing, unexpected, misshapen, damaged or not finite.
    """
    path = Path(folder) / HEAD_TENSORS
    tensors = dict(read_tensors(path, remedy=REMEDY))
    rows = {"queries": (len(settings.labels), settings.hidden_size)}  # before a head of head.json's sizes takes memory
    check_tensors(path, {name: tensor for name, tensor in tensors.items() if name in rows}, rows)
    head = make_head(settings.system, settings.hidden_size, settings.labels)
    check_tensors(path, tensors, {name: tuple(parameter.shape) for name, parameter in head.named_parameters()})
    head.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return head.eval()


def check_tensors(path: Path, tensors: Mapping[str, torch.Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises InputError unless `tensors` have exactly the names and `shapes` of the head, and are finite."""
    for name in sorted(shapes.keys() ^ tensors.keys()):
        raise InputError(f"{path}: tensor {name} is {'missing' if name in shapes else 'unexpected'}; {REMEDY}")
    for name, tensor in tensors.items():
        if tuple(tensor.shape) != shapes[name]:
            raise InputError(
                f"{path}: tensor {name} is {tuple(tensor.shape)}, head.json asks for {shapes[name]}; {REMEDY}"
            )
        if not is_finite(tensor):
            raise InputError(f"{path}: tensor {name} holds NaN or infinity; copy the file again, or train it again")
