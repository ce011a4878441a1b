"""Packing: the samples of one optimiser step (Eq. 3) end to end in few sequences, shared prompt prefixes stored once.

    input_ids  [ instruction ][ rest of a | target a ][ rest of b | target b ][ prompt c | target c ]      (T,) tokens
    parents         -1                 0                       0                       -1
    positions   0 1 2 …         3 4 5 …                 3 4 5 …                 0 1 2 …
    labels      - - -           - a a a                 - b b                   - - c c

T is at most pack_length. A token attends to its own segment causally, and to all of the segment's parent and further
ancestors. A position's label is the next token where that is a target token, else IGNORE (-). A target's last token is
only a label: nothing is predicted from it and no other token attends to it, so it is not in input_ids.

Prompts that begin alike (those of all spans, and those of all documents) share that prefix as one segment. This is
exact: in a causal model the states of a prefix do not depend on what follows it, and the gradients of all samples add
up in the one copy. Where spans and documents begin alike too (a chat format's header), that is one segment and their
instructions are two below it.

Guarantees, each tested:
- every sample exactly once per epoch; nothing truncated, nothing dropped;
- no label from another sample, no attention across samples;
- the order is a pure function of (seed, epoch), from a generator of its own.
Which samples share a step is random, so that a step mixes documents and spans as the data does. Within the step they
are bucketed by length: longest first, each into the first sequence with enough space left.

Read next: model/shared_prefix.py for the attention, or model/decoder.py and then loss.py.
"""

import os.path
import random
from collections.abc import Sequence, Sized
from dataclasses import dataclass

import torch

from minscl.data.loss import IGNORE
from minscl.data.sample_types import Sample
from minscl.errors import InputError

MIN_SHARED_PREFIX = 8  # tokens; a shorter prefix costs more in bookkeeping than it saves


@dataclass(frozen=True)
class Pack:
    """One packed sequence: int64 tensors (T,), and the segments' lengths and parents as in model.SharedPrefixMask."""

    input_ids: torch.Tensor
    positions: torch.Tensor
    labels: torch.Tensor
    lengths: tuple[int, ...]
    parents: tuple[int, ...]

    def to(self, device: torch.device) -> "Pack":
        """The same pack with its tensors on `device`."""
        input_ids, positions, labels = (x.to(device) for x in (self.input_ids, self.positions, self.labels))
        return Pack(input_ids, positions, labels, self.lengths, self.parents)


# One token without a label, for a process with fewer packs than another: FSDP's forward needs all processes.
IDLE_PACK = Pack(torch.tensor([0]), torch.tensor([0]), torch.tensor([IGNORE]), lengths=(1,), parents=(-1,))


@dataclass(frozen=True)
class Step:
    """One optimiser step. `packs`: those of one process; the other fields count the whole step, over all processes.

    `sample_indices` point into the data. `target_tokens` divides the loss. `tokens`: of all samples,
    shared prefixes counted in each.
    """

    packs: tuple[Pack, ...]
    sample_indices: tuple[int, ...]
    target_tokens: int
    tokens: int

    @property
    def computed_tokens(self) -> int:
        """Tokens in `packs`: shared prefixes counted once."""
        return sum(len(pack.input_ids) for pack in self.packs)


def pack(
    samples: Sequence[Sample], *, pack_length: int, batch_size: int = 16, seed: int = 0, epoch: int = 0
) -> list[Step]:
    """The steps of one epoch, `batch_size` samples each (the last may have fewer). Lengths are in tokens.

    Raises InputError for a sample that is longer than `pack_length` and for one with an empty prompt.
    """
    for index, sample in enumerate(samples):
        if not sample.prompt_ids:
            raise InputError(
                f"sample {index} has an empty prompt: its first target token would be predicted from nothing; "
                "drop the sample"
            )
        if len(sample) > pack_length:
            raise InputError(
                f"sample {index} has {len(sample):,} tokens and pack_length is {pack_length:,}; raise pack_length"
            )
    return [pack_step(samples, indices, pack_length) for indices in epoch_order(len(samples), batch_size, seed, epoch)]


def epoch_order(num_samples: int, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Indices of the samples of each step of an epoch, shuffled."""
    order = list(range(num_samples))
    random.Random(f"{seed}-{epoch}").shuffle(order)
    return [order[first : first + batch_size] for first in range(0, num_samples, batch_size)]


def pack_step(
    samples: Sequence[Sample], indices: Sequence[int], pack_length: int, rank: int = 0, world_size: int = 1
) -> Step:
    """The step of the samples `indices`, with the packs of process `rank`; all processes have equally many packs."""
    bins = [
        first_fit_decreasing(samples, share, pack_length) for share in split_by_rank(samples, indices, world_size)
    ]  # process → pack → sample indices
    packs = [build_pack([samples[index] for index in members]) for members in bins[rank]]
    packs += [IDLE_PACK] * (max(map(len, bins)) - len(packs))
    return Step(
        packs=tuple(packs),
        sample_indices=tuple(indices),
        target_tokens=sum(len(samples[index].target_ids) for index in indices),
        tokens=sum(len(samples[index]) for index in indices),
    )


def split_by_rank(samples: Sequence[Sized], indices: Sequence[int], world_size: int) -> list[list[int]]:
    """Split a step by tokens: longest sample first, each to the process that has the fewest tokens so far."""
    shares: list[list[int]] = [[] for _ in range(world_size)]
    tokens = [0] * world_size
    for index in longest_first(samples, indices):
        lightest = tokens.index(min(tokens))
        shares[lightest].append(index)
        tokens[lightest] += len(samples[index])
    return shares


def first_fit_decreasing(samples: Sequence[Sample], indices: Sequence[int], pack_length: int) -> list[list[int]]:
    """Bin packing: longest sample first, each into the first bin with enough space. Similar lengths end up together."""
    bins: list[list[int]] = []
    free_tokens: list[int] = []  # of each bin
    for index in longest_first(samples, indices):
        length = len(samples[index])
        target = next((number for number, free in enumerate(free_tokens) if free >= length), None)
        if target is None:
            bins.append([])
            free_tokens.append(pack_length)
            target = len(bins) - 1
        bins[target].append(index)
        free_tokens[target] -= length
    return bins


def longest_first(samples: Sequence[Sized], indices: Sequence[int]) -> list[int]:
    """`indices` by decreasing length; equal lengths in the data's order, so that packing is deterministic."""
    return sorted(indices, key=lambda index: (-len(samples[index]), index))


def build_pack(samples: Sequence[Sample]) -> Pack:
    """Concatenate samples, shared prefixes once, as in the drawing at the top of this file."""
    input_ids: list[int] = []
    positions: list[int] = []
    labels: list[int] = []
    lengths: list[int] = []
    parents: list[int] = []

    def add_segment(ids: Sequence[int], start: int, segment_labels: Sequence[int], parent: int) -> None:
        """Append one segment whose first token has position `start`."""
        input_ids.extend(ids)
        positions.extend(range(start, start + len(ids)))
        labels.extend(segment_labels)
        lengths.append(len(ids))
        parents.append(parent)

    def add_samples(members: Sequence[Sample], start: int, parent: int) -> None:
        """Append samples whose first `start` tokens are those of segment `parent` and its ancestors."""
        groups: dict[tuple[int, ...], list[Sample]] = {}
        for sample in members:
            groups.setdefault(sample.prompt_ids[start : start + MIN_SHARED_PREFIX], []).append(sample)
        for group in groups.values():
            shared = shared_prefix_length(group, start)
            if shared:
                add_segment(group[0].prompt_ids[start : start + shared], start, [IGNORE] * shared, parent)
                add_samples(group, start + shared, len(lengths) - 1)
                continue
            for sample in group:
                prompt, target = sample.prompt_ids[start:], sample.target_ids
                add_segment((*prompt, *target[:-1]), start, [IGNORE] * (len(prompt) - 1) + [*target], parent)

    add_samples(samples, 0, -1)
    return Pack(torch.tensor(input_ids), torch.tensor(positions), torch.tensor(labels), tuple(lengths), tuple(parents))


def shared_prefix_length(samples: Sequence[Sample], start: int = 0) -> int:
    """Number of tokens that all prompts share from `start` on; 0 if fewer than MIN_SHARED_PREFIX.

    The last token of each prompt is never shared: its label is the sample's own first target token.
    """
    if len(samples) < 2:
        return 0
    shared = len(os.path.commonprefix([sample.prompt_ids[start:] for sample in samples]))
    shared = min(shared, min(len(sample.prompt_ids) for sample in samples) - 1 - start)
    return shared if shared >= MIN_SHARED_PREFIX else 0
