"""The sizes of tasks: the keys of ``size`` in ``[workload]``, and the numbers drawn from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itp._core.sim.world import SIZE_KINDS
from itp.sim.scenario.capacity import mean_of_clipped, mean_size_bytes
from itp.sim.scenario.draws import Floats, Number, Seeds
from itp.sim.scenario.node import Node, Range
from itp.sim.scenario.tables import RowTable, find_file, read_sizes

MAX_SIZE_BYTES = 2.0**50

BYTES = Range("bytes", 1.0, MAX_SIZE_BYTES)
SIGMA = Range("sigma", 0.0, 5.0)
_SECONDS = Range("seconds", 0.0, 1e9, above=True)
_FRACTION = Range("a fraction", 0.0, 1.0)
_ENDS = ("min_bytes", "max_bytes")
# Distributions between two ends; all others are clipped at theirs.
_TRUNCATED = ("pareto", "log_uniform")
# The keys of each kind, with the parameters of the world's sizes that they are; a pair is a list of two.
_OWN: dict[str, dict[str, tuple[str, Range]]] = {
    "fixed": {"bytes": ("a", BYTES)},
    "exponential": {"mean_bytes": ("a", BYTES)},
    "lognormal": {"median_bytes": ("a", BYTES), "sigma": ("b", SIGMA)},
    "pareto": {"shape": ("b", Range("shape", 0.05, 20.0))},
    "log_uniform": {},
    "two_humped": {"median_bytes": ("ac", BYTES), "sigma": ("bd", SIGMA), "share": ("e", _FRACTION)},
    "recorded": {},
}


@dataclass(frozen=True, slots=True)
class Size:
    """One distribution of sizes.

    Attributes
    ----------
    kind : str
        Of `SIZE_KINDS`.
    numbers : dict of str to Number
        ``size.min``, ``size.max``, and those it has of ``size.a`` to ``size.e`` and ``size.mean``.
    mean_in_seconds : bool
        Whether ``size.mean`` is in seconds of the world's capacity, not in bytes.
    recorded : float64 (k,)
        In bytes, ascending; empty unless the kind is ``recorded``.
    first : int
        The first one's row in the table of recorded sizes.
    """

    kind: str
    numbers: dict[str, Number]
    mean_in_seconds: bool
    recorded: Floats
    first: int

    def fill(self, out: NDArray[Any], seeds: Seeds, capacity_Bps: Floats) -> Floats:
        """Fill in the sizes of worlds that carry `capacity_Bps`; returns their means in bytes."""
        drawn = {
            key.removeprefix("size."): number.draw(seeds, f"workload.{key}")
            for key, number in self.numbers.items()
        }
        ones, zeros = np.ones(len(seeds)), np.zeros(len(seeds))
        a, c = drawn.get("a", ones), drawn.get("c", zeros)
        b, d, e = (drawn.get(key, zeros) for key in "bde")
        low, high = drawn["min"], drawn["max"]
        if self.kind in _TRUNCATED:
            a = low
        if "mean" in drawn:
            wanted = drawn["mean"] * (capacity_Bps if self.mean_in_seconds else 1.0)
            # Far from any size that there is, it makes no difference where.
            scale = np.clip(wanted, 1e-3, 1e3 * MAX_SIZE_BYTES)
            if self.kind in _TRUNCATED:
                scale /= mean_size_bytes(self.kind, a, b, low, high)
                a = low = np.clip(scale * low, 1.0, MAX_SIZE_BYTES)
                high = np.clip(scale * high, 1.0, MAX_SIZE_BYTES)
            else:
                scale /= self._unclipped_mean(a, b, c, d, e)
                a, c = scale * a, scale * c
        parameters = {"a": a, "b": b, "c": c, "d": d, "e": e, "min": low, "max": high}
        for key, values in parameters.items():
            out[f"size_{key}"] = values
        out["size_kind"] = SIZE_KINDS.index(self.kind)
        out["size_first"], out["size_count"] = self.first, len(self.recorded)
        if self.kind == "recorded":
            return mean_of_clipped(self.recorded, a, low, high)
        if self.kind == "two_humped":
            small, large = (mean_size_bytes("lognormal", *hump, low, high) for hump in ((a, b), (c, d)))
            return (1.0 - e) * small + e * large
        return mean_size_bytes(self.kind, a, b, low, high)

    def _unclipped_mean(self, a: Floats, b: Floats, c: Floats, d: Floats, e: Floats) -> Floats:
        if self.kind == "recorded":
            return np.full(len(a), self.recorded.mean())
        mean: Floats = (1.0 - e) * a * np.exp(0.5 * b * b) + e * c * np.exp(0.5 * d * d)
        return mean


def read_size(node: Node, base: Path, table: RowTable) -> Size:
    """The distribution that one table of sizes describes; recorded ones go into `table`."""
    if not isinstance(node.value, Mapping) or "kind" not in node.value:
        raise node.fail("a table with kind, one of " + ", ".join(SIZE_KINDS))
    kind = Node(node.value["kind"], node.file, f"{node.key}.kind").word(SIZE_KINDS)
    own = _OWN[kind]
    means = [key for key in ("mean_bytes", "mean_s") if key not in own]
    files = ("file",) if kind == "recorded" else ()
    keys = node.table(
        ("kind", *own, *means, *_ENDS, *files), required=(*files, *(_ENDS if kind in _TRUNCATED else ()))
    )
    numbers: dict[str, Number] = {}
    mean = [key for key in means if key in keys]
    for key in mean:
        others = [other for other in (*mean, *own) if other in keys and other != key]
        if len(mean) > 1 or any(own.get(other, ("", BYTES))[0] == "a" for other in others):
            raise keys[key].refuse(f"contradicts {others[0]}, which stands beside it; keep one of them")
        numbers["size.mean"] = keys[key].number(BYTES if key == "mean_bytes" else _SECONDS)
    for key, (parameters, allowed) in own.items():
        if key not in keys:
            if parameters == "a" and mean:
                continue
            raise node.refuse(f"{key} is missing" + (f" (or {means[-1]})" if parameters == "a" else ""))
        ends = keys[key].items("[small, large]", 2, 2) if len(parameters) == 2 else [keys[key]]
        for parameter, end in zip(parameters, ends, strict=True):
            numbers[f"size.{parameter}"] = end.number(allowed)
    low = keys["min_bytes"].number(BYTES) if "min_bytes" in keys else Number("fixed", (1.0,))
    high = keys["max_bytes"].number(BYTES) if "max_bytes" in keys else Number("fixed", (MAX_SIZE_BYTES,))
    if low.high > high.low:
        raise node.refuse(f"min_bytes ({low.high:g}) must not exceed max_bytes ({high.low:g})")
    numbers["size.min"], numbers["size.max"] = low, high
    recorded = read_sizes(find_file(keys["file"], base), BYTES) if files else np.empty(0)
    return Size(kind, numbers, "mean_s" in mean, recorded, table.add(recorded[:, None]) if files else 0)
