"""onnxruntime as an engine: one pinned thread, in the calling thread, buffers bound once."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from itp._core.decider import STATE_DIM, Slot
from itp.actions import N_ACTIONS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from itp.models.load import Model

ENGINES = ("auto", "native", "onnxruntime", "heuristic")

BATCH_FROM = 16
"""States from which onnxruntime is faster than the compiled forward pass without AVX-512; measured."""


def runtime() -> Any:
    """The package onnxruntime, imported when it is first asked for, so that ``import itp`` stays light.

    From version 1.29 on it reports to its makers by default, from threads of its own, with an identity it
    keeps on the disk (https://github.com/microsoft/onnxruntime/pull/27379): not from here, unless the
    variable is set to something else. It counts at the first import: a host that came before has decided.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


def bound_slot(model: Model) -> Slot:
    """Buffers for one state and its Q-values, bound to the model; one thread at a time may run it.

    ``run_with_iobinding`` copies nothing and allocates nothing: that saves a third of ``run``.
    """
    state, q_values = np.zeros(STATE_DIM, np.float32), np.zeros(N_ACTIONS, np.float32)
    binding = model.session.io_binding()
    binding.bind_input("state", "cpu", 0, np.float32, (1, STATE_DIM), state.ctypes.data)
    binding.bind_output("q_values", "cpu", 0, np.float32, (1, N_ACTIONS), q_values.ctypes.data)
    return Slot(state, q_values, partial(model.session.run_with_iobinding, binding))


def batch_q_values(model: Model, states: NDArray[np.float32], native: bool) -> NDArray[np.float32]:
    """Q-values float32[n, 15] of states float32[n, 20], by whichever engine is faster for so many."""
    if not model.takes_batches:
        if native and model.net is not None:
            return model.net(states)
        rows = [model.session.run(["q_values"], {"state": row[None]})[0] for row in states]
        return np.concatenate(rows) if rows else np.empty((0, N_ACTIONS), np.float32)
    if native and model.net is not None and (model.net.kernel == "avx512" or len(states) < BATCH_FROM):
        return model.net(states)
    found: NDArray[np.float32] = model.session.run(["q_values"], {"state": states})[0]
    return found
