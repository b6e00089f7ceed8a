"""What an evaluation found: the figures of every policy on every seed, and what they come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from itp.evaluation.analysis import ORACLE, Analysis, analyse
from itp.evaluation.configuration import Configuration
from itp.policies.names import CLASSICAL

__all__ = ["Results", "Timeline"]

_TIMELINE_INTERVALS = 400


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Timeline:
    """What the streams served, and when, at the start of one episode.

    Attributes
    ----------
    scenario, service_order, policy : str
    seed : int
    intervals : ndarray
        TIMELINE[.]: stream, task, start_s, end_s, bytes.
    """

    scenario: str
    service_order: str
    policy: str
    seed: int
    intervals: NDArray[np.void]

    @classmethod
    def of(cls, configuration: Configuration, cell: tuple[int, ...], intervals: NDArray[np.void]) -> Timeline:
        """The start of the first seed's episode in a cell: scenario, order, policy by number."""
        return cls(
            scenario=configuration.scenarios[cell[0]],
            service_order=configuration.service_orders[cell[1]],
            policy=configuration.policies[cell[2]],
            seed=configuration.seeds[0],
            intervals=intervals[:_TIMELINE_INTERVALS],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Results:
    """Figures of every policy in every scenario, under every service order.

    Attributes
    ----------
    configuration : Configuration
        Names the rows of all arrays below.
    figures : mapping of str to ndarray
        For each of ``itp.evaluation.metrics.METRICS``: float64[scenarios, orders, policies, seeds].
    completion_s, slowdown : ndarray
        float64[scenarios, orders, policies, 200]: quantiles over the tasks of all seeds, from the least
        to the greatest.
    timelines : tuple of Timeline
        Of the scenario in which policies differ most.
    """

    configuration: Configuration
    figures: Mapping[str, NDArray[np.float64]]
    completion_s: NDArray[np.float64]
    slowdown: NDArray[np.float64]
    timelines: tuple[Timeline, ...] = ()

    @cached_property
    def analysis(self) -> Analysis:
        """Means, intervals and comparisons; computed once."""
        return analyse(self.configuration, self.figures)

    @property
    def candidates(self) -> list[str]:
        """The policies that are neither classical nor the oracle."""
        return [name for name in self.configuration.policies if name not in CLASSICAL and name != ORACLE]
