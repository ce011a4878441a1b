"""Muon: momentum whose matrices are orthogonalised before each step (Jordan et al., 2024), for the blocks' matrices.

    M ← β M + G        U = orthogonalise(G + β M)        W ← W - lr · (0.2 √max(rows, columns) U + decay · W)

The factor gives the update AdamW's root mean square, so that one learning rate serves both (Liu et al., arXiv
2502.16982). As torch.optim.Muon, it orthogonalises in bfloat16, but not on a CPU, which without bfloat16 products takes
four times as long that way; and matrices of one shape in one batch.

Read next: pretrain.py.
"""

import torch

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration (Jordan et al., 2024)
ITERATIONS = 5


def orthogonalise(matrices: torch.Tensor) -> torch.Tensor:
    """(N, rows, columns) → the same shape with all singular values between about 0.7 and 1.2, singular vectors kept."""
    transposed = matrices.size(1) > matrices.size(2)
    x = matrices.mT if transposed else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if transposed else x


class Muon(torch.optim.Optimizer):
    """Parameters must be matrices. `state` holds one `momentum_buffer` a parameter."""

    def __init__(self, params, lr: float, momentum: float = 0.95, weight_decay: float = 0.1):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        """One update of all parameters that have a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[torch.Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(parameter.shape, []).append(parameter)
            for shape, parameters in by_shape.items():
                directions = torch.stack([self._direction(parameter, group["momentum"]) for parameter in parameters])
                if directions.is_cuda:
                    directions = directions.bfloat16()
                updates = 0.2 * max(shape) ** 0.5 * orthogonalise(directions).to(parameters[0].dtype)
                for parameter, update in zip(parameters, updates, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=group["lr"])

    def _direction(self, parameter: torch.Tensor, momentum: float) -> torch.Tensor:
        """The gradient with Nesterov momentum; updates the buffer."""
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer = state["momentum_buffer"].mul_(momentum).add_(parameter.grad)
        return parameter.grad.add(buffer, alpha=momentum)
