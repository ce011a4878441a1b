"""A model made ready for inference: fused projections; bfloat16 weights widened on CPUs without bfloat16 products.

A CPU without bfloat16 instructions multiplies bfloat16 matrices several times more slowly than float32 ones. There a
weight stays bfloat16 in memory, so that decoding reads half the bytes, and is converted to float32 for a prompt's
product, layer by layer; so is an int8 weight beside bfloat16 activations. Sums are float32 either way.

Read next: compiled_step.py, decoding passes.
"""

import torch
import torch.nn.functional as F
from torch import nn

from minscl.hardware import DTYPES, choose_float32_matmul, measure_matmul_rate
from minscl.model.int8 import Int8Linear

MIN_ROWS = 16  # of the input, from which converting the weight takes less time than it saves
LARGE_MODEL = 2**26  # weights; a prompt of a larger model takes longer than the measurement
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


def prepare_for_inference(model: nn.Module) -> None:
    """Fuse the projections of every block and, where that is faster, widen bfloat16 weights, in place.

    The model can no longer be trained or saved. For a large one it is also measured how the CPU multiplies float32
    matrices fastest (choose_float32_matmul), which takes half a second.
    """
    model.fuse_projections()
    activations = model.model.embed_tokens.weight
    if activations.device.type == "cpu" and sum(map(torch.numel, model.parameters())) > LARGE_MODEL:
        choose_float32_matmul(torch.float32)
    if activations.device.type != "cpu" or activations.dtype != torch.bfloat16 or not float32_is_faster():
        return
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear):
                setattr(parent, name, WideningLinear(child))
            elif isinstance(child, Int8Linear):
                child.widens = True


def float32_is_faster() -> bool:
    """Whether this CPU multiplies float32 matrices faster than bfloat16 ones."""
    cpu = torch.device("cpu")
    wide, narrow = (measure_matmul_rate(cpu, DTYPES[name], rows=256) for name in ("float32", "bfloat16"))
    return wide > MIN_SPEEDUP * narrow
