"""Time of ``import itp`` in a fresh process."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from itp_overhead.child import run_python

RUNS = 7
_CODE = """
from time import perf_counter
start = perf_counter()
import numpy
with_numpy = perf_counter()
import itp
print(with_numpy - start, perf_counter() - with_numpy)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Startup:
    """Milliseconds of ``import numpy``, and of ``import itp`` after it, in each of seven fresh processes."""

    numpy_ms: list[float]
    itp_ms: list[float]

    @property
    def numpy_median_ms(self) -> float:
        """Median time of ``import numpy``."""
        return statistics.median(self.numpy_ms)

    @property
    def itp_median_ms(self) -> float:
        """Median time of ``import itp`` after NumPy."""
        return statistics.median(self.itp_ms)

    @property
    def total_median_ms(self) -> float:
        """Median time of both together."""
        return statistics.median(map(sum, zip(self.numpy_ms, self.itp_ms, strict=True)))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "numpy_median_ms": self.numpy_median_ms,
            "itp_median_ms": self.itp_median_ms,
            "numpy_ms": self.numpy_ms,
            "itp_ms": self.itp_ms,
        }


def measure(progress: Callable[[str], object] = lambda _: None) -> Startup:
    """Import in one process after the other."""
    runs = []
    for k in range(RUNS):
        progress(f"start-up, {k + 1} of {RUNS}")
        runs.append([float(seconds) * 1e3 for seconds in run_python(_CODE).split()])
    return Startup(numpy_ms=[run[0] for run in runs], itp_ms=[run[1] for run in runs])
