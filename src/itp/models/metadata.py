"""Keys of a model's metadata that say how to serve it, checked: a file may be wrong or hostile.

``version``, ``service_order``, ``guard``, ``hard_deadlines`` and ``calibration``, each optional. Every
function takes `where`, the name of the source, for its ModelError.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from itp._core.calibration import TOLERANCE, Calibration
from itp._core.choose import GUARD_RULES, Guard
from itp._util.messages import brief
from itp.errors import ModelError
from itp.schema import SERVICE_ORDERS

MAX_VERSION_BYTES = 64
"""In UTF-8: as much as an experience keeps of it."""

_MAX_EDGES = 32


def version(metadata: dict[str, Any], where: str) -> str | None:
    """The name that decisions made with the model carry; None if it has none."""
    given = metadata.get("version")
    if given is None:
        return None
    if not (isinstance(given, str) and given.isprintable() and 1 <= len(given.encode()) <= MAX_VERSION_BYTES):
        raise ModelError(
            f"{where}: version is {_shown(given)}; expected text of 1 to {MAX_VERSION_BYTES} bytes, "
            "without control characters"
        )
    return given


def service_order(metadata: dict[str, Any], where: str) -> str | None:
    """The service order that the model was trained for; None if it does not say."""
    order = metadata.get("service_order")
    if order is not None and order not in SERVICE_ORDERS:
        raise ModelError(f"{where}: service_order is {_shown(order)}; expected {' or '.join(SERVICE_ORDERS)}")
    return order


def guard(metadata: dict[str, Any], where: str) -> Guard | None:
    """The guard of the model's decisions: ``{"rule": ..., "threshold": ...}``."""
    given = metadata.get("guard")
    if given is None:
        return None
    place = f"{where}: guard"
    _keys(given, ("rule", "threshold"), place)
    if given["rule"] not in GUARD_RULES:
        raise ModelError(f"{place}: rule is {_shown(given['rule'])}; expected {' or '.join(GUARD_RULES)}")
    return Guard(given["rule"], _number(given["threshold"], 1.0, 1e9, f"{place}: threshold"))


def hard_deadlines(metadata: dict[str, Any], where: str) -> bool:
    """Whether actions that are planned to miss a deadline are closed; false if it does not say."""
    hard = metadata.get("hard_deadlines", False)
    if not isinstance(hard, bool):
        raise ModelError(f"{where}: hard_deadlines is {_shown(hard)}; expected true or false")
    return hard


def calibration(metadata: dict[str, Any], where: str) -> Calibration | None:
    """The model's tables of time and confidence: see ``itp._core.calibration``."""
    given = metadata.get("calibration")
    if given is None:
        return None
    place = f"{where}: calibration"
    _keys(given, ("time_edges_log2_s", "waiting_edges", "time_ratio", "confidence", "tolerance"), place)
    if given["tolerance"] != TOLERANCE:
        raise ModelError(f"{place}: tolerance is {_shown(given['tolerance'])}; expected {TOLERANCE}")
    time = _edges(given["time_edges_log2_s"], -100.0, 100.0, f"{place}: time_edges_log2_s")
    waiting = _edges(given["waiting_edges"], 0.0, 1.0, f"{place}: waiting_edges")
    n_rows = (len(time) + 1) * (len(waiting) + 1)
    ratios = []
    for row in _list(given["time_ratio"], n_rows, f"{place}: time_ratio"):
        quantiles = [
            _number(x, 1e-9, 1e9, f"{place}: time_ratio") for x in _list(row, 3, f"{place}: time_ratio")
        ]
        if quantiles != sorted(quantiles):
            raise ModelError(f"{place}: time_ratio: {row!r}: expected quantiles in ascending order")
        ratios.append(quantiles)
    confidence = [
        _number(x, 0.0, 1.0, f"{place}: confidence")
        for x in _list(given["confidence"], n_rows, f"{place}: confidence")
    ]
    return Calibration(
        time_edges_log2_s=time, waiting_edges=waiting, time_ratio=ratios, confidence=confidence
    )


def _shown(value: Any) -> str:
    return brief(repr(value), 60)


def _keys(given: Any, keys: tuple[str, ...], place: str) -> None:
    if not isinstance(given, dict) or set(given) != set(keys):
        raise ModelError(f"{place}: expected an object with {', '.join(keys)}")


def _list(given: Any, length: int, place: str) -> list[Any]:
    if not isinstance(given, list) or len(given) != length:
        raise ModelError(f"{place}: expected a list of {length}")
    return given


def _number(given: Any, low: float, high: float, place: str) -> float:
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not low <= given <= high:
        raise ModelError(f"{place}: expected a number from {low:g} to {high:g}; got {_shown(given)}")
    return float(given)


def _edges(given: Any, low: float, high: float, place: str) -> list[float]:
    if not isinstance(given, list) or len(given) > _MAX_EDGES:
        raise ModelError(f"{place}: expected a list of at most {_MAX_EDGES}")
    edges = [_number(x, low, high, place) for x in given]
    if any(not a < b for a, b in pairwise(edges)) or not all(map(math.isfinite, edges)):
        raise ModelError(f"{place}: expected ascending numbers")
    return edges
