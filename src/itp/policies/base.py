"""What a policy is in simulated worlds, and which seeds it may learn from."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from itp.sim.simulator import Simulator

TRAINING_SEED = 0
"""First of the seeds on which policies are tuned and trained; evaluation takes others."""

TEST_SEED = 1_000_000
"""First of the seeds on which policies are evaluated."""

Choice = tuple[NDArray[np.uint32], NDArray[np.int32]]
"""Masks and splits, as `Simulator.step_masks` takes them."""


class Policy(Protocol):
    """Decides for all environments of a simulator at once."""

    name: str

    def begin(self, sim: Simulator) -> None:
        """Prepare for episodes of this simulator's scenario; tuning uses training seeds alone."""

    def act(self, sim: Simulator) -> Choice:
        """Masks and splits for `Simulator.step_masks`; the caller uses them before the next call."""
