"""The metrics of an episode."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from itp.policies.episodes import Rollout
from itp.sim.outcomes import completion_times, failed, mean_log_slowdown, slowdowns

N_QUANTILES = 200
_SIGNIFICANT_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of one episode.

    Attributes
    ----------
    title, unit : str
    better : int
        1: more is better, -1: less is better, 0: neither.
    about : str
    """

    title: str
    unit: str
    better: int
    about: str


METRICS: dict[str, Metric] = {
    "log_slowdown": Metric("slowdown", "geometric mean", -1, "mean of log(completion time / reference time)"),
    "p99_slowdown": Metric("p99 slowdown", "", -1, "99th percentile of completion time / reference time"),
    "reward": Metric("reward", "a task", 1, "mean reward"),
    "mean_s": Metric("mean", "s", -1, "mean completion time"),
    "p50_s": Metric("p50", "s", -1, "median completion time"),
    "p95_s": Metric("p95", "s", -1, "95th percentile of the completion time"),
    "p99_s": Metric("p99", "s", -1, "99th percentile of the completion time"),
    "deadlines_met": Metric("deadlines", "share", 1, "share of the tasks with a deadline that meet it"),
    "goodput_mbps": Metric(
        "goodput", "Mbit/s", 1, "bytes delivered / time from first arrival to last completion"
    ),
    "resent_bytes": Metric("re-sent", "bytes", -1, "bytes sent again in an episode"),
    "guarded": Metric("guarded", "share", 0, "share of a model's decisions that its guard gave to a rule"),
    "tasks": Metric("tasks", "", 0, "tasks completed in an episode"),
    "failed": Metric("failed", "", -1, "tasks not completed in an episode"),
}
"""By name; a policy's figure in a scenario is the mean over seeds."""


def episode_metrics(outcomes: NDArray[np.void], n_envs: int, n_tasks: int) -> dict[str, NDArray[np.float64]]:
    """The figures of every environment's episode.

    Parameters
    ----------
    outcomes : ndarray
        OUTCOME[.] of complete episodes, in any order.
    n_envs, n_tasks : int
        Environments, and tasks that arrived in each.

    Returns
    -------
    dict of str to ndarray
        float64[n_envs] for each of METRICS; NaN where an episode does not define one.
    """
    figures = {name: np.full(n_envs, np.nan) for name in METRICS}
    order = np.argsort(outcomes["env"], kind="stable")
    bounds = np.searchsorted(outcomes["env"][order], np.arange(n_envs + 1))
    for env in range(n_envs):
        mine = outcomes[order[bounds[env] : bounds[env + 1]]]
        figures["tasks"][env] = len(mine)
        figures["failed"][env] = n_tasks - len(mine) + failed(mine).sum()
        if len(mine):
            for name, value in _of_episode(mine).items():
                figures[name][env] = value
    return figures


def _of_episode(outcomes: NDArray[np.void]) -> dict[str, float]:
    times_s = completion_times(outcomes)
    p50_s, p95_s, p99_s = np.percentile(times_s, (50, 95, 99))
    delivered_bytes = outcomes["size_bytes"][~failed(outcomes)].sum()
    urgent = np.isfinite(outcomes["deadline_s"])
    makespan_s = outcomes["completed_at_s"].max() - outcomes["arrived_at_s"].min()
    return {
        "log_slowdown": mean_log_slowdown(outcomes),
        "p99_slowdown": float(np.percentile(slowdowns(outcomes), 99)),
        "reward": float(outcomes["reward"].mean()),
        "mean_s": float(times_s.mean()),
        "p50_s": p50_s,
        "p95_s": p95_s,
        "p99_s": p99_s,
        "deadlines_met": float(outcomes["success"][urgent].mean()) if urgent.any() else np.nan,
        "goodput_mbps": float(delivered_bytes * 8e-6 / makespan_s),
        "resent_bytes": float(outcomes["retransmitted_bytes"].sum()),
    }


def rollout_metrics(rollout: Rollout, n_tasks: int) -> dict[str, NDArray[np.float64]]:
    """The figures of every episode of a rollout, those of its guard included."""
    figures = episode_metrics(rollout.outcomes, len(rollout.seeds), n_tasks)
    if rollout.guarded is not None:
        figures["guarded"] = rollout.guarded / n_tasks
    return figures


def quantiles(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """N_QUANTILES points of the distribution, from the least value to the greatest, to six digits."""
    if not len(values):
        return np.full(N_QUANTILES, np.nan)
    points = np.quantile(values, np.linspace(0.0, 1.0, N_QUANTILES))
    return np.array([float(f"{point:.{_SIGNIFICANT_DIGITS}g}") for point in points])
