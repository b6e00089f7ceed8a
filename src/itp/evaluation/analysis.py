"""Statistics of an evaluation: means, paired differences, shares of the oracle's gap closed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itp.evaluation.bootstrap import Bootstrap, Estimate, estimates, mean
from itp.evaluation.configuration import Configuration
from itp.evaluation.metrics import METRICS
from itp.policies.names import CLASSICAL
from itp.policies.served import NO_GUARD

ORACLE = "oracle"
# Of all policies: [policies], and the resamples [resamples, policies].
_Figures = tuple[NDArray[np.float64], NDArray[np.float64]]
_NONE = Estimate(math.nan, math.nan, math.nan)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The figures of a policy in a scenario under a service order, or on average over scenarios.

    Attributes
    ----------
    policy : str
    figures : mapping of str to Estimate
        By name of METRICS: the mean over seeds.
    differences : mapping of str to Estimate
        The same figures minus the reference's, paired by seed.
    gap_closed : Estimate
        (reference - policy) / (reference - oracle) in mean log slowdown; NaN where the oracle is not
        significantly ahead: there is no gap to close.
    deadlines_kept : Estimate
        Deadlines met / deadlines that the oracle meets; NaN without an oracle.
    guard_cost : Estimate
        Change of the geometric-mean slowdown by a model's guard: 0.01 is 1 % more with it than without;
        NaN unless the model was also evaluated without.
    """

    policy: str
    figures: Mapping[str, Estimate]
    differences: Mapping[str, Estimate]
    gap_closed: Estimate
    deadlines_kept: Estimate
    guard_cost: Estimate

    @property
    def slowdown(self) -> Estimate:
        """Geometric mean of completion time / reference time."""
        return _exp(self.figures["log_slowdown"], 0.0)

    @property
    def change(self) -> Estimate:
        """Of the geometric-mean slowdown against the reference: -0.1 is 10 % less."""
        return _exp(self.differences.get("log_slowdown", _NONE), -1.0)

    @property
    def verdict(self) -> str:
        """``better``, ``worse`` or ``even`` than the reference by the interval of the difference."""
        difference = self.differences.get("log_slowdown", _NONE)
        if difference.high < 0.0:
            return "better"
        return "worse" if difference.low > 0.0 else "even"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """All policies in one scenario under one service order, ordered by slowdown.

    Attributes
    ----------
    scenario, service_order : str
        The scenario is empty for the average over all.
    reference : str or None
        What the others are compared with: the best classical rule, or what the caller named. On average,
        each scenario's own reference counts, and this is None if they differ.
    best_classical : str or None
    certainty : float
        Share of the resamples in which that rule is the best one; NaN without one.
    rows : tuple of Row
    """

    scenario: str
    service_order: str
    reference: str | None
    best_classical: str | None
    certainty: float
    rows: tuple[Row, ...]

    def row(self, policy: str) -> Row:
        """The row of a policy."""
        return next(row for row in self.rows if row.policy == policy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """`groups`: scenario by scenario, then order by order; `averages`: over scenarios, by order."""

    groups: tuple[Group, ...]
    averages: tuple[Group, ...]

    def group(self, scenario: str, service_order: str) -> Group:
        """The group of a scenario and an order."""
        return next(g for g in self.groups if (g.scenario, g.service_order) == (scenario, service_order))

    def as_dict(self) -> dict[str, Any]:
        """For JSON: None instead of NaN."""
        result: dict[str, Any] = _without_nan(asdict(self))
        return result


def analyse(configuration: Configuration, figures: Mapping[str, NDArray[np.float64]]) -> Analysis:
    """Compare the policies of an evaluation; resampling is seeded, so equal figures give equal analyses.

    Parameters
    ----------
    configuration : Configuration
        Names the rows of the figures.
    figures : mapping of str to ndarray
        For each of METRICS: float64[scenarios, orders, policies, seeds].
    """
    bootstrap = Bootstrap(len(configuration.seeds))
    policies = configuration.policies
    groups, averages = [], []
    for o, order in enumerate(configuration.service_orders):
        cells = [
            _Cell(
                policies,
                {name: values[s, o] for name, values in figures.items()},
                bootstrap,
                configuration.reference,
            )
            for s in range(len(configuration.scenarios))
        ]
        groups.append(
            [cell.group(name, order) for name, cell in zip(configuration.scenarios, cells, strict=True)]
        )
        averages.append(_average(cells, order))
    in_order = tuple(
        group for groups_of_scenario in zip(*groups, strict=True) for group in groups_of_scenario
    )
    return Analysis(groups=in_order, averages=tuple(averages))


class _Cell:
    """A scenario under an order: figures [policies] and their resamples [resamples, policies]."""

    def __init__(
        self,
        policies: Sequence[str],
        figures: Mapping[str, NDArray[np.float64]],
        bootstrap: Bootstrap,
        reference: str | None,
    ) -> None:
        self.policies = policies
        self.means = {name: np.array([mean(of_policy) for of_policy in figures[name]]) for name in METRICS}
        self.resampled = {name: bootstrap.means(figures[name].T) for name in METRICS}
        self.best, self.certainty = _best_classical(policies, self.means, self.resampled)
        self.reference = self.best if reference is None else policies.index(reference)

    def group(self, scenario: str, order: str) -> Group:
        return _group(
            scenario,
            order,
            self.policies,
            self.means,
            self.resampled,
            {name: self.less_reference(name) for name in METRICS},
            None if self.reference is None else self.policies[self.reference],
            None if self.best is None else self.policies[self.best],
            self.certainty,
        )

    def less_reference(self, name: str) -> _Figures | None:
        """A figure of all policies less the reference's, and the resamples of that."""
        if self.reference is None:
            return None
        means, resampled = self.means[name], self.resampled[name]
        return means - means[self.reference], resampled - resampled[:, self.reference, None]


def _best_classical(
    policies: Sequence[str],
    means: Mapping[str, NDArray[np.float64]],
    resampled: Mapping[str, NDArray[np.float64]],
) -> tuple[int | None, float]:
    """The classical rule of the least slowdown, and the share of resamples in which it is that."""
    classical = [p for p, name in enumerate(policies) if name in CLASSICAL]
    if not classical:
        return None, math.nan
    # A policy without figures is not the best one.
    log_slowdown = [
        np.where(np.isnan(x), np.inf, x) for x in (means["log_slowdown"], resampled["log_slowdown"])
    ]
    best = int(log_slowdown[0][classical].argmin())
    return classical[best], float((log_slowdown[1][:, classical].argmin(axis=1) == best).mean())


def _average(cells: Sequence[_Cell], order: str) -> Group:
    """Over scenarios, each policy against each scenario's own reference."""
    first = cells[0]
    means = {name: _mean([cell.means[name] for cell in cells]) for name in METRICS}
    resampled = {name: _mean([cell.resampled[name] for cell in cells]) for name in METRICS}
    differences: dict[str, _Figures | None] = {}
    for name in METRICS:
        parts = [part for cell in cells if (part := cell.less_reference(name)) is not None]
        complete = len(parts) == len(cells)
        differences[name] = (_mean([p[0] for p in parts]), _mean([p[1] for p in parts])) if complete else None
    references = {cell.reference for cell in cells}
    shared = references.pop() if len(references) == 1 else None
    best, certainty = _best_classical(first.policies, means, resampled)
    return _group(
        "",
        order,
        first.policies,
        means,
        resampled,
        differences,
        None if shared is None else first.policies[shared],
        None if best is None else first.policies[best],
        certainty,
    )


def _mean(arrays: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    total: NDArray[np.float64] = np.zeros_like(arrays[0])
    for array in arrays:
        total += array / len(arrays)
    return total


def _group(
    scenario: str,
    order: str,
    policies: Sequence[str],
    means: Mapping[str, NDArray[np.float64]],
    resampled: Mapping[str, NDArray[np.float64]],
    differences: Mapping[str, _Figures | None],
    reference: str | None,
    best: str | None,
    certainty: float,
) -> Group:
    figures = {name: estimates(means[name], resampled[name]) for name in METRICS}
    less = {name: estimates(*parts) for name, parts in differences.items() if parts is not None}
    gaps = _gaps_closed(policies, differences["log_slowdown"])
    kept = _deadlines_kept(policies, (means["deadlines_met"], resampled["deadlines_met"]))
    costs = _guard_costs(policies, (means["log_slowdown"], resampled["log_slowdown"]))
    rows = [
        Row(
            policy=policy,
            figures={name: figures[name][p] for name in METRICS},
            differences={name: values[p] for name, values in less.items()},
            gap_closed=gaps[p],
            deadlines_kept=kept[p],
            guard_cost=costs[p],
        )
        for p, policy in enumerate(policies)
    ]
    return Group(
        scenario=scenario,
        service_order=order,
        reference=reference,
        best_classical=best,
        certainty=certainty,
        rows=tuple(sorted(rows, key=_slowdown_or_last)),
    )


def _slowdown_or_last(row: Row) -> float:
    value = row.figures["log_slowdown"].value
    return math.inf if math.isnan(value) else value


def _gaps_closed(policies: Sequence[str], differences: _Figures | None) -> list[Estimate]:
    none = [_NONE] * len(policies)
    if ORACLE not in policies or differences is None:
        return none
    means, resampled = differences
    oracle = policies.index(ORACLE)
    ahead = estimates(means[[oracle]], resampled[:, [oracle]])[0]
    if not ahead.high < 0.0:
        return none
    with np.errstate(divide="ignore", invalid="ignore"):
        return estimates(means / means[oracle], resampled / resampled[:, oracle, None])


def _deadlines_kept(policies: Sequence[str], shares: _Figures) -> list[Estimate]:
    if ORACLE not in policies:
        return [_NONE] * len(policies)
    means, resampled = shares
    oracle = policies.index(ORACLE)
    with np.errstate(divide="ignore", invalid="ignore"):
        return estimates(means / means[oracle], resampled / resampled[:, oracle, None])


def _guard_costs(policies: Sequence[str], log_slowdowns: _Figures) -> list[Estimate]:
    means, resampled = log_slowdowns
    costs = [_NONE] * len(policies)
    for p, policy in enumerate(policies):
        if policy + NO_GUARD in policies:
            free = policies.index(policy + NO_GUARD)
            less = estimates(means[[p]] - means[[free]], resampled[:, [p]] - resampled[:, [free]])
            costs[p] = _exp(less[0], -1.0)
    return costs


def _exp(given: Estimate, offset: float) -> Estimate:
    return Estimate(*(math.exp(value) + offset for value in (given.value, given.low, given.high)))


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value
