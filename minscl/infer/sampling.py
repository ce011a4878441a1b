"""Sampling: a token drawn from logits, with temperature and nucleus (top-p) sampling.

Read next: sequence.py, which uses it in place of the most probable token.
"""

import torch


class Sampler:
    """Draws tokens from its own random generator, so that a seed gives the same answer in any batch.

    temperature: divides the logits. top_p: draw from the most probable tokens that together reach this probability.
    """

    def __init__(self, temperature: float = 1.0, top_p: float = 1.0, seed: int = 0):
        self.temperature, self.top_p, self.generator = temperature, top_p, torch.Generator().manual_seed(seed)

    def __call__(self, logits: torch.Tensor) -> int:
        """float32 logits (V,) → a token id.

        Drawn on the CPU in float64 from the cumulative distribution, so that rounding hardly ever changes a token.
        """
        logits = logits.double().cpu()
        scaled = (logits - logits.max()) / self.temperature  # the largest is 0, so that no temperature overflows
        probabilities, tokens = scaled.softmax(-1).sort(descending=True, stable=True)
        cumulative = probabilities.cumsum(-1)
        nucleus = int((cumulative - probabilities < self.top_p).sum())  # the token that crosses top_p is in it
        draw = torch.rand((), generator=self.generator, dtype=torch.float64) * cumulative[nucleus - 1]
        return int(tokens[min(int((cumulative[:nucleus] <= draw).sum()), nucleus - 1)])
