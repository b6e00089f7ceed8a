"""The agent: a model's Q-values where there is a model, the heuristic where not or where it fails."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from itp._core.decide import Decider
from itp._core.decision import Decision
from itp._core.task import Task
from itp.engine import OnnxRuntimeEngine

log = logging.getLogger("itp")


class DQNAgent:
    """Decides with an engine, exploration and masks; falls back to the decider's heuristic.

    Attributes
    ----------
    decide : callable
        From a Task to a Decision; LookupError if too few streams are up. Without an engine it is the
        compiled call itself.

    Notes
    -----
    Thread safety: ``serve`` replaces engine and ``decide`` by one reference each, and a decision
    reads one of them once: it is made by the old model or by the new one.
    """

    decide: Callable[[Task], Decision]

    def __init__(self, decider: Decider) -> None:
        self._decider = decider
        self.engine: OnnxRuntimeEngine | None = None
        self.decide = decider.decide

    def serve(self, engine: OnnxRuntimeEngine) -> None:
        """Decide with this engine from the next decision on."""
        self.engine = engine
        self.decide = partial(self._decide, engine)

    def _decide(self, engine: OnnxRuntimeEngine, task: Task) -> Decision:
        decision = self._decider.observe(task)
        try:
            q_values = engine.q_values(decision.state)
        except Exception as error:  # onnxruntime's own exceptions derive from Exception alone
            log.warning("model %s failed, the heuristic decides: %s", engine.model.version, error)
            return self._decider.settle_by_rule(decision)
        model = engine.model
        return self._decider.settle(
            decision, q_values, model.version, engine.source, model.calibration, model.guard
        )
