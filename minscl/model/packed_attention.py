"""Attention of a packed training sequence under a SharedPrefixMask, as pure functions.

On a GPU it is FlexAttention with the mask's block mask (flex.py). On a CPU, where no prefix is shared and for a few
tokens, it is computed segment by segment, without the masked part: short siblings together in a padded batch, every
other segment on its own.

Shapes: T tokens of the packed sequence, H query heads, K key/value heads, D head_dim, N siblings, L their longest.

Read next: shared_prefix.py, the mask's definition; flex.py.
"""

import functools
from typing import NamedTuple

import torch
import torch.nn.functional as F

from minscl.model import flex
from minscl.model.shared_prefix import SharedPrefixMask

MAX_BATCHED_LENGTH = 96  # tokens; longer segments are cheaper on their own, without a mask


def shared_prefix_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: SharedPrefixMask
) -> torch.Tensor:
    """query (1, H, T, D), key and value (1, K, T, D) → (1, H, T, D), in query's dtype; differentiable."""
    if mask.has_shared_prefix and query.shape[2] >= flex.FEWEST_TOKENS and flex.usable(query.device):
        return flex.attend(query, key, value, block_mask(mask, query.device))
    split = [x.split(mask.lengths, dim=2) for x in (query, key, value)]  # by segment: (1, H or K, length, D)
    parts: list = [None] * len(mask.lengths)
    for segment, length in enumerate(mask.lengths):
        if mask.parents[segment] < 0 or length > MAX_BATCHED_LENGTH:
            parts[segment] = single_segment_attention(split, (*mask.ancestors(segment), segment))
    for batch in sibling_batches(mask, MAX_BATCHED_LENGTH):
        q, k, v = (x[0][:, batch.positions].transpose(0, 1) for x in (query, key, value))  # (N, H or K, L, D)
        output = sibling_attention(q, k, v, split, (*mask.ancestors(batch.parent), batch.parent))  # (N, H, L, D)
        for child, row in zip(batch.children, output, strict=True):
            parts[child] = row[None, :, : mask.lengths[child]]
    return torch.cat(parts, dim=2)


@functools.lru_cache(maxsize=2)  # the same for all layers of a pass
@torch.inference_mode(False)  # an inference tensor could not be saved for a later backward
def block_mask(mask: SharedPrefixMask, device: torch.device):
    """`mask` as FlexAttention's BlockMask on `device`."""
    return flex.block_mask(mask, device)


def single_segment_attention(split, path) -> torch.Tensor:
    """Attention of the last segment of `path`, a root and its descendants by index → (1, H, L, D).

    split: query, key and value by segment. The queries of the ancestors are computed again, so that plain causal
    attention suffices, without a mask.
    """
    query, key, value = (torch.cat([x[segment] for segment in path], dim=2) for x in split)
    grouped = query.shape[1] != key.shape[1]
    output = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=grouped)
    return output[:, :, -split[0][path[-1]].shape[2] :]


class SiblingBatch(NamedTuple):
    """Short children of `parent` of similar length; positions, int64 (N, L): theirs in the pack, the last repeated."""

    parent: int
    children: list[int]
    positions: torch.Tensor


def sibling_attention(query, key, value, split, path) -> torch.Tensor:
    """Attention of padded siblings: query (N, H, L, D), key and value (N, K, L, D) → (N, H, L, D), in query's dtype.

    split: query, key and value by segment. path: the siblings' ancestors by index, from the root to the parent.
    """
    (N, H, L, _), dtype = query.shape, query.dtype
    key, value = (
        torch.cat((torch.cat([x[segment] for segment in path], dim=2).expand(N, -1, -1, -1), own), dim=2)
        for x, own in ((split[1], key), (split[2], value))
    )
    S = key.shape[2]
    # The whole prefix, and itself causally; padding comes last, so that no real token attends to it.
    mask = torch.ones(L, S, dtype=torch.bool, device=key.device).tril(S - L)
    if dtype == torch.bfloat16 and query.device.type == "cpu":  # its masked backward takes twice as long as float32's
        query, key, value = query.float(), key.float(), value.float()
    grouped = key.shape[1] != H
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=grouped).to(dtype)


@functools.lru_cache(maxsize=2)  # the same for all layers of a pass
@torch.inference_mode(False)  # an inference tensor could not be saved for a later backward
def sibling_batches(mask: SharedPrefixMask, max_length: int) -> list[SiblingBatch]:
    """The segments that have a parent and at most `max_length` tokens, batched with siblings of similar length."""
    groups: list[tuple[int, list[int]]] = []
    for child in sorted(range(len(mask.lengths)), key=lambda index: (mask.parents[index], mask.lengths[index])):
        parent, length = mask.parents[child], mask.lengths[child]
        if parent < 0 or length > max_length:
            continue
        if not groups or groups[-1][0] != parent or length > 2 * mask.lengths[groups[-1][1][0]] + 8:
            groups.append((parent, []))
        groups[-1][1].append(child)
    return [SiblingBatch(parent, children, _positions(mask, children)) for parent, children in groups]


def _positions(mask: SharedPrefixMask, segments: list[int]) -> torch.Tensor:
    """int64 (N, L): the segments' positions in the pack, each row padded with its last position."""
    lengths = torch.tensor([mask.lengths[segment] for segment in segments])
    starts = torch.tensor([mask.starts[segment] for segment in segments])
    return starts[:, None] + torch.arange(int(lengths.max()))[None].minimum(lengths[:, None] - 1)
