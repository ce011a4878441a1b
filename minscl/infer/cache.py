"""The KV cache: keys and values of the tokens read so far, in a fixed number of slots, one per sequence.

The cache defines positions. Slot b holds the tokens `ids[b]` at positions 0 .. len(ids[b])-1. So prompts of different
lengths need no padding on the left, and a slot may be reused, rolled back or copied at any time.

    position 0 1 2 3 4 5     slot 0 has read 5 tokens, slot 1 has read 3 (· is empty, or from an earlier answer)
    slot 0   a b c d e       its next token gets position 5 and attends to 0-5
    slot 1   a b c · ·       its next token gets position 3 and attends to 0-3

Tokens are appended in two ways: `append_packed`, prompts laid end to end without padding; and `append_padded`, a few
tokens for each of slots 0 .. B-1, padded to the longest.

Letters: B slots, T new tokens, S cached positions, K kv heads, D head_dim.
Read next: masks.py; model/decoder.py, which calls `update` in every layer.
"""

from typing import NamedTuple

import torch

from minscl.errors import InputError
from minscl.infer.masks import DecodeMask, PrefillMask

CACHE_GROWTH = 64  # positions added at a time


class KVCache:
    """`slots` times `max_length` tokens: per layer, keys and values, (slots, K, max_length + 1, D) each.

    The position after max_length, the scratch position, is where padding is written.
    grows: positions are allocated as needed. For passes that read all allocated ones and mask those not in use:
    bfloat16 on a CPU, where matmul would first copy a part of them, and compiled passes.
    """

    def __init__(self, config, slots: int, max_length: int, *, device, dtype: torch.dtype, grows: bool = False):
        self.max_length, self.device, self.grows = max_length, device, grows
        positions = min(CACHE_GROWTH, max_length + 1) if grows else max_length + 1
        shape = (slots, config.num_key_value_heads, positions, config.head_dim)
        # Zeros, because attention multiplies even a masked value by its weight 0, and 0 · NaN is NaN.
        self.keys = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.num_hidden_layers)]
        self.values = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.num_hidden_layers)]
        self.ids: list[list[int]] = [[] for _ in range(slots)]
        # For the next pass: the slots written, int64 (B or 1, 1 or T), and the part of the cache that attention reads.
        self._slots = torch.empty(0, dtype=torch.int64)
        self._visible = (slice(None), slice(None))

    @staticmethod
    def bytes_per_slot(config, max_length: int, dtype: torch.dtype) -> int:
        """Bytes of one slot's keys and values in all layers."""
        heads, layers = config.num_key_value_heads, config.num_hidden_layers
        return 2 * layers * heads * (max_length + 1) * config.head_dim * dtype.itemsize

    @property
    def scratch(self) -> int:
        """The last position: padding is written there, and no query attends to it."""
        return self.keys[0].shape[2] - 1

    def append_packed(self, tokens: dict[int, list[int]]) -> tuple[torch.Tensor, PrefillMask]:
        """Append `tokens[slot]` to each slot for a packed pass.

        Returns all positions end to end, int64 (1, T), and the mask. Raises InputError where a slot is full.
        """
        lengths = [len(self.ids[slot]) for slot in tokens]
        self._append(tokens)
        counts = [len(part) for part in tokens.values()]
        positions = torch.cat(
            [torch.arange(length, length + count) for length, count in zip(lengths, counts, strict=True)]
        )
        slots = torch.repeat_interleave(torch.tensor(list(tokens)), torch.tensor(counts))
        self.select(slots[None].to(self.device), slice(None), slice(None))
        return positions[None].to(self.device), PrefillMask(tuple(tokens), tuple(lengths), tuple(counts))

    def append_padded(self, tokens: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor | DecodeMask | None]:
        """Append `tokens[b]`, at least one, to slot b, for a pass over slots 0 .. B-1 padded to T, the longest of them.

        Returns the positions, int64 (B, T), and the mask, bool (B, 1, T, S): a token attends to its own position and
        the earlier ones of its slot. With one token per slot: no mask if all slots have the same length; else, in
        float32 on a CPU, a DecodeMask, so that each slot's matmul is only as long as the slot. Raises InputError where
        one is full.
        """
        lengths = torch.tensor(self.reserve(tokens))
        counts = torch.tensor([len(part) for part in tokens])
        offsets, visible = torch.arange(int(counts.max())), int((lengths + counts).max())
        if self.grows and self.keys[0].dtype != torch.float32:
            visible = self.scratch + 1
        positions = torch.where(offsets < counts[:, None], lengths[:, None] + offsets, self.scratch)
        one_token = len(offsets) == 1
        mask: torch.Tensor | DecodeMask | None
        if one_token and bool((lengths + 1 == visible).all()):
            mask = None
        elif one_token and self.keys[0].dtype == torch.float32 and self.keys[0].device.type == "cpu":
            mask = DecodeMask(tuple(range(len(tokens))), tuple((lengths + 1).tolist()))
        else:
            mask = (torch.arange(visible) <= positions[:, :, None])[:, None].to(self.device)  # (B, 1, T, S)
        self.select(torch.arange(len(tokens), device=self.device)[:, None], slice(len(tokens)), slice(visible))
        return positions.to(self.device), mask

    def reserve(self, tokens: list[list[int]]) -> list[int]:
        """Append `tokens[b]` to the ids of slot b; returns the position of each slot's first new token.

        Raises InputError where a slot is full.
        """
        lengths = [len(ids) for ids in self.ids[: len(tokens)]]
        self._append(dict(enumerate(tokens)))
        return lengths

    def select(self, slots: torch.Tensor, rows: slice, positions: slice) -> None:
        """For the next pass: write into `slots`, int64 (B or 1, 1 or T); read the cache's `rows` and `positions`."""
        self._slots, self._visible = slots, (rows, positions)

    def layer(self, index: int) -> "LayerCache":
        """What block `index` writes and reads in the next pass."""
        return LayerCache(self.keys[index], self.values[index], self._slots, *self._visible)

    def rollback(self, slot: int, count: int) -> None:
        """Drop the last `count` tokens of `slot`; their keys and values are overwritten before they are read."""
        del self.ids[slot][len(self.ids[slot]) - count :]

    def copy(self, source: int, target: int, count: int) -> None:
        """Make `target` hold the first `count` tokens of `source`; with source == target, truncate it to them."""
        if source != target:
            for tensor in (*self.keys, *self.values):
                tensor[target, :, :count] = tensor[source, :, :count]
        self.ids[target] = self.ids[source][:count]

    def _append(self, tokens: dict[int, list[int]]) -> None:
        for slot, part in tokens.items():
            if len(self.ids[slot]) + len(part) > self.max_length:
                raise InputError(
                    f"the KV cache holds {self.max_length} tokens per slot, {len(self.ids[slot]) + len(part)} are "
                    "needed; create it with a larger max_length"
                )
            self.ids[slot].extend(part)
        longest = max(map(len, self.ids))
        if longest > self.scratch:
            self._grow(min(-(-(longest + 1) // CACHE_GROWTH) * CACHE_GROWTH, self.max_length + 1))

    def _grow(self, positions: int) -> None:
        """Allocate `positions` in each layer, the scratch position included."""
        for tensors in (self.keys, self.values):
            for index, old in enumerate(tensors):
                tensors[index] = old.new_zeros(*old.shape[:2], positions, old.shape[3])
                tensors[index][:, :, : old.shape[2]] = old


class LayerCache(NamedTuple):
    """One layer's keys and values (slots, K, max_length + 1, D) in one pass.

    The pass writes into `slots`, int64 (B or 1, 1 or T), and reads `rows` and `visible` positions.
    """

    keys: torch.Tensor
    values: torch.Tensor
    slots: torch.Tensor
    rows: slice
    visible: slice

    def update(
        self, key: torch.Tensor, value: torch.Tensor, positions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store key and value (B, K, T, D) at `positions` (B, T); returns the visible part, two views (B, K, S, D)."""
        heads = torch.arange(key.shape[1], device=key.device)
        where = (self.slots[:, None], heads[:, None], positions[:, None])  # (B or 1, 1, 1 or T), (K, 1), (B, 1, T)
        self.keys[where], self.values[where] = key, value  # scatter_ is slow in bfloat16
        return self.keys[self.rows, :, self.visible], self.values[self.rows, :, self.visible]
