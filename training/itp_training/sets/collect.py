"""Episodes under the present set network, and what every candidate of some of their decisions costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from itp import Simulator, policies
from itp._core.setnet import SetNet
from itp.schema import SERVICE_ORDERS
from itp.sim.outcomes import log_slowdowns
from itp.sim.sets import SetCosts, SetFeatures
from itp_training.collect import VALIDATION_SEED
from itp_training.config import TEACHERS
from itp_training.errors import TrainingError
from itp_training.sets.config import SetConfig
from itp_training.sets.replay import Decisions
from itp_training.sets.worlds import training_scenario


@dataclass(frozen=True, slots=True)
class Part:
    """What a round plays with one number of streams and one service order."""

    n_streams: int
    service_order: str


class SetCollector:
    """Plays the parts of rounds.

    A part of a round sees the same worlds and the same random numbers however it is reached.

    Parameters
    ----------
    config : SetConfig
    threads : int
        That divide the environments; results do not depend on it.
    """

    def __init__(self, config: SetConfig, threads: int) -> None:
        self.config = config
        self.threads = threads

    def collect(
        self, number: int, part: Part, net: SetNet | None, tick: Callable[[int], None] = lambda _: None
    ) -> tuple[Decisions, NDArray[np.float64]]:
        """The decisions that were looked ahead from, and the log slowdowns of all tasks.

        Parameters
        ----------
        number : int
            Of the round.
        part : Part
        net : SetNet or None
            It decides, and in look-ahead too; without one, the service order's best rule.
        tick : callable, optional
            Called with the number of decisions just taken; it may raise to leave.

        Raises
        ------
        TrainingError
            No task was completed.
        """
        c, n = self.config, part.n_streams
        envs, _ = c.settings_of(n)
        rng = np.random.default_rng([c.seed, number, n, SERVICE_ORDERS.index(part.service_order)])
        seeds = rng.integers(policies.TRAINING_SEED, VALIDATION_SEED, envs, dtype=np.uint64)
        preferences = draw_preferences(c, envs, rng)
        worlds = training_scenario(c, n, part.service_order)
        sim = Simulator(worlds, seeds=seeds, threads=min(self.threads, envs))
        sim.prefer(preferences)
        arrivals_per_s = worlds.sample(seeds).workload["arrivals_per_s"]
        looked: list[tuple[SetFeatures, SetCosts]] = []
        outcomes = []
        until = max(1, round(c.look_ahead_until * sim.n_tasks))
        at = rng.random(until) < c.look_ahead_share
        # The first tasks of a workload that is not known yet are few, and can cost much.
        at[: c.look_ahead_first] = True
        for task in range(sim.n_tasks):
            if task < until and at[task]:
                looked.append((sim.features(), sim.look_ahead_costs(net, horizons(c, sim, arrivals_per_s))))
            choice = sim.choose(TEACHERS[part.service_order]) if net is None else sim.decide_sets(net)
            sim.step_masks(*sim.explore(choice, c.epsilon))
            outcomes.append(sim.completed())
            tick(envs)
        done = np.concatenate(outcomes)
        if not done["success"].any():
            raise TrainingError(
                f"no task of {envs * sim.n_tasks} was completed in time or at all: the scenario cannot be "
                "learnt from; look at it with `itp simulate`"
            )
        count = np.bincount(done["env"], minlength=envs)
        with np.errstate(invalid="ignore"):
            # NaN where no task was completed.
            mean_reference_s = np.bincount(done["env"], done["reference_time_s"], envs) / count
        parts = []
        for features, costs in looked:
            cost = mixed_cost(c, preferences, costs.log_slowdowns, costs.times_s / mean_reference_s[:, None])
            # One candidate leaves nothing to learn; an environment may have gone wrong on its own.
            some = np.flatnonzero((features.masks[:, 1] > 0) & np.isfinite(cost[:, 0]))
            streams, context, candidates, members, _ = features
            decisions = Decisions(streams, context, candidates, members, returns(c, cost))
            parts.append(decisions.take(some))
        return Decisions.joined(parts), log_slowdowns(done)


def horizons(config: SetConfig, sim: Simulator, arrivals_per_s: NDArray[np.float64]) -> NDArray[np.int32]:
    """Tasks to look ahead, int32[n_envs]: more where many arrive while the waiting one is under way."""
    every = np.full((sim.n_envs, 1), (1 << sim.n_streams) - 1, np.uint32)
    meanwhile = config.look_ahead_reach * sim.expected_times(every)[:, 0] * arrivals_per_s
    most = max(config.look_ahead_most, config.look_ahead_tasks)
    found: NDArray[np.int32] = np.clip(
        np.nan_to_num(meanwhile, posinf=0.0), config.look_ahead_tasks, most
    ).astype(np.int32)
    return found


def draw_preferences(config: SetConfig, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Preferences float64[count] of episodes."""
    edges = np.cumsum([config.typical, config.halfway, config.bulk])
    kind = np.searchsorted(edges, rng.random(count), side="right")
    fixed = np.array([0.0, config.balanced, 1.0, np.nan])[kind]
    return np.where(np.isnan(fixed), rng.random(count), fixed)


def mixed_cost(
    config: SetConfig,
    preferences: NDArray[np.float64],
    slowdowns: NDArray[np.float64],
    times: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Cost of every candidate float64[d, k], from sums of log slowdowns and of times in mean references."""
    p = preferences[:, None]
    cost: NDArray[np.float64] = (1.0 - p) * slowdowns + p * config.bulk_weight * times
    return cost


def returns(config: SetConfig, cost: NDArray[np.float64]) -> NDArray[np.float32]:
    """What is learnt: minus the cost about its mean, float32[d, k], scaled down where that is huge."""
    with np.errstate(invalid="ignore"):
        count = np.maximum(np.isfinite(cost).sum(axis=1, keepdims=True), 1)
        centred = cost - np.nansum(cost, axis=1, keepdims=True) / count
        regret = -np.fmin.reduce(centred, axis=1, keepdims=True)
        found = -centred / np.maximum(regret / config.regret_cap, 1.0)
    learnt: NDArray[np.float32] = found.astype(np.float32)
    return learnt
