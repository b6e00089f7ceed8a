"""Learning from the replay buffer: Double DQN, and the returns of actions that were tried in copies.

Double DQN: van Hasselt, Guez and Silver, AAAI 2016. Prioritized replay: Schaul et al., ICLR 2016,
with priority (|error| + eps)^alpha and weights (N P)^-beta.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from itp import PrioritizedReplayBuffer
from itp_training.collect import Experiences
from itp_training.config import TrainingConfig
from itp_training.errors import TrainingError
from itp_training.network import QNetwork

PRIORITY_EPS = 1e-3


class Learner:
    """Network, target network, optimizer and replay buffer.

    Attributes
    ----------
    network, target : QNetwork
    buffer : PrioritizedReplayBuffer
    updates : int
        Done so far.
    """

    def __init__(self, config: TrainingConfig, device: torch.device) -> None:
        self.config = config
        self.device = device
        self.network = QNetwork(config).to(device)
        self.target = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=config.learning_rate, fused=True)
        self.buffer = PrioritizedReplayBuffer(config.buffer_size, alpha=config.alpha, seed=config.seed)
        self.returns = np.full((config.buffer_size, 15), np.nan, dtype=np.float32)
        self.updates = 0
        self._sampled: dict[str, NDArray[Any]] | None = None

    @property
    def progress(self) -> float:
        """Share of the updates that are done."""
        return self.updates / self.config.updates

    @property
    def beta(self) -> float:
        """Exponent of the importance weights now."""
        return self.config.beta + (1.0 - self.config.beta) * min(self.progress, 1.0)

    @property
    def learning_rate(self) -> float:
        """Of the next update."""
        c = self.config
        return c.learning_rate * max(1.0 - (1.0 - c.learning_rate_end) * self.progress, c.learning_rate_end)

    def store(self, experiences: Experiences) -> None:
        """Put experiences into the buffer, with the highest priority so far."""
        indexes = self.buffer.add_batch(
            state=experiences.state,
            action=experiences.action,
            reward=experiences.reward,
            next_state=experiences.next_state,
            done=experiences.done,
        )
        self.returns[indexes % self.config.buffer_size] = experiences.returns

    def update(self) -> float:
        """One gradient step on one batch; returns its loss.

        Raises
        ------
        TrainingError
            The loss is not finite; the weights are as before.
        """
        c = self.config
        batch = self._sampled = self.buffer.sample(c.batch_size, self.beta, out=self._sampled)
        weights = torch.from_numpy(batch["weights"]).to(self.device)
        self.network.train()
        values = self.network(torch.from_numpy(batch["state"]).to(self.device))
        loss = torch.zeros((), device=self.device)
        error = torch.zeros(c.batch_size, device=self.device)
        if c.td_weight:
            difference = self._temporal_difference(values, batch)
            loss = loss + c.td_weight * (weights * self._huber(difference)).mean()
            error = error + difference.detach().abs()
        if c.look_ahead_share:
            returns = torch.from_numpy(self.returns[batch["indexes"] % c.buffer_size]).to(self.device)
            per_state, deviation = self._against_returns(values, returns)
            loss = loss + (weights * per_state).mean()
            error = error + deviation
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss of update {self.updates + 1} is {float(loss.detach())} (batch of decisions "
                f"{batch['indexes'][:4].tolist()}...): lower learning_rate, or look for rewards that are not "
                "finite; the last good checkpoint stands"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self._follow()
        self.updates += 1
        if c.alpha > 0.0:
            self.buffer.update_priorities(batch["indexes"], error.cpu().numpy() + PRIORITY_EPS)
        return float(loss.detach())

    def _temporal_difference(self, values: Tensor, batch: dict[str, NDArray[Any]]) -> Tensor:
        """Q(s, a) - (R + gamma^n Q'(s', argmax Q(s', .))): chosen by one network, valued by the other."""
        c = self.config
        action = torch.from_numpy(batch["action"]).to(self.device)
        reward = torch.from_numpy(batch["reward"]).to(self.device)
        going_on = torch.from_numpy(~batch["done"]).to(self.device)
        with torch.no_grad():
            next_state = torch.from_numpy(batch["next_state"]).to(self.device)
            self.network.eval()
            best = self.network(next_state).argmax(dim=1, keepdim=True)
            self.network.train()
            future = self.target(next_state).gather(1, best)[:, 0]
            wanted = reward + c.gamma**c.n_step * going_on * future
        return values.gather(1, action[:, None])[:, 0] - wanted

    def _against_returns(self, values: Tensor, returns: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and mean absolute error of each state's values against what its actions return.

        Only differences between actions count: they met the same future, which their mean depends on.
        """
        known = ~torch.isnan(returns)
        count = known.sum(dim=1).clamp(min=1)
        error = torch.where(known, values - torch.nan_to_num(returns), 0.0)
        mean = error.sum(dim=1, keepdim=True) / count[:, None]
        deviation = torch.where(known, error - mean, 0.0)
        return self._huber(deviation).sum(dim=1) / count, deviation.detach().abs().sum(dim=1) / count

    def _huber(self, error: Tensor) -> Tensor:
        return functional.huber_loss(
            error, torch.zeros_like(error), reduction="none", delta=self.config.huber_delta
        )

    @torch.no_grad()
    def _follow(self) -> None:
        if not self.config.td_weight:
            return
        torch._foreach_lerp_(
            list(self.target.parameters()), list(self.network.parameters()), self.config.target_rate
        )
        for mine, theirs in zip(self.target.buffers(), self.network.buffers(), strict=True):
            mine.copy_(theirs)
