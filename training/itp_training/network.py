"""The Q-network: a chain of dense layers from a state to the values of its actions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from itp._core.decider import STATE_DIM
from itp.actions import N_ACTIONS
from itp_training.config import TrainingConfig


class QNetwork(nn.Module):
    """Q-values float32[batch, 15] of states float32[batch, 20].

    Entries of a state lie in [0, 1]; the network sees them in [-1, 1].
    """

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__()
        self.hidden = config.hidden
        layers: list[nn.Module] = []
        width = STATE_DIM
        for number, hidden in enumerate(config.hidden):
            layers.append(nn.Linear(width, hidden))
            if config.batch_norm:
                layers.append(nn.BatchNorm1d(hidden))
            layers.append(nn.ReLU())
            if config.dropout > 0.0 and number < 2:
                layers.append(nn.Dropout(config.dropout))
            width = hidden
        self.body = nn.Sequential(*layers)
        self.advantage = nn.Linear(width, N_ACTIONS)
        self.value = nn.Linear(width, 1) if config.duelling else None

    def forward(self, state: Tensor) -> Tensor:
        features = self.body(2.0 * state - 1.0)
        advantage: Tensor = self.advantage(features)
        if self.value is None:
            return advantage
        value: Tensor = self.value(features)
        return value + advantage - advantage.mean(dim=1, keepdim=True)

    @property
    def is_plain(self) -> bool:
        """Nothing but dense layers with ReLU between them."""
        return self.value is None and all(isinstance(layer, (nn.Linear, nn.ReLU)) for layer in self.body)

    def flatten(self) -> tuple[Tensor, Tensor]:
        """Put all parameters and their gradients into one vector each, of which they become views.

        A layer's weights lie in there input by input, and its biases behind them.
        """
        parameters = list(self.parameters())
        flat = torch.cat([p.detach().movedim(0, -1).reshape(-1) for p in parameters])
        gradient = torch.zeros_like(flat)
        start = 0
        for p in parameters:
            end = start + p.numel()
            turned = (*p.shape[1:], p.shape[0])
            p.data = flat[start:end].view(turned).movedim(-1, 0)
            p.grad = gradient[start:end].view(turned).movedim(-1, 0)
            start = end
        return flat, gradient

    def dense_layers(self) -> list[tuple[Tensor, Tensor]]:
        """The same function in evaluation mode as (weight[out, in], bias[out]), with ReLU between them.

        Scaling of the state, batch norm and duelling heads are linear there, and folded into the layers.
        """
        chain: list[tuple[Tensor, Tensor]] = []
        for layer in self.body:
            if isinstance(layer, nn.Linear):
                chain.append((layer.weight.detach().double(), layer.bias.detach().double()))
            elif isinstance(layer, nn.BatchNorm1d):
                weight, bias = chain[-1]
                mean, variance = layer.running_mean, layer.running_var
                assert mean is not None  # for the type checker
                assert variance is not None
                scale = layer.weight.detach().double() / torch.sqrt(variance.double() + layer.eps)
                shift = layer.bias.detach().double() - mean.double() * scale
                chain[-1] = (weight * scale[:, None], bias * scale + shift)
        weight, bias = self.advantage.weight.detach().double(), self.advantage.bias.detach().double()
        if self.value is not None:
            weight = weight - weight.mean(dim=0) + self.value.weight.detach().double()
            bias = bias - bias.mean() + self.value.bias.detach().double()
        chain.append((weight, bias))
        first, bias = chain[0]
        chain[0] = (2.0 * first, bias - first.sum(dim=1))
        return [(weight.float().cpu(), bias.float().cpu()) for weight, bias in chain]
