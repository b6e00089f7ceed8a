"""A model of schema 1 decides in the workloads it was trained on; a rule does in others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import itp
from itp import ManualClock, Task, TaskPartitioner
from itp._core.choose import WorkloadSupport
from itp.errors import ModelError
from itp.models.metadata import workload


def decided(sizes_bytes: list[int], gap_s: float) -> TaskPartitioner:
    """The shipped model of schema 1 after tasks of these sizes, each reported before the next."""
    clock = ManualClock()
    p = TaskPartitioner("dqn_v1", clock=clock)
    for i, mbps in enumerate((100.0, 50.0, 30.0, 20.0)):
        p.update_stream(i, bandwidth_mbps=mbps, latency_ms=20.0)
    for k, size in enumerate(sizes_bytes):
        clock.set((k + 1) * gap_s)
        decision = p.partition_task(Task(str(k), size))
        p.report_outcome(decision, 10.0, 0.01, True, streams={})
    return p


def trained_sizes(count: int) -> list[int]:
    u = np.random.default_rng(1).random(count)
    return [int(s) for s in np.minimum(50e3 / (1.0 - u * 0.999), 50e6)]


def test_it_decides_in_workloads_like_those_of_training() -> None:
    # 25 MB/s in all; 345 kB a task on average: a load of a half.
    metrics = decided(trained_sizes(200), 0.028).metrics()
    assert metrics.unsupported_decisions < 20


@pytest.mark.parametrize(
    ("sizes", "gap_s"),
    [([5_000_000] * 50, 60.0), ([200_000_000] * 50, 16.0), ([4_000] * 50, 0.0005), (trained_sizes(50), 10.0)],
    ids=["a file now and then", "large objects", "small objects", "hardly any load"],
)
def test_a_rule_decides_in_others(sizes: list[int], gap_s: float) -> None:
    metrics = decided(sizes, gap_s).metrics()
    assert metrics.unsupported_decisions >= len(sizes) - 3


def test_an_idle_host_gets_the_rules_plan() -> None:
    p = decided([], 1.0)
    decision = p.partition_task(Task("big", 10**9))
    assert decision.expected_time_s < 1.25 * 10**9 / 25e6
    assert decision.source == "guard"


def test_the_simulator_decides_alike() -> None:
    sim = itp.Simulator("heterogeneous", n_envs=4, seed=3)
    values = np.random.default_rng(0).normal(size=(4, 15)).astype(np.float32)
    always = WorkloadSupport(log2_bytes=(0.0, 63.0), load=(0.0, 1e9), tasks=0)
    never = WorkloadSupport(log2_bytes=(0.0, 1.0), load=(0.0, 1e9), tasks=0)
    free = sim.decide(values)
    assert (sim.decide(values, support=always).masks == free.masks).all()
    rule = sim.decide(values, support=never)
    assert rule.sources is not None
    assert (rule.sources == itp.schema.SOURCES.index("guard")).all()


GOOD = {"log2_bytes": [16.0, 18.0], "load": [0.1, 2.0], "tasks": 3}


@pytest.mark.parametrize(
    "change",
    [
        {"log2_bytes": [18.0, 16.0]},
        {"log2_bytes": [16.0]},
        {"load": [float("nan"), 1.0]},
        {"load": "much"},
        {"tasks": -1},
        {"tasks": None},
        {"more": 1},
    ],
)
def test_metadata_that_are_wrong_are_refused(change: dict[str, object]) -> None:
    assert workload({"workload": GOOD}, "file") is not None
    assert workload({}, "file") is None
    with pytest.raises(ModelError, match="workload"):
        workload({"workload": {**GOOD, **change}}, "file")


def test_the_shipped_files_have_it() -> None:
    folder = Path(itp.__file__).parent / "models" / "shipped"
    for name in ("dqn_v1.json", "dqn_v1-srpt.json"):
        assert set(json.loads((folder / name).read_text())["workload"]) == set(GOOD)
