"""Attention of a packed sequence: segments laid end to end, each of which sees its ancestors whole and itself causally.

    segments   [ instruction ][ span a ][ span b ][ note c ]      parents (-1, 0, 0, -1)
    allowed    query in span b → all of instruction, and span b up to the query

So a beginning that many samples share is computed once. `SharedPrefixMask.sees` defines who attends to whom. On a GPU it becomes FlexAttention's block
mask (flex.py); on a CPU, and where no beginning is shared, `SharedPrefixMask.attention` computes the same without a mask, segment by segment, siblings
together in one padded batch, at the cost of the segments alone.

Read next: flex.py, or ops.py.
"""

import functools
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from minscl.model import flex

ALONE = 96  # tokens; a longer segment gets attention of its own, causal, which is cheaper than a mask


@dataclass(frozen=True)
class SharedPrefixMask:
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

    def sees(self, device="cpu"):
        """The mask's definition: a function (query, key) -> bool of positions in the pack, int64 tensors of any (broadcasting) shape."""
        above = torch.eye(len(self.lengths), dtype=torch.bool)
        for segment in range(len(self.lengths)):
            above[segment, self.ancestors(segment)] = True
        segment = torch.repeat_interleave(torch.arange(len(self.lengths)), torch.tensor(self.lengths)).to(
            device
        )  # (T,)
        above = above.to(device)
        return lambda query, key: above[segment[query], segment[key]] & (query >= key)

    def allowed(self) -> torch.Tensor:
        """Bool (T, T): whether the row's query may attend to the column's key."""
        index = torch.arange(sum(self.lengths))
        return self.sees()(index[:, None], index[None, :])

    @functools.cached_property
    def shared(self) -> bool:
        """Whether any segment has a parent."""
        return any(parent >= 0 for parent in self.parents)

    def blocks(self, device):
        """The block mask, made once for all layers."""
        if device not in self._blocks:
            self._blocks[device] = flex.block_mask(self.sees(device), sum(self.lengths), device)
        return self._blocks[device]

    @functools.cached_property
    def _blocks(self) -> dict:
        return {}

    @functools.cached_property
    def siblings(self) -> list[tuple[int, list[int], torch.Tensor]]:
        """(parent, children, index (N, L)): short siblings of similar length, where each one's tokens stand, the last one repeated up to L."""
        found: list[tuple[int, list[int]]] = []
        for child in sorted(range(len(self.lengths)), key=lambda one: (self.parents[one], self.lengths[one])):
            parent, length = self.parents[child], self.lengths[child]
            if parent < 0 or length > ALONE:
                continue
            if not found or found[-1][0] != parent or length > 2 * self.lengths[found[-1][1][0]] + 8:
                found.append((parent, []))
            found[-1][1].append(child)
        return [(parent, children, self._index(children)) for parent, children in found]

    def _index(self, children) -> torch.Tensor:
        lengths, starts = (
            torch.tensor([self.lengths[one] for one in children]),
            torch.tensor([self.starts[one] for one in children]),
        )
        return starts[:, None] + torch.arange(int(lengths.max()))[None].minimum(lengths[:, None] - 1)

    def attention(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """query (1, H, T, D), key and value (1, K, T, D) → (1, H, T, D)."""
        if self.shared and flex.usable(query.device):
            return flex.attend(query, key, value, self.blocks(query.device))
        grouped = query.shape[1] != key.shape[1]
        split = [x.split(self.lengths, dim=2) for x in (query, key, value)]
        parts: list = [None] * len(self.lengths)
        for one in range(
            len(self.lengths)
        ):  # roots and long segments: causal, with the few queries of their ancestors done again
            if self.parents[one] < 0 or self.lengths[one] > ALONE:
                q, k, v = (torch.cat([x[index] for index in (*self.ancestors(one), one)], dim=2) for x in split)
                parts[one] = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)[
                    :, :, -self.lengths[one] :
                ]
        for parent, children, index in self.siblings:
            above = (*self.ancestors(parent), parent)
            N, L = index.shape
            q, k, v = (x[0][:, index].transpose(0, 1) for x in (query, key, value))  # (N, H or K, L, D)
            k, v = (
                torch.cat((torch.cat([x[index] for index in above], dim=2).expand(N, -1, -1, -1), own), dim=2)
                for x, own in ((split[1], k), (split[2], v))
            )
            mask = torch.ones(L, k.shape[2], dtype=torch.bool, device=k.device).tril(
                k.shape[2] - L
            )  # all ancestors, itself causally; padding comes last
            if (
                q.device.type == "cpu"
            ):  # where the backward of a masked bfloat16 attention takes twice as long as float32's
                q, k, v = (x.float() if x.dtype == torch.bfloat16 else x for x in (q, k, v))
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=grouped).to(
                query.dtype
            )  # (N, H, L, D)
            for child, row in zip(children, mixed, strict=True):
                parts[child] = row[None, :, : self.lengths[child]]
        return torch.cat(parts, dim=2)
