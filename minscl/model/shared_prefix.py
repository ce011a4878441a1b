"""The attention mask of a packed training sequence: segments end to end, some sharing a prefix that is stored once.

    segments   [ instruction ][ span a ][ span b ][ note c ]      parents (-1, 0, 0, -1)
    span b     attends to all of instruction, and to span b causally

A segment attends to its ancestors in full and to itself causally, not to its siblings. So a prefix that many samples
share is computed once. This file only describes the mask; packed_attention.py computes attention under it.

Read next: packed_attention.py.
"""

import functools
import itertools
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
        return tuple(itertools.accumulate(self.lengths[:-1], initial=0))

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

    @functools.cached_property
    def visible(self) -> torch.Tensor:
        """int64 (N, 2), N pairs (segment, segment it attends to): each segment with its ancestors and with itself."""
        pairs = [(index, other) for index in range(len(self.lengths)) for other in (*self.ancestors(index), index)]
        return torch.tensor(pairs)

    def mask_mod(self, device: torch.device | str = "cpu"):
        """The mask's definition as FlexAttention's mask_mod: (batch, head, query, key) → bool.

        query and key: int64 positions in the packed sequence, tensors of any broadcastable shapes; batch and head are
        not used.
        """
        visible = torch.zeros(len(self.lengths), len(self.lengths), dtype=torch.bool)
        visible[self.visible[:, 0], self.visible[:, 1]] = True
        segment_of = torch.repeat_interleave(torch.tensor(self.lengths)).to(device)  # (T,)
        visible = visible.to(device)
        return lambda batch, head, query, key: visible[segment_of[query], segment_of[key]] & (query >= key)

    def blocks(self, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(blocks with anything to compute, those of them without a masked position), bool (T / size, T / size) each.

        Row: block of `size` queries; column: block of keys. A block that two segments' keys fill together counts as
        partly masked.
        """
        starts, lengths = torch.tensor(self.starts), torch.tensor(self.lengths)
        ends, count = starts + lengths, -(-sum(self.lengths) // size)
        queries, keys = self.visible.unbind(1)
        touched = rectangles(starts // size, (ends - 1) // size + 1, queries, keys, count)
        inside = rectangles(-(-starts // size), ends // size, queries, keys, count)
        touched, full = touched.tril(), inside.tril(-1)  # the causal diagonal is never without a masked position
        return touched, full

    def dense(self) -> torch.Tensor:
        """The mask as a bool tensor (T, T): whether the row's query may attend to the column's key."""
        positions = torch.arange(sum(self.lengths))
        return self.mask_mod()(None, None, positions[:, None], positions[None, :])


def rectangles(
    first: torch.Tensor, end: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, count: int
) -> torch.Tensor:
    """bool (count, count), true in rows first[r] .. end[r] - 1, columns first[c] .. end[c] - 1 of each pair (r, c).

    first, end: int64 (segments,); rows, columns: int64 (N,). A range with first ≥ end is empty.
    """
    differences = torch.zeros(count + 1, count + 1, dtype=torch.int64)  # of the number of rectangles at each place
    solid = (first < end)[rows] & (first < end)[columns]
    rows, columns = rows[solid], columns[solid]
    for row, column, change in ((first, first, 1), (first, end, -1), (end, first, -1), (end, end, 1)):
        changes = torch.full_like(rows, change)
        differences.index_put_((row[rows], column[columns]), changes, accumulate=True)
    return differences.cumsum(0).cumsum(1)[:count, :count] > 0
