"""Steps as they are trained: the stream's samples packed, tags split off, errors injected. Worker processes do it.

    for step, tags, kinds in prepared_steps(PreparedSteps(stream, total, …), first, device)

A step is a pure function of (seed, step), so it does not matter which process prepares it. One core prepares 120,000
tokens a second: more than two cores train, a tenth of what a GPU does.

Read next: pretrain.py.
"""

import dataclasses
import os
import random
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset

from minscl.data.packing import Pack, Step, pack
from minscl.data.sample_types import Sample
from study.error_injection import prepare_step
from study.evidence_tags import split_tags
from study.stream import Stream

MOST_WORKERS = 14
PACK_LENGTH = 4096


class PreparedStep(NamedTuple):
    """`tags`: (T,) of each pack, as evidence_tags.split_tags gives them; `kinds`: number of samples by kind."""

    step: Step
    tags: list[torch.Tensor]
    kinds: Counter

    def counts(self) -> dict[str, int]:
        """Samples by kind, and tokens, for metrics.jsonl."""
        return {**self.kinds, "tokens": self.step.tokens, "computed_tokens": self.step.computed_tokens}


class PreparedSteps(Dataset):
    """The steps of a run of `total` by their number; `vocabulary`: number of token ids; `joined`: in one pack each."""

    def __init__(self, stream: Stream, total: int, seed: int, vocabulary: int, joined: bool):
        self.stream, self.total, self.seed = stream, total, seed
        self.vocabulary, self.joined = vocabulary, joined

    def __len__(self) -> int:
        return self.total

    def __getitem__(self, number: int) -> PreparedStep:
        samples = self.stream.samples(number, number / self.total)
        step = pack_whole(samples, self.seed, number)
        if self.joined:
            step = dataclasses.replace(step, packs=(join_packs(step.packs),))
        step, tags = split_tags(step, self.vocabulary)
        step = prepare_step(step, random.Random(f"{self.seed}-{number}-errors"))
        return PreparedStep(step, tags, Counter(sample.kind for sample in samples))


def pack_whole(samples: list[Sample], seed: int = 0, epoch: int = 0) -> Step:
    """One step of all `samples`; a sample longer than PACK_LENGTH makes longer packs."""
    longest = max(PACK_LENGTH, *map(len, samples))
    [step] = pack(samples, pack_length=longest, batch_size=len(samples), seed=seed, epoch=epoch)
    return step


def join_packs(packs: tuple[Pack, ...]) -> Pack:
    """The packs end to end as one, each with the prefixes that its samples share: for a GPU, which runs a few long
    kernels faster than many short ones.

    A longer PACK_LENGTH would not do: in the backward pass of FlexAttention one thread block walks through all queries
    of a block of keys, and thousands of samples would queue for one prefix.
    """
    lengths: list[int] = []
    parents: list[int] = []
    for part in packs:
        parents += [parent if parent < 0 else parent + len(lengths) for parent in part.parents]
        lengths += part.lengths
    tensors = (torch.cat([getattr(part, name) for part in packs]) for name in ("input_ids", "positions", "labels"))
    return Pack(*tensors, tuple(lengths), tuple(parents))


def prepared_steps(dataset: PreparedSteps, first: int, device: torch.device) -> Iterable[PreparedStep]:
    """The steps from `first` on, in order; prepared ahead by other processes where a GPU trains."""
    workers = min(MOST_WORKERS, (os.cpu_count() or 1) - 1) if device.type == "cuda" else 0
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=range(first, len(dataset)),
        num_workers=workers,
        collate_fn=as_it_is,
        multiprocessing_context="fork" if workers else None,  # the stream is shared, not copied
    )


def as_it_is(prepared: PreparedStep) -> PreparedStep:
    """DataLoader's conversion would make tensors of the counts."""
    return prepared
