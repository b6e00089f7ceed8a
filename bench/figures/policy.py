"""The check ``policy``: the shipped model against the best classical rule, picked with hindsight.

One evaluation has both the shipped families and those of ``bench/scenarios``, which nothing was tuned on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from figures.figure import Figure, Progress, at_least, at_most, number
from itp.evaluation import DEFAULT_SEEDS, Report, compare
from itp.evaluation.analysis import ORACLE, Group
from itp.evaluation.bootstrap import Estimate
from itp.evaluation.text import label
from itp.policies import CLASSICAL
from itp.sim.scenario import FAMILIES

MODEL = "dqn_v1"
UNTUNED = tuple(sorted((Path(__file__).parents[1] / "scenarios").glob("*.toml")))
"""Scenario files of worlds that neither rules nor models were tuned on."""
WORSE_AT_MOST = 1.03
"""The most that the model's slowdown may be over the best rule's, in any family."""
_QUICK_SEEDS = 10


@dataclass(frozen=True, slots=True)
class Claim:
    """What README and docs/dqn_v1.md say of a service order, in percent rounded to whole ones.

    Attributes
    ----------
    less_slowdown : int
        Than the best classical rule, on average over the shipped families.
    gap_closed : int
        Share of the oracle's lead over that rule.
    deadlines_kept : int
        Of those that the oracle keeps, in the family where it is least.
    """

    less_slowdown: int
    gap_closed: int
    deadlines_kept: int


CLAIMS = {
    "fifo": Claim(less_slowdown=26, gap_closed=78, deadlines_kept=94),
    "srpt": Claim(less_slowdown=7, gap_closed=52, deadlines_kept=94),
}


def measure(*, quick: bool, progress: Progress) -> list[Figure]:
    """Evaluate, and read the figures off: losses in worlds that nothing was tuned on come first."""
    shown = -1

    def report_tenths(share: float, _: str) -> None:
        nonlocal shown
        if int(10 * share) > shown:
            shown = int(10 * share)
            progress(f"policies, {10 * shown} % done")

    report = compare(
        [MODEL, *CLASSICAL, ORACLE],
        [*FAMILIES, *UNTUNED],
        _QUICK_SEEDS if quick else DEFAULT_SEEDS,
        progress=report_tenths,
    )
    figures = figures_of(report)
    return [replace(figure, rough=True) for figure in figures] if quick else figures


def figures_of(report: Report) -> list[Figure]:
    """The figures of an evaluation of MODEL, rules and oracle in FAMILIES and UNTUNED."""
    untuned = {path.stem for path in UNTUNED}
    groups = [group for group in report.analysis.groups if group.scenario in untuned]
    losses_first = sorted(groups, key=lambda group: -group.row(MODEL).change.value)
    return [*map(_in_untuned, losses_first), *_at_home(only(report, FAMILIES))]


def only(report: Report, scenarios: Sequence[str]) -> Report:
    """A report of some of its scenarios."""
    configuration = report.configuration
    kept = [k for k, name in enumerate(configuration.scenarios) if name in scenarios]

    return Report(
        configuration=replace(
            configuration,
            scenarios=tuple(configuration.scenarios[k] for k in kept),
            about=tuple(configuration.about[k] for k in kept),
            tasks=tuple(configuration.tasks[k] for k in kept),
        ),
        figures={name: values[kept] for name, values in report.figures.items()},
        completion_s=report.completion_s[kept],
        slowdown=report.slowdown[kept],
    )


def _in_untuned(group: Group) -> Figure:
    model = group.row(MODEL)
    assert group.best_classical is not None
    rule = group.row(group.best_classical)
    mean = model.mean_s.value / rule.mean_s.value
    return _ratio(
        f"{group.scenario}_{group.service_order}",
        f"{group.scenario}, {group.service_order}: slowdown of {MODEL} / the best rule's",
        model.change,
        note=f"{label(group.best_classical)}; mean completion time {number(mean)} x the rule's",
    )


def _at_home(report: Report) -> Iterator[Figure]:
    for average in report.analysis.averages:
        order = average.service_order
        claim, where = CLAIMS[order], f"shipped families, {order}: "
        groups = [group for group in report.analysis.groups if group.service_order == order]
        model = average.row(MODEL)
        yield _percent(
            f"less_slowdown_{order}",
            f"{where}less slowdown of {MODEL} than of the best rule",
            Estimate(-model.change.value, -model.change.high, -model.change.low),
            claim.less_slowdown,
            f"claimed: {claim.less_slowdown} %",
        )
        yield _percent(
            f"gap_closed_{order}",
            f"{where}share of the oracle's lead over that rule",
            model.gap_closed,
            claim.gap_closed,
            f"claimed: {claim.gap_closed} %",
        )
        worst = max(groups, key=lambda group: group.row(MODEL).change.value)
        yield _ratio(
            f"worst_family_{order}",
            f"{where}slowdown of {MODEL} / the best rule's, where it is greatest",
            worst.row(MODEL).change,
            note=worst.scenario,
        )
        met_by_oracle = average.row(ORACLE).figures["deadlines_met"].value
        yield _percent(
            f"deadlines_met_{order}",
            f"{where}deadlines met with {MODEL}",
            model.figures["deadlines_met"],
            None,
            f"oracle: {100.0 * met_by_oracle:.1f} %",
        )
        least = min(groups, key=lambda group: group.row(MODEL).deadlines_kept.value)
        yield _percent(
            f"deadlines_kept_{order}",
            f"{where}deadlines met / the oracle's, where it is least",
            least.row(MODEL).deadlines_kept,
            claim.deadlines_kept,
            f"{least.scenario}; claimed: {claim.deadlines_kept} %",
        )


def _ratio(name: str, about: str, change: Estimate, note: str) -> Figure:
    """A ratio of slowdowns, of which the estimate is the change."""
    value, low, high = (1.0 + part for part in (change.value, change.low, change.high))
    return Figure(
        name=name,
        about=about,
        value=value,
        low=low,
        high=high,
        unit="x",
        asked=at_most(WORSE_AT_MOST),
        note=note,
    )


def _percent(name: str, about: str, share: Estimate, claimed: int | None, note: str) -> Figure:
    """A share, which must round to at least what is claimed; not measured where there is no estimate."""
    value, low, high = (
        None if math.isnan(part) else 100.0 * part for part in (share.value, share.low, share.high)
    )
    return Figure(
        name=name,
        about=about,
        value=value,
        low=low,
        high=high,
        unit="%",
        asked=None if claimed is None else at_least(claimed - 0.5),
        note=note,
    )
