"""Packing: the samples of one optimiser step, laid end to end in few sequences; what they share is computed once.

    sequence   [ instruction ][ rest of a | target a ][ rest of b | target b ][ prompt c | target c ]      (T,) tokens, at most pack_length
    parents         -1                 0                       0                       -1            attention: own segment causally, parent whole
    positions   0 1 2 …         3 4 5 …                 3 4 5 …                 0 1 2 …
    labels      - - -           - a a a                 - b b                   - - c c             the next token where it is a target token

A target's last token is a label alone: nothing is predicted from it, and no other token reads it, so it is not part of the sequence.

Samples whose prompts begin alike (all spans do, and all documents) share that beginning as one segment: exact, since a causal model's
first tokens do not see what follows; gradients of all samples flow through the one copy. Where spans and documents begin alike too (a chat format's
header), that is one segment, and their instructions are two below it.

Promises, each tested: every sample exactly once an epoch; nothing cut, nothing dropped; no label from another sample; no
attention across samples; the order a pure function of (seed, epoch) with a private generator. Which samples share a step is random
(so that a step mixes documents and spans as the data does); within the step they are bucketed by length: longest first, each into the
first sequence with room.

Read next: model/forest.py for the attention, model/decoder.py, then loss.py.
"""

import os.path
import random
from dataclasses import dataclass

import torch

from minscl.data.loss import IGNORE
from minscl.errors import InputError

SHARED_AT_LEAST = 8  # tokens; a shorter beginning costs more in bookkeeping than it saves


@dataclass(frozen=True)
class Pack:
    """One packed sequence; int64 tensors (T,); `lengths` and `parents` of its segments in order (model.SharedPrefixMask)."""

    input_ids: torch.Tensor
    positions: torch.Tensor
    labels: torch.Tensor
    lengths: tuple[int, ...]
    parents: tuple[int, ...]

    def to(self, device) -> "Pack":
        return Pack(
            *(one.to(device) for one in (self.input_ids, self.positions, self.labels)), self.lengths, self.parents
        )


IDLE = Pack(
    *(torch.tensor([value]) for value in (0, 0, IGNORE)), (1,), (-1,)
)  # nothing to train: for a process that has no pack left in a step


@dataclass(frozen=True)
class Step:
    """One optimiser step: the samples it holds (indices into the data), its packs (of one process its own), and the loss's divisor.

    `tokens`: as if each sample stood alone; it and `target_tokens` count the whole step.
    """

    packs: tuple[Pack, ...]
    sample_indices: tuple[int, ...]
    target_tokens: int
    tokens: int

    @property
    def computed_tokens(self) -> int:
        return sum(len(one.input_ids) for one in self.packs)


def pack(samples, *, pack_length: int, batch_size: int = 16, seed: int = 0, epoch: int = 0) -> list[Step]:
    """The steps of one epoch: `batch_size` samples each (the last may have fewer). Lengths are tokens.

    Raises InputError for a sample longer than `pack_length`.
    """
    for index, sample in enumerate(samples):
        if not sample.prompt_ids:
            raise InputError(
                f"sample {index} has an empty prompt: its first target token would be predicted from nothing; drop the sample"
            )
        if len(sample) > pack_length:
            raise InputError(
                f"sample {index} has {len(sample):,} tokens and pack_length is {pack_length:,}; raise pack_length"
            )
    return [pack_step(samples, indices, pack_length) for indices in epoch_order(len(samples), batch_size, seed, epoch)]


def epoch_order(number: int, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Which of `number` samples make each step of an epoch."""
    order = list(range(number))
    random.Random(f"{seed}-{epoch}").shuffle(order)
    return [order[first : first + batch_size] for first in range(0, number, batch_size)]


def pack_step(samples, indices, pack_length: int, part: int = 0, parts: int = 1) -> Step:
    """The step of the samples `indices`; of its packs those of process `part` of `parts`, the same number for each process."""
    shares = [fill(samples, share, pack_length) for share in deal(samples, indices, parts)]
    packs = [join([samples[i] for i in one]) for one in shares[part]]
    packs += [IDLE] * (max(map(len, shares)) - len(packs))
    return Step(
        tuple(packs),
        tuple(indices),
        sum(len(samples[i].target_ids) for i in indices),
        sum(len(samples[i]) for i in indices),
    )


def deal(samples, indices, parts: int) -> list[list[int]]:
    """Split a step by tokens: longest first, each to the process that has the least."""
    shares, tokens = [[] for _ in range(parts)], [0] * parts
    for index in longest_first(samples, indices):
        lightest = tokens.index(min(tokens))
        shares[lightest].append(index)
        tokens[lightest] += len(samples[index])
    return shares


def fill(samples, indices, pack_length: int) -> list[list[int]]:
    """First fit, longest first: similar lengths end up together."""
    bins: list[list[int]] = []
    room: list[int] = []
    for index in longest_first(samples, indices):
        length = len(samples[index])
        place = next((i for i, free in enumerate(room) if free >= length), None)
        if place is None:
            bins.append([])
            room.append(pack_length)
            place = len(bins) - 1
        bins[place].append(index)
        room[place] -= length
    return bins


def longest_first(samples, indices) -> list[int]:
    return sorted(indices, key=lambda i: (-len(samples[i]), i))


def join(samples) -> Pack:
    """Lay samples end to end, shared beginnings once. The label at t is token t + 1 of the same sample, where that is a target token."""
    input_ids, positions, labels, lengths, parents = [], [], [], [], []

    def add(ids, start: int, own_labels, parent: int) -> None:
        input_ids.extend(ids)
        positions.extend(range(start, start + len(ids)))
        labels.extend(own_labels)
        lengths.append(len(ids))
        parents.append(parent)

    def lay(members, start: int, parent: int) -> None:
        """Samples whose first `start` tokens are those of `parent` and its ancestors."""
        groups: dict[tuple, list] = {}
        for sample in members:
            groups.setdefault(sample.prompt_ids[start : start + SHARED_AT_LEAST], []).append(sample)
        for group in groups.values():
            shared = shared_beginning(group, start)
            if shared:
                add(group[0].prompt_ids[start : start + shared], start, [IGNORE] * shared, parent)
                lay(group, start + shared, len(lengths) - 1)
                continue
            for sample in group:
                prompt = sample.prompt_ids[start:]
                add(
                    (*prompt, *sample.target_ids[:-1]),
                    start,
                    [IGNORE] * (len(prompt) - 1) + [*sample.target_ids],
                    parent,
                )

    lay(samples, 0, -1)
    return Pack(*(torch.tensor(one) for one in (input_ids, positions, labels)), tuple(lengths), tuple(parents))


def shared_beginning(samples, start: int = 0) -> int:
    """How many tokens all prompts have in common from `start` on, at least SHARED_AT_LEAST or else 0. The last token of each prompt stays its own: it
    has a label."""
    if len(samples) < 2:
        return 0
    shared = len(os.path.commonprefix([sample.prompt_ids[start:] for sample in samples]))
    shared = min(shared, min(len(sample.prompt_ids) for sample in samples) - 1 - start)
    return shared if shared >= SHARED_AT_LEAST else 0
