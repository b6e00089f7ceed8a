"""Keys of a model's metadata that say how to serve it, checked: a file may be wrong or hostile.

``version``, ``service_order``, ``guard``, ``hard_deadlines`` and ``calibration``, each optional; of schema 2,
``preferences``, ``cap`` and ``support``. Every function takes `where`, the name of the source, for its
ModelError.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itp._core.calibration import TOLERANCE, Calibration
from itp._core.choose import GUARD_RULES, Guard, WorkloadSupport
from itp._util.messages import brief
from itp.errors import ModelError
from itp.schema import CANDIDATE_FEATURES, CONTEXT_FEATURES, SERVICE_ORDERS, STREAM_FEATURES

MAX_VERSION_BYTES = 64
"""In UTF-8: as much as an experience keeps of it."""

_MAX_EDGES = 32


@dataclass(frozen=True, slots=True)
class Preferences:
    """What the names of preferences stand for, 0 (mean log slowdown) to 1 (mean completion time)."""

    typical: float = 0.0
    balanced: float = 0.5
    bulk: float = 1.0


@dataclass(frozen=True, slots=True)
class Cap:
    """How many times as long as the fastest candidate a decision may be planned.

    Attributes
    ----------
    idle_arrivals : float
        Tasks expected to arrive before one is through, at most, on a host that counts as idle.
    idle_factor : float
        On an idle host.
    factor : float
        Elsewhere.
    """

    idle_arrivals: float
    idle_factor: float
    factor: float


@dataclass(frozen=True, slots=True)
class Support:
    """The range of every input in training: float32[n_features, 2], least and greatest."""

    streams: NDArray[np.float32]
    context: NDArray[np.float32]
    candidates: NDArray[np.float32]


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


def preferences(metadata: dict[str, Any], where: str) -> Preferences:
    """What ``typical``, ``balanced`` and ``bulk`` stand for."""
    given = metadata.get("preferences")
    if given is None:
        return Preferences()
    place = f"{where}: preferences"
    _keys(given, ("typical", "balanced", "bulk"), place)
    found = Preferences(**{name: _number(x, 0.0, 1.0, f"{place}: {name}") for name, x in given.items()})
    if not found.typical <= found.balanced <= found.bulk:
        raise ModelError(f"{place}: expected typical <= balanced <= bulk; got {_shown(given)}")
    return found


def cap(metadata: dict[str, Any], where: str) -> Cap | None:
    """The cap on planned times: ``{"idle_arrivals": ..., "idle_factor": ..., "factor": ...}``."""
    given = metadata.get("cap")
    if given is None:
        return None
    place = f"{where}: cap"
    _keys(given, ("idle_arrivals", "idle_factor", "factor"), place)
    return Cap(
        _number(given["idle_arrivals"], 0.0, 1e9, f"{place}: idle_arrivals"),
        _number(given["idle_factor"], 1.0, 1e9, f"{place}: idle_factor"),
        _number(given["factor"], 1.0, 1e9, f"{place}: factor"),
    )


def support(metadata: dict[str, Any], where: str) -> Support | None:
    """The range of the inputs in training: a list of ``[low, high]`` for each of the three inputs."""
    given = metadata.get("support")
    if given is None:
        return None
    place = f"{where}: support"
    lengths = {"streams": STREAM_FEATURES, "context": CONTEXT_FEATURES, "candidates": CANDIDATE_FEATURES}
    _keys(given, tuple(lengths), place)
    found = {}
    for name, length in lengths.items():
        at = f"{place}: {name}"
        ranges = [
            [_number(x, -1e9, 1e9, at) for x in _list(pair, 2, at)] for pair in _list(given[name], length, at)
        ]
        if any(low > high for low, high in ranges):
            raise ModelError(f"{at}: expected pairs of ascending numbers")
        found[name] = np.array(ranges, np.float32)
    return Support(**found)


def workload(metadata: dict[str, Any], where: str) -> WorkloadSupport | None:
    """The workloads of training, of a model whose state does not show them."""
    given = metadata.get("workload")
    if given is None:
        return None
    place = f"{where}: workload"
    _keys(given, ("log2_bytes", "load", "tasks"), place)
    ranges = {}
    for name, most in (("log2_bytes", 63.0), ("load", 1e9)):
        ranges[name] = [
            _number(x, 0.0, most, f"{place}: {name}") for x in _list(given[name], 2, f"{place}: {name}")
        ]
        if ranges[name][0] > ranges[name][1]:
            raise ModelError(f"{place}: {name}: expected a pair of ascending numbers")
    return WorkloadSupport(**ranges, tasks=_number(given["tasks"], 0.0, 1e6, f"{place}: tasks"))


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
