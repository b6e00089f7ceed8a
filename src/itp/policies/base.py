"""What a policy is in simulated worlds, and which seeds it may learn from."""

from __future__ import annotations

from typing import Protocol

from itp.sim.choice import Choice
from itp.sim.simulator import Simulator

TRAINING_SEED = 0
"""First of the seeds on which policies are tuned and trained; evaluation takes others."""

TEST_SEED = 1_000_000
"""First of the seeds on which policies are evaluated."""


class Policy(Protocol):
    """Decides for all environments of a simulator at once."""

    name: str

    def begin(self, sim: Simulator) -> None:
        """Prepare for episodes of this simulator's scenario; tuning uses training seeds alone."""

    def act(self, sim: Simulator) -> Choice:
        """What it chooses, for `Simulator.step_masks`; the caller uses it before the next call."""
