"""Intelligent Task Partitioning: which parallel WAN streams carry a transfer, and how many bytes each.

``import itp`` loads NumPy and the compiled core alone; onnxruntime is loaded with the first model.
"""

import importlib
import logging
import sys
from typing import TYPE_CHECKING, Any

from itp import actions
from itp._core.decision import Decision
from itp._core.replay.replay import PrioritizedReplayBuffer
from itp._core.reward import RewardWeights
from itp._core.state import ManualClock, NetworkState
from itp._core.task import Task
from itp.errors import (
    ClosedError,
    EvaluationError,
    ItpError,
    LogError,
    MissingExtraError,
    ModelError,
    NoStreamError,
    OutcomeError,
    ReportError,
    ScenarioError,
    SchemaError,
    StateError,
    TransportError,
)
from itp.partitioner import StreamOutcome, TaskPartitioner

if TYPE_CHECKING:
    from itp.models.capi import c_api, get_include, native_model
    from itp.sim.simulator import Simulator

# The simulator and what stands on it are loaded when first asked for: a data plane needs none of it.
_LATER = {
    "Simulator": "itp.sim.simulator",
    "c_api": "itp.models.capi",
    "evaluation": "",
    "policies": "",
    "get_include": "itp.models.capi",
    "native_model": "itp.models.capi",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'itp' has no attribute {name!r}")
    module = importlib.import_module(_LATER[name] or f"itp.{name}")
    return getattr(module, name) if _LATER[name] else module


if sys.modules.get("gymnasium"):
    from itp.sim import registration

    registration.register()

logging.getLogger("itp").addHandler(logging.NullHandler())

__version__ = "0.1.0"

__all__ = [
    "ClosedError",
    "Decision",
    "EvaluationError",
    "ItpError",
    "LogError",
    "ManualClock",
    "MissingExtraError",
    "ModelError",
    "NetworkState",
    "NoStreamError",
    "OutcomeError",
    "PrioritizedReplayBuffer",
    "ReportError",
    "RewardWeights",
    "ScenarioError",
    "SchemaError",
    "Simulator",
    "StateError",
    "StreamOutcome",
    "Task",
    "TaskPartitioner",
    "TransportError",
    "actions",
    "c_api",
    "get_include",
    "native_model",
]
