"""The decoder's maths as pure functions: RMSNorm, RoPE and its scalings, attention.

Shapes: B batch, T new tokens, S cached keys, C hidden, H query heads, K key/value heads, D head_dim, F intermediate.

Read next: decoder.py, which holds the weights.
"""

import functools
import math

import torch
import torch.nn.functional as F

LINE = 64  # bytes of a processor's cache line


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """x / rms(x) · weight over the last dimension; the mean square in float32, then back to x's dtype before the weight."""
    wide = x if x.dtype == torch.float64 else x.float()
    return weight * F.rms_norm(wide, wide.shape[-1:], eps=eps).to(x.dtype)


@functools.lru_cache(maxsize=8)
def rope_frequencies(
    rope, head_dim: int, max_positions: int, device: torch.device | str = "cpu"
) -> tuple[torch.Tensor, float]:
    """(D/2,) float32 angles a position, on `device`, and the factor on cos and sin (1 but for yarn). Source: transformers' rope utilities."""
    if (
        torch.device(device).type != "cpu"
    ):  # computed on the CPU, so that they do not depend on the device, and sent once
        frequencies, factor = rope_frequencies(rope, head_dim, max_positions)
        return frequencies.to(device), factor
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
    plain = 1.0 / (rope.rope_theta**exponents)  # (D/2,)
    if rope.rope_type == "linear":
        return plain / rope.factor, 1.0
    if rope.rope_type == "llama3":
        return _llama3(rope, plain), 1.0
    if rope.rope_type == "yarn":
        return _yarn(rope, plain, head_dim, max_positions)
    return plain, 1.0


def _llama3(rope, plain: torch.Tensor) -> torch.Tensor:
    """Long wavelengths are stretched by `factor`, short ones kept, those between blended."""
    old = rope.original_max_position_embeddings
    wavelength = 2 * math.pi / plain
    blend = (old / wavelength - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
    blend = blend.clamp(0, 1)
    return (1 - blend) * plain / rope.factor + blend * plain


def _yarn(rope, plain: torch.Tensor, head_dim: int, max_positions: int) -> tuple[torch.Tensor, float]:
    """YaRN (arXiv 2309.00071): a linear ramp between stretched and kept frequencies, and a temperature on cos and sin."""
    old = rope.original_max_position_embeddings or max_positions

    def dimension(rotations: float) -> float:
        return head_dim * math.log(old / (rotations * 2 * math.pi)) / (2 * math.log(rope.rope_theta))

    low, high = dimension(rope.beta_fast or 32), dimension(rope.beta_slow or 1)
    if rope.truncate is None or rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    high = high + 0.001 if low == high else high
    stretched = ((torch.arange(head_dim // 2, dtype=torch.float32) - low) / (high - low)).clamp(0, 1)
    frequencies = stretched * plain / rope.factor + (1 - stretched) * plain

    def temperature(scale: float) -> float:
        return 0.1 * scale * math.log(rope.factor) + 1.0 if rope.factor > 1 else 1.0

    if rope.attention_factor is not None:
        return frequencies, rope.attention_factor
    if rope.mscale and rope.mscale_all_dim:
        return frequencies, temperature(rope.mscale) / temperature(rope.mscale_all_dim)
    return frequencies, temperature(1.0)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """RoPE, rotate-half: x (B, H, T, D), cos and sin (B, 1, T, D) in x's dtype, sin negative for the first half of D."""
    return x * cos + x.roll(x.shape[-1] // 2, dims=-1) * sin


def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask) -> torch.Tensor:
    """query (B, H, T, D), key and value (B, K, S, D) → (B, H, T, D). Each key/value head serves H/K query heads.

    mask: None = causal, S = T; a bool tensor (B or 1, 1, T, S), True = may attend; or what knows better than a tensor who sees whom, and so
    computes it itself: the SharedPrefixMask of a packed sequence (forest.py), the PrefillMask of a cache (infer/cache.py).
    """
    if mask is not None and not isinstance(mask, torch.Tensor):
        return mask.attention(query, key, value)
    B, H, T, D = query.shape
    if T == 1:  # a key/value head's queries as rows of one product, so that its keys and values are read once
        return one_token(query.view(B, key.shape[1], -1, D), key, value, mask).view(B, H, T, D)
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=mask is None, enable_gqa=H != key.shape[1]
    )


def one_token(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask) -> torch.Tensor:
    """query (B, K, H/K, D): the heads of one new token, by the key/value head that serves them; mask None or (B or 1, 1, 1, S).

    On a CPU as three plain operations, since torch's fused attention is slow with so few queries, above all in bfloat16. There the scores are
    rounded to bfloat16 before the softmax, as in transformers' eager attention; fused attention would keep them in float32.
    """
    if query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    if torch.compiler.is_compiling() and mask is None:
        return one_token_sums(query, key, value)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(
        -1, -2
    )  # (B, K, H/K, S); scaled before the product, which may be too large for float16
    if mask is not None:
        scores.masked_fill_(~mask, float("-inf"))
    return scores.softmax(-1) @ value  # (B, K, H/K, D)


def one_token_sums(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """one_token without a mask, as sums in float32, of which torch's compiler makes loops that read keys and values once (infer/compiled.py)."""
    dtype, heads = value.dtype, range(query.shape[2])
    query = (query.float() * query.shape[-1] ** -0.5).contiguous()
    query, key = query.as_strided(query.shape, query.stride()), key.float()  # as_strided: see RowLinear
    scores = [(query[:, :, one, None] * key).sum(-1) for one in heads]  # H/K times (B, K, S)
    weights = [(one - one.amax(-1, keepdim=True)).exp() for one in scores]
    parts = [
        part.float() for part in value.split(LINE // value.element_size(), dim=-1)
    ]  # one loop over S, which so reads whole rows of values
    mixed = [
        torch.cat([(one[..., None] * part).sum(-2) for part in parts], dim=-1) / one.sum(-1, keepdim=True)
        for one in weights
    ]
    return torch.stack(mixed, dim=2).to(dtype)  # (B, K, H/K, D)
