"""Figures as people read them, and what they say in sentences."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from itp.evaluation.analysis import ORACLE, Analysis, Group, Row
from itp.evaluation.bootstrap import CONFIDENCE, N_RESAMPLES, Estimate
from itp.evaluation.metrics import METRICS
from itp.evaluation.replicas import Spread, across
from itp.policies.names import CLASSICAL

if TYPE_CHECKING:
    from itp.evaluation.report import Report

MINUS = "\N{MINUS SIGN}"
# Keeps the sign beside its figure.
PERCENT = "\N{NO-BREAK SPACE}%"
NOTHING = "\N{EN DASH}"
# The columns of detailed tables.
DETAILS = (
    "mean_s",
    "p50_s",
    "p95_s",
    "p99_s",
    "reward",
    "deadlines_met",
    "goodput_mbps",
    "resent_bytes",
    "failed",
    "guarded",
)
_SURE = 0.95
_HEADINGS = {
    "mean_s": "mean s",
    "p50_s": "p50 s",
    "p95_s": "p95 s",
    "p99_s": "p99 s",
    "deadlines_met": "in time %",
    "goodput_mbps": "Mbit/s",
    "resent_bytes": "re-sent MB",
    "guarded": "guarded %",
}
_LABELS = {"least_completion_time_proportional": "LCT proportional"}

HOW_TO_READ = (
    "Every policy met the same worlds: arrivals, sizes, links and faults depend on the seed alone.",
    "Slowdown is completion time / reference time; the reference is the time over all paths together, "
    "empty, at nominal rates. Policies are sorted by its geometric mean; 1 is as fast as an empty network.",
    "A change against the best classical rule is paired seed by seed; negative is faster. The rule was "
    "picked with hindsight in each scenario, which favours it.",
    "The oracle knows the future and tries every action in a copy of the world; what follows a decision it "
    "leaves to a rule, so that still better may be possible.",
    f"The share of its gap closed is (rule {MINUS} policy) / (rule {MINUS} oracle) in mean log slowdown: 0 % "
    "is the rule, 100 % the oracle. Where the oracle is not certainly ahead, there is no gap to close. On "
    "average: the sum of what is closed over the sum of the gaps.",
    f"Intervals are of {100 * CONFIDENCE:.0f} %: percentile bootstrap over seeds, {N_RESAMPLES:,} resamples; "
    "scenarios count as given.",
    "Percentiles, rewards, goodput and the rest are an episode's, averaged over seeds. Deadlines kept are "
    "those met over those that the oracle meets.",
    "A model's guard gives a decision to a rule where the model plans for much longer than the rule would; "
    "the model without it has :no-guard behind its name. With :hard-deadlines an action that is planned to "
    "miss a deadline is closed to the model where another one is not.",
)


def label(name: str) -> str:
    """A policy's name in words, at most some twenty letters for ITP's own."""
    return _LABELS.get(name, name.replace("_", " "))


def number(value: float, digits: int = 3) -> str:
    """A figure to so many significant digits, without exponent."""
    if math.isnan(value):
        return NOTHING
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:,.{min(decimals, 6)}f}".replace("-", MINUS)


def percent(value: float) -> str:
    """A share in percent, signed by a minus sign if negative."""
    return NOTHING if math.isnan(value) else f"{_rounded(value)}{PERCENT}".replace("-", MINUS)


def signed_percent(value: float) -> str:
    """A change in percent, signed unless it is nothing."""
    text = percent(value)
    return text if text[0] in (MINUS, NOTHING) or _rounded(value) == "0.0" else f"+{text}"


def _rounded(value: float) -> str:
    percents = 100.0 * value
    text = f"{percents:.0f}" if abs(percents) >= 99.95 else f"{percents:.1f}"
    return "0.0" if text == "-0.0" else text


def figure(name: str, value: float) -> str:
    """A figure of METRICS as a column with its `heading` shows it."""
    if name.endswith("_s"):
        return number(value) if value >= 0.1 else number(value, 2)
    if name == "reward" and not math.isnan(value):
        return f"{value:.2f}".replace("-", MINUS)
    if name in ("deadlines_met", "guarded"):
        return number(100 * value)
    if name == "resent_bytes":
        return number(value / 1e6, 2)
    return number(value)


def heading(name: str) -> str:
    """Of a column of figures as `figure` shows them."""
    return _HEADINGS.get(name, METRICS[name].title)


def details(group: Group) -> list[str]:
    """Those of DETAILS that say something of these policies."""
    guarded = any(not math.isnan(row.figures["guarded"].value) for row in group.rows)
    return [name for name in DETAILS if guarded or name != "guarded"]


def interval(estimate: Estimate, form: str = "number") -> str:
    """``low to high``, in the form of `number`, `percent` or `signed_percent`."""
    return NOTHING if math.isnan(estimate.value) else _from_to(estimate.low, estimate.high, form)


def spread(figure: Spread, form: str) -> str:
    """``least to most``, in the same forms."""
    return NOTHING if math.isnan(figure.mean) else _from_to(figure.least, figure.most, form)


def _from_to(low: float, high: float, form: str) -> str:
    shown = {"number": number, "percent": percent, "signed_percent": signed_percent}[form]
    return f"{shown(low)} to {shown(high)}"


def listed(names: list[str]) -> str:
    """``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def seeds_text(seeds: tuple[int, ...]) -> str:
    """How many, and which."""
    if seeds == tuple(range(seeds[0], seeds[0] + len(seeds))):
        return f"{len(seeds)} ({seeds[0]} to {seeds[-1]})" if len(seeds) > 1 else f"1 ({seeds[0]})"
    return f"{len(seeds)}: {', '.join(map(str, seeds))}"


def candidates(report: Report) -> list[str]:
    """The policies that are neither classical nor the oracle."""
    return [name for name in report.configuration.policies if name not in CLASSICAL and name != ORACLE]


REPLICAS = (
    "scenario",
    "order",
    "slowdown, mean",
    "least to most",
    "oracle's gap closed, mean",
    "least to most",
)


def replica_rows(report: Report) -> list[list[str]]:
    """What the training seeds come to, under the headings of REPLICAS; no rows without any."""
    if not report.configuration.replicas:
        return []
    return [
        [
            found.scenario or "average",
            found.service_order,
            signed_percent(found.change.mean),
            spread(found.change, "signed_percent"),
            percent(found.gap_closed.mean),
            spread(found.gap_closed, "percent"),
        ]
        for found in across(report)
        if found.scenario or len(report.configuration.scenarios) > 1
    ]


def rate_text(scale: float) -> str:
    """What becomes of the scenarios' rates."""
    return "as in the scenarios" if scale == 1.0 else f"{scale:g} times the scenarios'"


# --- sentences ---


def summary(report: Report) -> list[str]:
    """What was found, a sentence or two at a time."""
    sentences = []
    for average in report.analysis.averages:
        groups = [g for g in report.analysis.groups if g.service_order == average.service_order]
        sentences += _of_rules(groups, average)
        if ORACLE in report.configuration.policies:
            sentences += _of_oracle(groups, average)
        for policy in (name for name in candidates(report) if name not in report.configuration.replicas):
            sentences += _of_candidate(policy, groups, average)
            sentences += _of_guard(policy, groups, average)
    sentences += _of_replicas(report)
    sentences += _of_failures(report.analysis)
    return sentences


def _of_rules(groups: list[Group], average: Group) -> list[str]:
    won: dict[str, list[str]] = {}
    for group in groups:
        if group.best_classical is not None:
            won.setdefault(group.best_classical, []).append(group.scenario)
    if not won:
        return []
    order = average.service_order
    if len(groups) == 1:
        text = f"Under {order}, the best classical rule in {groups[0].scenario} is {label(next(iter(won)))}."
    else:
        ranked = sorted(won.items(), key=lambda item: -len(item[1]))
        parts = [f"{label(rule)} in {len(where)} ({', '.join(where)})" for rule, where in ranked]
        text = f"Under {order}, the best classical rule is {listed(parts)} of {len(groups)} scenarios."
        if average.best_classical is not None:
            row = average.row(average.best_classical)
            text += (
                f" On average over them it is {label(average.best_classical)}, with a slowdown of "
                f"{number(row.slowdown.value)} ({interval(row.slowdown)})."
            )
    doubtful = [f"{g.scenario} ({percent(g.certainty)})" for g in groups if g.certainty < _SURE]
    if doubtful:
        text += f" Which rule is best is uncertain in {listed(doubtful)}; in brackets, how sure it is."
    return [text]


def _of_oracle(groups: list[Group], average: Group) -> list[str]:
    if not average.row(ORACLE).differences:
        return []
    change = average.row(ORACLE).change
    against = "the best classical rule" if average.reference is None else _rival(groups[0])
    text = (
        f"Under {average.service_order}, the oracle's slowdown is {_less(change.value)} {against}'s "
        f"({interval(change, 'signed_percent')})"
    )
    if len(groups) > 1:
        ranked = sorted(groups, key=lambda group: group.row(ORACLE).change.value)
        most, least = ranked[0], ranked[-1]
        bounds = [f"{g.scenario} ({signed_percent(g.row(ORACLE).change.value)})" for g in (most, least)]
        text += f" on average: most in {bounds[0]}, least in {bounds[1]}"
    return [f"{text}. So much, at least, is to be gained by deciding better."]


def _rival(group: Group) -> str:
    if group.reference is None or group.reference == group.best_classical:
        return "the best classical rule"
    return label(group.reference)


def _of_candidate(policy: str, groups: list[Group], average: Group) -> list[str]:
    rows: list[tuple[str, Row]] = [(group.scenario, group.row(policy)) for group in groups]
    if not average.row(policy).differences or policy == groups[0].reference:
        return []
    mean = average.row(policy)
    against = _rival(groups[0])
    text = (
        f"Under {average.service_order}, the slowdown of {label(policy)} is {_less(mean.change.value)} "
        f"{against}'s ({interval(mean.change, 'signed_percent')})"
    )
    if not math.isnan(mean.gap_closed.value):
        text += f" and closes {percent(mean.gap_closed.value)} of the oracle's gap"
    parts = []
    for verdict, words in (
        ("worse", "It loses in"),
        ("better", "It wins in"),
        ("even", "No difference is certain in"),
    ):
        where = [
            f"{scenario} ({signed_percent(row.change.value)})"
            for scenario, row in rows
            if row.verdict == verdict
        ]
        if where:
            parts.append(f"{words} {listed(where)}.")
        elif verdict == "worse":
            parts.append("It loses nowhere for certain.")
    kept = mean.deadlines_kept
    if not math.isnan(kept.value):
        parts.append(
            f"It meets {percent(kept.value)} of the deadlines that the oracle meets "
            f"({interval(kept, 'percent')})."
        )
    return [f"{text}. {' '.join(parts)}"]


def _of_guard(policy: str, groups: list[Group], average: Group) -> list[str]:
    share = average.row(policy).figures["guarded"].value
    if math.isnan(share):
        return []
    text = (
        f"Under {average.service_order}, the guard of {label(policy)} makes {percent(share)} of the decisions"
    )
    if len(groups) > 1:
        most = max(groups, key=lambda group: group.row(policy).figures["guarded"].value)
        text += f", most in {most.scenario} ({percent(most.row(policy).figures['guarded'].value)})"
    cost = average.row(policy).guard_cost
    if not math.isnan(cost.value):
        text += f"; with it the slowdown is {_less(cost.value)} without ({interval(cost, 'signed_percent')})"
    return [f"{text}."]


def _of_replicas(report: Report) -> list[str]:
    count = len(report.configuration.replicas)
    if not count:
        return []
    sentences = []
    rival = _rival(report.analysis.groups[0])
    for found in across(report)[-len(report.configuration.service_orders) :]:
        if math.isnan(found.change.mean):
            continue
        text = (
            f"Under {found.service_order}, over {count} training seeds, the slowdown is "
            f"{_less(found.change.mean)} {rival}'s ({spread(found.change, 'signed_percent')})"
        )
        if not math.isnan(found.gap_closed.mean):
            text += f", and {percent(found.gap_closed.mean)} of the oracle's gap is closed"
            text += f" ({spread(found.gap_closed, 'percent')})"
        sentences.append(f"{text}; in brackets, the least and the most.")
    return sentences


def _less(change: float) -> str:
    return f"{percent(abs(change))} {'less' if change < 0 else 'more'} than"


def _of_failures(analysis: Analysis) -> list[str]:
    failing = [
        f"{label(row.policy)} in {group.scenario} under {group.service_order}"
        for group in analysis.groups
        for row in group.rows
        if row.figures["failed"].value > 0
    ]
    if not failing:
        return []
    more = f" and in {len(failing) - 5} more cases" if len(failing) > 5 else ""
    return [f"Tasks failed: {', '.join(failing[:5])}{more}."]
