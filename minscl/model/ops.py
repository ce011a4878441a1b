"""The decoder's maths as pure functions: RMSNorm, RoPE with its scalings, attention.

Shapes: B batch, T new tokens, S cached keys, C hidden, H query heads, K key/value heads, D head_dim.

Read next: decoder.py, which holds the weights; packed_attention.py, attention of a packed training sequence.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeAlias

import torch
import torch.nn.functional as F

from minscl.model.config import RopeConfig
from minscl.model.packed_attention import shared_prefix_attention
from minscl.model.shared_prefix import SharedPrefixMask

QUERY_CHUNK = 128  # queries of a prompt whose scores are computed together (chunked_attention)


class Segment(NamedTuple):
    """Consecutive queries of one sequence: its last tokens, which attend causally to its keys.

    queries: a slice of the pass's B · T queries. row: the batch row of keys and values that holds the sequence.
    keys: how many keys it has, from the beginning of the row.
    """

    queries: slice
    row: int
    keys: int


class SegmentMask(Protocol):
    """A mask described by segments that cover the queries in order (infer/masks.py)."""

    @property
    def segments(self) -> Sequence[Segment]:
        """The segments, in the order of the queries."""
        ...


Mask: TypeAlias = torch.Tensor | SharedPrefixMask | SegmentMask | None  # see `attention`


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """x / sqrt(mean(x²) + eps) · weight over the last dimension: x (..., C), weight (C,) → (..., C) in x's dtype.

    The mean square is computed in float32 and the quotient cast back to x's dtype before the weight is applied.
    """
    wide = x if x.dtype == torch.float64 else x.float()
    return weight * F.rms_norm(wide, wide.shape[-1:], eps=eps).to(x.dtype)


@functools.lru_cache(maxsize=8)
def rope_frequencies(
    rope: RopeConfig, head_dim: int, max_positions: int, device: torch.device | str = "cpu"
) -> tuple[torch.Tensor, float]:
    """RoPE's angles per position, float32 (D/2,) on `device`, and the factor on cos and sin (1 except for yarn).

    Source: transformers' modeling_rope_utils.
    """
    if torch.device(device).type != "cpu":  # computed on the CPU, so that the numbers are the same on every device
        frequencies, factor = rope_frequencies(rope, head_dim, max_positions)
        return frequencies.to(device), factor
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
    frequencies = 1.0 / (rope.rope_theta**exponents)  # (D/2,)
    if rope.rope_type == "linear":
        return frequencies / rope.factor, 1.0
    if rope.rope_type == "llama3":
        return _llama3_frequencies(rope, frequencies), 1.0
    if rope.rope_type == "yarn":
        return _yarn_frequencies(rope, frequencies, head_dim, max_positions)
    return frequencies, 1.0


def _llama3_frequencies(rope: RopeConfig, frequencies: torch.Tensor) -> torch.Tensor:
    """Long wavelengths are stretched by `factor`, short ones left alone, those in between interpolated."""
    context, low, high = rope.original_max_position_embeddings, rope.low_freq_factor, rope.high_freq_factor
    assert context is not None and low is not None and high is not None  # ModelConfig.from_dict requires them
    wavelengths = 2 * math.pi / frequencies
    blend = (context / wavelengths - low) / (high - low)
    blend = blend.clamp(0, 1)
    return (1 - blend) * frequencies / rope.factor + blend * frequencies


def _yarn_frequencies(
    rope: RopeConfig, frequencies: torch.Tensor, head_dim: int, max_positions: int
) -> tuple[torch.Tensor, float]:
    """YaRN (arXiv 2309.00071): a linear ramp from original to stretched frequencies, and a factor on cos and sin."""
    context = rope.original_max_position_embeddings or max_positions

    def dimension(rotations: float) -> float:
        """The (fractional) dimension whose angle makes `rotations` turns over the original context."""
        return head_dim * math.log(context / (rotations * 2 * math.pi)) / (2 * math.log(rope.rope_theta))

    low, high = dimension(rope.beta_fast or 32), dimension(rope.beta_slow or 1)
    if rope.truncate is None or rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    high = high + 0.001 if low == high else high
    ramp = ((torch.arange(head_dim // 2, dtype=torch.float32) - low) / (high - low)).clamp(0, 1)
    frequencies = ramp * frequencies / rope.factor + (1 - ramp) * frequencies

    def temperature(scale: float) -> float:
        return 0.1 * scale * math.log(rope.factor) + 1.0 if rope.factor > 1 else 1.0

    if rope.attention_factor is not None:
        return frequencies, rope.attention_factor
    if rope.mscale and rope.mscale_all_dim:
        return frequencies, temperature(rope.mscale) / temperature(rope.mscale_all_dim)
    return frequencies, temperature(1.0)


def apply_rope(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """RoPE, rotate-half: x (B, H, T, D), cos and sin (B, 1, T, D) in x's dtype, sin negated in the first half of D."""
    return x * cos + x.roll(x.shape[-1] // 2, dims=-1) * sin


def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Mask) -> torch.Tensor:
    """softmax(q kᵀ / √D) v: query (B, H, T, D), key and value (B, K, S, D) → (B, H, T, D), in query's dtype.

    Each key/value head serves H/K query heads. `mask` says which keys a query attends to:
    None: causal with S = T, or all S keys where T = 1; a bool tensor (B or 1, 1, T, S): True where it may attend;
    a SharedPrefixMask: a packed training sequence, B = 1; a SegmentMask: slots of a KV cache (infer/masks.py).
    """
    if mask is None or isinstance(mask, torch.Tensor):
        return dense_attention(query, key, value, mask)
    if isinstance(mask, SharedPrefixMask):
        return shared_prefix_attention(query, key, value, mask)
    (B, H, T, D), queries = query.shape, query.transpose(1, 2).flatten(0, 1)  # (B·T, H, D)
    output = torch.empty_like(queries, memory_format=torch.contiguous_format)
    for segment in mask.segments:  # one at a time, so that none computes more keys than it attends to
        keys, values = (x[segment.row : segment.row + 1, :, : segment.keys] for x in (key, value))
        part = causal_attention(queries[segment.queries].transpose(0, 1)[None], keys, values)
        output[segment.queries] = part[0].transpose(0, 1)
    return output.view(B, T, H, D).transpose(1, 2)


def dense_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """`attention` without a mask (causal) or with a bool tensor; shapes as there."""
    B, H, T, D = query.shape
    if T == 1:  # the queries of one key/value head as rows of one matmul, so that its keys and values are read once
        grouped = one_token_attention(query.reshape(B, key.shape[1], -1, D), key, value, mask)
        return grouped.reshape(B, H, T, D)  # a GPU's kernel may give it in another order
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=mask is None, enable_gqa=key.shape[1] != H
    )


def one_token_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """Attention of one new token: query (B, K, H/K, D), its heads grouped by key/value head → (B, K, H/K, D).

    key and value (B, K, S, D); mask None (all keys) or bool (B or 1, 1, 1, S). On a CPU in three plain operations,
    because fused attention is slow there with few queries, above all in bfloat16. The scores are then rounded to
    bfloat16 before the softmax, as in transformers' eager attention; fused attention keeps them in float32.
    """
    if query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    # (B, K, H/K, S); scaled before the matmul, whose result could overflow float16
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if mask is not None:
        scores.masked_fill_(~mask, float("-inf"))
    return scores.softmax(-1) @ value  # (B, K, H/K, D)


def causal_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Causal attention of a sequence's last tokens: query (1, H, T, D), key and value (1, K, S, D) → (1, H, T, D).

    Query t attends to the first S - T + t + 1 keys. For inference: chooses the fastest kernel for device and dtype.
    """
    T, S = query.shape[2], key.shape[2]
    if T > 1 and S > T and query.device.type == "cuda":
        return continued_attention(query, key, value)
    if T > 1 and query.device.type == "cpu" and query.dtype == torch.bfloat16:
        return chunked_attention(query, key, value)
    mask = torch.ones(T, S, dtype=torch.bool, device=query.device).tril(S - T) if 1 < T < S else None
    return dense_attention(query, key, value, mask)


def continued_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """`causal_attention` on a GPU: heads repeated and the mask as torch's CausalBias.

    With a bool mask and grouped heads torch would fall back from flash attention to a kernel that stores all scores.
    """
    from torch.nn.attention.bias import causal_lower_right  # imports torch's compiler: a second, so not at start-up

    key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], dim=1) for x in (key, value))
    return F.scaled_dot_product_attention(query, key, value, attn_mask=causal_lower_right(query.shape[2], key.shape[2]))


def chunked_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """`causal_attention` for bfloat16 on a CPU: QUERY_CHUNK tokens at a time as plain matmuls.

    torch's fused attention there does not reach the speed of oneDNN's bfloat16 matmul. Scores are rounded to bfloat16
    before the softmax, as in transformers' eager attention.
    """
    (_, H, T, D), (_, K, S, _) = query.shape, key.shape
    query, output = (query * D**-0.5).view(K, H // K, T, D), torch.empty(K, H // K, T, D, dtype=query.dtype)
    future = torch.ones(QUERY_CHUNK, QUERY_CHUNK, dtype=torch.bool).triu(1)
    for start in range(0, T, QUERY_CHUNK):
        chunk = query[:, :, start : start + QUERY_CHUNK]  # (K, H/K, t, D), t ≤ QUERY_CHUNK
        t = chunk.shape[2]
        keys = S - T + start + t  # visible to the chunk's last token
        scores = (chunk.reshape(K, -1, D) @ key[0, :, :keys].mT).view(*chunk.shape[:3], keys)
        scores[..., -t:].masked_fill_(future[:t, :t], float("-inf"))
        mixed = scores.softmax(-1).view(K, -1, keys) @ value[0, :, :keys]
        output[:, :, start : start + QUERY_CHUNK] = mixed.view(chunk.shape)
    return output.view(1, H, T, D)
