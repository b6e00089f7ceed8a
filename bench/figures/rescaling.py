"""The same worlds at rates and sizes times ten: does a model decide the same?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from itp.policies import make
from itp.policies.base import TEST_SEED
from itp.schema import MIN_CHUNK_BYTES, SERVICE_ORDERS
from itp.sim.scenario import load
from itp.sim.simulator import Simulator

FACTOR = 10
SCENARIOS = ("lognormal-sizes", "exponential-sizes", "bursty-arrivals", "no-deadlines")
"""Workloads whose sizes are in seconds of what the paths carry, and so grow with the rates."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Decisions that were compared, and those that are the same."""

    same: int
    decisions: int

    @property
    def share(self) -> float:
        """Same decisions over all."""
        return self.same / self.decisions


def agreement(policy: str, numbers_of_paths: Sequence[int], *, worlds: int, tasks: int) -> Agreement:
    """Decide in worlds and in the same ones rescaled, side by side.

    Both go on with what was decided in the former, so that each pair of decisions sees the same situation.
    The least chunk is rescaled, too, and nothing is stolen, since the least piece that is stolen has a size
    of its own: what differs, differs by rounding.
    """
    same = decisions = 0
    for n in numbers_of_paths:
        for name in SCENARIOS:
            for order in SERVICE_ORDERS:
                scenario = load(name, n_streams=n).with_options(
                    service_order=order, stealing=False, tasks=tasks
                )
                seeds = np.arange(TEST_SEED, TEST_SEED + worlds)
                sims = [
                    Simulator(
                        scenario.with_options(rate_scale=factor),
                        seeds=seeds,
                        min_chunk_bytes=factor * MIN_CHUNK_BYTES,
                    )
                    for factor in (1, FACTOR)
                ]
                found = _agreement(policy, *sims)
                same, decisions = same + found.same, decisions + found.decisions
    return Agreement(same, decisions)


def _agreement(policy: str, usual: Simulator, rescaled: Simulator) -> Agreement:
    here, there = make(policy), make(policy)
    here.begin(usual)
    there.begin(rescaled)
    same = decisions = 0
    while not (usual.done | rescaled.done).all():
        waiting = ~(usual.done | rescaled.done)
        choice, other = here.act(usual), there.act(rescaled)
        same += int((choice.masks == other.masks)[waiting].sum())
        decisions += int(waiting.sum())
        usual.step_masks(*choice)
        rescaled.step_masks(*choice)
    return Agreement(same, decisions)
