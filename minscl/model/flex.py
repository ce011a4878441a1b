"""FlexAttention on a GPU: a SharedPrefixMask as a block mask, compiled once for all lengths.

Blocks of 128 × 128 that are masked completely are not computed, so siblings cost nothing to one another. Which blocks
these are follows from the segments' lengths; FlexAttention's own way, the whole mask computed position by position,
takes longer than a small model's forward pass.

Read next: packed_attention.py, which computes the same attention segment by segment on a CPU.
"""

import functools
import sys
import warnings

import torch
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from minscl.model.shared_prefix import SharedPrefixMask

BLOCK = 128  # FlexAttention's default
FEWEST_TOKENS = 128  # with fewer queries torch chooses a decoding kernel, which dynamic shapes do not compile (2.11)


@functools.cache
def compiled_flex_attention():
    """flex_attention compiled for dynamic shapes."""
    return torch.compile(flex_attention, dynamic=True)


def block_mask(mask: SharedPrefixMask, device: torch.device) -> BlockMask:
    """`mask` as FlexAttention's BlockMask (T, T) on `device`."""
    touched, full = (blocks.to(device)[None, None] for blocks in mask.blocks(BLOCK))
    partial, tokens = touched & ~full, sum(mask.lengths)
    return BlockMask.from_kv_blocks(
        *ordered(partial), *ordered(full), BLOCK, mask.mask_mod(device), seq_lengths=(tokens, tokens)
    )


def ordered(blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """bool (1, 1, rows, columns) → int32, as BlockMask has it: the number in each row; its columns, those first."""
    columns = blocks.to(torch.int8).argsort(dim=-1, descending=True, stable=True)
    return blocks.sum(-1, dtype=torch.int32), columns.to(torch.int32)


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask) -> torch.Tensor:
    """query (1, H, T, D), key and value (1, K, T, D), a BlockMask → (1, H, T, D).

    On a CPU it is not compiled, slow and forward only: for tests.
    """
    grouped = query.shape[1] != key.shape[1]
    query, key = query.to(value.dtype), key.to(value.dtype)  # RoPE widens them under autocast
    if query.is_cuda:
        return compiled_flex_attention()(query, key, value, block_mask=mask, enable_gqa=grouped)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "flex_attention called without torch.compile()"
        return flex_attention(query, key, value, block_mask=mask, enable_gqa=grouped)


@functools.cache
def usable(device: torch.device) -> bool:
    """Whether FlexAttention runs on `device`, tried once: it needs a GPU, Triton and a compiler.

    Where it fails on a GPU, one line on stderr says so; attention is then computed segment by segment.
    """
    if device.type != "cuda":
        return False
    try:
        q = torch.randn(1, 2, 256, 64, device=device, dtype=torch.bfloat16, requires_grad=True)
        attend(q, q, q, block_mask(SharedPrefixMask((256,), (-1,)), device)).sum().backward()
        return True
    except Exception as error:  # whatever the compiler raises
        print(
            f"minscl: FlexAttention does not run here ({type(error).__name__}); "
            "attention is computed segment by segment, which is slower",
            file=sys.stderr,
        )
        return False
