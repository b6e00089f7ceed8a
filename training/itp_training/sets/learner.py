"""What a set network learns from what candidates return."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from itp_training.errors import TrainingError
from itp_training.sets.config import SetConfig
from itp_training.sets.network import SetNetwork
from itp_training.sets.replay import Decisions, Replay


class SetLearner:
    """The network, its optimizer and the decisions it learns from.

    Parameters
    ----------
    config : SetConfig
    kind : type
        Of the network.

    Attributes
    ----------
    network : SetNetwork
    replay : Replay
    updates : int
        So far.
    """

    def __init__(self, config: SetConfig, kind: type[SetNetwork] = SetNetwork) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.network = kind(config.widths)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=config.learning_rate)
        self.replay = Replay(config.replay_rounds)
        self.rng = np.random.default_rng([config.seed, 1])
        self.updates = 0

    @property
    def learning_rate(self) -> float:
        """Of the next update."""
        c = self.config
        first, last = 0, c.updates
        if c.learning_rate_over == "round":
            # The round that the next update belongs to.
            first, last = c.updates_of(((self.updates + 1) * c.rounds - 1) // c.updates)
        share = (self.updates - first) / max(last - first, 1)
        warm = min(1.0, (self.updates + 1) / max(c.warm_up, 1))
        return c.learning_rate * max(1.0 - share, c.learning_rate_end) * warm

    def update(self) -> float:
        """One step on a batch of decisions with the same number of streams; returns its loss.

        Raises
        ------
        TrainingError
            The loss is not finite.
        """
        batch = self._batch()
        streams, context, candidates, members, returns = batch.tensors()
        loss = set_loss(self.config, self.network(streams, context, candidates, members), returns)
        found = float(loss.detach())
        if not math.isfinite(found):
            raise TrainingError(
                f"the loss of update {self.updates + 1} is {found}: lower learning_rate; the last good "
                "checkpoint stands"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.updates += 1
        return found

    def _batch(self) -> Decisions:
        kept = [self.replay.of(n) for n in self.config.streams]
        weights = np.array(
            [w * (some is not None) for w, some in zip(self.config.batch_weights, kept, strict=True)]
        )
        if not weights.any():
            raise TrainingError("nothing to learn from: no decision had two candidates")
        some = kept[int(self.rng.choice(len(kept), p=weights / weights.sum()))]
        assert some is not None  # for the type checker: its weight would be 0
        return some.take(self.rng.integers(0, len(some), self.config.batch_size))

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "replay": self.replay.state_dict(),
            "batches": self.rng.bit_generator.state,
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.replay.load_state_dict(state["replay"])
        self.rng.bit_generator.state = state["batches"]
        self.updates = state["updates"]


def set_loss(config: SetConfig, values: Tensor, returns: Tensor) -> Tensor:
    """Of values float32[b, k] for centred returns float32[b, k], NaN where there is no candidate.

    Huber's loss of the values about their mean, and the expected cost of the softmax policy.
    """
    there = ~torch.isnan(returns)
    count = there.sum(dim=1, keepdim=True).clamp(min=1)
    wanted = returns.nan_to_num()
    centred = values - (values * there).sum(dim=1, keepdim=True) / count
    error = functional.huber_loss(centred, wanted, reduction="none", delta=config.huber_delta)
    loss = ((error * there).sum(dim=1) / count[:, 0]).mean()
    if config.policy_weight > 0.0:
        policy = torch.softmax((values / config.temperature).masked_fill(~there, -math.inf), dim=1)
        loss = loss - config.policy_weight * (policy * wanted).sum(dim=1).mean()
    return loss
