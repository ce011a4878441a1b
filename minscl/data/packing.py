"""Packing: the samples of one optimiser step, laid end to end in few sequences, each seeing only itself.

    sequence   [ prompt a | target a ][ prompt b | target b ][ …        (T,) tokens, at most pack_length
    positions    0 1 2 …               0 1 2 …
    segments     0 0 0 …               1 1 1 …                          attention: same segment, causal
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
    """One packed sequence; int64 tensors (T,)."""

    input_ids: torch.Tensor
    positions: torch.Tensor
    segments: torch.Tensor
    labels: torch.Tensor
    lengths: tuple[int, ...]  # of the samples, in order; they add up to T

    def mask(self) -> torch.Tensor:
        """Bool (1, 1, T, T), True where the row's token may attend to the column's."""
        return segment_mask(self.segments)[None, None]

    def to(self, device) -> "Pack":
        return Pack(*(one.to(device) for one in (self.input_ids, self.positions, self.segments, self.labels)), self.lengths)


@dataclass(frozen=True)
class Step:
    """One optimiser step: its packs, the samples they hold (indices into the data) and the loss's divisor."""

    packs: tuple[Pack, ...]
    sample_indices: tuple[int, ...]
    target_tokens: int


def segment_mask(segments: torch.Tensor) -> torch.Tensor:
    """(T,) segment numbers → bool (T, T): same segment, and not later."""
    index = torch.arange(len(segments), device=segments.device)
    return (segments[:, None] == segments[None, :]) & (index[:, None] >= index[None, :])


def pack(samples, *, pack_length: int, batch_size: int = 16, seed: int = 0, epoch: int = 0) -> list[Step]:
    """The steps of one epoch: `batch_size` samples each (the last may have fewer). Lengths are tokens.

    Raises InputError for a sample longer than `pack_length`.
    """
    for index, sample in enumerate(samples):
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
    input_ids, positions, segments, labels = [], [], [], []
    for number, sample in enumerate(samples):
        length, prompt = len(sample), len(sample.prompt_ids)
        input_ids += [*sample.prompt_ids, *sample.target_ids]
        positions += range(length)
        segments += [number] * length
        labels += [IGNORE] * (prompt - 1) + [*sample.target_ids, IGNORE]
    return Pack(*(torch.tensor(one) for one in (input_ids, positions, segments, labels)), tuple(map(len, samples)))
