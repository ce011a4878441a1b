"""Weights in oneDNN's blocked layout: on a CPU, decoding one token reads every weight once and does little else.

Projections of the same input (q, k and v; gate and up) are fused first, because a larger matmul comes closer to memory
bandwidth. torch has no public call for the layout; the two operators that its own compiler uses are called only here.
Where they are missing or disagree with F.linear, the model stays as it is. A packed model is for inference only: it has
no gradients and cannot be saved.

Read next: engine.py.
"""

import torch
import torch.nn.functional as F
from torch import nn

from minscl.model.decoder import MLP, Attention

LAYOUT_ROWS = 8  # rows of the input that the layout is optimised for; any number works
MIN_WEIGHTS = 2**20  # of a layer; a smaller one stays in the CPU's caches anyway
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}  # relative error against F.linear


class PackedLinear(nn.Module):
    """An nn.Linear for inference, its weight in oneDNN's layout: x (..., in) → (..., out), in the weight's dtype."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = None if linear.bias is None else linear.bias.detach()
        with torch.inference_mode():
            self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), LAYOUT_ROWS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (..., in) → (..., out)."""
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")


def pack_weights(model: nn.Module) -> bool:
    """Fuse the projections of every block and replace every nn.Linear by a PackedLinear, in place.

    Each weight is freed as soon as it is copied. Returns False, with the model unchanged, where packing does not help.
    """
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not linears or not packing_works(max(linears[:-1] or linears, key=lambda linear: linear.weight.numel())):
        return False
    del linears  # the list would keep all weights alive until the end
    for parent in [module for module in model.modules() if not isinstance(module, nn.Linear)]:
        if isinstance(parent, (Attention, MLP)):
            parent.fuse_projections()
        for name in [name for name, child in parent.named_children() if isinstance(child, nn.Linear)]:
            setattr(parent, name, PackedLinear(getattr(parent, name)))
    return True


@torch.inference_mode()
def packing_works(linear: nn.Linear) -> bool:
    """Whether a PackedLinear of `linear` can be built on this machine, is worth it, and agrees with F.linear."""
    weight = linear.weight
    if weight.device.type != "cpu" or weight.dtype not in TOLERANCE or weight.numel() < MIN_WEIGHTS:
        return False
    x = torch.randn(LAYOUT_ROWS, linear.in_features).to(weight.dtype)
    try:
        output = PackedLinear(linear)(x).float()
    except (RuntimeError, AttributeError):  # built without oneDNN, or an operator with another name or signature
        return False
    expected = F.linear(x, weight, linear.bias).float()
    return bool((output - expected).norm() <= TOLERANCE[weight.dtype] * expected.norm())
