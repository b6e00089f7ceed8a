"""Inputs and outputs of a model file, by its schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from itp._util.messages import brief
from itp.errors import ModelError
from itp.schema import (
    CANDIDATE_FEATURES,
    CONTEXT_FEATURES,
    MAX_STREAMS,
    MODEL_STREAMS,
    N_ACTIONS,
    SCHEMA,
    SET_SCHEMA,
    STATE_DIM,
    STREAM_FEATURES,
    state_dim,
)

Shape = tuple[int | None, ...]
"""None: any length."""

_SET_INPUTS: dict[str, Shape] = {
    "streams": (None, None, STREAM_FEATURES),
    "context": (None, CONTEXT_FEATURES),
    "candidates": (None, None, CANDIDATE_FEATURES),
    "members": (None, None, None),
}
_SET_OUTPUTS: dict[str, Shape] = {"values": (None, None)}


def likely_schema(session: Any) -> int:
    """The schema that the names of the inputs are those of."""
    return SET_SCHEMA if {tensor.name for tensor in session.get_inputs()} == set(_SET_INPUTS) else SCHEMA


def check_set_signature(session: Any) -> None:
    """ModelError if the file takes or gives something else than schema 2 says, or in fixed numbers."""
    _check_tensors("input", session.get_inputs(), _SET_INPUTS)
    _check_tensors("output", session.get_outputs(), _SET_OUTPUTS)


def check_q_signature(session: Any) -> bool:
    """Whether the file takes any number of states in a run; ModelError if it does not take states at all."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    for kind, found, name, width in (
        ("input", inputs, "state", STATE_DIM),
        ("output", outputs, "q_values", N_ACTIONS),
    ):
        shape = found[0].shape if len(found) == 1 else []
        if (
            len(shape) != 2
            or found[0].name != name
            or found[0].type != "tensor(float)"
            or shape[1] != width
            or (isinstance(shape[0], int) and shape[0] != 1)
        ):
            raise ModelError(
                f"needs one {kind} {name!r} float32[batch, {width}]; the file has {_listed(found)}"
                + _of_other_streams(shape)
            )
    return not isinstance(inputs[0].shape[0], int)


def _of_other_streams(shape: list[Any]) -> str:
    """What to do with a model of schema 1 for another number of streams; else nothing."""
    for n in range(1, MAX_STREAMS + 1):
        if len(shape) == 2 and shape[1] in (state_dim(n), (1 << n) - 1) and n != MODEL_STREAMS:
            return (
                f", as for {n} streams: a model of schema 1 decides over {MODEL_STREAMS}; "
                "one of schema 2 over any number"
            )
    return ""


def _check_tensors(kind: str, found: list[Any], expected: Mapping[str, Shape]) -> None:
    """ModelError where inputs or outputs are not those expected; None stands for a dynamic dimension."""
    shapes = {tensor.name: tensor for tensor in found}
    fits = shapes.keys() == expected.keys() and len(found) == len(expected)
    for name, shape in expected.items():
        tensor = shapes.get(name)
        fits = fits and (
            tensor is not None
            and tensor.type == "tensor(float)"
            and len(tensor.shape) == len(shape)
            and all(
                a == b if b is not None else not isinstance(a, int)
                for a, b in zip(tensor.shape, shape, strict=True)
            )
        )
    if not fits:
        wanted = ", ".join(
            f"{name!r} float32[{', '.join('any' if n is None else str(n) for n in shape)}]"
            for name, shape in expected.items()
        )
        raise ModelError(
            f"needs the {kind}{'s' * (len(expected) > 1)} {wanted}; the file has {_listed(found)}"
        )


def _listed(tensors: list[Any]) -> str:
    listed = ", ".join(f"{brief(t.name, 80)!r} {t.type} {t.shape}" for t in tensors[:4]) or "none"
    return brief(listed) + (f" and {len(tensors) - 4} more" if len(tensors) > 4 else "")
