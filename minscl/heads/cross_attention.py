"""PLM-CA's head: cross-attention from one learned query per code to the note's tokens.

    A = softmax over tokens of  Q (H W_kᵀ)ᵀ         (L, T)
    V = LayerNorm(A (H W_vᵀ + b_v))                 (L, C)
    logit_l = V_l · o + b                           (L,)    one output vector for all codes

Source: Edin et al. 2024 (An Unsupervised Approach to Achieve Supervised-Level Explainability in Healthcare Records,
arXiv 2406.08958). Theirs: the formula, scores not divided by √C (their `scale` is 1), weights drawn with standard
deviation 0.03, binary cross-entropy; AdamW, 5e-5, no weight decay, a warm-up over 10% of the steps, a linear decay,
batches of 16, 20 epochs, gradients clipped at 1, chunks of 128 tokens, notes cut at 6,000 tokens; one decision boundary
for all codes, tuned on validation micro-F1. Ours: what heads/__init__.py and windows.py say, and a cosine decay.

GKI-ICD (knowledge.py) has the same attention with an output vector and a bias for each code: `own_outputs`.

Shapes: T tokens, C hidden, L labels (codes).

Read next: evidence.py, AttInGrad; knowledge.py.
"""

import torch
import torch.nn.functional as F
from torch import nn

from minscl.heads.label_attention import HeadOutput, label_logits, normal_parameter


def cross_attention(hidden: torch.Tensor, key: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """softmax over tokens of Q (H W_kᵀ)ᵀ: hidden (T, C), key (C, C), queries (L, C) → (L, T)."""
    return (queries @ (hidden @ key.T).T).softmax(-1)


class LabelCrossAttention(nn.Module):
    """The weights of label cross-attention, float32.

    `key`, `value` (C, C), `value_bias`, `norm_weight`, `norm_bias` (C,), `queries` (L, C); `outputs` (1, C) and
    `biases` (1,), or with `own_outputs` (L, C) and (L,).
    """

    def __init__(self, hidden_size: int, labels: int, seed: int = 0, own_outputs: bool = False):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.key = normal_parameter(hidden_size, hidden_size, generator=generator)
        self.value = normal_parameter(hidden_size, hidden_size, generator=generator)
        self.value_bias = nn.Parameter(torch.zeros(hidden_size))
        self.norm_weight, self.norm_bias = (nn.Parameter(fill(hidden_size)) for fill in (torch.ones, torch.zeros))
        self.queries = normal_parameter(labels, hidden_size, generator=generator)
        rows = labels if own_outputs else 1
        self.outputs = normal_parameter(rows, hidden_size, generator=generator)
        self.biases = nn.Parameter(torch.zeros(rows))

    def forward(self, hidden: torch.Tensor) -> HeadOutput:
        """hidden (T, C) of one note, in the weights' dtype → HeadOutput."""
        attention = cross_attention(hidden, self.key, self.queries)  # (L, T)
        mixed = attention @ F.linear(hidden, self.value, self.value_bias)  # (L, C)
        label_vectors = F.layer_norm(mixed, mixed.shape[-1:], self.norm_weight, self.norm_bias)
        return HeadOutput(label_logits(label_vectors, self.outputs, self.biases), attention, label_vectors)
