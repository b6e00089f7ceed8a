"""Policies beside the rules that are best with hindsight: ratios over families, with bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from figures.families import SWEEP, USUAL_PATHS, Family
from figures.figure import Progress
from itp.evaluation import Report, compare
from itp.evaluation.analysis import ORACLE
from itp.evaluation.bootstrap import Bootstrap, Estimate, estimates
from itp.models.spec import is_model
from itp.policies import CLASSICAL
from itp.policies.names import TUNED
from itp.schema import SERVICE_ORDERS

MODEL = "set_v2"
"""The model of any number of streams."""
OLD_MODEL = "dqn_v1"
PREFERENCES = ("typical", "balanced", "bulk")
UNTUNED_RULES = tuple(name for name in CLASSICAL if name not in TUNED)
MOST_STREAMS = {"least_completion_time_proportional": 8}
"""Rivals that try every set of streams and would take hours over more."""
SLOWDOWN, MEAN_TIME = "log_slowdown", "log_mean_s"
MEASURES = {SLOWDOWN: "slowdown", MEAN_TIME: "mean completion time"}
"""Logarithms whose means over worlds are compared: geometric means of slowdowns and of mean times."""


@dataclass(frozen=True, slots=True)
class Seeds:
    """How many worlds of each family there are, in the sweep over numbers of paths and elsewhere."""

    usual: int
    sweep: int

    def of(self, family: Family) -> int:
        """Worlds of a family."""
        return self.sweep if family.set == SWEEP else self.usual


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """What all policies have in a family under a service order.

    Attributes
    ----------
    family : Family
    order : str
    figures : dict
        By measure (SLOWDOWN, MEAN_TIME) and policy: float64[seeds].
    """

    family: Family
    order: str
    figures: dict[str, dict[str, NDArray[np.float64]]]

    def has(self, policy: str) -> bool:
        """Whether the policy was evaluated here."""
        return policy in self.figures[SLOWDOWN]

    def best(self, measure: str, rules: Collection[str]) -> str:
        """The rule that is best at a measure, with hindsight."""
        of_policies = self.figures[measure]
        return min((rule for rule in of_policies if rule in rules), key=lambda rule: of_policies[rule].mean())

    def less(self, policy: str, other: str, measure: str) -> NDArray[np.float64]:
        """A policy's figures less another one's, world by world: float64[seeds]."""
        return self.figures[measure][policy] - self.figures[measure][other]


def name_of(preference: str) -> str:
    """The policy that MODEL is for a preference."""
    return f"{MODEL}:{preference}"


def is_shipped(model: str) -> bool:
    """Whether this version of ITP has the model."""
    return is_model(model)


def evaluate(families: Sequence[Family], seeds: Seeds, progress: Progress) -> list[Cell]:
    """Run all policies in all families, under both service orders.

    `OLD_MODEL` runs where there are four streams, `MODEL` everywhere, if it is shipped.
    """
    groups: dict[tuple[tuple[str, ...], int], list[Family]] = {}
    for family in families:
        groups.setdefault((_policies(family.n_streams), seeds.of(family)), []).append(family)
    cells = []
    for k, ((policies, n_seeds), group) in enumerate(groups.items()):
        report = compare(
            policies,
            [family.scenario for family in group],
            n_seeds,
            progress=_in_tenths(f"policies, part {k + 1} of {len(groups)}", progress),
        )
        cells += cells_of(report, group)
    return cells


def _policies(n_streams: int) -> tuple[str, ...]:
    return (
        *(map(name_of, PREFERENCES) if is_shipped(MODEL) else ()),
        *((OLD_MODEL,) if n_streams == USUAL_PATHS else ()),
        *(name for name in (*CLASSICAL, ORACLE) if name not in too_slow(n_streams)),
    )


def too_slow(n_streams: int) -> list[str]:
    """The rules that are left out over so many streams."""
    return [name for name, most in MOST_STREAMS.items() if n_streams > most]


def _in_tenths(what: str, progress: Progress) -> Callable[[float, str], None]:
    shown = -1

    def report(share: float, _: str) -> None:
        nonlocal shown
        if int(10 * share) > shown:
            shown = int(10 * share)
            progress(f"{what}, {10 * shown} % done")

    return report


def cells_of(report: Report, families: Sequence[Family]) -> list[Cell]:
    """The cells of a report on these families."""
    configuration = report.configuration
    figures = {SLOWDOWN: report.figures["log_slowdown"], MEAN_TIME: np.log(report.figures["mean_s"])}
    return [
        Cell(
            family,
            order,
            {
                measure: dict(zip(configuration.policies, values[s, o], strict=True))
                for measure, values in figures.items()
            },
        )
        for s, family in enumerate(families)
        for o, order in enumerate(SERVICE_ORDERS)
    ]


# --- statistics ---


def ratio(cells: Sequence[Cell], policy: str, measure: str, rules: Collection[str]) -> Estimate:
    """A policy's figure over that of each cell's best rule: the geometric mean over cells and worlds."""
    return _exp(_mean(_behind(cells, policy, measure, rules)))


def gap_closed(cells: Sequence[Cell], policy: str) -> Estimate:
    """Share of the oracle's lead over each cell's best rule in mean log slowdown.

    Of the cells that have an oracle; NaN where it has no lead.
    """
    known = [cell for cell in cells if cell.has(ORACLE)]
    led, lead = (_behind(known, name, SLOWDOWN, CLASSICAL) for name in (policy, ORACLE))
    if not _mean(lead).high < 0.0:
        return Estimate(math.nan, math.nan, math.nan)
    resampled = Bootstrap(len(lead)).means(np.stack([led, lead], axis=1))
    (closed,) = estimates(np.array([led.mean() / lead.mean()]), resampled[:, [0]] / resampled[:, [1]])
    return closed


def _behind(cells: Sequence[Cell], policy: str, measure: str, rules: Collection[str]) -> NDArray[np.float64]:
    """How far a policy is behind each cell's best rule, on average over cells: float64[seeds]."""
    behind = [cell.less(policy, cell.best(measure, rules), measure) for cell in cells]
    mean: NDArray[np.float64] = np.mean(behind, axis=0)
    return mean


def _mean(values: NDArray[np.float64]) -> Estimate:
    (estimate,) = estimates(np.array([values.mean()]), Bootstrap(len(values)).means(values[:, None]))
    return estimate


def _exp(given: Estimate) -> Estimate:
    return Estimate(*map(math.exp, (given.value, given.low, given.high)))


def under(cells: Iterable[Cell], order: str, policy: str) -> list[Cell]:
    """The cells of a service order in which a policy was evaluated."""
    return [cell for cell in cells if cell.order == order and cell.has(policy)]
