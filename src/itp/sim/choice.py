"""What is chosen for the tasks that wait in a simulator's environments: the record of a decision."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Choice(NamedTuple):
    """One action an environment; what is None has the value that certainty has.

    Attributes
    ----------
    masks : ndarray
        uint32[n_envs]: the streams of the action.
    splits : ndarray
        int32[n_envs]: how chunk sizes are found, by number in ``itp.sim.simulator.SPLITS``.
    propensities : ndarray or None
        float64[n_envs]: probability with which this action was taken; None: 1.
    explored : ndarray or None
        bool[n_envs]: the action was drawn, not chosen; None: nowhere.
    sources : ndarray or None
        uint8[n_envs]: who chose, by number in ``itp.schema.SOURCES``; None: the heuristic.
    """

    masks: NDArray[np.uint32]
    splits: NDArray[np.int32]
    propensities: NDArray[np.float64] | None = None
    explored: NDArray[np.bool_] | None = None
    sources: NDArray[np.uint8] | None = None
