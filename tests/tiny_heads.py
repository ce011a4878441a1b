"""A tiny model with a random head, coded documents to train it on, and the trainer's settings for them."""

import json
from pathlib import Path

import torch

from minscl.config import RunConfig
from minscl.heads.head_model import HeadModel, make_head
from tests.tiny_models import decoder

LABELS = ("E11.9", "I10", "I50.9", "J18.9")
DOCUMENTS = (
    ("a", "Hypertension, cough.", ("I10",)),
    ("b", "Diabetes and hypertension.", ("E11.9", "I10")),
    ("c", "Pneumonia; known heart failure.", ("I50.9", "J18.9")),
    ("d", "Routine visit.", ()),
)


def head_model(system="plm-icd", window=16, bidirectional=False, dtype=torch.float64) -> HeadModel:
    """Random weights, far from uniform attention."""
    model = decoder(dtype=dtype)
    head = make_head(system, model.config.hidden_size, LABELS, seed=3).to(dtype)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.mul_(8)
    return HeadModel(system, model, head, LABELS, window, bidirectional)


def write_documents(path, documents=DOCUMENTS):
    """Write label-only coded documents; returns the path."""
    with open(path, "w") as file:
        for name, text, codes in documents:
            assignments = [{"code": code, "description": "", "evidence": []} for code in codes]
            file.write(json.dumps({"id": name, "text": text, "codes": assignments}) + "\n")
    return path


SETTINGS = dict(epochs=12, lr=5e-3, batch_size=2, max_length=64, pack_length=64, device="cpu", seed=3, window=16)


def head_config(folder, out, train_file, **changes) -> RunConfig:
    """RunConfig of a head's run on the model in `folder`, the fixture training_folder."""
    held_out = Path(train_file).with_name("held_out.jsonl")
    if not held_out.exists():
        write_documents(held_out, [(f"{name}-held-out", f"{text} Seen.", codes) for name, text, codes in DOCUMENTS])
    paths = dict(model=str(folder), documents=str(train_file), validate=str(held_out), out=str(out))
    return RunConfig(**{"system": "plm-icd", **paths, **SETTINGS, **changes})
