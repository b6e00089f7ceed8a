"""How sure a model's decisions are, and how long their tasks take: tables fitted on held-out episodes.

A decision's planned completion time is corrected by the median of what such plans came to, with the 5
and 95 % quantiles as its interval; confidence is the observed share of successes within TOLERANCE times
the corrected time (histogram binning, Zadrozny and Elkan, ICML 2001). Plans are alike that take about as
long and wait about as great a part of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from itp import Simulator
from itp._core.calibration import TOLERANCE
from itp.policies.base import Policy
from itp.sim.scenario import Scenario

TIME_BINS = 12
WAITING_EDGES = (0.05, 0.25, 0.5, 0.75)
QUANTILES = (0.05, 0.5, 0.95)
PLAN = np.dtype([("planned_s", "f8"), ("waiting", "f8"), ("actual_s", "f8"), ("success", "?")])


def plans(scenario: Scenario, policy: Policy, seeds: NDArray[np.uint64]) -> NDArray[np.void]:
    """What a policy's decisions planned and what became of them: PLAN[decisions]."""
    sim = Simulator(scenario, seeds=seeds)
    policy.begin(sim)
    found = np.zeros((sim.n_envs, sim.n_tasks), dtype=PLAN)
    streams = np.arange(sim.n_streams, dtype=np.uint32)
    for task in range(sim.n_tasks):
        choice = policy.act(sim)
        carries = (choice.masks[:, None] >> streams) & 1
        ahead_s = np.where(carries == 1, sim.waiting()["work_ahead_s"], np.inf).min(axis=1)
        found["waiting"][:, task] = ahead_s
        sim.step_masks(*choice)
        outcomes = sim.completed()
        at = outcomes["env"], outcomes["task"]
        found["planned_s"][at] = outcomes["expected_time_s"]
        found["actual_s"][at] = outcomes["completed_at_s"] - outcomes["arrived_at_s"]
        found["success"][at] = outcomes["success"]
    flat = found.reshape(-1)
    flat["waiting"] = np.clip(flat["waiting"] / flat["planned_s"], 0.0, 1.0)
    finite: NDArray[np.void] = flat[np.isfinite(flat["planned_s"])]
    return finite


def fit(found: NDArray[np.void]) -> dict[str, Any]:
    """The tables of a model's metadata, from PLAN[decisions]."""
    log_time = np.log2(found["planned_s"])
    edges = np.unique(np.quantile(log_time, np.arange(1, TIME_BINS) / TIME_BINS).round(3))
    tables: dict[str, Any] = {
        "time_edges_log2_s": edges.tolist(),
        "waiting_edges": list(WAITING_EDGES),
        "time_ratio": [],
        "confidence": [],
        "tolerance": TOLERANCE,
    }
    row = rows(tables, found)
    ratio = found["actual_s"] / found["planned_s"]
    for k in range((len(edges) + 1) * (len(WAITING_EDGES) + 1)):
        mine = row == k
        # A bin that nobody fell into takes the figures of all.
        mine = mine if mine.sum() >= 30 else np.ones_like(mine)
        low, middle, high = np.quantile(ratio[mine], QUANTILES)
        hit = found["success"][mine] & (ratio[mine] <= TOLERANCE * middle)
        tables["time_ratio"].append([float(f"{x:.6g}") for x in (low, middle, high)])
        tables["confidence"].append(round(float(hit.mean()), 6))
    return tables


def rows(tables: dict[str, Any], found: NDArray[np.void]) -> NDArray[np.int64]:
    """The row of the tables that each plan belongs to."""
    time = np.searchsorted(tables["time_edges_log2_s"], np.log2(found["planned_s"]), side="right")
    waiting = np.searchsorted(tables["waiting_edges"], found["waiting"], side="right")
    row: NDArray[np.int64] = time * (len(tables["waiting_edges"]) + 1) + waiting
    return row


def measure(tables: dict[str, Any], found: NDArray[np.void]) -> dict[str, float]:
    """How good the tables are on other plans than those they were fitted on.

    Returns
    -------
    dict
        ``median_time_error`` (median of |actual / expected - 1|), ``interval_coverage`` (share of tasks
        within the 90 % interval), ``confidence_error`` (expected calibration error, ten bins), ``decisions``.
    """
    row = rows(tables, found)
    ratio = np.asarray(tables["time_ratio"])[row]
    confidence = np.asarray(tables["confidence"])[row]
    expected_s = found["planned_s"] * ratio[:, 1]
    inside = (found["actual_s"] >= found["planned_s"] * ratio[:, 0]) & (
        found["actual_s"] <= found["planned_s"] * ratio[:, 2]
    )
    hit = found["success"] & (found["actual_s"] <= TOLERANCE * expected_s)
    bins = np.minimum((confidence * 10).astype(int), 9)
    error = sum(abs(float((confidence[bins == k] - hit[bins == k]).sum())) for k in np.unique(bins)) / len(
        found
    )
    return {
        "median_time_error": float(np.median(np.abs(found["actual_s"] / expected_s - 1.0))),
        "interval_coverage": float(inside.mean()),
        "confidence_error": error,
        "decisions": len(found),
    }
