"""What a model's metadata adds to its decisions: the guard, calibrated time and confidence, variants."""

from __future__ import annotations

import contextlib
import copy
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import itp
from itp._core.calibration import Calibration
from itp._core.choose import Guard
from itp.errors import ModelError
from itp.experience.reader import read_log
from itp.experience.record import SOURCES
from itp.models import metadata
from itp.models.load import find_model, load_model
from itp_overhead import dense_chain
from onnx_models import forward

pytestmark = pytest.mark.core

TABLES = {
    "time_edges_log2_s": [-3.0, 0.0, 2.0],
    "waiting_edges": [0.25, 0.75],
    "time_ratio": [[0.5 + 0.01 * k, 1.0 + 0.1 * k, 3.0 + k] for k in range(12)],
    "confidence": [k / 12 for k in range(12)],
    "tolerance": 1.25,
}


def model_with(path, **more):
    return dense_chain(path, metadata={"schema": 1, "version": "v1", **more})


# --- the guard ---


def planned(decision):
    """Planned seconds of every action, by its streams."""
    return {streams: time for streams, time, _, _, _ in decision.estimates()}


@pytest.mark.parametrize("rule", ["single_best", "least_completion_time"])
@pytest.mark.parametrize("threshold", [1.0, 1.3, 2.0, 8.0])
def test_the_guard_takes_over_beyond_its_threshold(tmp_path, rule, threshold):
    path = model_with(tmp_path / "m.onnx", guard={"rule": rule, "threshold": threshold})
    rng = np.random.default_rng(3)
    sources = []
    with itp.TaskPartitioner(model=path, min_chunk_bytes=1) as p:
        for k in range(200):
            for stream in range(4):
                p.update_stream(
                    stream, bandwidth_mbps=float(rng.uniform(1, 100)), latency_ms=float(rng.uniform(1, 100))
                )
            d = p.partition_task(itp.Task(str(k), int(rng.integers(10**4, 10**7))))
            q_values = forward(path, d.state[None])[0]
            wanted = itp.actions.ACTIONS[int(q_values.argmax())]
            times = planned(d)
            allowed = {s: t for s, t in times.items() if rule != "single_best" or len(s) == 1}
            best_s = min(allowed.values())
            over = times[wanted] > threshold * best_s
            if not math.isclose(times[wanted], threshold * best_s, rel_tol=1e-9):
                assert (d.source == "guard") == over
            taken = itp.actions.ACTIONS[d.action]
            assert times[taken] == pytest.approx(best_s) if d.source == "guard" else taken == wanted
            assert d.q_value == pytest.approx(q_values[d.action], rel=1e-4, abs=1e-5)
            sources.append(d.source)
        assert p.metrics().guarded_decisions == sources.count("guard")
        assert p.metrics().model_decisions == 200
    if threshold <= 2.0:
        assert 0 < sources.count("guard") < 200


def test_explain_names_the_guard_and_retract_takes_it_back(tmp_path):
    path = model_with(tmp_path / "m.onnx", guard={"rule": "single_best", "threshold": 1.0})
    with itp.TaskPartitioner(model=path) as p:
        guarded = None
        for k in range(50):
            for stream in range(4):
                p.update_stream(stream, bandwidth_mbps=1.0 + (k * 7 + stream * 13) % 50)
            d = p.partition_task(itp.Task(str(k), 10**6))
            guarded = d if d.source == "guard" else guarded
        assert guarded is not None
        why = p.explain(guarded)
        assert why.note == "the guard closed the model's own choice, which was planned to take too long"
        assert why.note in str(why)
        assert (why.runner_up, why.reasons, why.workload) == (None, (), None)
        reasons = [a.why_not for a in why.actions]
        assert any(reason is not None and "guard" in reason for reason in reasons)
        before = p.metrics().guarded_decisions
        with pytest.raises(itp.NoStreamError):
            p.partition_batch([itp.Task("a", 10**6), itp.Task("b", 10**6, redundancy=9)])
        assert p.metrics().guarded_decisions == before


def test_a_down_stream_and_copies_are_no_way_around_the_guard(tmp_path):
    path = model_with(tmp_path / "m.onnx", guard={"rule": "single_best", "threshold": 1.0})
    with itp.TaskPartitioner(model=path) as p:
        p.set_stream_up(0, False)
        for k in range(50):
            assert 0 not in p.partition_task(itp.Task(str(k), 10**6)).stream_ids
            assert len(p.partition_task(itp.Task(str(k), 10**6, redundancy=2)).stream_ids) == 2


def test_guarded_decisions_are_logged_as_such(tmp_path):
    path = model_with(tmp_path / "m.onnx", guard={"rule": "single_best", "threshold": 1.0})
    with itp.TaskPartitioner(model=path, experience_log=tmp_path / "log") as p:
        sources = []
        for k in range(40):
            for stream in range(4):
                p.update_stream(stream, bandwidth_mbps=1.0 + (k * 7 + stream * 13) % 50)
            d = p.partition_task(itp.Task(str(k), 10**6))
            p.report_outcome(d, 1.0, 1.0, success=True)
            sources.append(d.source)
    records = read_log(tmp_path / "log")
    assert [SOURCES[k] for k in records["source"]] == sources
    assert set(sources) == {"guard", "native"}


def test_copies_are_guarded_by_the_least_completion_time(tmp_path):
    path = model_with(tmp_path / "m.onnx", guard={"rule": "single_best", "threshold": 1.0})
    with itp.TaskPartitioner(model=path) as p:
        for stream, mbps in enumerate((400.0, 200.0, 2.0, 1.0)):
            p.update_stream(stream, bandwidth_mbps=mbps)
        for k in range(20):
            d = p.partition_task(itp.Task(str(k), 10**5, redundancy=2))
            times = [time for _, time, _, meets, _ in d.estimates() if meets]
            assert planned(d)[d.stream_ids] == pytest.approx(min(times))


# --- calibrated time and confidence ---


@given(planned_s=st.floats(1e-9, 1e9), waiting=st.floats(0.0, 1.0))
def test_the_tables_row(planned_s, waiting):
    table = Calibration(**{k: v for k, v in TABLES.items() if k != "tolerance"})
    time = int(np.searchsorted(TABLES["time_edges_log2_s"], np.log2(planned_s), side="right"))
    row = time * 3 + int(np.searchsorted(TABLES["waiting_edges"], waiting, side="right"))
    ratios = [planned_s * ratio for ratio in TABLES["time_ratio"][row]]
    assert table.look_up(planned_s, waiting) == pytest.approx((*ratios, TABLES["confidence"][row]))


def test_decisions_carry_the_tables_figures(tmp_path):
    path = model_with(tmp_path / "m.onnx", calibration=TABLES)
    table = load_model(path).calibration
    with itp.TaskPartitioner(model=path, min_chunk_bytes=1) as p:
        for k in range(60):
            d = p.partition_task(itp.Task(str(k), 10**5 * (k + 1)))
            planned_s = planned(d)[d.stream_ids]
            waiting = min(d.paths()[i]["work_ahead_s"] for i in d.stream_ids) / planned_s
            low, middle, high, confidence = table.look_up(planned_s, waiting)
            assert d.expected_time_s == pytest.approx(middle)
            assert d.expected_time_interval_s == pytest.approx((low, high))
            assert d.confidence == pytest.approx(confidence)


def test_outcomes_go_on_correcting_the_confidence(tmp_path):
    certain = {**TABLES, "confidence": [0.95] * 12}
    path = model_with(tmp_path / "m.onnx", calibration=certain)
    with itp.TaskPartitioner(model=path) as p:
        for k in range(90):
            d = p.partition_task(itp.Task(str(k), 10**6))
            p.report_outcome(d, 1.0, 1e3 * d.expected_time_s, success=True)
        assert d.confidence == pytest.approx((0.95 * 10 + 0) / (89 + 10), rel=1e-6)


def test_without_tables_there_is_no_interval(tmp_path):
    with itp.TaskPartitioner(model=model_with(tmp_path / "m.onnx")) as p:
        assert p.partition_task(itp.Task("t", 10**6)).expected_time_interval_s is None
    with itp.TaskPartitioner() as p:
        assert p.partition_task(itp.Task("t", 10**6)).as_dict()["expected_time_interval_s"] is None


# --- metadata from outside ---


def changed(**changes):
    return {**copy.deepcopy(TABLES), **changes}


@pytest.mark.parametrize(
    "wrong",
    [
        {"guard": {"rule": "single_best"}},
        {"guard": {"rule": "fastest", "threshold": 2.0}},
        {"guard": {"rule": ["single_best"], "threshold": 2.0}},
        {"guard": {"rule": "single_best", "threshold": 0.5}},
        {"guard": {"rule": "single_best", "threshold": "2"}},
        {"guard": {"rule": "single_best", "threshold": True}},
        {"guard": {"rule": "single_best", "threshold": float("nan")}},
        {"guard": []},
        {"service_order": "lifo"},
        {"service_order": ["fifo"]},
        {"calibration": 3},
        {"calibration": changed(tolerance=2.0)},
        {"calibration": changed(time_edges_log2_s=[0.0, 0.0, 1.0])},
        {"calibration": changed(time_edges_log2_s=[2.0, 1.0, 0.0])},
        {"calibration": changed(time_edges_log2_s=[0.0, 1.0, float("nan")])},
        {"calibration": changed(time_edges_log2_s=list(range(33)))},
        {"calibration": changed(waiting_edges=[0.5, 1.5])},
        {"calibration": changed(waiting_edges=[0.5])},
        {"calibration": changed(confidence=[2.0] * 12)},
        {"calibration": changed(confidence=[0.5] * 11)},
        {"calibration": changed(confidence="x" * 12)},
        {"calibration": changed(time_ratio=[[1.0, 0.5, 2.0]] * 12)},
        {"calibration": changed(time_ratio=[[0.5, 1.0]] * 12)},
        {"calibration": changed(time_ratio=[[0.5, 1.0, float("inf")]] * 12)},
        {"calibration": changed(time_ratio=[[0.0, 1.0, 2.0]] * 12)},
        {"calibration": {k: v for k, v in TABLES.items() if k != "confidence"}},
    ],
    ids=str,
)
def test_bad_metadata_is_refused(tmp_path, wrong):
    path = model_with(tmp_path / "m.onnx")
    path.with_suffix(".json").write_text(json.dumps(wrong))
    with pytest.raises(ModelError, match=r"m\.onnx: (guard|calibration|service_order)"):
        load_model(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(list(TABLES)), inner, max_size=6)
    ),
    max_leaves=12,
)


@given(value=JSON)
def test_any_metadata_is_read_or_refused(value):
    for read in (metadata.guard, metadata.calibration, metadata.service_order):
        told = {"guard": value, "calibration": value, "service_order": value}
        with contextlib.suppress(ModelError):
            read(told, "m.onnx")


def test_good_metadata_is_read(tmp_path):
    more = {"service_order": "fifo", "guard": {"rule": "least_completion_time", "threshold": 3}}
    model = load_model(model_with(tmp_path / "m.onnx", calibration=TABLES, **more))
    assert model.service_order == "fifo"
    assert isinstance(model.guard, Guard)
    assert (model.guard.rule, model.guard.threshold) == ("least_completion_time", 3.0)


# --- variants ---


def test_the_variant_for_srpt_is_taken(tmp_path, caplog):
    base = model_with(tmp_path / "m.onnx", service_order="fifo")
    variant = dense_chain(
        tmp_path / "m-srpt.onnx", metadata={"schema": 1, "version": "v2", "service_order": "srpt"}
    )
    assert find_model(base) == base
    assert find_model(base, "srpt") == variant
    for order, version in (("fifo", "v1"), ("srpt", "v2")):
        with itp.TaskPartitioner(model=base, service_order=order) as p:
            assert p.partition_task(itp.Task("t", 10**6)).model_version == version
            p.swap_model(base)
            assert p.metrics().model_version == version
    assert not caplog.records


def test_a_model_for_another_order_is_served_with_a_warning(tmp_path, caplog):
    base = model_with(tmp_path / "m.onnx", service_order="fifo")
    with itp.TaskPartitioner(model=base, service_order="srpt") as p:
        assert p.partition_task(itp.Task("t", 10**6)).model_version == "v1"
    assert "trained for fifo" in caplog.text
