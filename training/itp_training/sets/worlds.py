"""The worlds that set networks learn and are measured in, and a set network as a policy there."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from itp import Simulator
from itp._core.decider import Served
from itp._core.setnet import SetNet
from itp.errors import ScenarioError
from itp.sim import scenario
from itp.sim.choice import Choice
from itp.sim.scenario import Scenario
from itp_training.collect import OWN
from itp_training.errors import TrainingError
from itp_training.sets.config import SetConfig


@lru_cache(maxsize=64)
def training_scenario(config: SetConfig, n_streams: int, service_order: str) -> Scenario:
    """Worlds of those of the configuration's scenarios that have so many paths, or can be given as many.

    Raises
    ------
    TrainingError
        There is none.
    """
    paths = [str(OWN.get(name, name)) for name in config.scenarios]
    mixture = {
        "name": "training",
        "paths": n_streams,
        "families": [path for path in paths if _has(path, n_streams)],
        "workload": {"load": {"log_uniform": list(config.load)}},
    }
    if not mixture["families"]:
        raise TrainingError(
            f"no scenario has {n_streams} paths: leave {n_streams} out of streams, or name one whose `paths` "
            "is a number"
        )
    return scenario.load(mixture).with_options(service_order=service_order, tasks=config.tasks)


@lru_cache(maxsize=256)
def _has(path: str, n_streams: int) -> bool:
    loaded = scenario.load(path)
    try:
        return loaded.with_options(n_streams=n_streams).n_streams == n_streams
    except ScenarioError:
        return False


class SetPolicy:
    """Decides by a set network, as a policy of ``itp.policies``.

    Parameters
    ----------
    net : SetNet or Served
        A network alone, or a model in use with its cap and support.
    preferences : float or ndarray
        0 (typical) to 1 (bulk), for all environments or for each.
    """

    name = "set network"

    def __init__(self, net: SetNet | Served, preferences: float | NDArray[np.float64]) -> None:
        self.net = net
        self.preferences = preferences

    def begin(self, sim: Simulator) -> None:
        """Set what is preferred."""
        sim.prefer(self.preferences)

    def act(self, sim: Simulator) -> Choice:
        return sim.decide_sets(self.net)
