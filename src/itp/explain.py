"""Explanations of decisions: every action with its estimate, and the reason why it was not taken.

Of a set model's decisions also the inputs that carried the choice, and what was believed of the workload.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import inf, isfinite
from typing import Any

from itp import actions
from itp._core.decision import Decision
from itp.attribution import Attribution, Outside, Reason, attribute, outside_support


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionEstimate:
    """One action at the moment of a decision."""

    action: int
    name: str
    """Of the action, as ``itp.actions`` has it: streams counted from 1."""
    stream_ids: tuple[int, ...]
    chosen: bool
    expected_time_s: float | None
    """Planned from the state of the streams, before a model's calibration corrects it. None where the action
    cannot carry the task."""
    q_value: float | None
    """The model's value of the action: the Q-value, or a set model's. None where no model gave one."""
    why_not: str | None
    """Why the action was not taken. None for the chosen action."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What a set model's decision took the workload and the streams to be, from what was seen by then."""

    tasks: int
    """Decided before."""
    mean_bytes: float
    """Mean size of the latest 128 tasks and this one."""
    rank: float
    """Share of the latest 128 tasks that are smaller than this one; ties count half."""
    rank_bytes: float
    """Share of their bytes that are in smaller tasks."""
    dispersion: float
    """Squared coefficient of variation of the sizes."""
    gap_s: float
    """Mean time between tasks. 0: not known yet."""
    burstiness: float
    """Squared coefficient of variation of the gaps: 0 for a steady beat, 1 for random arrivals."""
    known: float
    """From 0 (no task was seen) to 1."""
    offered_short_mbps: float
    """What arrives, over about 8 tasks."""
    offered_long_mbps: float
    """The same over about 64."""
    load_short: float
    """`offered_short_mbps` over what all streams that are up carry, success rates included."""
    load_long: float
    in_flight: int
    """Tasks decided and not yet through."""
    preference: float
    """What was decided for: 0 typical, 1 bulk."""
    streams: tuple[dict[str, Any], ...]
    """Of each stream what ``NetworkState.stream`` tells, the source of its bandwidth estimate included."""

    def __str__(self) -> str:
        if self.tasks == 0:
            return f"no task seen before; preference {self.preference:.2g}"
        return (
            f"{self.tasks} tasks seen, {self.mean_bytes:.3g} bytes on average; this one is larger than "
            f"{self.rank:.0%} of them and {self.rank_bytes:.0%} of their bytes; offered load "
            f"{self.load_short:.2g} (long run {self.load_long:.2g}); one every {self.gap_s:.3g} s, "
            f"burstiness {self.burstiness:.2g}, dispersion {self.dispersion:.2g}; "
            f"{self.in_flight} in flight; preference {self.preference:.2g}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A decision and the actions it was chosen from. ``str()`` gives a table, with streams counted from 1."""

    decision: Decision
    actions: tuple[ActionEstimate, ...]
    note: str | None
    """What decided where it was not the values or the rule alone: exploration, the guard, a case that the
    model was not trained on."""
    runner_up: tuple[int, ...] | None
    """The set of streams of the next best value among those that were open. None, like `margin`, where no
    values of a set model carried the choice."""
    margin: float | None
    """The chosen set's value less the runner-up's."""
    reasons: tuple[Reason, ...]
    """The inputs that carried the choice of a set model, greatest effect on the margin first, 8 at most."""
    outside: tuple[Outside, ...]
    """The inputs outside of what the set model was trained on."""
    workload: Workload | None
    """What was believed. None where no set model was in use."""

    def as_dict(self) -> dict[str, Any]:
        """The explanation as plain values, ready for JSON; what is not finite is None."""
        plain: dict[str, Any] = _plain(
            {
                "decision": self.decision.as_dict(),
                "actions": [asdict(a) for a in self.actions],
                "note": self.note,
                "runner_up": self.runner_up,
                "margin": self.margin,
                "reasons": [r._asdict() for r in self.reasons],
                "outside": [o._asdict() for o in self.outside],
                "workload": None if self.workload is None else asdict(self.workload),
            }
        )
        return plain

    def __str__(self) -> str:
        lines = [f"task {self.decision.task.id!r}: {self.decision!r}; streams counted from 1:"]
        lines.append(f"  {'streams':<12}{'planned s':>12} {'value':>11}  why not")
        for a in self.actions:
            time = "-" if a.expected_time_s is None else f"{a.expected_time_s:.4g}"
            q_value = "-" if a.q_value is None else f"{a.q_value:.4g}"
            lines.append(f"  {a.name:<12}{time:>12} {q_value:>11}  {a.why_not or self._chosen()}")
        if self.note is not None:
            lines.append(f"  {self.note}")
        if self.runner_up is not None:
            lines.append(
                f"  carried by: {self._carried()}; ahead of {_name(self.runner_up)} by {self.margin:.2g}"
            )
        if self.workload is not None:
            lines.append(f"  workload: {self.workload}")
        return "\n".join(lines)

    def _carried(self) -> str:
        """The inputs that spoke for the choice, and those against it."""
        pro = [f"{r} {r.effect:+.2g}" for r in self.reasons if r.effect > 0]
        con = [f"{r} {r.effect:+.2g}" for r in self.reasons if r.effect < 0]
        return (", ".join(pro) or "no single input") + ("; against it: " + ", ".join(con) if con else "")

    def _chosen(self) -> str:
        """What the table says of the chosen action; the minimum chunk may have taken streams out of it."""
        decision = self.decision
        chosen = next(a for a in self.actions if a.chosen)
        kept = decision.stream_ids
        if len(kept) == len(chosen.stream_ids):
            return "chosen"
        return (
            f"chosen; only {_name(kept)} {'keeps' if len(kept) == 1 else 'keep'} a share of the minimum size"
        )


def explain(decision: Decision) -> Explanation:
    """Explain a decision from the state in which it was made, whatever has happened since.

    With up to six streams every action is listed; with more, those that were considered.
    """
    carried = attribute(decision)
    outside = outside_support(decision)
    paths = decision.paths()
    n_streams = len(paths)
    sets = actions.stream_sets(n_streams)
    chosen = sets[decision.action]
    considered = {estimate[0]: estimate[1:] for estimate in decision.estimates()}
    listed = sets if n_streams <= 6 else tuple(dict.fromkeys([*considered, chosen]))
    rows = []
    for streams in listed:
        expected_time_s = q_value = None
        if streams in considered:
            expected_time_s, whole, meets, q_value = considered[streams]
            why_not = _why_not(decision, expected_time_s, q_value, whole, meets)
        else:
            why_not = _why_impossible(decision, paths, streams)
        action = actions.action_of(streams, n_streams)
        rows.append(
            ActionEstimate(
                action=action,
                name=actions.name(action, n_streams),
                stream_ids=streams,
                chosen=streams == chosen,
                expected_time_s=expected_time_s,
                q_value=q_value,
                why_not=None if streams == chosen else why_not,
            )
        )
    return Explanation(
        decision=decision,
        actions=tuple(rows),
        note=_note(decision, carried, outside),
        runner_up=None if carried is None else carried.runner_up,
        margin=None if carried is None else carried.margin,
        reasons=() if carried is None else carried.reasons,
        outside=outside,
        workload=_workload(decision, paths),
    )


def _name(streams: tuple[int, ...]) -> str:
    return "+".join(str(stream + 1) for stream in streams)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def _note(decision: Decision, carried: Attribution | None, outside: tuple[Outside, ...]) -> str | None:
    """What decided, where it was neither the values nor the rule alone."""
    if decision.explored:
        return "exploration drew the action: no values carried it"
    if decision.unsupported:
        where = "".join(f"; {o}" for o in outside[:4])
        return f"the rule decided: the model was trained on no such case{where}"
    if decision.source == "guard":
        favourite = None if carried is None else carried.favourite
        own = "" if favourite is None else f", {_name(favourite)}"
        return f"the guard closed the model's own choice{own}, which was planned to take too long"
    return None


def _workload(decision: Decision, paths: list[dict[str, float]]) -> Workload | None:
    believed = decision.beliefs()
    if believed is None:
        return None
    total_mbps = sum(path["rate_mbps"] for path in paths if path["up"])
    loads = {
        f"load_{horizon}": believed[f"offered_{horizon}_mbps"] / total_mbps if total_mbps > 0 else inf
        for horizon in ("short", "long")
    }
    return Workload(**(believed | loads | {"streams": tuple(believed["streams"])}))


def _why_impossible(decision: Decision, paths: list[dict[str, float]], streams: tuple[int, ...]) -> str:
    down = [str(i + 1) for i in streams if not paths[i]["up"]]
    if down:
        return f"stream {', '.join(down)} is down"
    return f"the task asks for {decision.task.redundancy} copies, one a stream"


def _why_not(
    decision: Decision,
    expected_time_s: float,
    q_value: float | None,
    whole: bool,
    meets: bool,
) -> str:
    task = decision.task
    # Where the chosen action misses a demand too, missing it was no reason.
    if not meets and decision.feasible:
        late = task.deadline_s is not None and expected_time_s > task.deadline_s
        if late and decision.hard_deadline:
            return f"misses the deadline of {task.deadline_s:.4g} s"
        if not late:
            return f"the streams that keep a share have under {task.min_bandwidth_mbps:.4g} Mbit/s"
    if decision.explored:
        return "exploration drew another action"
    if decision.unsupported and q_value is not None:
        return "the model was trained on no such case: the rule decided"
    if q_value is not None and decision.q_value is not None:
        if decision.source == "guard" and q_value > decision.q_value:
            return "planned to take so much longer than the fastest that the guard closed it"
        return "lower value"
    if not whole:
        return "a share is smaller than the minimum chunk"
    if expected_time_s >= decision.expected_time_s:
        return "not faster"
    return "faster, but not the rule's choice"
