"""PLM-ICD's head: label-wise attention (LAAT), one softmax over the note's tokens and one linear output per code.

    A = softmax over tokens of  U tanh(W Hᵀ)       (L, T)
    V = A H                                        (L, C)
    logit_l = V_l · o_l + b_l                      (L,)

H are the hidden states of a note; a code's probability is the sigmoid of its logit.

Source: Huang et al. 2022 (PLM-ICD, aclanthology.org/2022.clinicalnlp-1.2), after Vu et al. 2020 (LAAT). Theirs: the
formula, W of size C × C, no bias before the softmax, mean binary cross-entropy over all codes; trained with AdamW,
5e-5, 2,000 warm-up steps, a linear decay, batches of 8, 20 epochs, chunks of 128 tokens, notes cut at 3,072 tokens.
The initial standard deviation 0.03 is Edin et al.'s. Ours: padding is never attended to (theirs is), biases begin at
0, and what heads/__init__.py, windows.py and train.py say.

Shapes: T tokens, C hidden, L labels (codes).

Read next: cross_attention.py; windows.py, which makes H.
"""

from typing import NamedTuple

import torch
from torch import nn

INIT_STD = 0.03  # of all weights of a head


class HeadOutput(NamedTuple):
    """Of one note: logits (L,), attention (L, T) with rows that sum to 1, and label_vectors (L, C)."""

    logits: torch.Tensor
    attention: torch.Tensor
    label_vectors: torch.Tensor


def label_attention(hidden: torch.Tensor, projection: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """softmax over tokens of U tanh(W Hᵀ): hidden (T, C), projection (C, C), queries (L, C) → (L, T)."""
    return (queries @ torch.tanh(hidden @ projection.T).T).softmax(-1)


def label_logits(label_vectors: torch.Tensor, outputs: torch.Tensor, biases: torch.Tensor) -> torch.Tensor:
    """V_l · o_l + b_l: label_vectors (L, C), outputs (L or 1, C), biases (L or 1,) → (L,)."""
    return (label_vectors * outputs).sum(-1) + biases


def normal_parameter(*shape: int, generator: torch.Generator) -> nn.Parameter:
    """A float32 parameter of `shape`, normal with standard deviation INIT_STD."""
    return nn.Parameter(torch.randn(*shape, generator=generator) * INIT_STD)


class LabelAttention(nn.Module):
    """The weights of label-wise attention, float32: `projection` (C, C), `queries`, `outputs` (L, C), `biases` (L,)."""

    def __init__(self, hidden_size: int, labels: int, seed: int = 0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.projection = normal_parameter(hidden_size, hidden_size, generator=generator)
        self.queries = normal_parameter(labels, hidden_size, generator=generator)
        self.outputs = normal_parameter(labels, hidden_size, generator=generator)
        self.biases = nn.Parameter(torch.zeros(labels))

    def forward(self, hidden: torch.Tensor) -> HeadOutput:
        """hidden (T, C) of one note, in the weights' dtype → HeadOutput."""
        attention = label_attention(hidden, self.projection, self.queries)  # (L, T)
        label_vectors = attention @ hidden  # (L, C)
        return HeadOutput(label_logits(label_vectors, self.outputs, self.biases), attention, label_vectors)
