"""A whole decision beside a bare ``InferenceSession.run`` of the same network."""

from __future__ import annotations

import pytest

from itp import TaskPartitioner
from itp_overhead import bare_run, decide_and_report, decide_only, dense_chain, four_streams

pytestmark = pytest.mark.benchmark(group="decision", min_rounds=200)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return dense_chain(tmp_path_factory.mktemp("model") / "reference.onnx", metadata={"schema": 1})


def test_heuristic(benchmark):
    benchmark.extra_info["role"] = "itp"
    with TaskPartitioner(model=None) as p:
        four_streams(p)
        decision = benchmark(decide_only(p))
        assert sum(decision.chunk_sizes) == decision.task.size_bytes


def test_heuristic_and_outcome(benchmark):
    benchmark.extra_info["role"] = "itp"
    with TaskPartitioner(model=None) as p:
        four_streams(p)
        benchmark(decide_and_report(p))
        assert p.metrics().in_flight == 0


@pytest.mark.parametrize("engine", ["native", "onnxruntime"])
def test_engine(benchmark, model, engine):
    benchmark.extra_info["role"] = "itp"
    with TaskPartitioner(model=model, engine=engine) as p:
        four_streams(p)
        decision = benchmark(decide_only(p))
        assert decision.source == engine


def test_bare_session_run(benchmark, model):
    benchmark.extra_info["role"] = "peer"
    (q_values,) = benchmark(bare_run(model))
    assert q_values.shape == (1, 15)
