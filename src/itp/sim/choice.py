"""What is chosen for the tasks that wait in a simulator's environments: the record of a decision."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class _Arrays(NamedTuple):
    masks: NDArray[np.uint32]
    splits: NDArray[np.int32]
    propensities: NDArray[np.float64] | None = None
    explored: NDArray[np.bool_] | None = None
    sources: NDArray[np.uint8] | None = None


class Choice(_Arrays):
    """One action an environment; what is None has the value that certainty has.

    A tuple of the five arrays, as `Simulator.step_masks` takes them.

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
    engine : str
        Source of an action that is drawn in place of the chosen one.
    hard_deadlines : bool
        Actions that are planned to miss the deadline were closed; they are not drawn either.
    by_set : bool
        It was chosen among the candidates of a set model; what is drawn is one of them.
    """

    engine = "heuristic"
    hard_deadlines = False
    by_set = False

    def made_by(self, engine: str, *, hard_deadlines: bool, by_set: bool = False) -> Choice:
        """This choice, with what drawing around it has to know."""
        self.engine, self.hard_deadlines, self.by_set = engine, hard_deadlines, by_set
        return self
