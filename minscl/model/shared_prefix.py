"""The attention mask of a packed training sequence: segments end to end, some sharing a prefix that is stored once.

    segments   [ instruction ][ span a ][ span b ][ note c ]      parents (-1, 0, 0, -1)
    span b     attends to all of instruction, and to span b causally

A segment attends to its ancestors in full and to itself causally, not to its siblings. So a prefix that many samples
share is computed once. This file only describes the mask; packed_attention.py computes attention under it.

Read next: packed_attention.py.
"""

import functools
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class SharedPrefixMask:
    """Segments by length (tokens, in order) and parent (index of an earlier segment, -1 for none)."""

    lengths: tuple[int, ...]
    parents: tuple[int, ...]

    @functools.cached_property
    def starts(self) -> tuple[int, ...]:
        """Where each segment begins in the packed sequence."""
        return tuple(sum(self.lengths[:index]) for index in range(len(self.lengths)))

    @functools.cached_property
    def has_shared_prefix(self) -> bool:
        """Whether any segment has a parent."""
        return any(parent >= 0 for parent in self.parents)

    def ancestors(self, segment: int) -> list[int]:
        """Indices of the segment's ancestors, from the root down to its parent."""
        path: list[int] = []
        while (segment := self.parents[segment]) >= 0:
            path.insert(0, segment)
        return path

    def mask_mod(self, device: torch.device | str = "cpu"):
        """The mask's definition as FlexAttention's mask_mod: (batch, head, query, key) → bool.

        query and key: int64 positions in the packed sequence, tensors of any broadcastable shapes; batch and head are
        not used.
        """
        visible = torch.eye(len(self.lengths), dtype=torch.bool)  # [segment, segment it attends to]
        for segment in range(len(self.lengths)):
            visible[segment, self.ancestors(segment)] = True
        indices, lengths = torch.arange(len(self.lengths)), torch.tensor(self.lengths)
        segment_of = torch.repeat_interleave(indices, lengths).to(device)  # (T,)
        visible = visible.to(device)
        return lambda batch, head, query, key: visible[segment_of[query], segment_of[key]] & (query >= key)

    def dense(self) -> torch.Tensor:
        """The mask as a bool tensor (T, T): whether the row's query may attend to the column's key."""
        positions = torch.arange(sum(self.lengths))
        return self.mask_mod()(None, None, positions[:, None], positions[None, :])
