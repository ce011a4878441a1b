"""A model made ready for inference: fused projections, and products in the form that the CPU computes fastest.

A CPU without bfloat16 instructions multiplies bfloat16 matrices several times more slowly than float32 ones. There a
weight stays bfloat16 in memory, so that decoding reads half the bytes, and is converted to float32 for a prompt's
product, layer by layer; so is an int8 weight beside bfloat16 activations. Sums are float32 either way.

MKL on an AMD processor multiplies a few float32 rows by a weight two to four times faster as (W xᵀ)ᵀ than as x Wᵀ.

Read next: compiled_step.py, decoding passes.
"""

import torch
import torch.nn.functional as F
from torch import nn

from minscl.hardware import DTYPES, choose_float32_matmul, measure_matmul_rate, processor
from minscl.model.int8 import Int8Linear

MIN_ROWS = 16  # of the input, from which converting the weight takes less time than it saves
LARGE_MODEL = 2**26  # weights; a prompt of a larger model takes longer than the measurement
MAX_FEW_ROWS = 8
MIN_SPEEDUP = 1.25  # of float32 products over bfloat16 ones, for weights to be widened


class WideningLinear(nn.Module):
    """An nn.Linear with a bfloat16 weight whose products with many rows are computed in float32."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (..., in) → (..., out), in x's dtype."""
        if x.numel() < MIN_ROWS * x.shape[-1]:
            return F.linear(x, self.weight, self.bias)
        bias = None if self.bias is None else self.bias.float()
        return F.linear(x.float(), self.weight.float(), bias).to(x.dtype)


class FewRowsLinear(nn.Module):
    """An nn.Linear with a float32 weight whose products with few rows are computed as (W xᵀ)ᵀ."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (..., in) → (..., out)."""
        rows = x.reshape(-1, x.shape[-1])
        if len(rows) > MAX_FEW_ROWS:
            return F.linear(x, self.weight, self.bias)
        y = few_rows_product(rows, self.weight)
        return (y if self.bias is None else y + self.bias).view(*x.shape[:-1], -1)


def few_rows_product(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """x (rows, in) times weight (out, in) → (rows, out). A single row is doubled: a vector takes as long as x Wᵀ."""
    columns = (x if len(x) > 1 else torch.cat((x, x))).t()
    return torch.mm(weight, columns).t()[: len(x)].contiguous()


def prepare_for_inference(model: nn.Module) -> None:
    """Fuse the projections of every block and replace linear layers whose products have a faster form, in place.

    The model can no longer be trained or saved. For a large one it is also measured how the CPU multiplies float32
    matrices fastest (choose_float32_matmul), which takes half a second.
    """
    model.fuse_projections()
    activations = model.model.embed_tokens.weight
    if activations.device.type == "cpu" and sum(map(torch.numel, model.parameters())) > LARGE_MODEL:
        choose_float32_matmul(torch.float32)
    if activations.device.type != "cpu":
        return
    few_rows = activations.dtype == torch.float32 and few_rows_are_faster()
    widens = activations.dtype == torch.bfloat16 and float32_is_faster()
    for parent in list(model.modules()) if few_rows or widens else ():
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear):
                setattr(parent, name, FewRowsLinear(child) if few_rows else WideningLinear(child))
            elif isinstance(child, Int8Linear):
                child.widens = widens


def few_rows_are_faster() -> bool:
    """Whether few_rows_product is used: with MKL on AMD's processors. Not measured at each start, so that the same
    command writes the same numbers each time."""
    return torch.backends.mkl.is_available() and "AuthenticAMD" in processor()


def float32_is_faster() -> bool:
    """Whether this CPU multiplies float32 matrices faster than bfloat16 ones."""
    cpu = torch.device("cpu")
    wide, narrow = (measure_matmul_rate(cpu, DTYPES[name], rows=256) for name in ("float32", "bfloat16"))
    return wide > MIN_SPEEDUP * narrow
