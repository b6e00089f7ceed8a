"""Episodes of a scenario under a policy, many at a time, with exploration and its propensities."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from itp.policies.base import Policy
from itp.policies.rules import Random
from itp.policies.served import ModelPolicy
from itp.schema import SOURCES
from itp.sim.choice import Choice
from itp.sim.outcomes import mean_log_slowdown
from itp.sim.scenario import Scenario
from itp.sim.simulator import Simulator

__all__ = ["Rollout", "mean_log_slowdown", "rollout", "rollouts", "run", "steps"]

# Decisions held in memory at a time, at some 350 bytes each, unless one episode has more.
_BATCH_DECISIONS = 250_000
_GUARD = SOURCES.index("guard")


@dataclass(frozen=True, slots=True)
class Rollout:
    """Episodes that ran side by side, all of them complete.

    Attributes
    ----------
    seeds : ndarray
        uint64[n]: of the worlds, ascending.
    outcomes : ndarray
        OUTCOME[.]: of all tasks, in no special order; `env` counts along `seeds`.
    experiences : ndarray or None
        The same tasks in the same order, of ``itp.experience.record.record_dtype``.
    guarded : ndarray or None
        int64[n]: decisions that a model's guard gave to its rule; None without a guard.
    """

    seeds: NDArray[np.uint64]
    outcomes: NDArray[np.void]
    experiences: NDArray[np.void] | None
    guarded: NDArray[np.int64] | None


def rollouts(
    scenario: Scenario,
    policy: Policy,
    seeds: Sequence[int],
    *,
    n_envs: int = 64,
    threads: int = 1,
    epsilon: float = 0.0,
    experiences: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Iterator[Rollout]:
    """Run one episode in the world of every seed, `n_envs` at a time.

    What happens in a world does not depend on `n_envs` or `threads`: exploration too is drawn by seed
    and number of the task.

    Parameters
    ----------
    scenario : Scenario
    policy : Policy
    seeds : sequence of int
        Of the worlds.
    n_envs : int
        Episodes side by side; fewer if they would not fit a quarter of a million decisions.
    threads : int
        That divide them.
    epsilon : float
        Probability that a decision is drawn uniformly from the actions open to it.
    experiences : bool
        Keep states, actions, rewards and propensities.
    progress : callable, optional
        Called with the number of decisions just taken.

    Raises
    ------
    ValueError
        `epsilon` is no probability.
    """
    if not 0.0 <= epsilon <= 1.0:
        raise ValueError(f"epsilon = {epsilon!r}: expected 0 to 1")
    numbers = np.asarray(seeds, dtype=np.uint64)
    size = min(n_envs, max(1, _BATCH_DECISIONS // scenario.n_tasks))
    ready = False
    for first in range(0, len(numbers), size):
        some = numbers[first : first + size]
        sim = Simulator(scenario, seeds=some, threads=min(threads, len(some)), keep_states=experiences)
        if not ready:
            policy.begin(sim)
            ready = True
        yield rollout(sim, policy, epsilon=epsilon, experiences=experiences, progress=progress)


def steps(sim: Simulator, policy: Policy, epsilon: float = 0.0) -> Iterator[Choice]:
    """Decide for every task of a simulator's episodes; yields each choice when its step has been taken."""
    while not sim.done.all():
        chosen = policy.act(sim)
        # A policy of the caller's may return masks and splits alone.
        choice = chosen if isinstance(chosen, Choice) else Choice(*chosen)
        # Exploring around what is uniform already would change nothing but its propensities.
        if epsilon > 0.0 and not isinstance(policy, Random):
            choice = sim.explore(choice, epsilon)
        sim.step_masks(*choice)
        yield choice


def rollout(
    sim: Simulator,
    policy: Policy,
    *,
    epsilon: float = 0.0,
    experiences: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Rollout:
    """Run a simulator's episodes to their end under a policy that is ready; options as for `rollouts`."""
    outcomes = [sim.completed()]
    kept = [sim.experiences()] if experiences else []
    guarded = np.zeros(sim.n_envs, dtype=np.int64)
    for choice in steps(sim, policy, epsilon):
        if choice.sources is not None:
            guarded += choice.sources == _GUARD
        outcomes.append(sim.completed())
        if experiences:
            kept.append(sim.experiences())
        if progress is not None:
            progress(sim.n_envs)
    return Rollout(
        seeds=sim.seeds.copy(),
        outcomes=np.concatenate(outcomes),
        experiences=np.concatenate(kept) if experiences else None,
        guarded=guarded if isinstance(policy, ModelPolicy) and policy.has_guard else None,
    )


def run(sim: Simulator, policy: Policy) -> NDArray[np.void]:
    """All outcomes (OUTCOME) of a simulator's episodes under a policy that is ready, in no special order."""
    return rollout(sim, policy).outcomes
