"""The worlds in which policies are judged: families, workloads, and files that nothing was tuned on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from itp.sim.scenario import FAMILIES, WORKLOADS, Scenario, load

PATHS, WORKLOAD, HELD_OUT = "paths", "workloads", "held_out"
LOADS, SWEEP = "loads", "sweep"
SETS = {
    PATHS: "path families",
    WORKLOAD: "workloads",
    HELD_OUT: "families nothing was tuned on",
}
"""Sets of families that have an average of their own.

Of LOADS, which are extremes, the worst one counts. SWEEP has the workloads over other numbers of paths.
"""

UNTUNED = tuple(sorted((Path(__file__).parents[1] / "scenarios").glob("*.toml")))
"""Scenario files of worlds that neither rules nor models were tuned on."""
EXTREME_LOADS = (0.01, 0.1, 1.1)
NUMBERS_OF_PATHS = (1, 2, 3, 4, 6, 8, 12, 16)
USUAL_PATHS = 4


@dataclass(frozen=True, slots=True)
class Family:
    """A distribution of worlds, and the set that it belongs to.

    Attributes
    ----------
    scenario : Scenario
        Of a name that no other family has.
    set : str
        PATHS, WORKLOAD, HELD_OUT, LOADS or SWEEP.
    """

    scenario: Scenario
    set: str

    @property
    def name(self) -> str:
        """The scenario's."""
        return self.scenario.name

    @property
    def n_streams(self) -> int:
        """Number of paths."""
        return self.scenario.n_streams


def all_families() -> list[Family]:
    """Every family, each once."""
    return [
        *(Family(load(name), PATHS) for name in FAMILIES),
        *(Family(load(name), WORKLOAD) for name in WORKLOADS),
        *(Family(load(path), HELD_OUT) for path in UNTUNED),
        *_at_extreme_loads(load("heterogeneous")),
        *_over(n for n in NUMBERS_OF_PATHS if n != USUAL_PATHS),
    ]


def _at_extreme_loads(scenario: Scenario) -> Iterator[Family]:
    for share in EXTREME_LOADS:
        loaded = scenario.with_options(load=share)
        yield Family(replace(loaded, name=f"{scenario.name} at load {share:g}"), LOADS)


def _over(numbers: Iterable[int]) -> Iterator[Family]:
    for n in numbers:
        for name in WORKLOADS:
            scenario = load(name, n_streams=n)
            yield Family(replace(scenario, name=f"{name} over {n}"), SWEEP)
