"""Candidate sets of streams in the simulator: a set model's inputs, and what each set would cost."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class SetFeatures(NamedTuple):
    """Inputs of a set model for the waiting tasks; n streams and at most k candidates an environment.

    Attributes
    ----------
    streams : ndarray
        float32[n_envs, n, 12]: of the streams that are up, in their order; rows beyond them are 0.
    context : ndarray
        float32[n_envs, 22].
    candidates : ndarray
        float32[n_envs, k, 10]; rows beyond the candidates are 0.
    members : ndarray
        uint32[n_envs, k]: the rows of `streams` that each candidate has, as bits; 0 beyond the candidates.
    masks : ndarray
        uint32[n_envs, k]: the streams themselves, as ``Simulator.step_masks`` takes them.
    """

    streams: NDArray[np.float32]
    context: NDArray[np.float32]
    candidates: NDArray[np.float32]
    members: NDArray[np.uint32]
    masks: NDArray[np.uint32]


class SetCosts(NamedTuple):
    """What would happen if the waiting tasks went over each candidate set of streams.

    Attributes
    ----------
    masks : ndarray
        uint32[n_envs, k]: the candidates; 0 beyond them.
    log_slowdowns : ndarray
        float64[n_envs, k]: sum over the tasks looked at of their log slowdowns; NaN beyond the candidates.
    times_s : ndarray
        float64[n_envs, k]: sum of their completion times; NaN beyond the candidates.
    """

    masks: NDArray[np.uint32]
    log_slowdowns: NDArray[np.float64]
    times_s: NDArray[np.float64]
