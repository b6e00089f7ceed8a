"""Intelligent Task Partitioning: which parallel WAN streams carry a transfer, and how many bytes each.

``import itp`` loads NumPy and the compiled core alone; onnxruntime is loaded with the first model.
"""

import logging

from itp import actions
from itp._core.decision import Decision
from itp._core.replay import PrioritizedReplayBuffer
from itp._core.reward import RewardWeights
from itp._core.state import NetworkState
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
    TransportError,
)
from itp.partitioner import TaskPartitioner

logging.getLogger("itp").addHandler(logging.NullHandler())

__version__ = "0.1.0"

__all__ = [
    "ClosedError",
    "Decision",
    "EvaluationError",
    "ItpError",
    "LogError",
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
    "Task",
    "TaskPartitioner",
    "TransportError",
    "actions",
]
