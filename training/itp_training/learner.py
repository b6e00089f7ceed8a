"""Learning from the replay buffer: Double DQN, and the returns of actions that were tried in copies.

Double DQN: van Hasselt, Guez and Silver, AAAI 2016. Prioritized replay: Schaul et al., ICLR 2016,
with priority (|error| + eps)^alpha and weights (N P)^-beta.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from itp import PrioritizedReplayBuffer
from itp._core.loss import bootstrap_loss, look_ahead_loss, take_rows
from itp_training.adam import Adam
from itp_training.collect import Experiences
from itp_training.config import TrainingConfig
from itp_training.errors import TrainingError
from itp_training.network import DenseChain, QNetwork
from itp_training.symmetry import ACTIONS_SEEN, ORDERS, STATE_SEEN

PRIORITY_EPS = 1e-3


class Learner:
    """Network, target network, optimizer and replay buffer.

    Attributes
    ----------
    network, target : QNetwork
    buffer : PrioritizedReplayBuffer
    rng : numpy.random.Generator
        Of the streams' orders.
    updates : int
        Done so far.
    """

    def __init__(self, config: TrainingConfig, device: torch.device) -> None:
        self.config = config
        self.device = device
        self.network = QNetwork(config).to(device)
        self.target = copy.deepcopy(self.network).eval().requires_grad_(False)
        weights, self._gradient = self.network.flatten()
        self._weights = weights
        self._target_weights, _ = self.target.flatten()
        self.optimizer = Adam(weights, self._gradient)
        plain = self.network.is_plain
        self._chain = DenseChain(self.network, config.batch_size) if plain else None
        self._target_chain = DenseChain(self.target, config.batch_size) if plain else None
        self.buffer = PrioritizedReplayBuffer(config.buffer_size, alpha=config.alpha, seed=config.seed)
        self.returns = np.full((config.buffer_size, 15), np.nan, dtype=np.float32)
        self.updates = 0
        self.rng = np.random.default_rng(config.seed)
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
        # Streams are exchangeable: every decision is seen with them in an order of its own.
        order = self.rng.integers(len(ORDERS), size=c.batch_size)
        seen, actions_seen = STATE_SEEN[order], ACTIONS_SEEN[order]
        # Double DQN's own choice comes first: the chain keeps the last values' products for the gradient.
        wanted = self._bootstrapped(batch, seen) if c.td_weight else None
        values = self._values(self._seen(batch["state"], seen))
        found = values.detach().cpu().numpy()
        slope, error, mean_loss = np.zeros_like(found), np.zeros(c.batch_size), 0.0
        if wanted is not None:
            mean_loss += bootstrap_loss(
                found,
                batch["action"],
                actions_seen,
                wanted,
                batch["weights"],
                c.huber_delta,
                c.td_weight,
                slope,
                error,
            )
        if c.look_ahead_share:
            returns = self.returns[batch["indexes"] % c.buffer_size]
            mean_loss += look_ahead_loss(
                found, returns, actions_seen, batch["weights"], c.huber_delta, slope, error
            )
        if not math.isfinite(mean_loss):
            raise TrainingError(
                f"the loss of update {self.updates + 1} is {mean_loss} (batch of decisions "
                f"{batch['indexes'][:4].tolist()}...): lower learning_rate, or look for rewards that are not "
                "finite; the last good checkpoint stands"
            )
        self._step(values, torch.from_numpy(slope).to(self.device))
        self.updates += 1
        if c.alpha > 0.0:
            self.buffer.update_priorities(batch["indexes"], error + PRIORITY_EPS)
        return mean_loss

    def _values(self, states: Tensor) -> Tensor:
        """The network's, in training mode."""
        if self._chain is not None:
            return self._chain.forward(states)
        values: Tensor = self.network.train()(states)
        return values

    def _step(self, values: Tensor, slope: Tensor) -> None:
        """From the loss's slope at the values to new weights, which the target follows."""
        if self._chain is not None:
            self._chain.backward(slope)
        else:
            self._gradient.zero_()
            torch.autograd.backward(values, slope)
        self.optimizer.step(self.learning_rate)
        if self.config.td_weight:
            self._target_weights.lerp_(self._weights, self.config.target_rate)
            for mine, theirs in zip(self.target.buffers(), self.network.buffers(), strict=True):
                mine.copy_(theirs)

    @torch.no_grad()
    def _bootstrapped(self, batch: dict[str, NDArray[Any]], seen: NDArray[np.int64]) -> NDArray[np.float32]:
        """R + gamma^n Q'(s', argmax Q(s', .)): chosen by one network, valued by the other."""
        next_state = self._seen(batch["next_state"], seen)
        now, later = self._chain, self._target_chain
        values = self.network.eval()(next_state) if now is None else now.forward(next_state)
        best = values.argmax(dim=1, keepdim=True)
        valued = self.target(next_state) if later is None else later.forward(next_state)
        future = valued.gather(1, best)[:, 0].cpu().numpy()
        discount = np.float32(self.config.gamma**self.config.n_step)
        wanted: NDArray[np.float32] = batch["reward"] + discount * ~batch["done"] * future
        return wanted

    def _seen(self, states: NDArray[np.float32], seen: NDArray[np.int64]) -> Tensor:
        out = np.empty_like(states)
        take_rows(states, seen, out)
        return torch.from_numpy(out).to(self.device)
