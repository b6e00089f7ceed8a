"""What ITP costs on this machine: the measurements behind ``itp bench`` and ``bench/``."""

from __future__ import annotations

import gc
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from itp._core import alloc
from itp._core.replay import PrioritizedReplayBuffer
from itp._core.state import NetworkState
from itp._core.task import Task
from itp.model import load_model
from itp.partitioner import TaskPartitioner

REFERENCE_LAYERS = (20, 128, 128, 64, 15)
REFERENCE_METADATA = {"schema": 1, "version": "reference"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Wall-clock times of single calls, in microseconds."""

    name: str
    calls: int
    p50_us: float
    p99_us: float
    p999_us: float
    worst_us: float


def time_calls(name: str, call: Callable[[], object], calls: int) -> Timing:
    """Time each of `calls` calls on its own, after a tenth as many to warm up."""
    clock = time.perf_counter_ns
    taken = np.empty(calls, dtype=np.int64)
    for _ in range(max(1, calls // 10)):
        call()
    collecting = gc.isenabled()
    gc.disable()
    try:
        for k in range(calls):
            start = clock()
            call()
            taken[k] = clock() - start
    finally:
        if collecting:
            gc.enable()
    p50, p99, p999 = np.percentile(taken, (50, 99, 99.9)) * 1e-3
    return Timing(
        name=name, calls=calls, p50_us=p50, p99_us=p99, p999_us=p999, worst_us=float(taken.max()) * 1e-3
    )


def dense_chain(
    path: str | os.PathLike[str],
    *,
    layers: tuple[int, ...] = REFERENCE_LAYERS,
    seed: int = 0,
    metadata: dict[str, Any] | None = None,
    input_name: str = "state",
    output_name: str = "q_values",
    bias: float = 0.0,
) -> Path:
    """Write an ONNX file of dense layers with ReLU between them and random weights (He et al., 2015).

    Parameters
    ----------
    metadata : dict, optional
        Kept inside the file as JSON, under the key "itp".
    bias : float
        Of every unit of the last layer.

    Raises
    ------
    ModuleNotFoundError
        The package ``onnx`` is not installed.
    """
    from onnx import TensorProto, helper, numpy_helper, save_model

    rng = np.random.default_rng(seed)
    nodes, weights = [], []
    value = input_name
    for k, (inputs, outputs) in enumerate(pairwise(layers)):
        last = k == len(layers) - 2
        w = (rng.standard_normal((outputs, inputs)) * np.sqrt(2 / inputs)).astype(np.float32)
        b = np.full(outputs, bias if last else 0.0, np.float32)
        weights += [numpy_helper.from_array(w, f"w{k}"), numpy_helper.from_array(b, f"b{k}")]
        result = output_name if last else f"h{k}"
        nodes.append(helper.make_node("Gemm", [value, f"w{k}", f"b{k}"], [result], transB=1))
        if not last:
            nodes.append(helper.make_node("Relu", [result], [f"r{k}"]))
            value = f"r{k}"
    graph = helper.make_graph(
        nodes,
        "dqn",
        [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, ["batch", layers[0]])],
        [helper.make_tensor_value_info(output_name, TensorProto.FLOAT, ["batch", layers[-1]])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if metadata is not None:
        helper.set_model_props(model, {"itp": json.dumps(metadata)})
    save_model(model, os.fspath(path))
    return Path(path)


def four_streams(partitioner: TaskPartitioner) -> None:
    """Unequal metrics for four streams."""
    for i, (bandwidth_mbps, latency_ms) in enumerate(((200, 10), (100, 40), (50, 80), (20, 150))):
        partitioner.update_stream(i, bandwidth_mbps=bandwidth_mbps, latency_ms=latency_ms, success_rate=0.99)


def decide_and_report(partitioner: TaskPartitioner) -> Callable[[], object]:
    """A call that decides one task and reports its outcome."""
    task = Task("bench", 100 * 2**20, 0.8)

    def call() -> None:
        decision = partitioner.partition_task(task)
        partitioner.report_outcome(decision, 300.0, 1.0, True)

    return call


def decide_only(partitioner: TaskPartitioner) -> Callable[[], object]:
    """A call that decides one task; the decision is dropped at once."""
    task = Task("bench", 100 * 2**20, 0.8)
    return lambda: partitioner.partition_task(task)


def bare_run(model: str | os.PathLike[str]) -> Callable[[], object]:
    """The peer: one ``InferenceSession.run`` of one state, and nothing else."""
    session = load_model(model).session
    feed = {"state": np.random.default_rng(0).random((1, 20), dtype=np.float32)}
    return lambda: session.run(["q_values"], feed)


def transitions(n: int, seed: int = 0) -> dict[str, Any]:
    """Random transitions for a replay buffer, as ``add_batch`` takes them."""
    rng = np.random.default_rng(seed)
    return {
        "state": rng.random((n, 20), dtype=np.float32),
        "action": rng.integers(0, 15, n),
        "reward": rng.standard_normal(n).astype(np.float32),
        "next_state": rng.random((n, 20), dtype=np.float32),
        "done": np.zeros(n, dtype=np.bool_),
    }


@contextmanager
def reference_model(model: str | os.PathLike[str] | None) -> Iterator[Path | None]:
    """The given model, or a 20-128-128-64-15 network made for the occasion; None without onnx."""
    if model is not None:
        yield load_model(model).path
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            made = dense_chain(Path(folder) / "reference.onnx", metadata=REFERENCE_METADATA)
        except ModuleNotFoundError:
            made = None
        yield made


def measure(
    model: str | os.PathLike[str] | None = None,
    *,
    calls: int = 20_000,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Timing]:
    """Time the calls a data-plane process makes, one after the other in this process.

    Parameters
    ----------
    model : path, optional
        Measured in place of a random 20-128-128-64-15 network.
    calls : int
        Of each kind; the buffer's take a tenth.
    progress : callable
        Told the name of each measurement as it starts.
    """
    timings: list[Timing] = []

    def add(name: str, call: Callable[[], object], n: int = calls) -> None:
        progress(name)
        timings.append(time_calls(name, call, n))

    with TaskPartitioner(model=None) as heuristic:
        four_streams(heuristic)
        add("decision, heuristic", decide_only(heuristic))
        add("decision and outcome, heuristic", decide_and_report(heuristic))
    with reference_model(model) as path:
        if path is not None:
            with TaskPartitioner(model=path) as learned:
                four_streams(learned)
                add("decision, onnxruntime", decide_only(learned))
            add("bare InferenceSession.run", bare_run(path))
    state = NetworkState(4)
    add("update_stream", lambda: state.update_stream(1, 100.0, 20.0, None, 0.99))
    add("state vector", lambda: state.vector(100 * 2**20, 0.8))
    rates, delays = [25e6, 12.5e6, 6.25e6, 2.5e6], [0.01, 0.04, 0.08, 0.15]
    add("water-filling over 4 streams", lambda: alloc.water_filling(100 * 2**20, rates, delays))
    n_stored = 100_000
    progress("replay buffer")
    buffer = PrioritizedReplayBuffer(n_stored, state_dim=20)
    rows = transitions(n_stored)
    buffer.add_batch(**rows)
    one = {name: column[0] for name, column in rows.items()}
    add("replay add", lambda: buffer.add(**one))

    def cycle() -> None:
        batch = buffer.sample(256)
        buffer.update_priorities(batch["indexes"], batch["weights"])

    add("replay sample(256) + update(256)", cycle, max(1, calls // 10))
    return timings
