"""Adam (Kingma and Ba, ICLR 2015, algorithm 1) on one vector of weights.

PyTorch's own spends several times as long on its bookkeeping as on so few weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

BETA_1, BETA_2, EPS = 0.9, 0.999, 1e-8


class Adam:
    """Moves `weights` against `gradient`, both float32[n], in place."""

    def __init__(self, weights: Tensor, gradient: Tensor) -> None:
        self._weights = weights
        self._gradient = gradient
        self._mean = torch.zeros_like(weights)
        self._square = torch.zeros_like(weights)
        self._scratch = torch.empty_like(weights)
        self._steps = 0

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """One step with the gradient as it is now."""
        self._steps += 1
        self._mean.lerp_(self._gradient, 1.0 - BETA_1)
        self._square.mul_(BETA_2).addcmul_(self._gradient, self._gradient, value=1.0 - BETA_2)
        # The paper's remark to section 2: both bias corrections go into the step's size.
        correction = (1.0 - BETA_2**self._steps) ** 0.5
        size = learning_rate * correction / (1.0 - BETA_1**self._steps)
        torch.sqrt(self._square, out=self._scratch).add_(EPS * correction)
        self._weights.addcdiv_(self._mean, self._scratch, value=-size)

    def state_dict(self) -> dict[str, Tensor | int]:
        """What a resumed run needs."""
        return {"mean": self._mean, "square": self._square, "steps": self._steps}

    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        """Go on from what `state_dict` gave."""
        self._mean.copy_(torch.as_tensor(state["mean"]))
        self._square.copy_(torch.as_tensor(state["square"]))
        self._steps = int(state["steps"])
