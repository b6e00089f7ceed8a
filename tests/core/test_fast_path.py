"""The whole decision: the same by every engine, consistent among threads, without growth, across forks."""

from __future__ import annotations

import gc
import itertools
import math
import os
import sys
import threading
import time
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import itp
from itp import actions
from itp._core.decide import time_edges_s
from itp._core.decider import Decider, FastPath, Served, Slot
from itp.models import serving
from itp.models.load import load_model
from itp.models.onnxruntime import bound_slot
from itp_overhead import dense_chain, four_streams

pytestmark = pytest.mark.core


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return dense_chain(
        tmp_path_factory.mktemp("m") / "other.onnx", metadata={"schema": 1, "version": "other"}
    )


# --- engines ---

streams = st.lists(
    st.tuples(st.floats(0.1, 1e5), st.floats(0.1, 1e4), st.floats(0.0, 1.0), st.booleans()),
    min_size=4,
    max_size=4,
)


@pytest.mark.parametrize("engine", ["native", "onnxruntime"])
@settings(deadline=None, max_examples=60)
@given(
    streams=streams.filter(lambda s: any(up for *_, up in s)),
    sizes=st.lists(st.integers(1, 2**40), min_size=1, max_size=6),
    order=st.sampled_from(["fifo", "srpt"]),
)
def test_a_decision_is_what_onnxruntime_makes_of_its_state(engine, streams, sizes, order):
    session = load_model("dqn_v1", order).session
    with itp.TaskPartitioner("dqn_v1", engine=engine, service_order=order) as p:
        assert p.engine == engine
        for i, (bandwidth_mbps, latency_ms, success_rate, up) in enumerate(streams):
            p.update_stream(i, bandwidth_mbps, latency_ms, success_rate=success_rate)
            p.set_stream_up(i, up)
        for size in sizes:
            d = p.partition_task(itp.Task("t", size))
            expected = session.run(["q_values"], {"state": d.state[None]})[0][0]
            close = 1e-5 * max(float(np.abs(expected).max()), 0.3)
            assert d.q_value == pytest.approx(expected[d.action], abs=close)
            if d.source == "guard":
                continue
            assert d.source == engine
            meets = [meets for _, _, _, meets, _ in d.estimates()]
            for streams_of, _, _, meet, q_value in d.estimates():
                assert q_value == pytest.approx(expected[actions.action_of(streams_of)], abs=close)
                assert q_value <= d.q_value or (any(meets) and not meet)


def test_q_values_of_batches_agree_with_those_of_one(other):
    states = np.random.default_rng(0).random((100, 20), dtype=np.float32)
    expected = load_model(other).session.run(["q_values"], {"state": states})[0]
    for engine in ("auto", "native", "onnxruntime"):
        with itp.TaskPartitioner(other, engine=engine) as p:
            for n in (0, 1, 5, 100):
                found = p.q_values(states[:n])
                assert found.shape == (n, 15)
                np.testing.assert_allclose(found, expected[:n], rtol=1e-4, atol=1e-5)
            with pytest.raises(ValueError, match="shape"):
                p.q_values(states[0])
    with itp.TaskPartitioner() as p, pytest.raises(ValueError, match="without a model"):
        p.q_values(states)


def test_a_state_holds_what_the_decision_was_made_of(other):
    with itp.TaskPartitioner(other) as p:
        four_streams(p)
        d = p.partition_task(itp.Task("t", 10**7))
        assert d.q_value == pytest.approx(p.q_values(d.state[None])[0, d.action])
        assert d.chunk_sizes == d.chunk_sizes
        assert sum(d.chunk_sizes) == 10**7


def test_engines_that_do_not_exist_or_need_a_model():
    with pytest.raises(ValueError, match="engine must be one of"):
        itp.TaskPartitioner("dqn_v1", engine="quantum")
    for engine in ("native", "onnxruntime"):
        with pytest.raises(ValueError, match="needs a model"):
            itp.TaskPartitioner(engine=engine)


# --- what stands behind it ---


def test_a_served_model_is_whole():
    model = load_model("dqn_v1")
    state, q_values = np.zeros(20, np.float32), np.zeros(15, np.float32)
    for wrong in ({}, {"net": model.net, "make_slot": lambda: None}):
        with pytest.raises(ValueError, match="either"):
            Served("v", **wrong)
    with pytest.raises(ValueError, match="float32"):
        Slot(state[:5], q_values, print)
    with pytest.raises(TypeError, match="pickled"):
        Served("v", net=model.net).__reduce__()
    with pytest.raises(ValueError, match="4 streams, not of 7"):
        Decider(itp.NetworkState(7)).serve(Served("v", net=model.net))
    closed = FastPath()
    for call in (
        lambda: closed.partition_task(itp.Task("t", 1)),
        lambda: closed.update_stream(0),
        lambda: closed.set_stream_up(0, True),
        lambda: closed.report_progress(0, 1),
        lambda: closed._decider,
    ):
        with pytest.raises(itp.ClosedError):
            call()


@pytest.mark.parametrize("engine", ["native", "onnxruntime"])
def test_a_replaced_model_is_freed(engine, other, monkeypatch):
    sessions = []

    def load_and_watch(*args, **kwargs):
        model = load_model(*args, **kwargs)
        sessions.append(weakref.ref(model.session))
        return model

    monkeypatch.setattr("itp.models.load.load_model", load_and_watch)
    with itp.TaskPartitioner(other, engine=engine) as p:
        four_streams(p)
        d = p.partition_task(itp.Task("t", 10**6))
        gc.collect()
        # The compiled forward pass needs no session.
        assert (sessions[0]() is None) == (engine == "native")
        p.swap_model("dqn_v1")
        gc.collect()
        assert sessions[0]() is None  # a decision keeps the version's name alone
        assert d.model_version == "other"


def test_runs_in_several_threads_have_buffers_of_their_own(monkeypatch, other):
    made, inside, most = [], itertools.count(), []
    gate = threading.Barrier(4, timeout=30)

    def slow_slot(session):
        slot = bound_slot(session)
        made.append(slot)
        state, q_values = np.zeros(20, np.float32), np.zeros(15, np.float32)

        def run():
            before = state.copy()
            gate.wait()
            np.testing.assert_array_equal(state, before)  # nobody else wrote to it
            q_values[:] = session.run(["q_values"], {"state": state[None]})[0][0]
            most.append(next(inside))

        return Slot(state, q_values, run)

    monkeypatch.setattr(serving, "bound_slot", slow_slot)
    with itp.TaskPartitioner(other, engine="onnxruntime") as p:
        four_streams(p)
        found = []
        threads = [
            threading.Thread(target=lambda k=k: found.append(p.partition_task(itp.Task(str(k), 10**k))))
            for k in range(4, 8)
        ]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert len(made) == 4
        assert {d.source for d in found} == {"onnxruntime"}
        for d in found:
            assert d.q_value == pytest.approx(p.q_values(d.state[None])[0, d.action], rel=1e-5)


# --- time and memory ---


@pytest.mark.parametrize("engine", ["native", "onnxruntime", "heuristic"])
def test_nothing_grows(engine):
    with itp.TaskPartitioner("dqn_v1", engine=engine) as p:
        four_streams(p)
        task = itp.Task("t", 10**7)

        def some(n):
            for _ in range(n):
                p.partition_task(task)
                p.report_outcome(p.partition_task(task), 100.0, 1.0, True)

        some(200)
        gc.collect()
        before = sys.getallocatedblocks()
        some(20_000)
        gc.collect()
        assert sys.getallocatedblocks() - before < 50


def test_decision_times_are_counted():
    edges = time_edges_s()
    assert list(edges) == sorted(set(edges))
    assert edges[0] == pytest.approx(128e-9)
    assert edges[-1] == math.inf
    assert all(b / a <= 1.25 + 1e-9 for a, b in itertools.pairwise(edges[:-1]))
    with itp.TaskPartitioner("dqn_v1") as p:
        assert p.metrics().decision_seconds_buckets[-1] == (math.inf, 0)
        for _ in range(100):
            p.partition_task(itp.Task("t", 10**6))
        m = p.metrics()
        counts = [count for _, count in m.decision_seconds_buckets]
        assert counts == sorted(counts)
        assert counts[-1] == 100
        assert 0 < m.decision_seconds_sum < 10
        # The mean lies within what the bins allow.
        in_bins = np.diff([0, *counts])
        assert m.decision_seconds_sum <= (in_bins * np.array([*edges[:-1], 1e9])).sum()


# --- threads, forks, the end ---

STRESS_S = float(os.environ.get("ITP_STRESS_S", "2"))
N_METRICS = 1009


def coded(k):
    """Metrics of which each tells the others: what a state shows must belong to one update."""
    return 10.0 + k, 5.0 + (k * 31 % N_METRICS) / 10.0, (k * 17 % N_METRICS) / N_METRICS


@pytest.mark.parametrize("engine", ["native", "onnxruntime"])
def test_eight_threads_decide_update_report_and_swap(engine, other):
    expected = {}
    probe = itp.NetworkState()
    for k in range(N_METRICS):
        bandwidth_mbps, latency_ms, success_rate = coded(k)
        probe.update_stream(0, bandwidth_mbps, latency_ms, 0.5, success_rate)
        vector = probe.vector(10**6)
        expected[vector[0].item(), vector[4].item(), vector[12].item()] = k
    assert len(expected) == N_METRICS
    errors, decided, reported = [], [], []
    stop = threading.Event()
    with itp.TaskPartitioner("dqn_v1", engine=engine) as p:
        for i in range(4):
            p.update_stream(i, *coded(i)[:2], 0.5, coded(i)[2])
        waiting, lock = [], threading.Lock()

        def loop(body):
            def run():
                try:
                    for k in itertools.count():
                        if stop.is_set():
                            return
                        body(k)
                except BaseException as error:  # handed to the main thread
                    errors.append(error)

            return run

        def decide(k):
            d = p.partition_task(itp.Task(str(k), 10**6 + k))
            state = d.state
            for i in range(4):
                seen = state[i].item(), state[4 + i].item(), state[12 + i].item()
                assert seen in expected, f"a torn state: {seen}"
            assert sum(d.chunk_sizes) == 10**6 + k
            assert d.model_version in ("other", version)
            decided.append(1)
            with lock:
                waiting.append(d)

        def report(_):
            with lock:
                d = waiting.pop() if waiting else None
            if d is not None:
                # Of its streams nothing is known: what threads measured stays as it was measured.
                p.report_outcome(d, 1.0, 1.0, True, streams={})
                reported.append(1)

        def update(k):
            bandwidth_mbps, latency_ms, success_rate = coded(k * 7 % N_METRICS)
            p.update_stream(k % 4, bandwidth_mbps, latency_ms, 0.5, success_rate)
            p.report_progress(k % 4, k % 1000)

        version = p.metrics().model_version
        swaps = []

        def swap(k):
            p.swap_model(other if k % 2 else "dqn_v1")
            swaps.append(k)

        bodies = [decide, decide, decide, report, report, update, update, swap]
        threads = [threading.Thread(target=loop(body)) for body in bodies]
        for t in threads:
            t.start()
        stop.wait(STRESS_S)
        until_s = time.monotonic() + 60
        while not (errors or (decided and reported and len(swaps) > 1)) and time.monotonic() < until_s:
            time.sleep(0.01)
        stop.set()
        for t in threads:
            t.join()
        assert not errors
        for d in waiting:
            p.report_outcome(d, 1.0, 1.0, True)
        m = p.metrics()
        assert m.total_decisions == m.total_outcomes == len(decided)
        assert m.in_flight == 0
        assert p.network.work_ahead_bytes(1).tolist() == [0.0] * 4


def test_a_partitioner_closed_under_threads_that_decide():
    p = itp.TaskPartitioner("dqn_v1")
    ended, lives = [], threading.Barrier(9, timeout=30)

    def decide():
        p.partition_task(itp.Task("t", 10**6))
        lives.wait()
        while True:
            try:
                p.partition_task(itp.Task("t", 10**6))
            except itp.ClosedError:
                ended.append(1)
                return

    threads = [threading.Thread(target=decide) for _ in range(8)]
    for t in threads:
        t.start()
    lives.wait()
    p.close()
    for t in threads:
        t.join(30)
    assert len(ended) == 8


@pytest.mark.parametrize("engine", ["native", "onnxruntime", "heuristic"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_decides_on(engine):
    with itp.TaskPartitioner("dqn_v1", engine=engine) as p:
        four_streams(p)
        before = p.partition_task(itp.Task("t", 10**7))
        child = os.fork()
        if child == 0:
            try:
                mine = [p.partition_task(itp.Task("t", 10**7)) for _ in range(10)]
                p.report_outcome(before, 1.0, 1.0, True)
                ok = p.metrics().total_decisions == 11 and {d.source for d in mine} <= {
                    before.source,
                    "guard",
                }
                os._exit(0 if ok else 1)
            except BaseException:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert p.metrics().total_outcomes == 0
        p.report_outcome(before, 1.0, 1.0, True)
