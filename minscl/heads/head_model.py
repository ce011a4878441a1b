"""The decoder with a head on it: what all of heads/ passes around, and the heads by the name of their system.

Read next: windows.py for the hidden states; train.py and predict.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from minscl.config import GKI_ICD, HEADS, PLM_CA, PLM_ICD
from minscl.errors import InputError
from minscl.heads.cross_attention import LabelCrossAttention
from minscl.heads.label_attention import HeadOutput, LabelAttention
from minscl.heads.windows import hidden_states
from minscl.model import Decoder


@dataclass(frozen=True)
class HeadModel:
    """`head` over the hidden states of `decoder`; `labels`: the codes of its rows, in order; `window`, `bidirectional`:
    as for windows.hidden_states; `states`: token ids of a text → its hidden states, where they are known (frozen.py).
    """

    system: str
    decoder: Decoder
    head: nn.Module
    labels: tuple[str, ...]
    window: int
    bidirectional: bool = False
    states: dict[tuple[int, ...], torch.Tensor] = field(default_factory=dict)

    def hidden(self, ids: list[int]) -> torch.Tensor:
        """The hidden states (T, C) of a text, in the decoder's dtype."""
        known = self.states.get(tuple(ids))
        return hidden_states(self.decoder, ids, self.window, self.bidirectional) if known is None else known

    def __call__(self, ids: list[int]) -> HeadOutput:
        """The output for one note of T tokens: logits (L,), attention (L, T), label_vectors (L, C); differentiable."""
        return self.head(self.hidden(ids).to(next(self.head.parameters()).dtype))


def make_head(system: str, hidden_size: int, labels: Sequence[str], seed: int = 0) -> nn.Module:
    """The untrained head of `system`, one of config.HEADS, float32 on the CPU. Raises InputError for another."""
    if system == PLM_ICD:
        return LabelAttention(hidden_size, len(labels), seed)
    if system in (PLM_CA, GKI_ICD):
        return LabelCrossAttention(hidden_size, len(labels), seed, own_outputs=system == GKI_ICD)
    raise InputError(f"--system {system}: use {', '.join(HEADS)}")


def check_window(window: int, model_config, source: str = "--window") -> None:
    """Raises InputError for a window, of the flag or file `source`, that is longer than the model's context."""
    if window > model_config.context_length:
        raise InputError(
            f"{source} {window}: the model's context holds {model_config.context_length:,} tokens; use a shorter window"
        )


def probabilities(model: HeadModel, ids: list[int]) -> torch.Tensor:
    """The probability of every code of a note: float32 (L,) on the CPU."""
    with torch.inference_mode():
        return model(ids).logits.sigmoid().float().cpu()
