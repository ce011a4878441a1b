"""A linear layer with a low-rank update beside its frozen weight (LoRA, Hu et al. 2021, Eq. 3; the paper's Appendix C).

    h = W x + b + alpha/R · B A dropout(x)

In: x (..., in) in the base weight's dtype, any float dtype for an int8 base. Out: (..., out) in the same dtype.
Letters: R rank. A is (R, in) and B is (out, R), as PEFT stores them.

Read next: inject.py, which puts these layers into a model.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


def is_linear(module: nn.Module) -> bool:
    """Whether LoRA can wrap `module`: an nn.Linear, or a layer of another storage that adds an update to itself
    (model/int8.py).
    """
    return isinstance(module, nn.Linear) or hasattr(module, "add_update")


class AddLowRank(torch.autograd.Function):
    """base + scaling · B A x, added to base in place: base (..., out), x (..., in), A (R, in), B (out, R) → (..., out).

    Computed in base's dtype: A and B, float32 beside a bfloat16 base, are rounded for the matmuls (which accumulate in
    float32) as autocast would, and their gradients are float32. Written by hand for two reasons: plain autograd would
    keep an x for each of a block's seven layers, where this keeps one for those that share it; and on a CPU a matmul
    with such a short side is several times faster with the short side first.
    """

    @staticmethod
    def forward(context, base, x, lora_A, lora_B, scaling: float):
        """base is changed in place and returned; shapes as for the class."""
        low = F.linear(x.to(base.dtype), lora_A.to(base.dtype))  # (..., R)
        context.save_for_backward(x, low, lora_A, lora_B)
        context.scaling = scaling
        # In place: nothing else needs the frozen layer's own output.
        base.view(-1, base.shape[-1]).addmm_(low.flatten(0, -2), lora_B.T.to(base.dtype), alpha=scaling)
        context.mark_dirty(base)
        return base

    @staticmethod
    def backward(context, gradient):
        """gradient (..., out) → the gradients of base, x, A and B, each in the shape and dtype of its tensor."""
        x, low, lora_A, lora_B = context.saved_tensors
        needs_x, needs_A, needs_B = context.needs_input_grad[1:4]
        rows = gradient.flatten(0, -2)  # (N, out), N positions
        grad_low = F.linear(rows, lora_B.T.to(rows.dtype).contiguous()) * context.scaling  # (N, R)
        grad_x = (grad_low @ lora_A.to(rows.dtype)).view(x.shape).to(x.dtype) if needs_x else None
        grad_A = (grad_low.T @ x.flatten(0, -2).to(rows.dtype)).to(lora_A.dtype) if needs_A else None  # (R, in)
        grad_B = (low.flatten(0, -2).T @ rows).T.to(lora_B.dtype) * context.scaling if needs_B else None  # (out, R)
        return gradient, grad_x, grad_A, grad_B, None


class LoRALinear(nn.Module):
    """`linear` (is_linear) wrapped: its weight frozen, `lora_A` (R, in) and `lora_B` (out, R) trainable.

    Both are float32 even where the base is bfloat16 or float16 (an AdamW step of lr 1e-4 is lost in eight bits of
    mantissa), and float64 where the base is float64. A is Kaiming-uniform, drawn from `generator` on the CPU (so a seed
    gives the same adapter on every device), and B is zero, so the wrapped layer starts as the base layer.
    """

    def __init__(self, linear: Any, rank: int, alpha: float, dropout: float, generator: torch.Generator):
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.rank, self.alpha, self.dropout = rank, alpha, dropout
        dtype = torch.promote_types(linear.weight.dtype, torch.float32)
        lora_A = torch.empty(rank, linear.in_features, dtype=dtype)  # (R, in)
        nn.init.kaiming_uniform_(lora_A, a=math.sqrt(5), generator=generator)  # uniform within ±1/sqrt(in)
        lora_B = torch.zeros(linear.out_features, rank, dtype=dtype)  # (out, R)
        self.lora_A = nn.Parameter(lora_A.to(linear.weight.device))
        self.lora_B = nn.Parameter(lora_B.to(linear.weight.device))
        self.train(linear.training)  # a model in eval mode stays without dropout

    @property
    def scaling(self) -> float:
        """alpha / R, the factor on B A x."""
        return self.alpha / self.rank

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (..., in) in the base weight's dtype → W x + b + alpha/R · B A dropout(x), (..., out) in the same dtype.

        Dropout acts in training mode only and draws from torch's global generator, as in PEFT.
        """
        base = self.linear(x)  # (..., out)
        if self.dropout and self.training:
            x = F.dropout(x, self.dropout)  # (..., in)
        return AddLowRank.apply(base, x, self.lora_A, self.lora_B, self.scaling)

    @torch.no_grad()
    def merged(self) -> nn.Module:
        """The base layer with W + alpha/R · B A as its weight, summed in float32 and cast to the base dtype, or
        quantised again.

        The weight is a new tensor, because the old one may be the memory-mapped model file.
        """
        update = self.lora_B @ self.lora_A * self.scaling  # (out, in), float32
        if not isinstance(self.linear, nn.Linear):
            self.linear.add_update(update)
            return self.linear
        weight = self.linear.weight
        self.linear.weight = nn.Parameter((weight + update).to(weight.dtype), requires_grad=False)
        return self.linear

    def extra_repr(self) -> str:
        """Shown by print(model)."""
        return f"rank={self.rank}, alpha={self.alpha}, dropout={self.dropout}"
