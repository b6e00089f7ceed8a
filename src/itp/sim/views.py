"""What agents see of a simulator and what they choose: the two versions of the Gymnasium environment.

Importing this module imports Gymnasium.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from itp._core.decider import PREFERENCES
from itp._util.extras import extra
from itp.schema import (
    CANDIDATE_FEATURES,
    CONTEXT_FEATURES,
    MAX_CANDIDATES,
    MAX_STREAMS,
    STREAM_FEATURES,
)
from itp.sim.outcomes import log_slowdowns
from itp.sim.simulator import Simulator

with extra("itp.sim.gym needs", "gym"):
    from gymnasium import Space
    from gymnasium.spaces import Box, Dict, Discrete, MultiBinary

__all__ = ["OBJECTIVES", "SetView", "StateView", "View", "first_of"]

OBJECTIVES = ("reward", "slowdown")
_MOST = 16.0
"""Bound of every feature, which usually are within [-1, 1]."""
_WATER_FILLING = 0


class View(Protocol):
    """How agents meet a simulator: of all environments at once, arrays with a leading dimension."""

    observation_space: Space[Any]
    action_space: Discrete[np.int64]

    def observe(self, sim: Simulator) -> Any:
        """What the waiting tasks' agents see, in new arrays."""

    def action_masks(self, sim: Simulator) -> NDArray[np.bool_]:
        """bool[n_envs, n_actions]: the actions open to the waiting tasks."""

    def step(self, sim: Simulator, actions: NDArray[np.int64]) -> NDArray[np.float64]:
        """Take the actions, int64[n_envs], and return the rewards."""


class StateView:
    """Version 0: the state vector, and the actions of ``itp.actions``.

    Observations are float32[4 n + 4], in [0, 1], zeros after the last decision.
    """

    def __init__(self, sim: Simulator) -> None:
        self.observation_space: Space[Any] = Box(0.0, 1.0, (sim.state_dim,), np.float32)
        self.action_space: Discrete[np.int64] = Discrete(sim.n_actions)

    def observe(self, sim: Simulator) -> NDArray[np.float32]:
        states: NDArray[np.float32] = sim.states.copy()
        return states

    def action_masks(self, sim: Simulator) -> NDArray[np.bool_]:
        return sim.action_masks

    def step(self, sim: Simulator, actions: NDArray[np.int64]) -> NDArray[np.float64]:
        return sim.step(actions)


class SetView:
    """Version 1: the inputs of a set model, padded to 16 streams and 63 candidate sets.

    An observation is a dict:

    ==================  ====================  ===============================================================
    ``streams``         float32[16, 12]       figures of each stream that is up
    ``stream_mask``     int8[16]              1: there is such a row
    ``context``         float32[22]           figures of the task and of the workload
    ``candidates``      float32[63, 10]       figures of each candidate set of streams
    ``candidate_mask``  int8[63]              1: there is such a row
    ``members``         int8[63, 16]          1: the candidate has the stream of this row of ``streams``
    ==================  ====================  ===============================================================

    ``itp._core.features`` names the figures, which are scale-free and mostly within [-1, 1]. Unused rows are
    0, and so is everything after the last decision.

    An action is the number of a candidate, 0 to 62. The mask closes the numbers beyond the candidates. For
    agents without masks such a number counts on from the first candidate: of 15, action 17 is candidate 2.

    Parameters
    ----------
    sim : Simulator
    prefer : {"typical", "balanced", "bulk"} or float
    objective : {"reward", "slowdown"}

    Raises
    ------
    ValueError, TypeError
        An argument is not as above.
    """

    def __init__(self, sim: Simulator, *, prefer: str | float, objective: str) -> None:
        if objective not in OBJECTIVES:
            raise ValueError(f"objective = {objective!r}: expected one of {', '.join(OBJECTIVES)}")
        sim.prefer(_preference(prefer))
        self._objective = objective
        self._masks = np.zeros((sim.n_envs, MAX_CANDIDATES), dtype=np.uint32)
        self.observation_space: Space[Any] = Dict(
            {
                "streams": _figures(MAX_STREAMS, STREAM_FEATURES),
                "stream_mask": MultiBinary(MAX_STREAMS),
                "context": _figures(CONTEXT_FEATURES),
                "candidates": _figures(MAX_CANDIDATES, CANDIDATE_FEATURES),
                "candidate_mask": MultiBinary(MAX_CANDIDATES),
                "members": MultiBinary((MAX_CANDIDATES, MAX_STREAMS)),
            }
        )
        self.action_space: Discrete[np.int64] = Discrete(MAX_CANDIDATES)

    def observe(self, sim: Simulator) -> dict[str, NDArray[Any]]:
        found = sim.features()
        self._masks = _padded(found.masks, MAX_CANDIDATES)
        members = _bits(_padded(found.members, MAX_CANDIDATES))
        return {
            "streams": _clipped(_padded(found.streams, MAX_STREAMS)),
            # Every stream that is up is in some candidate.
            "stream_mask": members.max(axis=1),
            "context": _clipped(found.context),
            "candidates": _clipped(_padded(found.candidates, MAX_CANDIDATES)),
            "candidate_mask": (self._masks > 0).astype(np.int8),
            "members": members,
        }

    def action_masks(self, sim: Simulator) -> NDArray[np.bool_]:  # noqa: ARG002 (as last observed)
        masks: NDArray[np.bool_] = self._masks > 0
        return masks

    def step(self, sim: Simulator, actions: NDArray[np.int64]) -> NDArray[np.float64]:
        chosen = np.asarray(actions)
        if chosen.shape != (sim.n_envs,) or chosen.dtype.kind not in "iu":
            raise ValueError(
                f"actions: expected {sim.n_envs} integers; got {chosen.dtype}{list(chosen.shape)}"
            )
        waiting = ~sim.done
        beyond = chosen[waiting & ((chosen < 0) | (chosen >= MAX_CANDIDATES))]
        if len(beyond):
            raise ValueError(f"actions: expected 0 to {MAX_CANDIDATES - 1}; got {beyond[0]}")
        counts = np.maximum((self._masks > 0).sum(axis=1), 1)
        masks = self._masks[np.arange(sim.n_envs), np.where(waiting, chosen, 0) % counts]
        rewards = sim.step_masks(masks, np.full(sim.n_envs, _WATER_FILLING, np.int32))
        if self._objective == "slowdown":
            completed = sim.completed()
            rewards = np.zeros(sim.n_envs)
            np.subtract.at(rewards, completed["env"], log_slowdowns(completed))
        return rewards


def first_of(observation: Any) -> Any:
    """The first environment's part of an observation of many."""
    if isinstance(observation, Mapping):
        return {key: part[0] for key, part in observation.items()}
    return observation[0]


def _preference(prefer: str | float) -> float:
    if isinstance(prefer, str) and prefer in PREFERENCES:
        return PREFERENCES[prefer]
    if isinstance(prefer, (int, float)) and not isinstance(prefer, bool) and 0.0 <= prefer <= 1.0:
        return float(prefer)
    raise ValueError(f"prefer = {prefer!r}: expected {', '.join(PREFERENCES)}, or a number from 0 to 1")


def _figures(*shape: int) -> Box[np.float32]:
    return Box(-_MOST, _MOST, shape, np.float32)


def _padded(rows: NDArray[Any], count: int) -> NDArray[Any]:
    """Rows [n_envs, k, ...] with rows of 0 behind them, [n_envs, count, ...]."""
    padded = np.zeros((len(rows), count, *rows.shape[2:]), rows.dtype)
    padded[:, : rows.shape[1]] = rows
    return padded


def _clipped(figures: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.clip(figures, -_MOST, _MOST, out=figures)


def _bits(members: NDArray[np.uint32]) -> NDArray[np.int8]:
    """int8[..., 16]: the bits of each number, lowest first."""
    return ((members[..., None] >> np.arange(MAX_STREAMS, dtype=np.uint32)) & 1).astype(np.int8)
