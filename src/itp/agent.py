"""The agent: a model's Q-values where there is a model, the heuristic where not or where it fails."""

from __future__ import annotations

import logging

from itp._core.decide import Decider, Decision
from itp._core.task import Task
from itp.engine import OnnxRuntimeEngine

log = logging.getLogger("itp")


class DQNAgent:
    """Decides with an engine, exploration and masks; falls back to the decider's heuristic.

    Thread safety: ``decide`` reads the engine once, so that a swap is atomic.
    """

    def __init__(self, decider: Decider, engine: OnnxRuntimeEngine | None) -> None:
        self._decider = decider
        self.engine = engine

    def decide(self, task: Task) -> Decision:
        """One decision; LookupError if too few streams are up."""
        engine = self.engine
        if engine is None:
            return self._decider.decide(task)
        decision = self._decider.observe(task)
        try:
            q_values = engine.q_values(decision.state)
        except Exception as error:  # onnxruntime's own exceptions derive from Exception alone
            log.warning("model %s failed, the heuristic decides: %s", engine.model.version, error)
            return self._decider.settle_by_rule(decision)
        return self._decider.settle(decision, q_values, engine.model.version, engine.source)
