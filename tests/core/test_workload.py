"""What a partitioner remembers of the tasks it was asked to carry, and when it forgets."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import itp

pytestmark = pytest.mark.core

WEEK_S = 7 * 86400.0


def partitioner(clock=None, **options):
    return itp.TaskPartitioner(clock=clock or itp.ManualClock(), **options)


def seen(p, size_bytes=1000):
    return p.network.workload(size_bytes)


def test_every_decision_is_remembered_once():
    clock = itp.ManualClock()
    with partitioner(clock, n_streams=2) as p:
        assert seen(p)["tasks"] == 0
        assert seen(p)["known"] == 0.0
        assert seen(p)["rank"] == 0.5
        for k in range(1, 201):
            clock.set(2.0 * k)
            p.partition_task(itp.Task("t", 1000 * k))
        clock.set(402.0)
        found = seen(p, 150_000)
    # The latest 128 tasks are those of 73,000 to 200,000 bytes; one is as large as this one.
    sizes = 1000.0 * np.arange(73, 201)
    assert found["tasks"] == 200
    assert found["rank"] == pytest.approx((np.sum(sizes < 150_000) + 0.5) / 128)
    assert found["rank_bytes"] == pytest.approx(
        (sizes[sizes < 150_000].sum() + 75_000) / sizes.sum(), rel=1e-6
    )
    assert found["mean_bytes"] == pytest.approx((sizes.sum() + 150_000) / 129)
    assert found["gap_s"] == pytest.approx(2.0)
    assert found["burstiness"] == pytest.approx(0.0, abs=1e-9)
    assert found["offered_long_mbps"] == pytest.approx(found["mean_bytes"] / 2.0 / 125_000)
    assert found["known"] == pytest.approx(128 / 136)


def test_copies_count_as_one_task_and_outcomes_change_nothing():
    with partitioner() as p:
        d = p.partition_task(itp.Task("t", 10**6, redundancy=2))
        before = seen(p)
        p.report_outcome(d, throughput_mbps=10.0, latency_s=1.0, success=True)
        p.network.set_stream_up(0, False)
        assert seen(p) == before
        assert before["tasks"] == 1
        del d
        assert seen(p)["tasks"] == 1


def test_a_decision_that_fails_is_not_remembered():
    with partitioner() as p:
        p.partition_task(itp.Task("t", 10**6))
        before = seen(p)
        with pytest.raises(itp.NoStreamError):
            p.partition_task(itp.Task("t", 10**6, redundancy=5))
        assert seen(p) == before


def test_a_batch_that_is_taken_back_is_forgotten():
    clock = itp.ManualClock()
    with partitioner(clock) as p:
        for k in range(150):
            clock.set(float(k))
            p.partition_task(itp.Task("t", 1 + k))
        before = seen(p)
        with pytest.raises(itp.NoStreamError):
            p.partition_batch([itp.Task("a", 10**9), itp.Task("b", 10**9), itp.Task("c", 1, redundancy=5)])
        assert seen(p) == before


def test_tasks_stay_remembered_where_others_were_decided_since():
    with partitioner() as p:
        decider = p._decider
        mark = decider.mark()
        own = p.partition_task(itp.Task("own", 10**6))
        other = p.partition_task(itp.Task("other", 10**6))
        decider.retract([own], mark)
        assert seen(p)["tasks"] == 2
        assert p.network.queue_depth == 1
        assert other.reported is False


def test_a_week_without_tasks_leaves_the_workload_as_it_was():
    clock = itp.ManualClock()
    with partitioner(clock) as p:
        for k in range(100):
            clock.set(0.5 * k)
            p.partition_task(itp.Task("t", 10**6))
        clock.set(WEEK_S)
        p.partition_task(itp.Task("t", 10**6))
        # The gap counts as 32 of the mean ones.
        assert 0.5 < seen(p)["gap_s"] < 1.0
        assert seen(p, 10**6)["rank"] == 0.5


@settings(deadline=None, max_examples=200)
@given(
    tasks=st.lists(
        st.tuples(st.floats(0.0, 1e6), st.integers(1, 2**63 - 1), st.booleans()), min_size=1, max_size=30
    ),
    order=st.sampled_from(["fifo", "srpt"]),
)
def test_whatever_comes_the_figures_are_finite(tasks, order):
    clock = itp.ManualClock()
    with partitioner(clock, service_order=order) as p:
        for gap_s, size_bytes, keep in tasks:
            clock.set(clock.monotonic_s + gap_s)
            p.partition_task(itp.Task("t", size_bytes if keep else 1))
            for size in (1, 10**6, 2**63 - 1):
                found = seen(p, size)
                assert all(math.isfinite(value) and value >= 0.0 for value in found.values()), found
                assert found["rank"] <= 1.0
                assert found["rank_bytes"] <= 1.0 + 1e-6


def test_time_that_runs_backwards_counts_as_no_time():
    with partitioner() as p:
        for k in range(20):
            p.partition_task(itp.Task("t", 10**6))
            found = p.network.workload(10**6, now_s=0.0)
            assert all(math.isfinite(value) for value in found.values()), (k, found)
