"""What a model's metadata says of how to serve it, checked: a file may be wrong or hostile."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from itp._core.calibration import TOLERANCE, Calibration
from itp._core.choose import GUARD_RULES, Guard
from itp.errors import ModelError
from itp.schema import SERVICE_ORDERS

_MAX_EDGES = 32


def service_order(metadata: dict[str, Any], where: str) -> str | None:
    """The order of service that the model was trained for; None if it does not say."""
    order = metadata.get("service_order")
    if order is not None and order not in SERVICE_ORDERS:
        raise ModelError(f"{where}: service_order is {order!r}; expected {' or '.join(SERVICE_ORDERS)}")
    return order


def guard(metadata: dict[str, Any], where: str) -> Guard | None:
    """The guard of the model's decisions: ``{"rule": ..., "threshold": ...}``."""
    told = metadata.get("guard")
    if told is None:
        return None
    place = f"{where}: guard"
    _keys(told, ("rule", "threshold"), place)
    if told["rule"] not in GUARD_RULES:
        raise ModelError(f"{place}: rule is {told['rule']!r}; expected {' or '.join(GUARD_RULES)}")
    return Guard(told["rule"], _number(told["threshold"], 1.0, 1e9, f"{place}: threshold"))


def hard_deadlines(metadata: dict[str, Any], where: str) -> bool:
    """Whether actions that are planned to miss a deadline are to be closed; false if it does not say."""
    hard = metadata.get("hard_deadlines", False)
    if not isinstance(hard, bool):
        raise ModelError(f"{where}: hard_deadlines is {str(hard)[:40]!r}; expected true or false")
    return hard


def calibration(metadata: dict[str, Any], where: str) -> Calibration | None:
    """The model's tables of time and confidence: see ``itp._core.calibration``."""
    told = metadata.get("calibration")
    if told is None:
        return None
    place = f"{where}: calibration"
    _keys(told, ("time_edges_log2_s", "waiting_edges", "time_ratio", "confidence", "tolerance"), place)
    if told["tolerance"] != TOLERANCE:
        raise ModelError(f"{place}: tolerance is {told['tolerance']!r}; this version has {TOLERANCE}")
    time = _edges(told["time_edges_log2_s"], -100.0, 100.0, f"{place}: time_edges_log2_s")
    waiting = _edges(told["waiting_edges"], 0.0, 1.0, f"{place}: waiting_edges")
    n_rows = (len(time) + 1) * (len(waiting) + 1)
    ratios = []
    for row in _list(told["time_ratio"], n_rows, f"{place}: time_ratio"):
        quantiles = [
            _number(x, 1e-9, 1e9, f"{place}: time_ratio") for x in _list(row, 3, f"{place}: time_ratio")
        ]
        if quantiles != sorted(quantiles):
            raise ModelError(f"{place}: time_ratio: {row!r}: expected quantiles in ascending order")
        ratios.append(quantiles)
    confidence = [
        _number(x, 0.0, 1.0, f"{place}: confidence")
        for x in _list(told["confidence"], n_rows, f"{place}: confidence")
    ]
    return Calibration(
        time_edges_log2_s=time, waiting_edges=waiting, time_ratio=ratios, confidence=confidence
    )


def _keys(told: Any, keys: tuple[str, ...], place: str) -> None:
    if not isinstance(told, dict) or set(told) != set(keys):
        raise ModelError(f"{place}: expected an object with {', '.join(keys)}")


def _list(told: Any, length: int, place: str) -> list[Any]:
    if not isinstance(told, list) or len(told) != length:
        raise ModelError(f"{place}: expected a list of {length}")
    return told


def _number(told: Any, low: float, high: float, place: str) -> float:
    if isinstance(told, bool) or not isinstance(told, (int, float)) or not low <= told <= high:
        raise ModelError(f"{place}: expected a number from {low:g} to {high:g}; got {str(told)[:40]}")
    return float(told)


def _edges(told: Any, low: float, high: float, place: str) -> list[float]:
    if not isinstance(told, list) or len(told) > _MAX_EDGES:
        raise ModelError(f"{place}: expected a list of at most {_MAX_EDGES}")
    edges = [_number(x, low, high, place) for x in told]
    if any(not a < b for a, b in pairwise(edges)) or not all(map(math.isfinite, edges)):
        raise ModelError(f"{place}: expected ascending numbers")
    return edges
