"""The calls of ITP that are timed, and the bare onnxruntime call beside them."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from itp._core.decider import STATE_DIM
from itp._core.decision import Decision
from itp._core.task import Task
from itp.models.load import load_model
from itp.partitioner import TaskPartitioner

TASK = Task("bench", 100 * 2**20, 0.8)
FAMILIAR = Task("bench", 250_000, 0.8)
"""Of a size that models of schema 1 were trained on: of others the rule decides."""


def four_streams(partitioner: TaskPartitioner) -> None:
    """Give a partitioner unequal metrics for its four streams."""
    for i, (bandwidth_mbps, latency_ms) in enumerate(((200, 10), (100, 40), (50, 80), (20, 150))):
        partitioner.update_stream(i, bandwidth_mbps=bandwidth_mbps, latency_ms=latency_ms, success_rate=0.99)


def decide_only(partitioner: TaskPartitioner) -> Callable[[], Decision]:
    """A call that decides one task; its bytes stay in flight while the decision exists."""
    return partial(partitioner.partition_task, TASK if partitioner.engine == "heuristic" else FAMILIAR)


def report(partitioner: TaskPartitioner) -> Callable[[Decision], object]:
    """A call that reports a decision's outcome, so that the next one finds the streams idle, as they were."""
    return lambda decision: partitioner.report_outcome(decision, 300.0, 1.0, True, streams={})


def decide_and_report(partitioner: TaskPartitioner) -> Callable[[], object]:
    """A call that decides one task and reports its outcome."""
    decide, report_it = decide_only(partitioner), report(partitioner)
    return lambda: report_it(decide())


def bare_run(model: str | os.PathLike[str], states: int = 1) -> Callable[[], Any]:
    """A call of ``InferenceSession.run`` on this many states, and nothing else."""
    session = load_model(model).session
    feed = {"state": random_states(states)}
    return lambda: session.run(["q_values"], feed)


def random_states(n: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """States float32[n, 20], uniform in [0, 1), the same at each call."""
    return np.random.default_rng(0).random((n, STATE_DIM), dtype=np.float32)
