"""What a policy achieves in the simulator, in a handful of figures."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from itp._core.heuristic import POLICIES
from itp.policies.base import TEST_SEED, Policy
from itp.policies.episodes import rollouts
from itp.policies.rules import Rule
from itp.policies.served import ModelPolicy
from itp.sim.scenario import load


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance:
    """Figures over episodes; an episode's figure is the mean over its tasks."""

    episodes: int
    mean_reward: float
    std_reward: float
    """Between episodes."""
    mean_completion_time_s: float
    slowdown: float
    """Geometric mean of completion time over that of an empty network."""
    success_rate: float
    """Tasks delivered, in time where they had a deadline."""

    def as_dict(self) -> dict[str, Any]:
        """The figures by name, ready for JSON."""
        return asdict(self)


def measure(
    policy: str | os.PathLike[str],
    *,
    hard_deadlines: bool | None,
    scenario: str,
    service_order: str,
    episodes: int,
) -> Performance:
    """Run what a partitioner decides by in test worlds of a scenario.

    Parameters
    ----------
    policy : str or path
        One of ``itp._core.heuristic.POLICIES``, or a model's path.
    hard_deadlines : bool or None
        As for ``TaskPartitioner``.

    Raises
    ------
    ValueError
        `episodes` is not from 1 to 100,000.
    """
    if isinstance(episodes, bool) or not isinstance(episodes, int) or not 1 <= episodes <= 100_000:
        raise ValueError(f"episodes = {episodes!r}: expected 1 to 100000")
    decides: Policy = (
        Rule(os.fspath(policy), hard_deadlines=hard_deadlines)
        if policy in POLICIES
        else ModelPolicy(policy, hard_deadlines=hard_deadlines)
    )
    world = load(scenario).with_options(service_order=service_order)
    seeds = range(TEST_SEED, TEST_SEED + episodes)
    rewards, times_s, log_slowdowns, successes = [], [], [], []
    for rollout in rollouts(world, decides, seeds):
        outcomes = rollout.outcomes
        taken_s = outcomes["completed_at_s"] - outcomes["arrived_at_s"]
        for env in range(len(rollout.seeds)):
            mine = outcomes["env"] == env
            rewards.append(outcomes["reward"][mine].mean())
            times_s.append(taken_s[mine].mean())
            log_slowdowns.append(np.log(taken_s[mine] / outcomes["reference_time_s"][mine]).mean())
            successes.append(outcomes["success"][mine].mean())
    return Performance(
        episodes=episodes,
        mean_reward=float(np.mean(rewards)),
        std_reward=float(np.std(rewards)),
        mean_completion_time_s=float(np.mean(times_s)),
        slowdown=float(np.exp(np.mean(log_slowdowns))),
        success_rate=float(np.mean(successes)),
    )
