"""Which inputs carried the choice of a set model: finite differences against the runner-up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from itp import actions
from itp._core.decision import Decision
from itp._core.features import CANDIDATE_NAMES, CONTEXT_NAMES, STREAM_NAMES
from itp._core.setnet import SetNet

_MOST_REASONS = 8
_NAMES = {"streams": STREAM_NAMES, "context": CONTEXT_NAMES, "candidates": CANDIDATE_NAMES}


class Reason(NamedTuple):
    """One input of a set model, and what it did for the choice."""

    name: str
    """In plain words, as in docs/state.md."""
    stream_id: int | None
    """The stream that it is a figure of. None for figures of the task, the site or a candidate."""
    value: float
    """In the model's units (docs/state.md); of a candidate's figure, the chosen one's."""
    effect: float
    """The margin less what it is when this input alone is neutral: greater than 0 speaks for the choice."""
    runner_up_value: float | None = None
    """Of a candidate's figure, the runner-up's."""

    def __str__(self) -> str:
        return self.name if self.stream_id is None else f"{self.name} of stream {self.stream_id + 1}"


class Outside(NamedTuple):
    """One input outside of what a set model was trained on."""

    name: str
    stream_id: int | None
    """The stream that it is a figure of. None for figures of the task, the site or a candidate."""
    value: float
    """In the model's units; of candidates the one that is farthest outside."""
    low: float
    """The least value that the model decides by, margin included."""
    high: float

    def __str__(self) -> str:
        of = "" if self.stream_id is None else f" of stream {self.stream_id + 1}"
        return f"{self.name}{of} is {self.value:.3g}, trained on {self.low:.3g} to {self.high:.3g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """Why a set model preferred one candidate to another one."""

    favourite: tuple[int, ...]
    """The open set of the greatest value, whatever the cap made of it."""
    runner_up: tuple[int, ...] | None
    margin: float | None
    reasons: tuple[Reason, ...]


def attribute(decision: Decision) -> Attribution | None:
    """Attribute the choice of a set model to its inputs.

    Each input alone is set to its neutral value: the middle of what the model was trained on, 0 where that
    is not known; a candidate's figure, for both candidates, to their mean. What the margin between the
    chosen set and the runner-up loses by that is the input's effect.

    Returns
    -------
    Attribution or None
        None where the values of a set model did not carry the choice.
    """
    seen, given, net = decision.features(), decision.values, decision.set_net
    if seen is None or given is None or net is None or decision.explored or decision.unsupported:
        return None
    sets, values, is_open = list(given), np.array(list(given.values())), seen["open"]
    favourite = _greatest(values, is_open)
    chosen = sets.index(actions.stream_sets(len(decision.paths()))[decision.action])
    # What is open and worth more than the chosen set was closed by the cap.
    rivals = is_open & (values <= values[chosen])
    rivals[chosen] = False
    if not is_open[chosen] or not rivals.any():
        return Attribution(favourite=sets[favourite], runner_up=None, margin=None, reasons=())
    rival = _greatest(values, rivals)
    return Attribution(
        favourite=sets[favourite],
        runner_up=sets[rival],
        margin=float(values[chosen] - values[rival]),
        reasons=_reasons(decision, net, seen, [chosen, rival]),
    )


def outside_support(decision: Decision) -> tuple[Outside, ...]:
    """Which inputs of a set model's decision are outside of its support, the farthest first."""
    seen = decision.features()
    if seen is None or decision.support is None:
        return ()
    found: list[tuple[float, Outside]] = []
    up = _streams_up(decision)
    for kind, names in (
        ("streams", STREAM_NAMES),
        ("context", CONTEXT_NAMES),
        ("candidates", CANDIDATE_NAMES),
    ):
        rows = np.atleast_2d(seen[kind])
        low, high = decision.support[kind].T
        excess = np.maximum(low - rows, rows - high)
        for j, f in np.argwhere(excess > 0).tolist():
            if kind == "candidates" and j != int(excess[:, f].argmax()):
                continue
            stream = up[j] if kind == "streams" else None
            outside = Outside(names[f], stream, float(rows[j, f]), float(low[f]), float(high[f]))
            found.append((float(excess[j, f]), outside))
    return tuple(outside for _, outside in sorted(found, key=lambda pair: -pair[0]))


def _greatest(values: npt.NDArray[np.float64], among: npt.NDArray[np.bool_]) -> int:
    return int(np.argmax(np.where(among, values, -np.inf)))


def _streams_up(decision: Decision) -> list[int]:
    return [i for i, path in enumerate(decision.paths()) if path["up"]]


def _reasons(
    decision: Decision, net: SetNet, seen: dict[str, npt.NDArray[Any]], pair: list[int]
) -> tuple[Reason, ...]:
    """The greatest effects on the margin of the first candidate of a pair before the second."""
    up = _streams_up(decision)
    own, others = seen["candidates"][pair]
    inputs: list[tuple[str, int, int]] = [
        *(("streams", j, f) for j in range(len(up)) for f in range(len(STREAM_NAMES))),
        *(("context", 0, f) for f in range(len(CONTEXT_NAMES))),
        *(("candidates", 0, f) for f in range(len(CANDIDATE_NAMES))),
    ]
    # The inputs as they were, and below them one copy for each input, in which that one is neutral.
    streams, context, candidates, members = (
        np.repeat(array[None], len(inputs) + 1, axis=0)
        for array in (seen["streams"], seen["context"], seen["candidates"][pair], seen["members"][pair])
    )
    neutral = {"streams": np.zeros(len(STREAM_NAMES)), "context": np.zeros(len(CONTEXT_NAMES))}
    if decision.support is not None:
        neutral = {kind: decision.support[kind].mean(axis=1) for kind in neutral}
    for row, (kind, j, f) in enumerate(inputs, 1):
        if kind == "streams":
            streams[row, j, f] = neutral[kind][f]
        elif kind == "context":
            context[row, f] = neutral[kind][f]
        else:
            candidates[row, :, f] = (own[f] + others[f]) / 2
    values = net(streams, context, candidates, members).astype(np.float64)
    margins = values[:, 0] - values[:, 1]
    effects = margins[0] - margins[1:]
    reasons = []
    for k in np.argsort(-np.abs(effects), kind="stable")[:_MOST_REASONS].tolist():
        kind, j, f = inputs[k]
        effect = float(effects[k])
        if effect == 0.0:
            break
        if kind == "streams":
            reasons.append(Reason(STREAM_NAMES[f], up[j], float(seen["streams"][j, f]), effect))
        elif kind == "context":
            reasons.append(Reason(CONTEXT_NAMES[f], None, float(seen["context"][f]), effect))
        else:
            reasons.append(Reason(CANDIDATE_NAMES[f], None, float(own[f]), effect, float(others[f])))
    return tuple(reasons)
