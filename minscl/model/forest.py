"""Attention of a packed sequence: segments laid end to end, each of which sees its ancestors whole and itself causally.

    segments   [ instruction ][ span a ][ span b ][ note c ]      parents (-1, 0, 0, -1)
    allowed    query in span b → all of instruction, and span b up to the query

So a beginning that many samples share is computed once. `Forest.allowed` is the one definition of the mask; the CPU computes the same
attention segment by segment, brothers together in one padded batch, at the cost of the segments alone. On a GPU the dense mask is used.

Read next: ops.py.
"""

import functools
from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Forest:
    """Segments by length (tokens, in order) and parent (index of an earlier segment, -1 for none)."""

    lengths: tuple[int, ...]
    parents: tuple[int, ...]

    @functools.cached_property
    def starts(self) -> tuple[int, ...]:
        return tuple(sum(self.lengths[:index]) for index in range(len(self.lengths)))

    def ancestors(self, segment: int) -> list[int]:
        """From the root down to the parent."""
        found = []
        while (segment := self.parents[segment]) >= 0:
            found.insert(0, segment)
        return found

    def allowed(self, device="cpu") -> torch.Tensor:
        """Bool (T, T): whether the row's query may attend to the column's key."""
        above = torch.eye(len(self.lengths), dtype=torch.bool)
        for segment in range(len(self.lengths)):
            above[segment, self.ancestors(segment)] = True
        segment = torch.repeat_interleave(torch.arange(len(self.lengths)), torch.tensor(self.lengths))  # (T,)
        index = torch.arange(len(segment))
        return (above[segment[:, None], segment[None, :]] & (index[:, None] >= index[None, :])).to(device)

    @functools.cached_property
    def brothers(self) -> list[tuple[int, list[int], torch.Tensor]]:
        """(parent, its children, index (N, L)): where each child's tokens stand, the last one repeated up to the longest child's length."""
        found = []
        for parent in sorted(set(self.parents) - {-1}):
            children = [index for index, one in enumerate(self.parents) if one == parent]
            lengths = torch.tensor([self.lengths[one] for one in children])
            steps = torch.arange(int(lengths.max()))[None].minimum(lengths[:, None] - 1)
            found.append((parent, children, torch.tensor([self.starts[one] for one in children])[:, None] + steps))
        return found

    def attention(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """query (1, H, T, D), key and value (1, K, T, D) → (1, H, T, D)."""
        grouped = query.shape[1] != key.shape[1]
        if query.is_cuda:
            return F.scaled_dot_product_attention(query, key, value, attn_mask=self.allowed(query.device), enable_gqa=grouped)
        parts: list = [None] * len(self.lengths)
        queries, keys, values = (x.split(self.lengths, dim=2) for x in (query, key, value))
        for root in (index for index, parent in enumerate(self.parents) if parent < 0):
            parts[root] = F.scaled_dot_product_attention(queries[root], keys[root], values[root], is_causal=True, enable_gqa=grouped)
        for parent, children, index in self.brothers:
            above = [*self.ancestors(parent), parent]
            N, L = index.shape
            q, k, v = (x[0][:, index].transpose(0, 1) for x in (query, key, value))  # (N, H or K, L, D)
            k, v = (torch.cat((torch.cat([one[a] for a in above], dim=2).expand(N, -1, -1, -1), x), dim=2) for one, x in ((keys, k), (values, v)))
            mask = torch.ones(L, k.shape[2], dtype=torch.bool).tril(k.shape[2] - L)  # all ancestors, itself causally; padding comes last
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=grouped)  # (N, H, L, D)
            for child, row in zip(children, mixed, strict=True):
                parts[child] = row[None, :, : self.lengths[child]]
        return torch.cat(parts, dim=2)
