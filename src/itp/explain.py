"""Explanations of decisions: every action with its estimate, and the reason why it was not taken."""

from __future__ import annotations

from dataclasses import dataclass

from itp import actions
from itp._core.decision import Decision


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
class Explanation:
    """A decision and the actions it was chosen from. ``str()`` gives a table, with streams counted from 1."""

    decision: Decision
    actions: tuple[ActionEstimate, ...]

    def __str__(self) -> str:
        lines = [f"task {self.decision.task.id!r}: {self.decision!r}; streams counted from 1:"]
        lines.append(f"  {'streams':<12}{'planned s':>12} {'value':>11}  why not")
        for a in self.actions:
            time = "-" if a.expected_time_s is None else f"{a.expected_time_s:.4g}"
            q_value = "-" if a.q_value is None else f"{a.q_value:.4g}"
            lines.append(f"  {a.name:<12}{time:>12} {q_value:>11}  {a.why_not or self._chosen()}")
        return "\n".join(lines)

    def _chosen(self) -> str:
        """What the table says of the chosen action; the minimum chunk may have taken streams out of it."""
        decision = self.decision
        chosen = next(a for a in self.actions if a.chosen)
        kept = decision.stream_ids
        if len(kept) == len(chosen.stream_ids):
            return "chosen"
        n_streams = len(decision.paths())
        name = actions.name(actions.action_of(kept, n_streams), n_streams)
        return f"chosen; only {name} {'keeps' if len(kept) == 1 else 'keep'} a share of the minimum size"


def explain(decision: Decision) -> Explanation:
    """Explain a decision from the state in which it was made, whatever has happened since.

    With up to six streams every action is listed; with more, those that were considered.
    """
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
    return Explanation(decision=decision, actions=tuple(rows))


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
