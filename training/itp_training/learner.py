"""Learning from replay: Double DQN, and the returns of actions that were tried in copies of the world.

Double DQN: van Hasselt, Guez and Silver, AAAI 2016. Prioritized replay: Schaul et al., ICLR 2016,
with priority (|error| + eps)^alpha and weights (N P)^-beta.
"""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from numpy.typing import NDArray

from itp._core.loss import bootstrap_loss, look_ahead_loss, take_columns
from itp_training.adam import Adam
from itp_training.config import TrainingConfig
from itp_training.errors import TrainingError
from itp_training.gradient import Floats, differentiable
from itp_training.network import QNetwork
from itp_training.replay import Batch, Replay
from itp_training.symmetry import ACTION_COLUMNS, ORDERS, STATE_COLUMNS

PRIORITY_EPS = 1e-3


class Learner:
    """Network, target network, optimizer and replay.

    Attributes
    ----------
    network, target : QNetwork
    replay : Replay
    rng : numpy.random.Generator
        Draws the order in which a decision's streams are seen.
    updates : int
        Done so far.
    """

    def __init__(self, config: TrainingConfig, device: torch.device) -> None:
        self.config = config
        self.device = device
        self.network = QNetwork(config).to(device)
        self.target = copy.deepcopy(self.network).eval().requires_grad_(False)
        self._online, self._weights, gradient = differentiable(self.network, config.batch_size)
        self._delayed, self._target_weights, _ = differentiable(self.target, config.batch_size)
        self.optimizer = Adam(self._weights, gradient)
        self._buffers = list(zip(self.target.buffers(), self.network.buffers(), strict=True))
        self.replay = Replay(config)
        self.updates = 0
        self.rng = np.random.default_rng(config.seed)

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

    def update(self) -> float:
        """One gradient step on one batch; returns its loss.

        Raises
        ------
        TrainingError
            The loss is not finite; the weights are as before.
        """
        c = self.config
        batch = self.replay.sample(self.beta)
        # Streams are exchangeable: every decision is shown with them in an order of its own.
        order = self.rng.integers(len(ORDERS), size=c.batch_size)
        columns, actions = STATE_COLUMNS[order], ACTION_COLUMNS[order]
        # The targets come first: the gradient is that of the last values.
        targets = self._double_dqn_targets(batch, columns) if c.td_weight else None
        values = self._online.forward(_reordered(batch["state"], columns))
        slope, error, loss = np.zeros_like(values), np.zeros(c.batch_size), 0.0
        if targets is not None:
            loss += bootstrap_loss(
                values,
                batch["action"],
                actions,
                targets,
                batch["weights"],
                c.huber_delta,
                c.td_weight,
                slope,
                error,
            )
        if c.look_ahead_share:
            loss += look_ahead_loss(
                values, batch["returns"], actions, batch["weights"], c.huber_delta, slope, error
            )
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss of update {self.updates + 1} is {loss} (batch of decisions "
                f"{batch['indexes'][:4].tolist()}...): lower learning_rate, or look for rewards that are not "
                "finite; the last good checkpoint stands"
            )
        self._online.backward(slope)
        self.optimizer.step(self.learning_rate)
        self._follow()
        self.updates += 1
        if c.alpha > 0.0:
            self.replay.update_priorities(error + PRIORITY_EPS)
        return loss

    def _double_dqn_targets(self, batch: Batch, columns: NDArray[np.int64]) -> Floats:
        """R + gamma^n Q'(s', argmax Q(s', .)): chosen by one network, valued by the other."""
        next_state = _reordered(batch["next_state"], columns)
        best = self._online.evaluate(next_state).argmax(axis=1)
        future = self._delayed.evaluate(next_state)[np.arange(len(best)), best]
        targets: Floats = batch["reward"] + batch["discount"] * ~batch["done"] * future
        return targets

    def _follow(self) -> None:
        """Move the target network towards the other one."""
        if self.config.td_weight:
            self._target_weights.lerp_(self._weights, self.config.target_rate)
            for mine, theirs in self._buffers:
                mine.copy_(theirs)


def _reordered(states: Floats, columns: NDArray[np.int64]) -> Floats:
    """The states with their streams in another order."""
    out = np.empty_like(states)
    take_columns(states, columns, out)
    return out
