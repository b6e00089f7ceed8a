"""TaskPartitioner: decisions, masks, exploration, outcomes, misuse; no model."""

from __future__ import annotations

import copy
import gc
import math
import random
import threading
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import itp
import reference
from itp import actions
from itp._core.decider import Decider
from itp._core.heuristic import POLICIES

pytestmark = pytest.mark.core

MBIT = 125_000.0
HEURISTICS = ["auto", *POLICIES]


def make(paths=((200, 10), (100, 40), (50, 80), (20, 150)), *, heuristic="least_completion_time", **options):
    p = itp.TaskPartitioner(model=None, n_streams=len(paths), heuristic=heuristic, **options)
    for i, (bandwidth, latency) in enumerate(paths):
        p.update_stream(i, bandwidth_mbps=bandwidth, latency_ms=latency, success_rate=1.0)
    return p


METRIC = st.one_of(st.floats(0, 1e6), st.sampled_from([0.0, 100.0, 1e-300, 1.7e308]))


@given(
    metrics=st.lists(st.tuples(METRIC, METRIC, st.floats(0, 1)), min_size=1, max_size=16),
    size=st.one_of(st.integers(1, 2**63 - 1), st.integers(1, 10**6)),
    heuristic=st.sampled_from(HEURISTICS),
    epsilon=st.sampled_from([0.0, 1.0]),
    order=st.sampled_from(["fifo", "srpt"]),
    priority=st.floats(0, 1),
    data=st.data(),
)
@settings(max_examples=500)
def test_any_metrics_any_size_any_rule(metrics, size, heuristic, epsilon, order, priority, data):
    n = len(metrics)
    up = data.draw(st.lists(st.booleans(), min_size=n, max_size=n).filter(any))
    p = itp.TaskPartitioner(
        n_streams=n, heuristic=heuristic, epsilon=epsilon, seed=1, service_order=order, min_chunk_bytes=1
    )
    for i, (bandwidth, latency, success) in enumerate(metrics):
        p.update_stream(i, bandwidth, latency, None, success)
        p.set_stream_up(i, up[i])
    decisions = []
    for _ in range(3):
        d = p.partition_task(itp.Task("t", size, priority))
        decisions.append(d)
        assert len(d.stream_ids) == len(d.chunk_sizes) >= 1
        assert sum(d.chunk_sizes) == size
        assert min(d.chunk_sizes) >= 1
        assert list(d.stream_ids) == sorted(set(d.stream_ids))
        assert all(up[i] for i in d.stream_ids)
        assert set(d.stream_ids) <= set(actions.stream_sets(n)[d.action] if n <= 6 else range(n))
        assert 0 <= d.confidence <= 1
        assert 0 < d.propensity <= 1
        assert d.expected_time_s >= 0
        assert np.isfinite(d.state).all()


@given(
    paths=st.lists(st.tuples(st.floats(1.0, 1000.0), st.floats(0.1, 500.0)), min_size=1, max_size=6),
    size=st.integers(1, 10**10),
)
@settings(max_examples=200)
def test_least_completion_time_is_the_least_over_all_subsets(paths, size):
    minimum = 65536
    p = make(paths, min_chunk_bytes=minimum)
    d = p.partition_task(itp.Task("t", size))
    rates = [b * MBIT for b, _ in paths]
    delays = [latency * 1e-3 for _, latency in paths]
    best, _ = reference.best_completion(size, rates, delays, minimum)
    # Rounding to whole bytes costs at most a byte's time on the slowest stream.
    assert d.expected_time_s == pytest.approx(best, rel=1e-6, abs=2 / min(rates))


def test_beyond_six_streams_prefixes_by_finish_time():
    rng = random.Random(3)
    for _ in range(50):
        n = rng.randint(7, 16)
        paths = [(rng.uniform(1, 1000), rng.uniform(1, 500)) for _ in range(n)]
        size = rng.randint(10**5, 10**9)
        d = make(paths, min_chunk_bytes=1).partition_task(itp.Task("t", size))
        finish = [latency * 1e-3 + size / (b * MBIT) for b, latency in paths]
        order = sorted(range(n), key=lambda i: finish[i])
        best = min(
            float(
                reference.water_level(
                    size, [paths[i][0] * MBIT for i in order[:k]], [paths[i][1] * 1e-3 for i in order[:k]]
                )
            )
            for k in range(1, n + 1)
        )
        assert d.expected_time_s == pytest.approx(best, rel=1e-6)


def test_the_ledger_is_seen_by_the_next_decision():
    p = make(((80, 10), (80, 10)))
    first = p.partition_task(itp.Task("a", 20_000_000))
    assert first.stream_ids == (0, 1)
    second = p.partition_task(itp.Task("b", 20_000_000))
    assert second.expected_time_s == pytest.approx(1.01 + 1.0, rel=0.05)
    assert p.metrics().in_flight == 2
    p.report_outcome(second, throughput_mbps=100.0, latency_s=2.0, success=True)
    p.report_outcome(first, throughput_mbps=100.0, latency_s=1.0, success=True)
    assert p.metrics().in_flight == 0
    third = p.partition_task(itp.Task("c", 20_000_000))
    assert third.expected_time_s == pytest.approx(1.01, rel=0.01)


def test_rules():
    paths = ((200, 10), (100, 40), (50, 80), (20, 150))
    task = itp.Task("t", 10_000_000)
    assert make(paths, heuristic="single_best").partition_task(task).stream_ids == (0,)
    assert make(paths, heuristic="score").partition_task(task).stream_ids == (0,)
    equal = make(paths, heuristic="equal_split").partition_task(task)
    assert equal.chunk_sizes == (2_500_000,) * 4
    proportional = make(paths, heuristic="proportional").partition_task(itp.Task("t", 37_000_000))
    assert proportional.chunk_sizes == (20_000_000, 10_000_000, 5_000_000, 2_000_000)
    robin = make(paths, heuristic="round_robin")
    assert [robin.partition_task(task).stream_ids[0] for _ in range(6)] == [0, 1, 2, 3, 0, 1]
    robin.set_stream_up(2, False)
    assert [robin.partition_task(task).stream_ids[0] for _ in range(4)] == [3, 0, 1, 3]


@pytest.mark.parametrize("order", ["fifo", "srpt"])
def test_a_rule_is_named_as_it_was_asked_for(order):
    assert itp.TaskPartitioner(service_order=order).heuristic == "auto"
    assert make(heuristic=None, service_order=order).heuristic == "auto"
    for name in HEURISTICS:
        assert make(heuristic=name, service_order=order).heuristic == name


@pytest.mark.parametrize(
    ("name", "hint"),
    [("pul", "did you mean 'pull'"), ("size_intervals", "size_interval"), (7, r"named 7\. There are")],
)
def test_an_unknown_rule_is_refused_with_the_names_of_all(name, hint):
    with pytest.raises(ValueError, match=hint) as refused:
        make(heuristic=name)
    for known in HEURISTICS:
        assert known in str(refused.value)


def test_rules_of_the_streams_alone():
    paths = ((200, 30), (100, 10), (50, 80), (20, 150))
    task = itp.Task("t", 37_000_000)
    assert make(paths, heuristic="min_rtt").partition_task(task).stream_ids == (1,)
    pull = make(paths, heuristic="pull")
    pull.set_stream_up(2, False)
    decision = pull.partition_task(task)
    assert decision.stream_ids == (0, 1, 3)
    assert decision.expected_time_s == pytest.approx(
        reference.water_level(37e6, [200 * MBIT, 100 * MBIT, 20 * MBIT], [0.03, 0.01, 0.15]), rel=1e-6
    )
    proportional = "least_completion_time_proportional"
    # 370 MB take 8 s and 0.15 s of latency over all four, 8.46 s and 0.08 s over the first three.
    large = make(paths, heuristic=proportional).partition_task(itp.Task("t", 370_000_000))
    assert large.chunk_sizes == (200_000_000, 100_000_000, 50_000_000, 20_000_000)
    # 3 MB take 0.08 s and 0.03 s of latency over the first two, 0.069 s and 0.08 s over the first three.
    small = make(paths, heuristic=proportional).partition_task(itp.Task("t", 3_000_000))
    assert small.chunk_sizes == (2_000_000, 1_000_000)


def test_the_default_rule_gives_way_where_it_would_miss_a_hard_deadline():
    p = make(heuristic=None, hard_deadlines=True)
    split = p.partition_task(itp.Task("t", 100_000_000, deadline_s=3.0))
    assert split.feasible
    assert len(split.stream_ids) > 1
    why = {a.stream_ids: a.why_not for a in p.explain(split).actions}
    assert why[(0,)] == "misses the deadline of 3 s"


def test_explain_tells_what_a_rule_leaves_aside():
    p = make(heuristic="single_best")
    why = {a.stream_ids: a.why_not for a in p.explain(p.partition_task(itp.Task("t", 10**8))).actions}
    assert why[(0, 1, 2, 3)] == "faster, but not the rule's choice"
    assert why[(1,)] == "not faster"
    # A soft deadline closes no action: missing it is no reason.
    d = p.partition_task(itp.Task("t", 10**8, deadline_s=4.5))
    assert not d.feasible
    why = {a.stream_ids: a.why_not for a in p.explain(d).actions}
    assert why[d.stream_ids] is None
    assert "faster, but not the rule's choice" in why.values()
    assert not any(reason and "deadline" in reason for reason in why.values())


def test_score_takes_two_streams_for_what_is_large_and_not_urgent():
    p = make(heuristic="score")
    assert p.partition_task(itp.Task("t", 100_000_001, 0.49)).stream_ids == (0, 1)
    assert p.partition_task(itp.Task("t", 100_000_000, 0.49)).stream_ids == (0,)
    p = make(heuristic="score")
    assert p.partition_task(itp.Task("t", 100_000_001, 0.5)).stream_ids == (0,)


def test_single_best_avoids_the_busy_stream():
    p = make(((100, 10), (90, 10)), heuristic="single_best")
    assert [p.partition_task(itp.Task("t", 10_000_000)).stream_ids[0] for _ in range(4)] == [0, 1, 0, 1]


def test_constraints_mask_actions():
    p = make()
    d = p.partition_task(itp.Task("t", 37_000_000, min_bandwidth_mbps=310.0))
    assert d.feasible
    assert actions.ACTIONS[d.action] in [(0, 1, 2), (0, 1, 2, 3), (0, 1, 3)]
    wide = itp.Task("t", 37_000_000, min_bandwidth_mbps=360.0)
    assert p.partition_task(wide).stream_ids == (0, 1, 2, 3)
    p = make(epsilon=1.0, seed=4)
    for _ in range(200):
        d = p.partition_task(itp.Task("t", 10_000_000, deadline_s=100.0, min_bandwidth_mbps=150.0))
        assert sum(p.network.stream(i)["bandwidth_mbps"] for i in actions.ACTIONS[d.action]) >= 150.0
    rule = make(heuristic="round_robin")
    for _ in range(4):
        assert rule.partition_task(itp.Task("t", 10**7, min_bandwidth_mbps=150.0)).feasible


@pytest.mark.parametrize("demand", [{"deadline_s": 1e-6}, {"min_bandwidth_mbps": 371.0}])
@pytest.mark.parametrize("heuristic", HEURISTICS)
def test_a_demand_nothing_can_meet_is_said(demand, heuristic):
    p = make(heuristic=heuristic)
    d = p.partition_task(itp.Task("t", 10_000_000, **demand))
    assert not d.feasible
    assert sum(d.chunk_sizes) == 10_000_000
    assert "feasible=False" in repr(d)
    assert p.metrics().infeasible_decisions == 1
    assert make(heuristic=heuristic).partition_task(itp.Task("t", 10_000_000)).feasible


def test_explain_tells_the_demand_that_is_missed():
    p = make(((200, 10), (100, 10), (300, 10)))
    small = p.partition_task(itp.Task("a", 100, min_bandwidth_mbps=250))
    why = {a.stream_ids: a.why_not for a in p.explain(small).actions}
    assert small.stream_ids == (2,)
    assert why[(0,)] == "the streams that keep a share have under 250 Mbit/s"
    both = p.partition_task(itp.Task("a", 100, min_bandwidth_mbps=250, deadline_s=60.0))
    assert "under 250 Mbit/s" in p.explain(both).actions[0].why_not


def test_beyond_six_streams_bandwidth_is_found_on_a_late_one():
    p = make([(10, 1)] * 6 + [(1000, 50)])
    d = p.partition_task(itp.Task("t", 1000, min_bandwidth_mbps=500.0))
    assert d.feasible
    assert d.stream_ids == (6,)


def test_redundancy_sends_whole_copies_on_disjoint_streams():
    p = make()
    d = p.partition_task(itp.Task("t", 5_000_000, redundancy=2))
    assert d.stream_ids == (0, 1)
    assert d.chunk_sizes == (5_000_000, 5_000_000)
    assert d.action == 4
    assert d.expected_time_s == pytest.approx(0.01 + 5_000_000 / (200 * MBIT))
    p.report_outcome(d, 100.0, 0.3, True)
    assert p.metrics().in_flight == 0
    with pytest.raises(itp.NoStreamError, match="5 copies"):
        p.partition_task(itp.Task("t", 5, redundancy=5))


def test_exploration_is_uniform_and_told():
    p = make(epsilon=0.3, seed=11, min_chunk_bytes=1)
    n, counts, explored = 20_000, np.zeros(15), 0
    for _ in range(n):
        d = p.partition_task(itp.Task("t", 10**9))
        explored += d.explored
        counts[d.action] += 1
        greedy = not d.explored
        if greedy:
            assert d.propensity == pytest.approx(0.7 + 0.3 / 15)
        del d
    assert explored / n == pytest.approx(0.3, abs=0.02)
    assert counts.min() > 0.5 * n * 0.3 / 15
    assert p.metrics().explored_decisions == explored


def test_propensities_sum_to_one():
    p = make(epsilon=0.4, seed=2)
    p.set_stream_up(1, False)
    seen = {}
    for _ in range(2000):
        d = p.partition_task(itp.Task("t", 10**8))
        seen.setdefault((d.action), set()).add(round(d.propensity, 12))
        p.report_outcome(d, 100.0, 1.0, True)
    assert len(seen) == 7  # non-empty subsets of three streams
    assert all(len(values) == 1 for values in seen.values())
    (greedy,) = [values.pop() for values in seen.values() if 0.6 in {round(v - 0.4 / 7, 9) for v in values}]
    assert greedy + 6 * 0.4 / 7 == pytest.approx(1.0)


def test_same_seed_same_decisions():
    def run():
        p = make(epsilon=0.5, seed=9)
        decisions = [p.partition_task(itp.Task("t", 10**7)) for _ in range(200)]
        # What is not explored depends on the ledger, which drains with time.
        return [d.explored and d.action for d in decisions]

    assert run() == run()


def test_all_streams_down():
    p = make()
    for i in range(4):
        p.set_stream_up(i, False)
    with pytest.raises(itp.NoStreamError, match="all 4 are down"):
        p.partition_task(itp.Task("t", 1))
    assert p.metrics().total_decisions == 0
    p.set_stream_up(2, True)
    assert p.partition_task(itp.Task("t", 1)).stream_ids == (2,)


def test_outcomes_in_any_order_each_once():
    p, other = make(), make()
    decisions = [p.partition_task(itp.Task(f"t{k}", 10**6)) for k in range(100)]
    random.Random(1).shuffle(decisions)
    for d in decisions:
        p.report_outcome(d, throughput_mbps=50.0, latency_s=0.2, success=True, retransmitted_bytes=10)
        assert d.reported
    m = p.metrics()
    assert (m.total_outcomes, m.success_rate, m.in_flight, m.retransmitted_bytes) == (100, 1.0, 0, 1000)
    assert m.avg_reward == pytest.approx(np.mean([d.reward for d in decisions]))
    with pytest.raises(itp.OutcomeError, match="reported before"):
        p.report_outcome(decisions[0], 50.0, 0.2, True)
    stranger = other.partition_task(itp.Task("x", 1))
    with pytest.raises(itp.OutcomeError, match="not made by this partitioner"):
        p.report_outcome(stranger, 50.0, 0.2, True)
    for wrong in ("t1", None, 5):
        with pytest.raises(TypeError):
            p.report_outcome(wrong, 50.0, 0.2, True)
    assert p.metrics() == m
    assert other.metrics().in_flight == 1


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"throughput_mbps": math.nan}, ValueError),
        ({"throughput_mbps": -1.0}, ValueError),
        ({"latency_s": math.inf}, ValueError),
        ({"latency_s": -0.1}, ValueError),
        ({"retransmitted_bytes": -1}, ValueError),
        ({"latency_s": "soon"}, TypeError),
        ({"latency_s": 10**400}, ValueError),
        ({"success": "no"}, TypeError),
        ({"success": math.nan}, TypeError),
    ],
)
def test_a_bad_outcome_leaves_the_decision_open(change, error):
    p = make()
    d = p.partition_task(itp.Task("t", 10**6))
    good = {"throughput_mbps": 50.0, "latency_s": 0.2, "success": True, "retransmitted_bytes": 0}
    with pytest.raises(error):
        p.report_outcome(d, **{**good, **change})
    assert not d.reported
    assert p.metrics().in_flight == 1
    p.report_outcome(d, **good)


def test_a_dropped_decision_drains_and_no_longer_counts():
    p = make(((8, 0), (8, 0)))
    for _ in range(1000):
        p.partition_task(itp.Task("t", 10**6))
    gc.collect()
    # The last one is kept for its next state.
    assert p.metrics().in_flight <= 1
    assert p.network.work_ahead_bytes(1).sum() == pytest.approx(1e9, rel=0.01)


def test_next_state_is_the_next_decisions_state():
    p = make()
    first = p.partition_task(itp.Task("a", 10**7))
    assert first.next_state is None
    second = p.partition_task(itp.Task("b", 10**8))
    assert (first.next_state == second.state).all()
    assert first.state.shape == (20,)


def test_confidence_follows_the_outcomes():
    p = make()
    start = p.partition_task(itp.Task("t", 10**6)).confidence
    assert start == pytest.approx(1.0)
    for k in range(200):
        d = p.partition_task(itp.Task("t", 10**6))
        # Three of ten are as fast as expected, the rest take twice as long.
        p.report_outcome(d, 10.0, d.expected_time_s * (1.0 if k % 10 < 3 else 2.0), True)
    assert p.partition_task(itp.Task("t", 10**6)).confidence == pytest.approx(70 / 210, abs=0.01)
    assert p.metrics().expected_time_error == pytest.approx(0.7 * math.log(2), rel=0.01)
    assert sum(count for _, count, _ in p.metrics().reliability) == 200
    assert [edge for edge, _, _ in p.metrics().reliability] == [k / 10 for k in range(10)]


def test_explain_lists_every_action():
    p = make()
    p.set_stream_up(3, False)
    d = p.partition_task(itp.Task("t", 10**7, deadline_s=1.0))
    why = p.explain(d)
    assert [a.stream_ids for a in why.actions] == list(actions.ACTIONS)
    (chosen,) = [a for a in why.actions if a.chosen]
    assert chosen.stream_ids == actions.ACTIONS[d.action]
    assert chosen.why_not is None
    assert chosen.expected_time_s == pytest.approx(d.expected_time_s, rel=1e-6)
    for a in why.actions:
        if 3 in a.stream_ids:
            assert a.why_not == "stream 4 is down"
            assert a.expected_time_s is None
        elif not a.chosen:
            assert a.why_not
    assert "misses the deadline" in why.actions[2].why_not
    assert "1+2+3" in str(why)
    later = str(why)
    p.update_stream(0, bandwidth_mbps=1.0)
    assert str(p.explain(d)) == later  # explains what was seen then
    big = make([(10 + i, 5) for i in range(10)])
    assert any(a.chosen for a in big.explain(big.partition_task(itp.Task("t", 10**8))).actions)


def test_batch():
    p = make()
    tasks = [itp.Task(f"t{k}", 10**7) for k in range(5)]
    decisions = p.partition_batch(tasks)
    assert [d.task for d in decisions] == tasks
    assert decisions[-1].expected_time_s > decisions[0].expected_time_s
    with pytest.raises(TypeError, match="Task"):
        p.partition_batch([tasks[0], "t"])
    assert p.metrics().total_decisions == 5

    def counted():
        return repr({k: v for k, v in p.metrics().as_dict().items() if not k.startswith("decision_seconds")})

    before = counted()
    with pytest.raises(itp.NoStreamError):
        p.partition_batch([tasks[0], itp.Task("t", 1, redundancy=5)])
    assert counted() == before  # all or none, but for the time that was spent
    assert p.partition_batch([]) == []


def test_after_close_every_call_raises():
    p = make()
    d = p.partition_task(itp.Task("t", 1))
    p.close()
    p.close()
    for call in (
        lambda: p.partition_task(itp.Task("t", 1)),
        lambda: p.partition_batch([]),
        lambda: p.network,
        lambda: p.engine,
        lambda: p.heuristic,
        lambda: p.update_stream(0, 1.0, 1.0),
        lambda: p.set_stream_up(0, True),
        lambda: p.report_progress(0, 1),
        lambda: p.report_outcome(d, 1.0, 1.0, True),
        lambda: p.metrics(),
        lambda: p.explain(d),
        lambda: p.swap_model("x.onnx"),
        lambda: p.__enter__(),
    ):
        with pytest.raises(itp.ClosedError):
            call()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"engine": "gpu"}, ValueError),
        ({"engine": "onnxruntime"}, ValueError),
        ({"heuristic": "magic"}, ValueError),
        ({"n_streams": 0}, ValueError),
        ({"n_streams": 17}, ValueError),
        ({"service_order": "lifo"}, ValueError),
        ({"epsilon": 1.5}, ValueError),
        ({"epsilon": math.nan}, ValueError),
        ({"seed": -1}, ValueError),
        ({"seed": 1.5}, TypeError),
        ({"min_chunk_bytes": 0}, ValueError),
        ({"min_chunk_bytes": 1.5}, TypeError),
        ({"reward_weights": {}}, TypeError),
    ],
)
def test_bad_options(options, error):
    with pytest.raises(error):
        itp.TaskPartitioner(**options)


def test_only_a_task_is_decided():
    p = make()
    for wrong in (None, "t", 5, object()):
        with pytest.raises(TypeError):
            p.partition_task(wrong)
    with pytest.raises(TypeError):
        p.explain("t")
    with pytest.raises(TypeError, match="not by hand"):
        itp.Decision()


def test_nothing_exists_half_made():
    for kind in (itp.Decision, itp.Task, Decider):
        with pytest.raises(TypeError):
            kind.__new__(kind)
    d = make().partition_task(itp.Task("t", 1))
    for unique in (d, itp.NetworkState(), Decider(itp.NetworkState())):
        with pytest.raises(TypeError, match="cannot be pickled or copied"):
            copy.copy(unique)
    d.task.__init__("other", 5)
    assert d.task == itp.Task("t", 1)


def test_a_network_has_one_decider():
    mine, other = Decider(itp.NetworkState()), Decider(itp.NetworkState())
    with pytest.raises(itp.OutcomeError, match="not made by this"):
        mine.report(other.decide(itp.Task("t", 1)), 1.0, 1.0, True, 0)
    with pytest.raises(ValueError, match="a Decider already"):
        Decider(mine.network)


def test_an_outcome_reported_from_within_a_report_counts_once():
    p = make()
    d = p.partition_task(itp.Task("t", 1))

    class Sneaky:
        def __float__(self):
            p.report_outcome(d, 1.0, 1.0, True)
            return 1.0

    with pytest.raises(itp.OutcomeError, match="reported before"):
        p.report_outcome(d, Sneaky(), 1.0, True)
    assert p.metrics().total_outcomes == 1


def test_threads_decide_update_and_report():
    p = make()
    errors = []

    def work(seed):
        rng = random.Random(seed)
        try:
            for k in range(2000):
                p.update_stream(rng.randrange(4), rng.uniform(1, 500), rng.uniform(1, 100))
                d = p.partition_task(itp.Task(f"{seed}-{k}", rng.randint(1, 10**9)))
                assert sum(d.chunk_sizes) == d.task.size_bytes
                p.report_outcome(d, 1.0, 1.0, True)
        except Exception as error:  # handed to the main thread
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors
    m = p.metrics()
    assert (m.total_decisions, m.total_outcomes, m.in_flight) == (8000, 8000, 0)


def test_action_numbers():
    assert actions.ACTIONS[:5] == ((0,), (1,), (2,), (3,), (0, 1))
    assert actions.ACTIONS[10:] == ((0, 1, 2), (0, 1, 3), (0, 2, 3), (1, 2, 3), (0, 1, 2, 3))
    for n in range(1, 9):
        for k, streams in enumerate(actions.stream_sets(n)):
            assert actions.action_of(streams, n) == k
    assert len(actions.stream_sets(16)) == 65535
    assert actions.action_of(range(16), 16) == 65534
    assert actions.name(5) == "1+3"
    assert list(combinations(range(4), 2)) == list(actions.ACTIONS[4:10])
    for bad in (
        lambda: actions.action_of([], 4),
        lambda: actions.action_of([4], 4),
        lambda: actions.name(15),
    ):
        with pytest.raises(ValueError):
            bad()


def test_as_dict_is_plain():
    d = make().partition_task(itp.Task("t", 10**6)).as_dict()
    assert d["task_id"] == "t"
    assert sum(d["chunk_sizes"]) == 10**6
    assert d["source"] == "heuristic"
    assert d["q_value"] is None


@pytest.mark.parametrize("order", ["fifo", "srpt"])
def test_evaluate_runs_the_policy_in_test_worlds(order):
    with itp.TaskPartitioner(service_order=order, heuristic="single_best") as p:
        found = p.evaluate(episodes=3, scenario="heterogeneous")
        assert p.metrics().total_decisions == 0
    sim = itp.Simulator("heterogeneous", n_envs=3, seed=1_000_000, service_order=order)
    outcomes = []
    while not sim.done.all():
        sim.step_masks(*sim.choose("single_best", hard_deadlines=None))
        outcomes.append(sim.completed())
    outcomes = np.concatenate(outcomes)
    rewards = [outcomes["reward"][outcomes["env"] == env].mean() for env in range(3)]
    assert found.mean_reward == pytest.approx(np.mean(rewards))
    assert found.std_reward == pytest.approx(np.std(rewards))
    taken_s = outcomes["completed_at_s"] - outcomes["arrived_at_s"]
    assert found.mean_completion_time_s == pytest.approx(taken_s.mean())
    assert found.slowdown == pytest.approx(np.exp(np.log(taken_s / outcomes["reference_time_s"]).mean()))
    assert found.success_rate == pytest.approx(outcomes["success"].mean())
    assert found.as_dict()["episodes"] == 3


def test_evaluate_refuses_what_it_cannot_do():
    with itp.TaskPartitioner(n_streams=3) as p, pytest.raises(itp.ScenarioError, match="n_streams = 3"):
        p.evaluate()
    with itp.TaskPartitioner() as p, pytest.raises(ValueError, match="episodes = 0"):
        p.evaluate(episodes=0)


def test_a_soft_deadline_is_no_reason():
    reasons = {}
    for hard in (True, False):
        with itp.TaskPartitioner(heuristic="proportional", hard_deadlines=hard) as p:
            for i, mbps in enumerate((400.0, 300.0, 200.0, 100.0)):
                p.update_stream(i, bandwidth_mbps=mbps, latency_ms=10.0, success_rate=1.0)
            d = p.partition_task(itp.Task("t", 10**8, deadline_s=1.2))
            assert d.feasible
            assert d.hard_deadline is hard
            reasons[hard] = {a.why_not for a in p.explain(d).actions}
    assert "misses the deadline of 1.2 s" in reasons[True]
    assert not any("deadline" in (why or "") for why in reasons[False])


def test_explain_names_what_keeps_a_share():
    with itp.TaskPartitioner(heuristic="equal_split") as p:
        d = p.partition_task(itp.Task("t", 100_000))
        assert "chosen; only 1 keeps a share of the minimum size" in str(p.explain(d))


def test_a_batch_taken_back_is_no_next_state():
    with itp.TaskPartitioner() as p:
        first = p.partition_task(itp.Task("a", 10**6))
        p.set_stream_up(3, False)
        with pytest.raises(itp.NoStreamError):
            p.partition_batch([itp.Task("ghost", 5 * 10**11), itp.Task("c", 1, redundancy=4)])
        assert first.next_state is None
        following = p.partition_task(itp.Task("next", 2 * 10**6))
        np.testing.assert_array_equal(first.next_state, following.state)
