"""Keys and values of the tokens a batch has read: preallocated, each row filled up to its own length.

The cache owns position. Row b holds `lengths[b]` tokens, in slots 0 .. lengths[b]-1, and a token's slot is its
absolute position. So prompts of different lengths need no padding on the left: after the prefill of a batch padded on
the right, a row's next token overwrites its first padding slot.

    slot    0 1 2 3 4 5      row 0 has read 5 tokens, row 1 has read 3 (· was padding or is empty)
    row 0   a b c d e        its next token goes to slot 5 and sees slots 0-5
    row 1   a b c · ·        its next token goes to slot 3 and sees slots 0-3

Letters: B rows, T new tokens, S slots in use, K kv heads, D head_dim.
Read next: decode.py, which drives it; model/decoder.py, which calls `update` in every layer.
"""

import torch

from minscl.errors import InputError


class KVCache:
    """Room for `max_length` tokens a row in each layer, B·K·max_length·D numbers for the keys and as many values."""

    def __init__(self, config, batch_size: int, max_length: int, *, device, dtype):
        shape = (batch_size, config.num_key_value_heads, max_length + 1, config.head_dim)  # one spare slot, for padding
        # Zeros, because attention multiplies even a masked value by its weight 0, and 0 · NaN is NaN.
        self.keys = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.num_hidden_layers)]
        self.values = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.num_hidden_layers)]
        self.max_length = max_length
        self.lengths = torch.zeros(batch_size, dtype=torch.int64, device=device)  # (B,) tokens held by each row
        self._held = [0] * batch_size  # the same on the host
        self.extent = 0  # the largest of them, kept on the host: attention reads no slot beyond it

    def start(self, lengths: list[int]) -> None:
        """An empty cache takes prompts of these lengths; the prefill's `update` must follow."""
        self._reach(max(lengths))
        self._held = list(lengths)
        self.lengths = torch.tensor(lengths, dtype=torch.int64, device=self.lengths.device)  # (B,)

    def advance(self, counts: list[int]):
        """Claim the next `counts[b]` slots of row b, for T = max(counts) new tokens of which a row's last T - counts[b] are padding.

        Gives their positions, int64 (B, T), and the mask, bool (B, 1, T, S): a token sees its own slot and the row's earlier ones.
        """
        device, before = self.lengths.device, self.lengths
        self._held = [held + count for held, count in zip(self._held, counts, strict=True)]
        self._reach(max(self._held))
        self.lengths = torch.tensor(self._held, dtype=torch.int64, device=device)
        positions = before[:, None] + torch.arange(max(counts), device=device)  # (B, T)
        spare = self.keys[0].shape[2] - 1
        positions = torch.where(positions < self.lengths[:, None], positions, spare)  # padding is written where nobody looks
        slots = torch.arange(self.extent, device=device)  # (S,)
        return positions, (slots <= positions[:, :, None])[:, None]  # (B, T), (B, 1, T, S)

    def retract(self, counts: list[int]) -> None:
        """Give back the last `counts[b]` slots of row b: what they hold is written over before it is seen."""
        if any(counts):
            self._held = [held - count for held, count in zip(self._held, counts, strict=True)]
            self.lengths = torch.tensor(self._held, dtype=torch.int64, device=self.lengths.device)
            self.extent = max(self._held)

    def update(self, layer: int, key, value, positions):
        """Store key and value (B, K, T, D) at `positions` (B, T); gives all in use, two views (B, K, S, D)."""
        keys, values = self.keys[layer], self.values[layer]
        rows = torch.arange(key.shape[0], device=key.device)[:, None]  # (B, 1)
        keys.transpose(1, 2)[rows, positions] = key.transpose(1, 2)  # (B, T, K, D) into (B, S, K, D): scatter_ is slow in bfloat16
        values.transpose(1, 2)[rows, positions] = value.transpose(1, 2)
        return keys[:, :, : self.extent], values[:, :, : self.extent]

    def _reach(self, extent: int) -> None:
        if extent > self.max_length:
            raise InputError(f"the KV cache holds {self.max_length} tokens a row, {extent} are needed; make it with a larger max_length")
        self.extent = extent
