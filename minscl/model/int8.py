"""Weight-only int8: a byte for each weight and a float32 scale for each output channel, a row of the matrix; symmetric.

    scale[o] = max_i |w[o, i]| / 127       q[o, i] = round(w[o, i] / scale[o])       |w - q · scale| ≤ scale / 2
    y[o] = scale[o] · Σ_i q[o, i] x[i] + bias[o]

Activations keep their dtype and sums are float32; q is exact in bfloat16 too. Stored so are all projections of the
blocks and the output head: of tied embeddings the head is an int8 copy. Embeddings, norms and biases keep their dtype.
The layer works below LoRA, where its gradient is that of the dequantised weight.

torch 2.13 has no public product of int8 weights and float activations (torch._weight_int8pack_mm is not documented).

Read next: load.py, which quantises each tensor as it is read, and the folder that save_model writes.
"""

import dataclasses

import torch
import torch.nn.functional as F
from torch import nn

from minscl.model.config import INT8

LARGEST = 127  # of a quantised weight; -128 is not used, so that both signs have the same range
CPU_BLOCK = 2**20  # weights dequantised at a time: their float copy stays in a core's cache
GPU_BLOCK = 2**26  # bounds the float copy of an output head to 128 MB in bfloat16


def quantise(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(out, in) of any float dtype → (int8 (out, in), float32 scale (out,)); a row of zeros has scale 1.

    On the meta device only the shapes.
    """
    quantised = torch.empty_like(weight, dtype=torch.int8, memory_format=torch.contiguous_format)
    scale = torch.empty(len(weight), device=weight.device)
    rows = max(1, CPU_BLOCK // weight.shape[1])
    for start in range(0, 0 if weight.is_meta else len(weight), rows):
        block = weight[start : start + rows].detach().float()
        block_scale = block.abs().amax(dim=1) / LARGEST
        block_scale.masked_fill_(block_scale == 0, 1)
        scale[start : start + rows] = block_scale
        quantised[start : start + rows] = (block / block_scale[:, None]).round().clamp(-LARGEST, LARGEST)
    return quantised, scale


def int8_linear(x: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """x (..., in), weight int8 (out, in), scale float32 (out,) → (..., out) in x's dtype; no gradient.

    The weight is converted block by block, each once for all rows of x: right for prompts and for training. For a few
    rows that costs more than the product; infer/row_step.py has the form for a compiler, which reads int8 only.
    """
    rows = max(1, (CPU_BLOCK if x.device.type == "cpu" else GPU_BLOCK) // weight.shape[1])
    if rows >= len(weight):
        return _product(x, weight, scale)
    y = x.new_empty(*x.shape[:-1], len(weight))
    for start in range(0, len(weight), rows):
        block = slice(start, start + rows)
        y[..., block] = _product(x, weight[block], scale[block])
    return y


def _product(x: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """int8_linear in one block."""
    if x.dtype == torch.float16:  # Σ q x, 1/scale times the result, may exceed its range
        return F.linear(x, dequantise(weight, scale).to(x.dtype))
    return F.linear(x, weight.to(x.dtype)).mul_(scale)  # in place: no float32 copy of a long prompt's output


def dequantise(weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """int8 (out, in), scale (out,) → float32 (out, in)."""
    return weight * scale[:, None]


class Int8Product(torch.autograd.Function):
    """int8_linear with a gradient for x: grad_x = (grad_y · scale) q, (..., in).

    By hand, because autograd would keep a float copy of every weight from the forward to the backward pass.
    """

    @staticmethod
    def forward(context, x, weight, scale):
        """Shapes as for int8_linear."""
        context.save_for_backward(weight, scale)
        return int8_linear(x, weight, scale)

    @staticmethod
    def backward(context, gradient):
        """gradient (..., out) → that of x (..., in), in the same dtype."""
        weight, scale = context.saved_tensors
        columns = max(1, GPU_BLOCK // len(weight))  # of the weight at a time, so that nothing is summed twice
        if gradient.dtype == torch.float16:  # gradient · scale may be below its range
            parts = [gradient @ dequantise(q, scale).to(gradient.dtype) for q in weight.split(columns, dim=1)]
        else:
            scaled = torch.mul(gradient, scale, out=torch.empty_like(gradient))
            parts = [scaled @ q.to(gradient.dtype) for q in weight.split(columns, dim=1)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1), None, None


class Int8Linear(nn.Module):
    """A frozen linear layer: buffers `weight` int8 (out, in) and `scale` float32 (out,); `bias` (out,) or None."""

    weight: torch.Tensor
    scale: torch.Tensor
    widens = False  # compute in float32 whatever x's dtype, where that is faster (infer/linear.py)

    def __init__(self, weight: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None = None):
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)

    @classmethod
    def from_linear(cls, linear: nn.Linear) -> "Int8Linear":
        """The layer with `linear`'s weight, quantised, and its bias."""
        return cls(*quantise(linear.weight), linear.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (..., in) → (..., out), in x's dtype."""
        needs_gradient = torch.is_grad_enabled() and x.requires_grad
        wide = x.float() if self.widens else x
        y = (Int8Product.apply if needs_gradient else int8_linear)(wide, self.weight, self.scale).to(x.dtype)
        return y if self.bias is None else y + self.bias

    @torch.no_grad()
    def add_update(self, update: torch.Tensor) -> None:
        """Add a float (out, in) to the weight, quantised again: LoRA's merge (lora/layer.py)."""
        self.weight, self.scale = quantise(dequantise(self.weight, self.scale) + update)

    def extra_repr(self) -> str:
        """Shown by print(model)."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


def quantise_weights(model: nn.Module) -> None:
    """Replace every nn.Linear of a Decoder by an Int8Linear, in place, each float weight freed before the next.

    Tied embeddings stay as they are; the head becomes an int8 copy. `model.config` says so from then on.
    """
    for parent in list(model.modules()):
        for name in [name for name, child in parent.named_children() if isinstance(child, nn.Linear)]:
            setattr(parent, name, Int8Linear.from_linear(getattr(parent, name)))
    model.config = dataclasses.replace(model.config, weights=INT8)
