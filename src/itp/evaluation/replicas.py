"""The spread of figures over models that differ by their training seed alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from itp.evaluation.results import Results


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Mean and extremes of a figure over training seeds; NaN where there is none."""

    mean: float
    least: float
    most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicas:
    """The figures of one training configuration over its seeds, in a scenario under a service order.

    Attributes
    ----------
    scenario, service_order : str
        The scenario is empty for the average over all.
    change : Spread
        Of the geometric-mean slowdown against the reference, as in `Row.change`; the mean is geometric.
    gap_closed : Spread
        Share of the oracle's gap closed, as in `Row.gap_closed`.
    """

    scenario: str
    service_order: str
    change: Spread
    gap_closed: Spread

    def as_dict(self) -> dict[str, Any]:
        """For JSON: None instead of NaN."""
        spreads = {name: asdict(getattr(self, name)) for name in ("change", "gap_closed")}
        return {
            "scenario": self.scenario,
            "service_order": self.service_order,
            **{
                name: {key: None if math.isnan(value) else value for key, value in spread.items()}
                for name, spread in spreads.items()
            },
        }


def across(report: Results, policies: Iterable[str] | None = None) -> tuple[Replicas, ...]:
    """Mean and extremes over models that are training seeds of one configuration.

    Parameters
    ----------
    report : Results
    policies : iterable of str, optional
        Names of the models; default: the report's replicas.

    Returns
    -------
    tuple of Replicas
        Scenario by scenario, order by order; then the averages over scenarios.

    Raises
    ------
    ValueError
        No policy is named, or one is not in the report.
    """
    names = tuple(report.configuration.replicas if policies is None else policies)
    if not names:
        raise ValueError("policies: expected at least one")
    for name in names:
        if name not in report.configuration.policies:
            raise ValueError(f"policies: {name!r} is not in the report")
    found = []
    for group in (*report.analysis.groups, *report.analysis.averages):
        rows = [group.row(name) for name in names]
        change = _spread([math.log1p(row.change.value) for row in rows])
        found.append(
            Replicas(
                scenario=group.scenario,
                service_order=group.service_order,
                change=Spread(**{key: math.expm1(value) for key, value in asdict(change).items()}),
                gap_closed=_spread([row.gap_closed.value for row in rows]),
            )
        )
    return tuple(found)


def _spread(values: Sequence[float]) -> Spread:
    return Spread(mean=float(np.mean(values)), least=float(np.min(values)), most=float(np.max(values)))
