"""The simulator's speed on one thread: decisions a second, and the cost of reading experiences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itp.sim.simulator import Simulator
from itp_overhead.timing import Subject, interleave

N_ENVS = 1024
RULE = "least_completion_time"
ENDLESS = 1_000_000
"""Tasks of an episode that outlasts every measurement."""
_CALLS = 100_000
_WARM_UP_STEPS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """Speed in 1,024 environments of the family ``mixed``, by the median step of all of them.

    Attributes
    ----------
    random_per_s, least_completion_time_per_s : float
        Decisions a second with random actions, and with this rule choosing.
    experiences_share : float
        Time of ``experiences()`` over the time of the step it reads.
    """

    random_per_s: float
    least_completion_time_per_s: float
    experiences_share: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def simulator(n_envs: int = N_ENVS, *, tasks: int = ENDLESS, keep_states: bool = False) -> Simulator:
    """Environments of ``mixed`` at load 0.6 under fifo, on one thread."""
    return Simulator(
        "mixed",
        n_envs=n_envs,
        tasks=tasks,
        threads=1,
        service_order="fifo",
        load=0.6,
        keep_states=keep_states,
    )


def random_step(sim: Simulator) -> Callable[[], NDArray[np.float64]]:
    """A step of every environment with random actions, drawn beforehand."""
    drawn = np.random.default_rng(0).integers(0, sim.n_actions, (64, sim.n_envs))
    actions: Iterator[NDArray[np.int64]] = cycle(drawn)
    return lambda: sim.step(next(actions))


def rule_step(sim: Simulator) -> Callable[[], NDArray[np.float64]]:
    """A step of every environment with a rule that tries every set of streams for every task."""
    return lambda: sim.step_masks(*sim.choose(RULE))


def measure(*, seconds: float, progress: Callable[[str], object] = lambda _: None) -> Simulation:
    """Time steps with random actions and with a rule, and the reading of experiences."""
    progress("simulator")
    read = simulator(keep_states=True)
    by_random, by_rule, step = random_step(simulator()), rule_step(simulator()), random_step(read)
    for advance in (by_random, by_rule, step):
        for _ in range(_WARM_UP_STEPS):  # until as many tasks are in flight as later on
            advance()
    subjects = [
        Subject(name="random", call=by_random),
        Subject(name="rule", call=by_rule),
        Subject(name="step", call=step),
        Subject(name="experiences", call=read.experiences, after=lambda _: step()),
    ]
    random_us, rule_us, step_us, experiences_us = (
        timing.p50_us for timing in interleave(subjects, seconds=seconds, calls=_CALLS)
    )
    return Simulation(
        random_per_s=N_ENVS / (random_us * 1e-6),
        least_completion_time_per_s=N_ENVS / (rule_us * 1e-6),
        experiences_share=experiences_us / step_us,
    )
