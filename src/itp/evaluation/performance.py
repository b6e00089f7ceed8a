"""The performance of one policy in test worlds, in a handful of figures: `TaskPartitioner.evaluate`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from itp._core.decider import Served
from itp.evaluation.metrics import rollout_metrics
from itp.policies.base import TEST_SEED, Policy
from itp.policies.episodes import rollouts
from itp.policies.rules import Rule
from itp.policies.served import ServedPolicy
from itp.schema import SET_SCHEMA
from itp.sim.scenario import load


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance:
    """Figures over episodes; an episode's figure is the mean over its tasks, as in `metrics`."""

    episodes: int
    mean_reward: float
    std_reward: float
    """Between episodes."""
    mean_completion_time_s: float
    slowdown: float
    """Geometric mean of completion time / reference time."""
    success_rate: float
    """Share of the tasks that were delivered, and in time where they had a deadline."""

    def as_dict(self) -> dict[str, Any]:
        """The figures by name, ready for JSON."""
        return asdict(self)


def measure(
    policy: str | Served,
    *,
    n_streams: int,
    hard_deadlines: bool | None,
    prefer: float,
    scenario: str,
    service_order: str,
    episodes: int,
) -> Performance:
    """Run what a partitioner decides by in test worlds of a scenario.

    Parameters
    ----------
    policy : str or Served
        A rule that a ``TaskPartitioner`` knows, or a model in use.
    n_streams : int
    hard_deadlines : bool or None
        As for ``TaskPartitioner``.
    prefer : float
        What a model of schema 2 decides for, 0 (typical) to 1 (bulk).

    Raises
    ------
    ValueError
        `episodes` is not from 1 to 100,000.
    ScenarioError
        There is no such scenario, or none of it with so many paths.
    """
    if isinstance(episodes, bool) or not isinstance(episodes, int) or not 1 <= episodes <= 100_000:
        raise ValueError(f"episodes = {episodes!r}: expected 1 to 100000")
    decides: Policy
    if isinstance(policy, Served):
        known = prefer if policy.schema == SET_SCHEMA else None
        decides = ServedPolicy(policy, hard_deadlines=hard_deadlines, prefer=known)
    else:
        decides = Rule(policy, hard_deadlines=hard_deadlines)
    world = load(scenario).with_options(service_order=service_order, n_streams=n_streams)
    parts = []
    for rollout in rollouts(world, decides, range(TEST_SEED, TEST_SEED + episodes)):
        outcomes = rollout.outcomes
        figures = rollout_metrics(rollout, world.n_tasks)
        successes = np.bincount(outcomes["env"], outcomes["success"], minlength=len(rollout.seeds))
        columns = (figures["reward"], figures["mean_s"], figures["log_slowdown"], successes / world.n_tasks)
        parts.append(np.stack(columns))
    reward, mean_s, log_slowdown, success = np.concatenate(parts, axis=1)
    return Performance(
        episodes=episodes,
        mean_reward=float(reward.mean()),
        std_reward=float(reward.std()),
        mean_completion_time_s=float(mean_s.mean()),
        slowdown=float(np.exp(log_slowdown.mean())),
        success_rate=float(success.mean()),
    )
