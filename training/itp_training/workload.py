"""The workloads that a model of schema 1 was trained on, which its state does not show: sizes and load.

Its state has absolute sizes and no load. Where the sizes of recent tasks or the load are unlike training's,
a rule decides in its place.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from itp import Simulator
from itp._core.features import CONTEXT_NAMES
from itp.policies.rules import Rule
from itp.sim.scenario import Scenario

TASKS = 3
"""So many tasks must have been seen before sizes and load are known."""
SIZE_QUANTILES = (0.002, 0.998)
LOAD_QUANTILE = 0.02
"""Low loads are where a wrong choice costs most."""
MOST_LOAD = 1e9
LOAD_ROOM = 1.25
"""The ranges reach beyond the quantiles by so many times the load ..."""
LOG2_ROOM = 0.2
"""... and so many octaves of size."""

_LOAD = CONTEXT_NAMES.index("long-run load")
_MEMORY = 64.0


def fit(scenario: Scenario, seeds: NDArray[np.uint64], rule: str) -> dict[str, Any]:
    """The metadata's ``workload``: what decisions in a scenario see of sizes and load.

    Parameters
    ----------
    scenario : Scenario
        Of training.
    seeds : ndarray
        uint64[n]: of the worlds.
    rule : str
        That decides in them.
    """
    sim, policy = Simulator(scenario, seeds=seeds), Rule(rule)
    log2_mean, weight = np.zeros(sim.n_envs), 0.0
    sizes, loads = [], []
    for task in range(sim.n_tasks):
        log2 = np.log2(sim.waiting()["size_bytes"])
        log2_mean += (log2 - log2_mean) / _MEMORY
        weight += (1.0 - weight) / _MEMORY
        if task >= TASKS:
            shown = sim.features().context[:, _LOAD].astype(np.float64)
            loads.append(0.5 * shown / (1.0 - shown))
            sizes.append(log2_mean / weight)
        sim.step_masks(*policy.act(sim))
    low = np.quantile(np.concatenate(loads), LOAD_QUANTILE)
    smallest, largest = np.quantile(np.concatenate(sizes), SIZE_QUANTILES)
    return {
        "log2_bytes": [round(float(smallest - LOG2_ROOM), 2), round(float(largest + LOG2_ROOM), 2)],
        # Under more load than training's it still beats the rules: it is where hardly any comes that it errs.
        "load": [round(float(low / LOAD_ROOM), 3), MOST_LOAD],
        "tasks": TASKS,
    }
