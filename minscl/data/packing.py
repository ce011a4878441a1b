"""Packing: the samples of one optimiser step, laid end to end in few sequences, each seeing only itself.

    sequence   [ prompt a | target a ][ prompt b | target b ][ …        (T,) tokens, at most pack_length
    positions    0 1 2 …               0 1 2 …
    lengths      |a|                   |b|                              attention: within a sample, causal
    labels       - - - a a a -         - - b b -                        the next token where it is a target token

Promises, each tested: every sample exactly once an epoch; nothing cut, nothing dropped; no label from another sample; no
attention across samples; the order a pure function of (seed, epoch) with a private generator. Which samples share a step is random
(so that a step mixes documents and spans as the data does); within the step they are bucketed by length: longest first, each into the
first sequence with room.

Read next: model/decoder.py, then loss.py.
"""

import random
from dataclasses import dataclass

import torch

from minscl.data.loss import IGNORE
from minscl.errors import InputError


@dataclass(frozen=True)
class Pack:
    """One packed sequence; int64 tensors (T,), and the samples' lengths in order, which add up to T."""

    input_ids: torch.Tensor
    positions: torch.Tensor
    labels: torch.Tensor
    lengths: tuple[int, ...]

    def to(self, device) -> "Pack":
        return Pack(*(one.to(device) for one in (self.input_ids, self.positions, self.labels)), self.lengths)


@dataclass(frozen=True)
class Step:
    """One optimiser step: its packs, the samples they hold (indices into the data) and the loss's divisor."""

    packs: tuple[Pack, ...]
    sample_indices: tuple[int, ...]
    target_tokens: int


def pack(samples, *, pack_length: int, batch_size: int = 16, seed: int = 0, epoch: int = 0) -> list[Step]:
    """The steps of one epoch: `batch_size` samples each (the last may have fewer). Lengths are tokens.

    Raises InputError for a sample longer than `pack_length`.
    """
    for index, sample in enumerate(samples):
        if not sample.prompt_ids:
            raise InputError(f"sample {index} has an empty prompt: its first target token would be predicted from nothing; drop the sample")
        if len(sample) > pack_length:
            raise InputError(f"sample {index} has {len(sample):,} tokens and pack_length is {pack_length:,}; raise pack_length")
    order = list(range(len(samples)))
    random.Random(f"{seed}-{epoch}").shuffle(order)
    return [pack_step(samples, order[first : first + batch_size], pack_length) for first in range(0, len(order), batch_size)]


def pack_step(samples, indices, pack_length: int) -> Step:
    """First fit, longest first: similar lengths end up together."""
    bins: list[list[int]] = []
    room: list[int] = []
    for index in sorted(indices, key=lambda i: (-len(samples[i]), i)):
        length = len(samples[index])
        place = next((i for i, free in enumerate(room) if free >= length), None)
        if place is None:
            bins.append([])
            room.append(pack_length)
            place = len(bins) - 1
        bins[place].append(index)
        room[place] -= length
    packs = tuple(join([samples[i] for i in one]) for one in bins)
    return Step(packs, tuple(indices), sum(len(samples[i].target_ids) for i in indices))


def join(samples) -> Pack:
    """Lay samples end to end. The label at t is token t + 1 of the same sample, where that is a target token."""
    input_ids, positions, labels = [], [], []
    for sample in samples:
        length, prompt = len(sample), len(sample.prompt_ids)
        input_ids += [*sample.prompt_ids, *sample.target_ids]
        positions += range(length)
        labels += [IGNORE] * (prompt - 1) + [*sample.target_ids, IGNORE]
    return Pack(*(torch.tensor(one) for one in (input_ids, positions, labels)), tuple(map(len, samples)))
