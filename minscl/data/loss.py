"""The masked autoregressive loss (Eq. 6): Σ_t -log p(y_t | x, y_<t) over target tokens.

The sum, not the mean: the trainer divides by the target tokens of the whole optimiser step, so that a short span and a long
note weigh by what they teach, however they were packed.

Read next: train.py.
"""

import torch
import torch.nn.functional as F

IGNORE = -100  # the label of a position that is not trained


def masked_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Scalar: the sum of -log softmax(logits)[label] where the label is not IGNORE.

    logits (..., V) of any float dtype, labels (...) int64; computed in float32 (float64 stays).
    """
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return F.cross_entropy(wide.reshape(-1, wide.shape[-1]), labels.reshape(-1), ignore_index=IGNORE, reduction="sum")
