"""A SharedPrefixMask's attention on a GPU: its definition `sees` as a block mask of FlexAttention, compiled once for all lengths.

Blocks of 128 × 128 in which nobody sees anybody are not computed, so siblings cost nothing to each other.

Read next: forest.py, which computes the same without a mask, segment by segment, on a CPU.
"""

import functools
import sys
import warnings

import torch

try:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention
except ImportError:  # built without it
    flex_attention = None


@functools.cache
def compiled():
    return torch.compile(flex_attention, dynamic=True)


def block_mask(sees, tokens: int, device):
    """FlexAttention's BlockMask of `sees(query, key)`, (T, T)."""
    return create_block_mask(
        lambda batch, head, query, key: sees(query, key), None, None, tokens, tokens, device=device
    )


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask) -> torch.Tensor:
    """query (1, H, T, D), key and value (1, K, T, D), a BlockMask → (1, H, T, D). On a CPU forward only, and slow: for tests."""
    grouped = query.shape[1] != key.shape[1]
    query, key = query.to(value.dtype), key.to(value.dtype)  # RoPE widens them under autocast
    if query.is_cuda:
        return compiled()(query, key, value, block_mask=mask, enable_gqa=grouped)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "without torch.compile()"
        return flex_attention(query, key, value, block_mask=mask, enable_gqa=grouped)


@functools.cache
def usable(device: torch.device) -> bool:
    """Whether FlexAttention runs here, tried once: it needs Triton and a compiler. If not, one line says so and segments are computed one by one."""
    if flex_attention is None or device.type != "cuda":
        return False
    try:
        q = torch.randn(1, 2, 256, 64, device=device, dtype=torch.bfloat16, requires_grad=True)
        attend(q, q, q, block_mask(lambda query, key: query >= key, 256, device)).sum().backward()
        return True
    except Exception as error:  # whatever the compiler raises
        print(
            f"minscl: FlexAttention does not run here ({type(error).__name__}); attention goes segment by segment, which is slower",
            file=sys.stderr,
        )
        return False
