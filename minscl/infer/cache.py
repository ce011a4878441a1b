"""Keys and values of the tokens that have been read: a fixed number of slots, each with room for one answer and its prompt.

The cache owns position. Slot b holds the tokens `ids[b]`, in places 0 .. len(ids[b])-1, and a token's place is its absolute position. So
prompts of different lengths need no padding on the left, and a slot may be taken over, cut back or copied whenever its reader likes.

    place   0 1 2 3 4 5      slot 0 has read 5 tokens, slot 1 has read 3 (· is empty, or left from an earlier answer)
    slot 0  a b c d e        its next token goes to place 5 and sees places 0-5
    slot 1  a b c · ·        its next token goes to place 3 and sees places 0-3

Tokens are read in two ways: `claim`, prompts laid end to end without padding; and `advance`, a few tokens of slots 0 .. B-1 at once.

Letters: B slots, T new tokens, S places in use, H query heads, K kv heads, D head_dim.
Read next: engine.py, which drives it; model/decoder.py, which calls `update` in every layer.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F

from minscl.errors import InputError
from minscl.model.ops import attention

PIECE = 256  # places by which a growing cache grows
ROWS = 128  # tokens of a prompt whose scores are computed together (chunked_attention)


class KVCache:
    """`slots` times `max_length` tokens: in each layer slots·K·max_length·D numbers for the keys and as many values.

    `grows`: room is made as it is needed, and a pass sees all of it, masked. For bfloat16 on a CPU, where products copy a tensor that is not whole
    before they read it, which takes longer than the product.
    """

    def __init__(self, config, slots: int, max_length: int, *, device, dtype, grows: bool = False):
        self.max_length, self.device, self.grows = max_length, device, grows
        shape = (
            slots,
            config.num_key_value_heads,
            min(PIECE, max_length + 1) if grows else max_length + 1,
            config.head_dim,
        )
        # Zeros, because attention multiplies even a masked value by its weight 0, and 0 · NaN is NaN.
        self.keys = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.num_hidden_layers)]
        self.values = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.num_hidden_layers)]
        self.ids: list[list[int]] = [[] for _ in range(slots)]
        self._slots, self._seen = (
            None,
            (slice(None), slice(None)),
        )  # of the pass under way: slots written (B or 1, T or 1), part of the cache that is seen

    @staticmethod
    def bytes_per_slot(config, max_length: int, dtype: torch.dtype) -> int:
        return (
            2
            * config.num_hidden_layers
            * config.num_key_value_heads
            * (max_length + 1)
            * config.head_dim
            * dtype.itemsize
        )

    @property
    def spare(self) -> int:
        """The last place, where padding is written and nobody looks."""
        return self.keys[0].shape[2] - 1

    def claim(self, parts: dict[int, list[int]]) -> tuple[torch.Tensor, "PrefillMask"]:
        """Slot → the tokens that it reads next. Gives their positions end to end, int64 (1, T), and who sees what."""
        before = [len(self.ids[slot]) for slot in parts]
        self._append(parts.items())
        counts = [len(tokens) for tokens in parts.values()]
        positions = torch.cat([torch.arange(start, start + count) for start, count in zip(before, counts, strict=True)])
        slots = torch.repeat_interleave(torch.tensor(list(parts)), torch.tensor(counts))
        self.look(slots[None].to(self.device), slice(None), slice(None))
        return positions[None].to(self.device), PrefillMask(tuple(parts), tuple(before), tuple(counts))

    def advance(self, parts: list[list[int]]) -> tuple[torch.Tensor, "torch.Tensor | DecodeMask | None"]:
        """Slot b reads `parts[b]`, at least one token; slots 0 .. B-1 for T = the longest of them, the others padded.

        Gives the positions, int64 (B, T), and the mask, bool (B, 1, T, S): a token sees its own place and the earlier ones of its slot. Where every slot reads
        one token, no mask if all are as long, and DecodeMask for float32 on a CPU, whose products can be as wide as each slot is long.
        """
        before = torch.tensor(self.take(parts))
        counts = torch.tensor([len(tokens) for tokens in parts])
        offsets, extent = torch.arange(int(counts.max())), int((before + counts).max())
        if self.grows:
            extent = self.spare + 1
        positions = torch.where(offsets < counts[:, None], before[:, None] + offsets, self.spare)
        single = len(offsets) == 1
        if single and bool((before + 1 == extent).all()):
            mask = None
        elif single and self.keys[0].dtype == torch.float32 and self.keys[0].device.type == "cpu":
            mask = DecodeMask(tuple((before + 1).tolist()))
        else:
            mask = (torch.arange(extent) <= positions[:, :, None])[:, None].to(self.device)  # (B, 1, T, S)
        self.look(torch.arange(len(parts), device=self.device)[:, None], slice(len(parts)), slice(extent))
        return positions.to(self.device), mask

    def take(self, parts: list[list[int]]) -> list[int]:
        """Note that slot b holds `parts[b]` too; gives the place of each one's first token."""
        before = [len(ids) for ids in self.ids[: len(parts)]]
        self._append(enumerate(parts))
        return before

    def look(self, slots: torch.Tensor, rows: slice, places: slice) -> None:
        """The coming pass writes into `slots`, int64 (B or 1, 1 or T), and sees the cache's `rows` and `places`."""
        self._slots, self._seen = slots, (rows, places)

    def layer(self, number: int) -> "Layer":
        """What block `number` writes and sees in the coming pass."""
        return Layer(self.keys[number], self.values[number], self._slots, *self._seen)

    def retract(self, slot: int, count: int) -> None:
        """Give back the last `count` places: what they hold is written over before it is seen."""
        del self.ids[slot][len(self.ids[slot]) - count :]

    def copy(self, source: int, target: int, count: int) -> None:
        """Let `target` hold the first `count` tokens of `source`; within one slot, cut it back to them."""
        if source != target:
            for tensor in (*self.keys, *self.values):
                tensor[target, :, :count] = tensor[source, :, :count]
        self.ids[target] = self.ids[source][:count]

    def _append(self, parts) -> None:
        for slot, tokens in parts:
            if len(self.ids[slot]) + len(tokens) > self.max_length:
                raise InputError(
                    f"the KV cache holds {self.max_length} tokens a slot, {len(self.ids[slot]) + len(tokens)} are needed; make it with a larger max_length"
                )
            self.ids[slot].extend(tokens)
        longest = max(map(len, self.ids))
        if longest > self.spare:
            self._grow(min(-(-(longest + 1) // PIECE) * PIECE, self.max_length + 1))

    def _grow(self, places: int) -> None:
        """Room for `places` in each layer, the spare one included."""
        for layers in (self.keys, self.values):
            for layer, old in enumerate(layers):
                layers[layer] = old.new_zeros(*old.shape[:2], places, old.shape[3])
                layers[layer][:, :, : old.shape[2]] = old


class Layer(NamedTuple):
    """One layer's keys and values (slots, K, S, D) in one pass: it writes into `slots`, int64 (B or 1, 1 or T), and sees `rows` and `places`."""

    keys: torch.Tensor
    values: torch.Tensor
    slots: torch.Tensor
    rows: slice = slice(None)
    places: slice = slice(None)

    def update(self, key: torch.Tensor, value: torch.Tensor, positions: torch.Tensor):
        """Store key and value (B, K, T, D) at `positions` (B, T); gives what is seen, two views (B, K, S, D)."""
        where = (
            self.slots[:, None],
            torch.arange(key.shape[1], device=key.device)[:, None],
            positions[:, None],
        )  # (B or 1, 1, T), (K, 1), (B, 1, T)
        self.keys[where], self.values[where] = key, value  # scatter_ is slow in bfloat16
        return self.keys[self.rows, :, self.places], self.values[self.rows, :, self.places]


@dataclass(frozen=True)
class PrefillMask:
    """The mask of a pass in which several slots read, one after the other: `counts[i]` tokens of slot `slots[i]`, which held `before[i]`."""

    slots: tuple[int, ...]
    before: tuple[int, ...]
    counts: tuple[int, ...]

    def attention(self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """query (1, H, T, D), the cache's keys and values (slots, K, S, D) → (1, H, T, D): each slot by itself, no wider than it is long. With one query
        a slot they are those of each slot's last token."""
        grouped, mixed = query.shape[1] != keys.shape[1], []
        counts = self.counts if query.shape[2] == sum(self.counts) else [1] * len(self.counts)
        for part, slot, before, count in zip(
            query.split(counts, dim=2), self.slots, self.before, self.counts, strict=True
        ):
            end = before + count
            key, value = keys[slot : slot + 1, :, :end], values[slot : slot + 1, :, :end]
            if part.shape[2] == 1:
                mixed.append(attention(part, key, value, None))
                continue
            if before and query.device.type == "cuda":
                mixed.append(continued(part, key, value))
                continue
            if query.device.type == "cpu" and query.dtype == torch.bfloat16:
                mixed.append(chunked_attention(part, key, value))
                continue
            mask = (
                torch.ones(part.shape[2], end, dtype=torch.bool, device=query.device).tril(before) if before else None
            )
            mixed.append(
                F.scaled_dot_product_attention(
                    part, key, value, attn_mask=mask, is_causal=mask is None, enable_gqa=grouped
                )
            )
        return torch.cat(mixed, dim=2)


@dataclass(frozen=True)
class DecodeMask:
    """The mask of a pass in which slots 0 .. B-1 read one token each, on a CPU in float32: slot b sees its first `ends[b]` places."""

    ends: tuple[int, ...]

    def attention(self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """query (B, H, 1, D), the cache's keys and values (B, K, S, D) → (B, H, 1, D): each slot by itself, no wider than it is long."""
        parts = zip(query.split(1), keys.split(1), values.split(1), self.ends, strict=True)
        return torch.cat([attention(part, key[:, :, :end], value[:, :, :end], None) for part, key, value, end in parts])


def continued(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """query (1, H, T, D), the last T of the keys and values (1, K, S, D) → (1, H, T, D), causal, for a GPU: heads written out and the mask as torch's own
    object, since a mask of bools with grouped heads would leave flash attention for a path that keeps all scores."""
    from torch.nn.attention.bias import causal_lower_right  # brings torch's compiler with it: a second at every start

    key, value = (one.repeat_interleave(query.shape[1] // one.shape[1], dim=1) for one in (key, value))
    return F.scaled_dot_product_attention(query, key, value, attn_mask=causal_lower_right(query.shape[2], key.shape[2]))


def chunked_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """query (1, H, T, D), the last T of the keys and values (1, K, S, D) → (1, H, T, D), causal, for bfloat16 on a CPU: ROWS tokens at a time as plain
    products, since torch's fused attention leaves much of oneDNN's speed there unused. Scores are rounded to bfloat16 before the softmax, as in
    transformers' eager attention."""
    (_, H, T, D), (_, K, S, _) = query.shape, key.shape
    query, mixed = (query * D**-0.5).view(K, H // K, T, D), torch.empty(K, H // K, T, D, dtype=query.dtype)
    later = torch.ones(ROWS, ROWS, dtype=torch.bool).triu(1)
    for first in range(0, T, ROWS):
        rows = query[:, :, first : first + ROWS]  # (K, H/K, R, D)
        seen = S - T + first + rows.shape[2]
        scores = (rows.reshape(K, -1, D) @ key[0, :, :seen].mT).view(*rows.shape[:3], seen)
        scores[..., -rows.shape[2] :].masked_fill_(later[: rows.shape[2], : rows.shape[2]], float("-inf"))
        mixed[:, :, first : first + ROWS] = (scores.softmax(-1).view(K, -1, seen) @ value[0, :, :seen]).view(rows.shape)
    return mixed.view(1, H, T, D)
