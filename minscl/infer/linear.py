"""Weights in the layout that oneDNN's matrix-vector products want: on a CPU, decoding one token reads every weight once and does little else.

Projections that read the same x (q, k and v; gate and up) become one product, since a larger one comes closer to memory's speed. torch has no public
call for the layout; its own compiler uses the two operators below, which are kept to this file. Where they are missing or disagree with F.linear,
the model stays as it is. For compiled passes (compiled.py) weights stay as they are and only the sharing is done: RowLinear.
Such models can only be run: no gradients, nothing to save.

Read next: engine.py.
"""

import torch
import torch.nn.functional as F
from torch import nn

ROWS = 8  # tokens of the pass that the layout is made for; any number may be read
TOGETHER = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))  # in the order in which a block asks for them
SMALLEST = 2**20  # numbers of a weight; smaller ones stay in the processor's cache
STREAMS = 2  # rows that a compiled product reads at once; more of memory's speed than one after the other
GRADE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}  # relative error against F.linear


def joined(linears) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Weights and biases end to end, no copy of a single weight."""
    weights, biases = (
        [one.weight.detach() for one in linears],
        [one.bias.detach() for one in linears if one.bias is not None],
    )
    return weights[0] if len(weights) == 1 else torch.cat(weights), torch.cat(biases) if biases else None


class PackedLinear(nn.Module):
    """Several nn.Linear of the same input as one product, for inference: x (..., in) → (..., out), their outputs end to end."""

    def __init__(self, *linears: nn.Linear):
        super().__init__()
        weight, self.bias = joined(linears)
        self.in_features = linears[0].in_features
        with torch.inference_mode():
            self.packed = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")


class RowLinear(nn.Module):
    """As PackedLinear, with the weight as it is: a compiled pass reads it once, row by row, for its single token."""

    def __init__(self, *linears: nn.Linear):
        super().__init__()
        for name, one in zip(("weight", "bias"), joined(linears), strict=True):
            self.register_buffer(name, one)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not torch.compiler.is_compiling():
            return F.linear(x, self.weight, self.bias)
        token = x.flatten().float()
        token = token.as_strided(
            token.shape, token.stride()
        )  # makes the compiler write it down, and not compute it anew for every row
        output = torch.cat(
            [(part.float() * token).sum(-1) for part in self.weight.chunk(STREAMS)]
        )  # one loop, a row of each part a turn
        output = output if self.bias is None else output + self.bias.float()
        return output.to(x.dtype).view(*x.shape[:-1], -1)


class Shared(nn.Module):
    """What the parts of one product, PackedLinear or RowLinear, have in common: the first that is asked computes, the last clears the table."""

    def __init__(self, linears, kind):
        super().__init__()
        self.product, self.sizes = kind(*linears), [one.out_features for one in linears]
        self.x, self.outputs = None, []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The next part's output for `x`, the tensor that all parts are asked with, one after the other."""
        if not self.outputs or x is not self.x:
            self.x, self.outputs = x, list(self.product(x).split(self.sizes, dim=-1))
        output = self.outputs.pop(0)
        if not self.outputs:
            self.x = None
        return output


def pack_weights(model: nn.Module) -> bool:
    """Replace every nn.Linear of `model` by packed ones, in place; False, and nothing done, where that is no use."""
    linears = [one for one in model.modules() if isinstance(one, nn.Linear)]
    if not linears or not packs(max(linears[:-1] or linears, key=lambda one: one.weight.numel())):
        return False
    del linears  # a list of them would keep their weights until the end
    lay_out(model, PackedLinear)
    return True


def lay_out(model: nn.Module, kind) -> None:
    """Replace every nn.Linear of `model` by PackedLinear or RowLinear, in place, each weight freed as its copy is made."""
    for parent in [one for one in model.modules() if not isinstance(one, nn.Linear)]:
        for group in TOGETHER:
            linears = [getattr(parent, one, None) for one in group]
            if all(isinstance(one, nn.Linear) and (one.bias is None) == (linears[0].bias is None) for one in linears):
                shared = Shared(linears, kind)
                for one in group:
                    setattr(parent, one, shared)
            del linears
        for child in [name for name, one in parent.named_children() if isinstance(one, nn.Linear)]:
            setattr(parent, child, kind(getattr(parent, child)))


@torch.inference_mode()
def packs(linear: nn.Linear) -> bool:
    """Whether the packed layer can be had here, and gives the same as `linear`."""
    weight = linear.weight
    if weight.device.type != "cpu" or weight.dtype not in GRADE or weight.numel() < SMALLEST:
        return False
    x = torch.randn(ROWS, linear.in_features).to(weight.dtype)
    try:
        found = PackedLinear(linear)(x).float()
    except (RuntimeError, AttributeError):  # built without oneDNN, or an operator that changed its name or arguments
        return False
    expected = F.linear(x, weight, linear.bias).float()
    return bool((found - expected).norm() <= GRADE[weight.dtype] * expected.norm())
