"""A toy network with a decoder's module names, for the LoRA tests."""

import torch
from torch import nn

from minscl.lora import lora_parameters


class Block(nn.Module):
    """x + down(norm(tanh(q(x)) · k(x))): x (..., 6) → the same shape."""

    def __init__(self):
        super().__init__()
        self.q_proj, self.k_proj = nn.Linear(6, 8), nn.Linear(6, 8, bias=False)
        self.norm, self.down_proj = nn.LayerNorm(8), nn.Linear(8, 6, bias=False)

    def forward(self, x):
        return x + self.down_proj(self.norm(torch.tanh(self.q_proj(x)) * self.k_proj(x)))


class Toy(nn.Module):
    """Two blocks and an output head."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Block() for _ in range(2))
        self.embed_tokens, self.lm_head = nn.Embedding(10, 6), nn.Linear(6, 10, bias=False)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.lm_head(x)


PROJECTIONS = ("q_proj", "k_proj", "down_proj")


def toy(dtype=torch.float32) -> Toy:
    """The same random network at every call."""
    torch.manual_seed(7)
    return Toy().to(dtype).eval()


def trained(model, seed=1):
    """`model` with random values in every B, as training would leave."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in lora_parameters(model):
        if name.endswith("lora_B"):
            parameter.data = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) * 0.3
    return model


def inputs(dtype=torch.float32) -> torch.Tensor:
    """The same random inputs (2, 5, 6) at every call."""
    return torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(3)).to(dtype)
