"""How many decisions a second the simulator makes on one thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from itp.sim.simulator import Simulator
from itp_overhead.timing import Subject, interleave

N_ENVS = 1024
_STEPS = 100_000
_LOAD = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """Decisions a second in 1,024 environments of the family `mixed`, by the median step of all of them."""

    random_per_s: float
    least_completion_time_per_s: float

    def as_dict(self) -> dict[str, Any]:
        """The figures by name, ready for JSON."""
        return asdict(self)


def measure(*, seconds: float, progress: Callable[[str], object] = lambda _: None) -> Simulation:
    """Step with random actions, and with a rule that tries every set of streams for every task."""
    progress("simulator")
    at_random, by_rule = (
        # An episode that does not end here.
        Simulator("mixed", n_envs=N_ENVS, tasks=1_000_000, threads=1, service_order="fifo", load=_LOAD)
        for _ in range(2)
    )
    actions = np.random.default_rng(0).integers(0, at_random.n_actions, (64, N_ENVS))
    stepped = 0

    def step_at_random() -> None:
        nonlocal stepped
        at_random.step(actions[stepped % len(actions)])
        stepped += 1

    subjects = [
        Subject(name="random", call=step_at_random),
        Subject(name="rule", call=lambda: by_rule.step_masks(*by_rule.choose("least_completion_time"))),
    ]
    rates = [N_ENVS / (t.p50_us * 1e-6) for t in interleave(subjects, seconds=seconds, calls=_STEPS)]
    return Simulation(random_per_s=rates[0], least_completion_time_per_s=rates[1])
