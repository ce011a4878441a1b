"""A head over a decoder that stays as it is (--freeze): the hidden states of every note are computed once.

    notes → decoder, without gradients → states, kept in memory → every epoch: head → BCE

A head begins from random weights and needs many passes over few notes; without the decoder a pass costs a fraction.
Not in the three systems, which train their encoder. The folder has an adapter all the same, as LoRA begins: it changes
nothing.

Read next: train.py.
"""

import sys
from collections.abc import Sequence

import torch
from tqdm import tqdm

from minscl.hardware import free_memory
from minscl.heads.head_model import HeadModel
from minscl.heads.notes import LabelledNote
from minscl.lora import lora_parameters

MEMORY_SHARE = 0.5  # of what is free, that the states may take


def freeze_decoder(model: HeadModel, notes: Sequence[LabelledNote]) -> None:
    """Leave the head alone to be trained, and keep the hidden states of `notes` in model.states where they fit."""
    for _, parameter in lora_parameters(model.decoder):
        parameter.requires_grad_(False)
    weight = model.decoder.model.embed_tokens.weight
    size = sum(map(len, notes)) * model.decoder.config.hidden_size * weight.element_size()  # bytes
    if size > MEMORY_SHARE * free_memory(weight.device):
        print(f"--freeze: hidden states of {size / 2**30:.1f} GiB do not fit and are computed anew", file=sys.stderr)
        return
    with torch.no_grad():
        for note in tqdm(notes, unit="note", desc="hidden states", leave=False):
            model.states[note.input_ids] = model.hidden(list(note.input_ids))
