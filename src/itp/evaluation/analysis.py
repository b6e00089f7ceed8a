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
from itp.models.spec import NO_GUARD
from itp.policies.names import CLASSICAL, TUNED

ORACLE = "oracle"
LOG_MEAN = "log_mean_s"
"""Logarithm of an episode's mean completion time: what changes are counted in, in worlds of any scale."""

UNTUNED = tuple(name for name in CLASSICAL if name not in TUNED)
CONTESTS: dict[str, tuple[str, Sequence[str]]] = {
    "slowdown": ("log_slowdown", CLASSICAL),
    "mean_time": (LOG_MEAN, CLASSICAL),
    "slowdown_untuned": ("log_slowdown", UNTUNED),
    "mean_time_untuned": (LOG_MEAN, UNTUNED),
}
"""What policies are compared by, each with the rules of which the best one is the rival."""

_NAMES = (*METRICS, LOG_MEAN)
# Of all policies: [policies], and the resamples [resamples, policies].
_Pair = tuple[NDArray[np.float64], NDArray[np.float64]]
_NONE = Estimate(math.nan, math.nan, math.nan)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The figures of a policy in a scenario under a service order, or on average over scenarios.

    Attributes
    ----------
    policy : str
    figures : mapping of str to Estimate
        By name of METRICS, and of ``log_mean_s``: the mean over seeds.
    differences : mapping of str to Estimate
        The same figures minus the reference's, paired by seed.
    changes : mapping of str to Estimate
        By name of CONTESTS: of the geometric-mean slowdown, or of the mean completion time (its geometric
        mean over seeds), against the contest's rival, paired by seed; -0.1 is 10 % less. NaN without a rival.
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
    changes: Mapping[str, Estimate]
    gap_closed: Estimate
    deadlines_kept: Estimate
    guard_cost: Estimate

    @property
    def slowdown(self) -> Estimate:
        """Geometric mean of completion time / reference time."""
        return _exp(self.figures["log_slowdown"], 0.0)

    @property
    def mean_s(self) -> Estimate:
        """Mean completion time: geometric mean over seeds."""
        return _exp(self.figures[LOG_MEAN], 0.0)

    @property
    def change(self) -> Estimate:
        """Of the geometric-mean slowdown against the reference: -0.1 is 10 % less."""
        return self.changes["slowdown"]

    @property
    def verdict(self) -> str:
        """``better``, ``worse`` or ``even`` than the reference by the interval of the slowdown's change."""
        return self.verdict_in("slowdown")

    def verdict_in(self, contest: str) -> str:
        """``better``, ``worse`` or ``even`` than the rival of a contest."""
        change = self.changes[contest]
        if change.high < 0.0:
            return "better"
        return "worse" if change.low > 0.0 else "even"


@dataclass(frozen=True, slots=True)
class Rival:
    """What the others are compared with in a contest.

    Attributes
    ----------
    policy : str or None
        The rule with the best figure, or what the caller named; None: no rule takes part. On average, each
        scenario's own rival counts, and this is None if they differ.
    certainty : float
        Share of the resamples in which that rule is the best one; NaN without one, and for what was named.
    """

    policy: str | None
    certainty: float


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
    rivals : mapping of str to Rival
        By name of CONTESTS.
    rows : tuple of Row
    """

    scenario: str
    service_order: str
    reference: str | None
    best_classical: str | None
    certainty: float
    rivals: Mapping[str, Rival]
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
        with np.errstate(divide="ignore"):
            figures = {**figures, LOG_MEAN: np.log(figures["mean_s"])}
        self.policies = policies
        self.means = {name: np.array([mean(of_policy) for of_policy in figures[name]]) for name in _NAMES}
        self.resampled = {name: bootstrap.means(figures[name].T) for name in _NAMES}
        self.best = {
            contest: _best(policies, rules, self.means[name], self.resampled[name])
            for contest, (name, rules) in CONTESTS.items()
        }
        named = None if reference is None else policies.index(reference)
        self.rivals = {
            contest: named if named is not None and rules is CLASSICAL else self.best[contest][0]
            for contest, (_, rules) in CONTESTS.items()
        }
        self.reference = self.rivals["slowdown"]

    def group(self, scenario: str, order: str) -> Group:
        return _group(
            scenario,
            order,
            self.policies,
            (self.means, self.resampled),
            {name: self.less(name, self.reference) for name in _NAMES},
            {contest: self.less(name, self.rivals[contest]) for contest, (name, _) in CONTESTS.items()},
            self.rivals,
            self.best,
        )

    def less(self, name: str, policy: int | None) -> _Pair | None:
        """A figure of all policies less that of one, and the resamples of that."""
        if policy is None:
            return None
        means, resampled = self.means[name], self.resampled[name]
        return means - means[policy], resampled - resampled[:, policy, None]


def _best(
    policies: Sequence[str],
    rules: Sequence[str],
    means: NDArray[np.float64],
    resampled: NDArray[np.float64],
) -> tuple[int | None, float]:
    """The rule of the least figure, and the share of resamples in which it is that."""
    classical = [p for p, name in enumerate(policies) if name in rules]
    if not classical:
        return None, math.nan
    # A policy without figures is not the best one.
    known, drawn = (np.where(np.isnan(x), np.inf, x) for x in (means, resampled))
    best = int(known[classical].argmin())
    return classical[best], float((drawn[:, classical].argmin(axis=1) == best).mean())


def _average(cells: Sequence[_Cell], order: str) -> Group:
    """Over scenarios, each policy against each scenario's own rivals."""
    policies = cells[0].policies
    means = {name: _mean([cell.means[name] for cell in cells]) for name in _NAMES}
    resampled = {name: _mean([cell.resampled[name] for cell in cells]) for name in _NAMES}
    rivals: dict[str, int | None] = {}
    for contest in CONTESTS:
        found = {cell.rivals[contest] for cell in cells}
        rivals[contest] = found.pop() if len(found) == 1 else None
    return _group(
        "",
        order,
        policies,
        (means, resampled),
        {name: _mean_pair([cell.less(name, cell.reference) for cell in cells]) for name in _NAMES},
        {
            contest: _mean_pair([cell.less(name, cell.rivals[contest]) for cell in cells])
            for contest, (name, _) in CONTESTS.items()
        },
        rivals,
        {
            contest: _best(policies, rules, means[name], resampled[name])
            for contest, (name, rules) in CONTESTS.items()
        },
    )


def _mean_pair(parts: Sequence[_Pair | None]) -> _Pair | None:
    """The mean over scenarios; None where one of them is missing."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    return _mean([part[0] for part in known]), _mean([part[1] for part in known])


def _mean(arrays: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    total: NDArray[np.float64] = np.zeros_like(arrays[0])
    for array in arrays:
        total += array / len(arrays)
    return total


def _group(
    scenario: str,
    order: str,
    policies: Sequence[str],
    figures: tuple[Mapping[str, NDArray[np.float64]], Mapping[str, NDArray[np.float64]]],
    differences: Mapping[str, _Pair | None],
    contests: Mapping[str, _Pair | None],
    rivals: Mapping[str, int | None],
    best: Mapping[str, tuple[int | None, float]],
) -> Group:
    means, resampled = figures
    of_figures = {name: estimates(means[name], resampled[name]) for name in _NAMES}
    less = {name: estimates(*parts) for name, parts in differences.items() if parts is not None}
    none = [_NONE] * len(policies)
    changes = {
        contest: none if parts is None else [_exp(x, -1.0) for x in estimates(*parts)]
        for contest, parts in contests.items()
    }
    gaps = _gaps_closed(policies, differences["log_slowdown"])
    kept = _deadlines_kept(policies, (means["deadlines_met"], resampled["deadlines_met"]))
    costs = _guard_costs(policies, (means["log_slowdown"], resampled["log_slowdown"]))
    rows = [
        Row(
            policy=policy,
            figures={name: of_figures[name][p] for name in _NAMES},
            differences={name: values[p] for name, values in less.items()},
            changes={contest: values[p] for contest, values in changes.items()},
            gap_closed=gaps[p],
            deadlines_kept=kept[p],
            guard_cost=costs[p],
        )
        for p, policy in enumerate(policies)
    ]
    named = {
        contest: Rival(
            None if rival is None else policies[rival],
            best[contest][1] if rival == best[contest][0] else math.nan,
        )
        for contest, rival in rivals.items()
    }
    best_classical, certainty = best["slowdown"]
    return Group(
        scenario=scenario,
        service_order=order,
        reference=named["slowdown"].policy,
        best_classical=None if best_classical is None else policies[best_classical],
        certainty=certainty,
        rivals=named,
        rows=tuple(sorted(rows, key=_slowdown_or_last)),
    )


def _slowdown_or_last(row: Row) -> float:
    value = row.figures["log_slowdown"].value
    return math.inf if math.isnan(value) else value


def _gaps_closed(policies: Sequence[str], differences: _Pair | None) -> list[Estimate]:
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


def _deadlines_kept(policies: Sequence[str], shares: _Pair) -> list[Estimate]:
    if ORACLE not in policies:
        return [_NONE] * len(policies)
    means, resampled = shares
    oracle = policies.index(ORACLE)
    with np.errstate(divide="ignore", invalid="ignore"):
        return estimates(means / means[oracle], resampled / resampled[:, oracle, None])


def _guard_costs(policies: Sequence[str], log_slowdowns: _Pair) -> list[Estimate]:
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
