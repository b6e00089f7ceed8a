"""Engines: what turns a state into Q-values."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from itp.actions import N_ACTIONS
from itp.errors import ModelError
from itp.model import Model

ENGINES = ("auto", "onnxruntime", "heuristic")


class OnnxRuntimeEngine:
    """Q-values by onnxruntime on one pinned thread, in the calling thread.

    ``InferenceSession.run`` is safe to call from several threads at once.
    """

    source = "onnxruntime"

    def __init__(self, model: Model) -> None:
        self.model = model
        self._run = model.session.run
        self._outputs = ["q_values"]

    def q_values(self, state: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Q-values float32[1, 15] of one state float32[20]; ModelError for another shape."""
        result: npt.NDArray[np.float32] = self._run(self._outputs, {"state": state.reshape(1, -1)})[0]
        if result.shape != (1, N_ACTIONS):
            raise ModelError(f"answered with shape {result.shape} instead of (1, {N_ACTIONS})")
        return result
