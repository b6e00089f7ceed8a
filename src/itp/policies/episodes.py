"""Episodes of a scenario under a policy, many at a time, with exploration and its propensities."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from itp.policies.base import Choice, Policy
from itp.sim.scenario import Scenario
from itp.sim.scenario.draws import uniform
from itp.sim.simulator import Simulator, masks_of_actions

__all__ = ["Rollout", "mean_log_slowdown", "rollouts", "run"]

# Decisions held in memory at a time, at some 350 bytes each, unless one episode has more.
_BATCH_DECISIONS = 250_000
_WATER_FILLING = 0


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
        The same tasks in the same order, with the fields of ``itp.experience.log.experience_dtype``.
    """

    seeds: NDArray[np.uint64]
    outcomes: NDArray[np.void]
    experiences: NDArray[np.void] | None


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
        yield _run(sim, policy, epsilon, experiences, progress)


def _run(
    sim: Simulator,
    policy: Policy,
    epsilon: float,
    experiences: bool,
    progress: Callable[[int], None] | None,
) -> Rollout:
    outcomes = [sim.completed()]
    told = [sim.experiences()] if experiences else []
    # Every step decides for the next task of every environment.
    for number in range(sim.n_tasks):
        masks, splits = policy.act(sim)
        propensities, explored = np.ones(sim.n_envs), np.zeros(sim.n_envs, dtype=np.bool_)
        if epsilon > 0.0 or policy.name == "random":
            masks, splits, propensities, explored = _explore(
                sim, (masks, splits), number, epsilon, uniform_policy=policy.name == "random"
            )
        sim.step_masks(masks, splits, propensities=propensities, explored=explored)
        outcomes.append(sim.completed())
        if experiences:
            told.append(sim.experiences())
        if progress is not None:
            progress(sim.n_envs)
    return Rollout(sim.seeds.copy(), np.concatenate(outcomes), np.concatenate(told) if experiences else None)


def _explore(
    sim: Simulator, choice: Choice, number: int, epsilon: float, *, uniform_policy: bool
) -> tuple[NDArray[np.uint32], NDArray[np.int32], NDArray[np.float64], NDArray[np.bool_]]:
    """Epsilon-greedy: masks, splits, the probability of what was taken, and where it was drawn."""
    masks, splits = choice[0].copy(), choice[1].copy()
    actions = masks_of_actions(sim.n_streams)
    is_open = sim.action_masks
    n_open = is_open.sum(axis=1)
    drawn = (uniform(sim.seeds, f"exploration {number}") < epsilon) & (n_open > 0)
    place = (uniform(sim.seeds, f"explored action {number}") * n_open).astype(np.int64)
    # The place-th of the open actions.
    action = (np.cumsum(is_open, axis=1) > place[:, None]).argmax(axis=1)
    greedy = masks.copy()
    masks[drawn] = actions[action[drawn]]
    splits[drawn] = _WATER_FILLING
    taken_is_open = (is_open & (actions[None, :] == masks[:, None])).any(axis=1)
    share = np.where(taken_is_open, 1.0 / np.maximum(n_open, 1), 0.0)
    kept = share if uniform_policy else (masks == greedy).astype(np.float64)
    return masks, splits, np.where(n_open > 0, epsilon * share + (1.0 - epsilon) * kept, 1.0), drawn


def run(sim: Simulator, policy: Policy) -> NDArray[np.void]:
    """All outcomes (OUTCOME) of a simulator's episodes under a policy that is ready, in no special order."""
    parts = [sim.completed()]
    while not sim.done.all():
        sim.step_masks(*policy.act(sim))
        parts.append(sim.completed())
    return np.concatenate(parts)


def mean_log_slowdown(outcomes: NDArray[np.void]) -> float:
    """Mean log of (completion time / reference time)."""
    taken_s = outcomes["completed_at_s"] - outcomes["arrived_at_s"]
    return float(np.log(taken_s / outcomes["reference_time_s"]).mean())
