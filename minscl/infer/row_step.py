"""A decoding pass over a few tokens as pure functions, written so that torch's compiler reads every weight once.

    row n = one token: of sequence slots[n], at positions[n]; x (N, C) → block_rows for each block → head_rows → logits

A decoding pass is as fast as memory gives it the weights. `linear_rows` is a product of each row with the whole weight
and a sum, which the compiler turns into one loop over the weight in its own dtype (float32, bfloat16 or int8, model/
int8.py), summed in float32. As eager operations these functions are slow; the tests compare them with model/decoder.py.

Letters: N rows, C hidden, H query heads, K kv heads, G = H / K, D head_dim, S cached positions, F intermediate,
V vocabulary.
Read next: ../model/decoder.py and ops.py, the same pass as eager operations.
"""

import torch
import torch.nn.functional as F

from minscl.model.ops import rms_norm

Weights = dict[str, torch.Tensor]  # name in the block → tensor; projections fused (decoder.py, fuse_projections)


def linear_rows(weights: Weights, name: str, x: torch.Tensor) -> torch.Tensor:
    """Layer `name` on x (N, in) → (N, out), float32. An int8 weight is multiplied by the scale of each output.

    The compiler fuses sums over tensors of one shape into one loop: here over both halves of the weight and all rows.
    So every weight is read once, and there are always sums that do not wait for one another.
    """
    rows = materialise(x.float()).unbind()
    halves = [half.float() for half in weights[f"{name}.weight"].chunk(2)]
    y = torch.stack([torch.cat([(half * row).sum(-1) for half in halves]) for row in rows])
    if f"{name}.scale" in weights:
        y = y * weights[f"{name}.scale"]
    return y + weights[f"{name}.bias"].float() if f"{name}.bias" in weights else y


def materialise(x: torch.Tensor) -> torch.Tensor:
    """x, as a tensor in memory: as_strided needs one. Otherwise the compiler computes x anew for each output of a
    product that reads it."""
    x = x.contiguous()
    return x.as_strided(x.size(), x.stride())


def rope_rows(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """ops.apply_rope for x (N, heads, D), cos and sin (N, 1, D); by halves, since `roll` is read element by element."""
    (first, second), (cos1, cos2), (sin1, sin2) = x.chunk(2, -1), cos.chunk(2, -1), sin.chunk(2, -1)
    return torch.cat((first * cos1 + second * sin1, second * cos2 + first * sin2), dim=-1)


def attention_rows(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Attention of N single tokens: query (N, K, G, D), keys and values (N or 1, K, S, D), mask (N, S) → (N, H·D).

    float32 inside. One loop over the keys and one over the values serve all query heads of a group, as in linear_rows;
    the values' halves are summed side by side. The division by the sum of weights comes last, for D numbers a head.
    """
    keys, values = keys.float(), values.float()
    heads = materialise(query.float() * query.shape[-1] ** -0.5).unbind(2)  # (N, K, D) each
    scores = torch.stack([(head[:, :, None] * keys).sum(-1) for head in heads], dim=2)  # (N, K, G, S)
    hidden = materialise(torch.zeros(mask.shape).masked_fill(~mask, float("-inf")))  # (N, S), added to the scores
    scores = scores + hidden[:, None, None]
    weights = (scores - scores.amax(-1, keepdim=True)).exp()
    groups, halves = weights[..., None].unbind(2), values.chunk(2, -1)  # (N, K, S, 1) and (N, K, S, D/2) each
    mixed = torch.stack([torch.cat([(group * half).sum(-2) for half in halves], -1) for group in groups], dim=2)
    mixed = mixed / weights.sum(-1, keepdim=True)  # (N, K, G, D)
    return mixed.flatten(1)


def block_rows(
    weights: Weights,
    x: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    slots: torch.Tensor | None,
    positions: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    eps: float,
) -> torch.Tensor:
    """decoder.Block on x (N, C) → (N, C), in x's dtype; stores the new keys and values in the cache.

    cos, sin (N, 1, D); slots and positions int64 (N,); keys and values (slots, K, S, D). slots None: all in slot 0,
    whose keys are then not gathered for each row.
    """
    (_, K, S, D), N = keys.shape, len(x)
    normed = rms_norm(x, weights["input_layernorm.weight"], eps)
    heads = linear_rows(weights, "self_attn.qkv_proj", normed).to(x.dtype).view(N, -1, D)  # (N, H + 2K, D)
    query, key, value = heads.split([heads.shape[1] - 2 * K, K, K], dim=1)
    if "self_attn.q_norm.weight" in weights:
        query = rms_norm(query, weights["self_attn.q_norm.weight"], eps)
        key = rms_norm(key, weights["self_attn.k_norm.weight"], eps)
    query, key = rope_rows(query, cos, sin), rope_rows(key, cos, sin)
    if slots is None:
        # not keys[0][...] = ...: to write through a view, the compiler would copy the whole cache
        keys[:, :, positions], values[:, :, positions] = key.transpose(0, 1)[None], value.transpose(0, 1)[None]
    else:
        keys[slots, :, positions], values[slots, :, positions] = key, value
        keys, values = keys[slots], values[slots]  # (N, K, S, D); read in place, not copied, once compiled
    mask = torch.arange(S) <= positions[:, None]
    attended = attention_rows(query.view(N, K, -1, D), keys, values, mask).to(x.dtype)
    x = x + linear_rows(weights, "self_attn.o_proj", attended).to(x.dtype)
    normed = rms_norm(x, weights["post_attention_layernorm.weight"], eps)
    gate, up = linear_rows(weights, "mlp.gate_up_proj", normed).to(x.dtype).chunk(2, dim=-1)  # (N, F) each
    return x + linear_rows(weights, "mlp.down_proj", F.silu(gate) * up).to(x.dtype)


def head_rows(weights: Weights, x: torch.Tensor, eps: float) -> tuple[torch.Tensor, ...]:
    """The last norm and the output head: x (N, C) → float32 logits (N, V).

    And what is asked of them (sequence.Summary), (N,) each: log-sum-exp, the first token of the largest logit (int64),
    and that logit.
    """
    logits = linear_rows(weights, "lm_head", rms_norm(x, weights["norm.weight"], eps))
    largest = logits.amax(-1, keepdim=True)
    log_sums = (logits - largest).exp().sum(-1).log() + largest[:, 0]
    return logits, log_sums, logits.argmax(-1), largest[:, 0]
