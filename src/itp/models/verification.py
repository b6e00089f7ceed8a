"""A model's answers on probe states: finite, the same each time, alone and in batches, by both engines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itp._core.qnet import QNet
from itp._util.messages import brief
from itp.errors import ModelError
from itp.models.affine import NotAChain
from itp.models.chain import dense_layers
from itp.models.onnx import Graph
from itp.models.onnxruntime import MAX_BATCH, bound_slot, run_batch
from itp.models.probes import apart, uniform
from itp.schema import STATE_DIM

N_PROBES = 4096
"""States, drawn uniformly or at the ends of their range."""

N_ALONE = 256
"""Of these, the states that onnxruntime also answers one at a time: each run gives the GIL away."""

_N_AGAIN = 64
"""Of these, the states that it answers once more."""

_ROUNDING = 1e-5
"""Of the largest Q-value: differences below are roundings, in another order of the same sums."""
# Sizes of batches that the states of N_ALONE are split into: they sum to it.
_BATCH_SIZES = (1, 2, 3, 4, 7, 16, 31, 64, 128)
_NOT_FINITE = (np.nan, np.inf, -np.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What computes a model's answers.

    Attributes
    ----------
    net : QNet or None
        The compiled forward pass; it agrees with onnxruntime.
    why_not_native : str or None
        Why there is none, though one was wanted.
    why_one_by_one : str or None
        Why onnxruntime has to compute batches state by state; None where it does not compute, or where a
        batch gives the same bits.
    """

    net: QNet | None
    why_not_native: str | None
    why_one_by_one: str | None


def verify(graph: Graph, session: Any, *, takes_batches: bool, native: bool) -> Verified:
    """Have both engines, or onnxruntime alone, answer the probe states.

    Parameters
    ----------
    graph : Graph
    session : onnxruntime.InferenceSession
        Of the same file.
    takes_batches : bool
        The file takes any number of states in a run, not one alone.
    native : bool
        Whether a compiled forward pass is wanted.

    Raises
    ------
    ModelError
        A run fails, the answers are not finite, they change from run to run, or they tell states apart only
        where others are in the batch.
    """
    states = probe_states()
    try:
        answers = run_batch(session, states) if takes_batches else bound_slot(session)(states)
        _check_finite(answers)
        net, why_not_native = _compiled(graph, states, answers) if native else (None, None)
        if net is not None:
            # A chain's answer to a state depends on no other state, and the forward pass keeps to that.
            return Verified(net=net, why_not_native=None, why_one_by_one=None)
        picked = np.arange(N_ALONE) * (N_PROBES // N_ALONE - 1)  # odd: at all positions of a batch
        alone = _answered_alone(session, states[picked])
        why_one_by_one: str | None = "the file takes one state at a time"
        if takes_batches:
            why_one_by_one = _why_one_by_one(session, states[picked], alone, answers[picked])
    except ModelError:
        raise
    except Exception as error:  # onnxruntime's own exceptions derive from Exception alone
        raise ModelError(f"fails on a probe state: {brief(error)}") from error
    return Verified(net=None, why_not_native=why_not_native, why_one_by_one=why_one_by_one)


def probe_states() -> NDArray[np.float32]:
    """The probe states float32[4096, 20], the same ones always."""
    states = uniform(N_PROBES * STATE_DIM).astype(np.float32).reshape(N_PROBES, STATE_DIM)
    n_extremes = N_PROBES // 8
    states[:n_extremes] = states[:n_extremes] >= 0.5
    states[0], states[1] = 0.0, 1.0
    return states


def _check_finite(answers: NDArray[np.float32]) -> None:
    if not np.isfinite(answers).all():
        raise ModelError(f"its Q-values are not finite on {N_PROBES} probe states")


def _answered_alone(session: Any, states: NDArray[np.float32]) -> NDArray[np.float32]:
    """Q-values of states, one at a time as a decision asks; ModelError if they change from run to run."""
    slot = bound_slot(session)
    answers = slot(states)
    _check_finite(answers)
    # In another order, so that what an operator keeps from run to run shows too.
    again = slot(states[_N_AGAIN - 1 :: -1].copy())[::-1]
    n_changed = int((again != answers[:_N_AGAIN]).any(axis=1).sum())
    if n_changed:
        raise ModelError(
            f"gives {n_changed} of {_N_AGAIN} probe states other Q-values when asked again; a model must "
            "answer a state the same each time: export it in evaluation mode, without random operators"
        )
    return answers


def _why_one_by_one(
    session: Any,
    states: NDArray[np.float32],
    alone: NDArray[np.float32],
    in_batches: NDArray[np.float32],
) -> str | None:
    """How the answers in batches differ from those alone; None where they are the same bits.

    Raises
    ------
    ModelError
        Alone, all states get the same answer.
    """
    splits = np.split(states, np.cumsum(_BATCH_SIZES)[:-1])
    in_small_batches = np.concatenate([run_batch(session, split) for split in splits])
    differs = (in_batches != alone) | (in_small_batches != alone)
    if not differs.any():
        return _why_not_with_others(session, states, alone)
    largest = np.abs(alone).max()
    apart = max(np.abs(in_batches - alone).max(), np.abs(in_small_batches - alone).max())
    if apart <= _ROUNDING * largest:
        return "in a batch its Q-values differ in their last bits"
    if np.ptp(alone, axis=0).max() <= _ROUNDING * largest:
        raise ModelError(
            "answers every state alike when asked alone: its Q-values depend on the other states of a batch. "
            "Export the network in evaluation mode, without a mean or a normalisation over the batch"
        )
    n_other = int((in_batches.argmax(axis=1) != alone.argmax(axis=1)).sum())
    return (
        f"in a batch its Q-values depend on the other states: {n_other} of {len(states)} probe states get "
        "another best action"
    )


def _why_not_with_others(session: Any, states: NDArray[np.float32], alone: NDArray[np.float32]) -> str | None:
    """Whether a state that is not finite changes the answers to the others of its batch."""
    batch = states[: MAX_BATCH // 2].copy()
    spoiled = np.arange(len(batch)) % 8 == 3
    batch[spoiled] = np.resize(np.array(_NOT_FINITE, np.float32), (int(spoiled.sum()), 1))
    if (run_batch(session, batch)[~spoiled] != alone[: len(batch)][~spoiled]).any():
        return "a state that is not finite changes the Q-values of the others in its batch"
    return None


def _compiled(
    graph: Graph, states: NDArray[np.float32], answers: NDArray[np.float32]
) -> tuple[QNet | None, str | None]:
    """The compiled forward pass, or why there is none."""
    try:
        net = QNet(dense_layers(graph, STATE_DIM))
    except NotAChain as error:
        return None, f"not a chain of dense layers: {error}"
    except ValueError as error:
        return None, str(error)
    why = apart(answers, net(states))
    return (net, None) if why is None else (None, why)
