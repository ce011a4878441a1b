"""Weights in the layout that oneDNN's matrix-vector products want: on a CPU, decoding one token reads every weight once and does little else.

torch has no public call for this; its own compiler uses the two operators below, which are kept to this file. Where they are missing, disagree with
F.linear, or are not faster on this machine, the model stays as it is. A packed model can only be run: no gradients, nothing to save.

Read next: engine.py.
"""

import time

import torch
import torch.nn.functional as F
from torch import nn

ROWS = 8  # tokens of the pass that the layout is made for; any number may be read
WORTH_IT = 1.1  # how many times faster one token's product must be
GRADE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}  # relative error against F.linear


class PackedLinear(nn.Module):
    """`linear` for inference: x (..., in) → (..., out)."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.in_features, self.out_features, self.bias = linear.in_features, linear.out_features, linear.bias
        with torch.inference_mode():
            self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), ROWS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")


def pack_weights(model: nn.Module) -> bool:
    """Replace every nn.Linear of `model`, in place, each weight freed as its copy is made; False, and nothing done, where that is no use."""
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not names or not worth_it(max((model.get_submodule(name) for name in names[:-1] or names), key=lambda one: one.weight.numel())):
        return False
    for name in names:
        parent, _, child = name.rpartition(".")
        linear = model.get_submodule(name)
        setattr(model.get_submodule(parent), child, PackedLinear(linear))
    return True


@torch.inference_mode()
def worth_it(linear: nn.Linear) -> bool:
    """Whether the packed layer gives the same as `linear` here, sooner."""
    weight = linear.weight
    if weight.device.type != "cpu" or weight.dtype not in GRADE:
        return False
    try:
        packed = PackedLinear(linear)
        x = torch.randn(ROWS, linear.in_features).to(weight.dtype)
        expected, found = F.linear(x, weight, linear.bias), packed(x)
    except (RuntimeError, AttributeError):  # built without oneDNN, or an operator that changed its name or arguments
        return False
    wrong = (found.float() - expected.float()).norm() > GRADE[weight.dtype] * expected.float().norm()
    return not wrong and seconds(lambda: F.linear(x[:1], weight, linear.bias)) > WORTH_IT * seconds(lambda: packed(x[:1]))


def seconds(call, rounds: int = 12) -> float:
    """The quickest of several calls, memory swept between so that weights are read from there."""
    best, other = float("inf"), torch.empty(2**24)
    for _ in range(rounds):
        other.fill_(0)
        began = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - began)
    return best
