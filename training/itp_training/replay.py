"""Where batches come from: decisions made in the simulator, and decisions on record."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from itp import PrioritizedReplayBuffer
from itp.schema import N_ACTIONS, STATE_DIM
from itp_training import checkpoint
from itp_training.collect import Experiences
from itp_training.config import TrainingConfig

Batch = dict[str, NDArray[Any]]


class Replay:
    """Two prioritized buffers, of which every batch takes fixed shares.

    Records stay while simulated decisions come and go. Drawing from both for every batch is what Ball et al.
    (ICML 2023, "Efficient Online Reinforcement Learning with Offline Data") found to work best.

    Attributes
    ----------
    simulated, recorded : PrioritizedReplayBuffer
        Each keeps its last ``buffer_size`` decisions.
    returns : ndarray
        float32[buffer_size, 15]: what every action of a simulated decision would have returned, by the slot
        in its buffer; NaN where it is not known.
    """

    def __init__(self, config: TrainingConfig) -> None:
        self.simulated, self.recorded = (
            PrioritizedReplayBuffer(
                config.buffer_size, STATE_DIM, config.alpha, seed=config.seed + number, n_actions=N_ACTIONS
            )
            for number in range(2)
        )
        size, begin = config.batch_size, config.batch_size - config.recorded
        self.returns = np.full((config.buffer_size, N_ACTIONS), np.nan, dtype=np.float32)
        self._batch: Batch = {
            "state": np.empty((size, STATE_DIM), np.float32),
            "next_state": np.empty((size, STATE_DIM), np.float32),
            "action": np.empty(size, np.int64),
            "reward": np.empty(size, np.float32),
            "done": np.empty(size, np.bool_),
            "weights": np.empty(size, np.float32),
            "indexes": np.empty(size, np.int64),
        }
        parts = ((self.simulated, slice(0, begin)), (self.recorded, slice(begin, size)))
        self._parts = [
            (buffer, part, {name: values[part] for name, values in self._batch.items()})
            for buffer, part in parts
            if part.start < part.stop
        ]
        # A record's next state is that of the next decision, whatever n_step is in the simulator.
        discount = np.full(size, config.gamma, np.float32)
        discount[:begin] = config.gamma**config.n_step
        self._batch["discount"] = discount
        self._batch["returns"] = np.full((size, N_ACTIONS), np.nan, np.float32)
        self._n_simulated = begin
        self._looks_ahead = config.look_ahead_share > 0.0

    @property
    def ready(self) -> bool:
        """Whether there is something of each kind that a batch takes."""
        return all(len(buffer) for buffer, _, _ in self._parts)

    def store(self, experiences: Experiences) -> None:
        """Keep simulated decisions, with the highest priority so far."""
        indexes = self.simulated.add_batch(
            state=experiences.state,
            action=experiences.action,
            reward=experiences.reward,
            next_state=experiences.next_state,
            done=experiences.done,
        )
        self.returns[indexes % len(self.returns)] = experiences.returns

    def sample(self, beta: float) -> Batch:
        """A batch, the simulated decisions first; the next call overwrites it.

        Returns
        -------
        dict of ndarray
            As of `PrioritizedReplayBuffer.sample`, importance weights relative to the largest one of a part;
            ``discount`` float32[batch] of the next state's value; ``returns`` float32[batch, 15] of every
            action, NaN where it is not known.
        """
        for buffer, part, out in self._parts:
            buffer.sample(part.stop - part.start, beta, out=out)
        if self._looks_ahead:
            n = self._n_simulated
            self._batch["returns"][:n] = self.returns[self._batch["indexes"][:n] % len(self.returns)]
        return self._batch

    def update_priorities(self, priorities: NDArray[np.float64]) -> None:
        """New priorities, float64[batch], of the decisions of the last batch."""
        for buffer, part, out in self._parts:
            buffer.update_priorities(out["indexes"], priorities[part])

    def state_dict(self) -> dict[str, torch.Tensor]:
        """What a resumed run needs."""
        return {
            "simulated": checkpoint.pack_buffer(self.simulated),
            "recorded": checkpoint.pack_buffer(self.recorded),
            "returns": torch.from_numpy(self.returns[: len(self.simulated)]),
        }

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Go on from what `state_dict` gave."""
        checkpoint.unpack_buffer(self.simulated, state["simulated"])
        checkpoint.unpack_buffer(self.recorded, state["recorded"])
        returns = state["returns"].numpy()
        self.returns[: len(returns)] = returns
