"""How good a set network is now, in worlds that are neither trained nor tested on, against the best rule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from itp import Simulator, policies
from itp._core.setnet import SetNet
from itp.policies.base import Policy
from itp.schema import SERVICE_ORDERS
from itp.sim.outcomes import completion_times, mean_log_slowdown
from itp.sim.scenario import Scenario
from itp_training.collect import VALIDATION_SEED
from itp_training.sets.config import SetConfig
from itp_training.sets.worlds import SetPolicy, training_scenario

RULES = ("single_best", "least_completion_time")
STREAMS = (4, 8)
"""Validated with so many streams, of those that are trained; with the fewest where neither is."""


@dataclass(frozen=True, slots=True)
class Score:
    """How a policy did in some worlds, or how that compares with the best rule's: a ratio then."""

    slowdown: float
    """Geometric mean over tasks."""
    time: float
    """Mean completion time in seconds, the geometric mean over worlds."""


class SetValidation:
    """Scores in the same worlds every time.

    Attributes
    ----------
    worlds : dict
        By number of streams and service order.
    """

    def __init__(self, config: SetConfig) -> None:
        self.preferences = {"typical": 0.0, "balanced": config.balanced, "bulk": 1.0}
        numbers = [n for n in STREAMS if n in config.streams] or [config.streams[0]]
        self.worlds: dict[tuple[int, str], Scenario] = {
            (n, order): training_scenario(config, n, order) for n in numbers for order in SERVICE_ORDERS
        }
        first = np.uint64(VALIDATION_SEED)
        self.seeds: NDArray[np.uint64] = first + np.arange(config.validation_envs, dtype=np.uint64)
        self._best: dict[tuple[int, str], Score] = {}

    def best_rule(self, key: tuple[int, str]) -> Score:
        """The least that a rule of RULES comes to, in either measure; measured once."""
        if key not in self._best:
            scores = [self.score(key, policies.make(rule)) for rule in RULES]
            self._best[key] = Score(min(s.slowdown for s in scores), min(s.time for s in scores))
        return self._best[key]

    def score(self, key: tuple[int, str], policy: Policy) -> Score:
        """Of a policy in some of the worlds."""
        sim = Simulator(self.worlds[key], seeds=self.seeds)
        policy.begin(sim)
        done = policies.run(sim, policy)
        mean_s = np.bincount(done["env"], completion_times(done)) / np.bincount(done["env"])
        return Score(float(np.exp(mean_log_slowdown(done))), float(np.exp(np.log(mean_s).mean())))

    def ratios(self, net: SetNet) -> dict[str, list[dict[str, float | int | str]]]:
        """By preference, the network's scores over the best rule's in each of the worlds."""
        found: dict[str, list[dict[str, float | int | str]]] = {}
        for name, preference in self.preferences.items():
            found[name] = []
            for n, order in self.worlds:
                mine, best = self.score((n, order), SetPolicy(net, preference)), self.best_rule((n, order))
                found[name].append(
                    {
                        "streams": n,
                        "service_order": order,
                        "slowdown": mine.slowdown / best.slowdown,
                        "time": mine.time / best.time,
                    }
                )
        return found


def mean_ratio(rows: list[dict[str, float | int | str]], measure: str) -> float:
    """Geometric mean of a measure over worlds."""
    return float(np.exp(np.mean([np.log(float(row[measure])) for row in rows])))
