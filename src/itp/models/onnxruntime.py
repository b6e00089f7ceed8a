"""onnxruntime as an engine: sessions on one pinned thread, states one at a time or in batches."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from itp._core.decider import Slot
from itp._util.messages import brief
from itp.errors import ModelError
from itp.schema import N_ACTIONS, STATE_DIM

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_BATCH = 256
"""States in a run. A larger batch would save next to nothing; this one bounds the memory of a run."""


def runtime() -> Any:
    """The package onnxruntime, imported when it is first asked for, so that ``import itp`` stays light.

    From version 1.29 on it reports to its makers by default, from threads of its own, with an identity it
    keeps on the disk (https://github.com/microsoft/onnxruntime/pull/27379). Imported from here it does not,
    unless the variable is set to something else. The first import counts: a host that imported it before has
    decided.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


def open_session(content: bytes) -> Any:
    """An ``InferenceSession`` of a model file's content: one thread, sequential, on the CPU.

    Raises
    ------
    ModelError
        onnxruntime refuses the content.
    """
    ort = runtime()
    options = ort.SessionOptions()
    # Explicit counts: one thread that never leaves the caller's, and no affinity to fail on.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4
    # One thread waits for no other: with spinning a run takes as long (measured), so nothing spins.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Weights in other files would escape the SHA-256: no folder, no such weights.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    try:
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions derive from Exception alone
        raise ModelError(f"onnxruntime {ort.__version__} cannot load it: {brief(error)}") from error


def bound_slot(session: Any) -> Slot:
    """Buffers for one state and its Q-values, bound to the session; one thread at a time may use it.

    ``run_with_iobinding`` copies nothing and allocates nothing: that saves a third of ``run``.
    """
    state, q_values = np.zeros(STATE_DIM, np.float32), np.zeros(N_ACTIONS, np.float32)
    binding = session.io_binding()
    binding.bind_input("state", "cpu", 0, np.float32, (1, STATE_DIM), state.ctypes.data)
    binding.bind_output("q_values", "cpu", 0, np.float32, (1, N_ACTIONS), q_values.ctypes.data)
    return Slot(state, q_values, partial(session.run_with_iobinding, binding))


def run_batch(session: Any, states: NDArray[np.float32]) -> NDArray[np.float32]:
    """Q-values float32[n, 15] of states float32[n, 20], ``MAX_BATCH`` of them a run.

    Raises
    ------
    ModelError
        The output has another shape.
    """
    q_values = np.empty((len(states), N_ACTIONS), np.float32)
    for at in range(0, len(states), MAX_BATCH):
        batch = states[at : at + MAX_BATCH]
        (found,) = session.run(["q_values"], {"state": batch})
        if found.shape != (len(batch), N_ACTIONS):
            raise ModelError(
                f"answers {len(batch)} states with shape {found.shape}; expected ({len(batch)}, {N_ACTIONS})"
            )
        q_values[at : at + MAX_BATCH] = found
    return q_values
