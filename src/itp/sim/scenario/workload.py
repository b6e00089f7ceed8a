"""The keys of ``[workload]``: arrivals, sizes, priorities, deadlines, and what is measured of the streams."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from itp.sim.scenario.arrivals import Arrivals, read_arrivals
from itp.sim.scenario.draws import Floats, Number
from itp.sim.scenario.node import Node, Range
from itp.sim.scenario.sizes import BYTES, SIGMA, Size, read_size
from itp.sim.scenario.tables import TIME, RowTable

MAX_TASKS = 10**6
LOAD = Range("a fraction of the capacity", 1e-6, 100.0)

_FRACTION = Range("a fraction", 0.0, 1.0)
_SLACK = Range("times the reference time", 0.0, 1e6, above=True)
_MAX_ALTERNATIVES = 64
_NUMBERS = {
    "load": (LOAD, 0.6),
    "day_s": (Range("seconds", 1e-3, 1e9), 86400.0),
    "day_start": (_FRACTION, 0.0),
    "estimate_noise": (SIGMA, 0.1),
    "stall_timeout_s": (Range("seconds", 1e-3, 3600.0), 0.5),
    "urgent": (_FRACTION, 0.1),
}
WORKLOAD_KEYS = frozenset([*_NUMBERS, "arrivals", "size", "priority", "deadline", "warm", "tasks"])
_DEFAULT_SIZE = {"kind": "pareto", "shape": 1.0, "min_bytes": 50e3, "max_bytes": 50e6}
_DEFAULT_PRIORITY = [0.25, 0.5]
_DEFAULT_DEADLINE = {"share": 0.5, "low": 2.0, "high": 20.0}


@dataclass(frozen=True, slots=True)
class Workload:
    """What is asked of the streams.

    Attributes
    ----------
    numbers : dict of str to Number
        ``load``, ``day_s`` and so on, ``priority.low``, ``priority.high``, ``deadline.share``,
        ``deadline.low``, ``deadline.high``.
    sizes : tuple of Size
    arrivals : tuple of Arrivals
        Each world's are one of them.
    warm : bool
    tasks : float64 (T, 4) or None
        Explicit tasks, ``t_s, size_bytes, priority, deadline_s`` (infinite: none); None: they are drawn.
    """

    numbers: dict[str, Number]
    sizes: tuple[Size, ...]
    arrivals: tuple[Arrivals, ...]
    warm: bool
    tasks: Floats | None

    @property
    def most_clients(self) -> int:
        """The most that a world has; 0: none is closed."""
        return max(arrivals.most_clients for arrivals in self.arrivals)


def read_workload(keys: Mapping[str, Node], whole: Node, base: Path, sizes: RowTable) -> Workload:
    """The workload that the keys of ``[workload]`` describe, with defaults for those left out.

    Files that it names lie in `base`; recorded sizes go into the table `sizes`.
    """
    numbers = {
        key: keys[key].number(allowed) if key in keys else Number("fixed", (default,))
        for key, (allowed, default) in _NUMBERS.items()
    }
    _between(
        keys.get("priority", Node(_DEFAULT_PRIORITY, whole.file, "workload.priority")), "priority", numbers
    )
    _deadline(keys.get("deadline", Node(_DEFAULT_DEADLINE, whole.file, "workload.deadline")), numbers)
    for key in ("load", "arrivals", "size", "priority", "urgent", "deadline"):
        if key in keys and "tasks" in keys:
            raise keys[key].refuse("contradicts the list of tasks, which says it for each of them")
    size = keys.get("size", Node(_DEFAULT_SIZE, whole.file, "workload.size"))
    arrivals = keys.get("arrivals", Node("poisson", whole.file, "workload.arrivals"))
    return Workload(
        numbers=numbers,
        sizes=tuple(read_size(node, base, sizes) for node in _alternatives(size)),
        arrivals=tuple(read_arrivals(node) for node in _alternatives(arrivals)),
        warm=keys["warm"].flag() if "warm" in keys else True,
        tasks=_tasks(keys["tasks"]) if "tasks" in keys else None,
    )


def _alternatives(node: Node) -> list[Node]:
    """The tables of which each world takes one: ``{choice = [...]}``, or the one that stands here."""
    if not isinstance(node.value, Mapping) or set(node.value) != {"choice"}:
        return [node]
    return Node(node.value["choice"], node.file, f"{node.key}.choice").items(
        f"a list of 1 to {_MAX_ALTERNATIVES} to choose from", 1, _MAX_ALTERNATIVES
    )


def _between(node: Node, key: str, numbers: dict[str, Number]) -> None:
    low, high = (end.number(_FRACTION) for end in node.items("[lowest, highest]", 2, 2))
    if low.high > high.low:
        raise node.fail("[lowest, highest], in this order")
    numbers[f"{key}.low"], numbers[f"{key}.high"] = low, high


def _deadline(node: Node, numbers: dict[str, Number]) -> None:
    keys = node.table(_DEFAULT_DEADLINE, required=_DEFAULT_DEADLINE)
    numbers["deadline.share"] = keys["share"].number(_FRACTION)
    low, high = keys["low"].number(_SLACK), keys["high"].number(_SLACK)
    if low.high > high.low:
        raise node.refuse(f"low ({low.high:g}) must not exceed high ({high.low:g})")
    numbers["deadline.low"], numbers["deadline.high"] = low, high


def _tasks(node: Node) -> Floats:
    rows: list[list[float]] = []
    for item in node.items("a list of tasks [t_s, size_bytes, priority, deadline_s]", 1, MAX_TASKS):
        cells = item.items("a task [t_s, size_bytes, priority, deadline_s]", 2, 4)
        row = [cells[0].plain(TIME), cells[1].plain(BYTES), 0.5, math.inf]
        if len(cells) > 2:
            row[2] = cells[2].plain(_FRACTION)
        if len(cells) > 3 and cells[3].value is not None:
            row[3] = cells[3].plain(Range("seconds", 0.0, 1e9, above=True))
        if rows and row[0] < rows[-1][0]:
            raise item.refuse(f"time runs backwards: {row[0]:g} s follows {rows[-1][0]:g} s")
        rows.append(row)
    tasks = np.array(rows)
    tasks.flags.writeable = False
    return tasks
