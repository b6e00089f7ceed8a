"""The agent: which engine serves a model, and the way back when it fails."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from itp._core.decider import Decider, Served
from itp.errors import ModelError
from itp.models.onnxruntime import batch_q_values, bound_slot

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from itp.models.load import Model

log = logging.getLogger("itp")


class DQNAgent:
    """Has a decider serve models: by the compiled forward pass, or by onnxruntime.

    Parameters
    ----------
    engine : {"auto", "native", "onnxruntime"}
        "auto" is native where the model's graph allows it.

    Notes
    -----
    Thread safety: ``serve`` publishes a complete model by one reference; a decision reads it once, and the
    old model goes when the last decision by it has been made.
    """

    def __init__(self, decider: Decider, engine: str) -> None:
        self._decider = decider
        self._engine = engine

    @property
    def model(self) -> Model | None:
        """The model that is served; None: the heuristic decides."""
        served = self._decider.served
        return None if served is None else served.origin

    @property
    def engine(self) -> str:
        """What computes the Q-values: "native", "onnxruntime", or "heuristic" where there are none."""
        served = self._decider.served
        if served is None:
            return "heuristic"
        return "onnxruntime" if served.net is None else "native"

    def serve(self, model: Model) -> None:
        """Decide by this model from the next decision on.

        Raises
        ------
        ModelError
            The engine is "native", and the compiled forward pass cannot express the model.
        """
        if self._engine == "native" and model.net is None:
            raise ModelError(
                f"{model.path}: engine='native' cannot serve it: {model.why_not_native}; "
                "engine='auto' serves it by onnxruntime"
            )
        native = self._engine != "onnxruntime" and model.net is not None
        if self._engine == "auto" and not native:
            log.warning("%s: served by onnxruntime: %s", model.path, model.why_not_native)
        self._decider.serve(
            Served(
                model.version,
                net=model.net if native else None,
                lend=None if native else partial(bound_slot, model),
                failed=None if native else partial(_failed, model.version),
                calibration=model.calibration,
                guard=model.guard,
                hard_deadlines=model.hard_deadlines,
                origin=model,
            )
        )

    def q_values(self, states: NDArray[np.float32]) -> NDArray[np.float32]:
        """Q-values float32[n, 15] of states float32[n, 20]; ValueError without a model."""
        model = self.model
        if model is None:
            raise ValueError("there are no Q-values without a model; pass model=")
        return batch_q_values(model, states, native=self._engine != "onnxruntime")


def _failed(version: str, error: Exception) -> None:
    log.warning("model %s failed, the heuristic decides: %s", version, error)
