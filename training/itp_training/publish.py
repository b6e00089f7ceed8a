"""From a trained network to a model that can be served: guard and calibration fitted, then exported."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from itp import Simulator, policies
from itp._core.choose import Guard
from itp.policies.base import Policy
from itp.sim.scenario import Scenario
from itp_training import calibration, workload
from itp_training.collect import CALIBRATION_SEED, training_scenario
from itp_training.config import TEACHERS, TrainingConfig
from itp_training.export import export
from itp_training.network import QNetwork
from itp_training.trainer import Round
from itp_training.validation import NetworkPolicy

WORLDS = 192
"""Of each of three kinds: to choose the guard in, to fit the tables in, and to measure them in."""

THRESHOLDS = (1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0)
GUARD_COST = 0.001
"""The tightest threshold is taken that costs no more of the mean slowdown, as a share ..."""
GUARD_ROOM = 4.0
"""... and so many times that: on paths unlike those of training, plans may rightly differ by more."""


def publish(
    network: QNetwork, config: TrainingConfig, folder: Path, *, name: str, rounds: list[Round]
) -> Path:
    """Fit what the metadata tells beside the weights, and write folder/name.onnx and .json.

    Raises
    ------
    TrainingError
        The exported model does not answer as the network does; nothing is written.
    OSError
        It cannot be written.
    """
    device = next(network.parameters()).device
    if config.td_weight == 0.0:
        network = _relative(network, config)
    network.eval()
    fitted = fit(lambda guard: NetworkPolicy(network, device, guard), config)
    return export(network, config, folder, name=name, rounds=rounds, fitted=fitted)


def fit(policy: Callable[[Guard | None], Policy], config: TrainingConfig) -> dict[str, Any]:
    """Guard and tables of a model, fitted on what is served: its decisions, guard included.

    Parameters
    ----------
    policy : callable
        The model as a policy with a guard, or without one.
    config : TrainingConfig
        The model was trained with.

    Returns
    -------
    dict
        Of the metadata: hard_deadlines, guard, guard_costs, workload, calibration, calibration_figures.
    """
    worlds = training_scenario(config)
    guard, costs = _fit_guard(policy, worlds, TEACHERS[config.service_order])
    guarded = policy(guard)
    tables = calibration.fit(calibration.plans(worlds, guarded, _seeds(1)))
    figures = calibration.measure(tables, calibration.plans(worlds, guarded, _seeds(2)))
    return {
        # Training weighs deadlines; to close actions over that costs slowdown (docs/dqn_v1.md).
        "hard_deadlines": False,
        "guard": {"rule": guard.rule, "threshold": guard.threshold},
        "guard_costs": costs,
        "workload": workload.fit(worlds, _seeds(0), TEACHERS[config.service_order]),
        "calibration": tables,
        "calibration_figures": figures,
    }


@torch.no_grad()
def _relative(network: QNetwork, config: TrainingConfig) -> QNetwork:
    """A copy whose values are a task's share in what an action returns above the mean of all actions.

    Without temporal differences only differences between actions are learnt: the level means nothing.
    """
    network = copy.deepcopy(network)
    head = network.advantage
    for parameter in (head.weight, head.bias):
        parameter.copy_((parameter - parameter.mean(dim=0)) / config.look_ahead_tasks)
    network.value = None
    return network


def _seeds(kind: int) -> NDArray[np.uint64]:
    first = CALIBRATION_SEED + kind * WORLDS
    return np.arange(first, first + WORLDS, dtype=np.uint64)


def _fit_guard(
    policy: Callable[[Guard | None], Policy], worlds: Scenario, rule: str
) -> tuple[Guard, list[dict[str, float]]]:
    """The guard, and what each threshold costs: mean slowdown over that without a guard, less 1."""

    def log_slowdown(guard: Guard | None) -> float:
        sim = Simulator(worlds, seeds=_seeds(0))
        return policies.mean_log_slowdown(policies.run(sim, policy(guard)))

    free = log_slowdown(None)
    costs = {
        threshold: float(np.expm1(log_slowdown(Guard(rule, threshold)) - free)) for threshold in THRESHOLDS
    }
    cheap = [threshold for threshold in THRESHOLDS if costs[threshold] <= GUARD_COST]
    # The loosest one stands by even if a network leaves the rule far behind.
    chosen = min(cheap, default=THRESHOLDS[-1])
    return Guard(rule, GUARD_ROOM * chosen), [
        {"threshold": t, "cost": round(cost, 6)} for t, cost in costs.items()
    ]
