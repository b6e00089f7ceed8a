"""What an evaluation found, in sentences."""

from __future__ import annotations

import math

from itp.evaluation.analysis import ORACLE, Analysis, Group, Row
from itp.evaluation.bootstrap import CONFIDENCE, N_RESAMPLES
from itp.evaluation.replicas import across
from itp.evaluation.results import Results
from itp.evaluation.text import MINUS, interval, label, listed, number, percent, signed_percent, spread
from itp.policies.names import TUNED

_SURE = 0.95
_FAILURES_NAMED = 5

HOW_TO_READ = (
    "Every policy met the same worlds: arrivals, sizes, links and faults depend on the seed alone.",
    "Slowdown is completion time / reference time; the reference is the time over all paths together, "
    "empty, at nominal rates. Policies are sorted by its geometric mean; 1 is as fast as an empty network.",
    "Mean completion times, in which large tasks count, are geometric means over seeds of episodes' means.",
    "A change against the best classical rule is paired seed by seed; negative is faster. The rule is "
    "chosen with hindsight in each scenario, by slowdown and by mean completion time apart, which favours "
    f'it. The columns "untuned" leave out {listed([label(name) for name in TUNED])}, which are fitted to '
    "the very scenario before they are evaluated in it.",
    "The oracle knows the future and tries every action in a copy of the world. It leaves the decisions that "
    "follow to a rule, so a better policy may exist.",
    f"The share of its gap closed is (rule {MINUS} policy) / (rule {MINUS} oracle) in mean log slowdown: 0 % "
    "is the rule, 100 % the oracle. Where the oracle is not certainly ahead, there is no gap to close. The "
    "average is the sum of what is closed over the sum of the gaps.",
    f"Intervals are of {100 * CONFIDENCE:.0f} %: percentile bootstrap over seeds, {N_RESAMPLES:,} resamples; "
    "scenarios count as given.",
    "Percentiles, rewards, goodput and the other figures are an episode's, averaged over seeds. Deadlines "
    "kept are those met over those that the oracle meets.",
    "A model's guard gives a decision to a rule where the model's plan takes much longer than the rule's; "
    ":no-guard behind a model's name is the model without it. With :hard-deadlines, actions that are planned "
    "to miss the deadline are closed to the model while another one meets it.",
)


def summary(results: Results) -> list[str]:
    """What was found, a sentence or two at a time."""
    sentences = []
    for average in results.analysis.averages:
        groups = [g for g in results.analysis.groups if g.service_order == average.service_order]
        sentences += _of_rules(groups, average)
        if ORACLE in results.configuration.policies:
            sentences += _of_oracle(groups, average)
        for policy in (name for name in results.candidates if name not in results.configuration.replicas):
            sentences += _of_candidate(policy, groups, average)
            sentences += _of_guard(policy, groups, average)
    sentences += _of_replicas(results)
    sentences += _of_failures(results.analysis)
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
        text += f" It is uncertain in {listed(doubtful)}; in brackets, the share of resamples it is best in."
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
    return [f"{text}. Better decisions can gain at least that much."]


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
    parts += _of_mean_time(policy, groups, average)
    kept = mean.deadlines_kept
    if not math.isnan(kept.value):
        parts.append(
            f"It meets {percent(kept.value)} of the deadlines that the oracle meets "
            f"({interval(kept, 'percent')})."
        )
    return [f"{text}. {' '.join(parts)}"]


def _of_mean_time(policy: str, groups: list[Group], average: Group) -> list[str]:
    """Against the best rule by that, and against the best rules that are not tuned."""
    row = average.row(policy)
    change = row.changes["mean_time"]
    if math.isnan(change.value):
        return []
    text = (
        f"Its mean completion time is {_less(change.value)} that of the rule best at it "
        f"({interval(change, 'signed_percent')})"
    )
    lost = [
        (group.row(policy).changes["mean_time"].value, group.scenario)
        for group in groups
        if group.row(policy).verdict_in("mean_time") == "worse"
    ]
    if lost:
        where = [f"{scenario} ({signed_percent(value)})" for value, scenario in sorted(lost, reverse=True)]
        text += f"; it loses in {listed(where)}"
    parts = [f"{text}."]
    untuned = [row.changes[f"{contest}_untuned"] for contest in ("slowdown", "mean_time")]
    if untuned != [row.changes["slowdown"], change] and not math.isnan(untuned[0].value):
        parts.append(
            f"Against the best rules without tuning the changes are {signed_percent(untuned[0].value)} "
            f"({interval(untuned[0], 'signed_percent')}) and {signed_percent(untuned[1].value)} "
            f"({interval(untuned[1], 'signed_percent')})."
        )
    return parts


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


def _of_replicas(results: Results) -> list[str]:
    count = len(results.configuration.replicas)
    if not count:
        return []
    sentences = []
    rival = _rival(results.analysis.groups[0])
    for found in across(results)[-len(results.configuration.service_orders) :]:
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
    left = len(failing) - _FAILURES_NAMED
    more = f" and in {left} more cases" if left > 0 else ""
    return [f"Tasks failed: {', '.join(failing[:_FAILURES_NAMED])}{more}."]
