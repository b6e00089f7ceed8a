"""What became of simulated tasks: times, slowdowns and failures of OUTCOME records."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["completion_times", "failed", "log_slowdowns", "mean_log_slowdown", "slowdowns"]


def completion_times(outcomes: NDArray[np.void]) -> NDArray[np.float64]:
    """Seconds from each task's arrival to its completion."""
    times: NDArray[np.float64] = outcomes["completed_at_s"] - outcomes["arrived_at_s"]
    return times


def slowdowns(outcomes: NDArray[np.void]) -> NDArray[np.float64]:
    """Completion time / reference time of each task; the reference is all paths together, empty."""
    ratios: NDArray[np.float64] = completion_times(outcomes) / outcomes["reference_time_s"]
    return ratios


def log_slowdowns(outcomes: NDArray[np.void]) -> NDArray[np.float64]:
    """Natural logarithm of each task's slowdown."""
    return np.log(slowdowns(outcomes))


def mean_log_slowdown(outcomes: NDArray[np.void]) -> float:
    """Mean over tasks; its exponential is the geometric-mean slowdown."""
    return float(log_slowdowns(outcomes).mean())


def failed(outcomes: NDArray[np.void]) -> NDArray[np.bool_]:
    """Which tasks were given up: they did not succeed, and not for being late."""
    in_time = completion_times(outcomes) <= outcomes["deadline_s"]
    return np.asarray(~outcomes["success"] & in_time)
