"""Rules that go by the remembered workload, against a reference in NumPy and in plain worlds."""

from __future__ import annotations

import copy
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import itp
from itp._core.heuristic import POLICIES
from itp._core.setnet import SetNet
from itp.policies import Rule, mean_log_slowdown, run
from itp.sim.scenario import load
from itp.sim.simulator import Simulator
from set_models import random_arrays

pytestmark = pytest.mark.core

MBIT = 125_000.0
ADAPTIVE = ["adaptive_size_interval", "first_policy_iteration", "least_marginal_cost"]
PATHS = ((200, 10), (100, 40), (50, 80), (20, 150))


def make(rule, paths=PATHS, *, order="fifo", **options):
    clock = itp.ManualClock()
    p = itp.TaskPartitioner(
        n_streams=len(paths),
        heuristic=rule,
        service_order=order,
        clock=clock,
        **{"min_chunk_bytes": 1, **options},
    )
    for i, (bandwidth, latency) in enumerate(paths):
        p.update_stream(i, bandwidth_mbps=bandwidth, latency_ms=latency, success_rate=1.0)
    return p, clock


def heavy_tailed(seed, count, median=1e6, sigma=2.0):
    sizes = np.random.default_rng(seed).lognormal(math.log(median), sigma, count)
    return [int(size) + 1 for size in np.minimum(sizes, 1e10)]


def decide_all(p, clock, sizes, gap_s):
    """Decisions for tasks at a steady pace, none of which is reported."""
    decisions = []
    for k, size in enumerate(sizes):
        clock.set(gap_s * (k + 1))
        decisions.append(p.partition_task(itp.Task(str(k), size)))
    return decisions


def water_level(size, rate, delay):
    """When streams that finish together are through."""
    order = np.argsort(delay)
    levels = (size + np.cumsum((rate * delay)[order])) / np.cumsum(rate[order])
    return float(levels.min())


def marginal_costs(paths, ahead_s, size, remembered, gap_s, order, sets, bulk):
    """The cost of every set of streams, in double precision and with exact water levels."""
    rate = np.array([bandwidth * MBIT for bandwidth, _ in paths])
    latency = np.array([milliseconds * 1e-3 for _, milliseconds in paths])
    ordered = np.sort(np.float32(remembered)).astype(float)
    kept = len(ordered)
    mean_s = latency.min() + (ordered.sum() + size) / (kept + 1) / rate.sum()
    expected = [ordered[(2 * q + 1) * kept // 8] for q in range(4)]

    def cost(time_s):
        return (1.0 - bulk) * math.log(time_s / mean_s) + bulk * time_s / mean_s

    members = [np.isin(np.arange(len(paths)), streams) for streams in sets]
    plans_s = [water_level(size, rate[member], (ahead_s + latency)[member]) for member in members]
    under_way = min(min(plans_s) / gap_s, 1e4)
    costs = []
    for member, planned_s in zip(members, plans_s, strict=True):
        total = cost(planned_s)
        last = max(27.0, under_way / 2), max(60.0, under_way)
        for at, weight in ((1, 2.0), (3, 6.0), (9, 25.0), last):
            then_s = at * gap_s
            ahead = np.maximum(ahead_s - then_s, 0.0)
            mine = np.maximum(np.maximum(planned_s - latency - then_s, 0.0) - ahead, 0.0) * member
            left = float((mine * rate).sum())
            for other in expected:
                overtakes = order == "srpt" and then_s < 30.0 and other < left
                delay = ahead + latency + mine * (0.05 if overtakes else 1.0)
                total += weight / 4 * cost(water_level(other, rate, delay))
        costs.append(total)
    return costs


def fastest(paths, ahead_s, size, sets):
    """The set of the least completion time."""
    rate, latency = np.array(paths).T * np.array([[MBIT], [1e-3]])
    return min(sets, key=lambda s: water_level(size, rate[list(s)], (ahead_s + latency)[list(s)]))


@pytest.mark.parametrize("order", ["fifo", "srpt"])
@pytest.mark.parametrize(
    ("seed", "prefer", "bulk"),
    [
        (0, "balanced", 0.2),
        (1, "balanced", 0.2),
        (2, "typical", 0.04),
        (3, "bulk", 1.0),
        (3, "balanced", 0.2),
    ],
)
def test_least_marginal_cost_is_what_the_reference_finds(seed, prefer, bulk, order):
    rng = np.random.default_rng(seed)
    n = 1 + seed
    paths = [(float(rng.uniform(20, 400)), float(rng.uniform(5, 150))) for _ in range(n)]
    p, clock = make("least_marginal_cost", paths, order=order, prefer=prefer)
    sets = [s for k in range(1, n + 1) for s in itertools.combinations(range(n), k)]
    total_Bps = sum(bandwidth for bandwidth, _ in paths) * MBIT
    sizes = heavy_tailed(seed, 160)
    gap_s = float(np.mean(sizes)) / total_Bps / 0.7
    decisions, remembered, agreed, not_fastest = [], [], 0, 0
    for k, size in enumerate(sizes):
        clock.set(gap_s * (k + 1))
        chosen = p.partition_task(itp.Task(str(k), size))
        decisions.append(chosen)
        ahead_s = np.array([path["work_ahead_s"] for path in chosen.paths()])
        if k >= 8:
            costs = marginal_costs(paths, ahead_s, size, remembered[-128:], gap_s, order, sets, bulk)
            # Of sets that cost the same within the rounding of single precision, either may be taken.
            assert costs[sets.index(chosen.stream_ids)] <= min(costs) + 2e-3 * (1.0 + abs(min(costs)))
            agreed += sets[int(np.argmin(costs))] == chosen.stream_ids
            not_fastest += chosen.stream_ids != fastest(paths, ahead_s, size, sets)
        remembered.append(size)
    assert agreed >= 0.95 * (len(sizes) - 8)
    if n > 1 and order == "fifo" and prefer != "bulk":
        assert not_fastest > 3  # otherwise this would not tell the rule from the least completion time


@pytest.mark.parametrize("order", ["fifo", "srpt"])
@pytest.mark.parametrize("rule", ADAPTIVE)
def test_ten_times_the_rates_and_sizes_give_the_same_decisions(rule, order):
    sizes = heavy_tailed(5, 300)
    gap_s = float(np.mean(sizes)) / (370 * MBIT) / 0.7
    plain = decide_all(*make(rule, order=order, min_chunk_bytes=50_000), sizes, gap_s)
    faster = [(10 * bandwidth, latency) for bandwidth, latency in PATHS]
    large = decide_all(
        *make(rule, faster, order=order, min_chunk_bytes=500_000), [10 * size for size in sizes], gap_s
    )
    assert [d.stream_ids for d in large] == [d.stream_ids for d in plain]


@pytest.mark.parametrize("size", [1, 10**3, 10**6, 10**9, 10**11])
def test_a_first_task_takes_the_least_completion_time_under_srpt(size):
    p, _ = make("auto", order="srpt")
    fast, _ = make("least_completion_time", order="srpt")
    task = itp.Task("t", size)
    assert p.partition_task(task).stream_ids == fast.partition_task(task).stream_ids


@pytest.mark.parametrize("paths", [PATHS, ((100, 10),) * 3, ((100, 10),) * 6])
@pytest.mark.parametrize("size", [1, 10**3, 10**6, 10**9, 10**11])
def test_a_first_task_spares_streams_under_fifo(size, paths):
    p, _ = make("auto", paths)
    decision = p.partition_task(itp.Task("t", size))
    rates_Bps, delays_s = np.array(paths, dtype=float).T * [[MBIT], [1e-3]]
    planned_s = {
        chosen: water_level(size, rates_Bps[list(chosen)], delays_s[list(chosen)])
        for k in range(1, len(paths) + 1)
        for chosen in itertools.combinations(range(len(paths)), k)
    }
    most_s = 1.25 * min(planned_s.values())
    near = {chosen: s for chosen, s in planned_s.items() if s <= most_s}
    fewest = min(map(len, near))
    assert len(decision.stream_ids) == fewest
    assert near[decision.stream_ids] == pytest.approx(
        min(s for chosen, s in near.items() if len(chosen) == fewest), rel=1e-6
    )


def test_a_first_task_spares_no_stream_that_it_demands():
    p, _ = make("auto", hard_deadlines=True)
    fast, _ = make("least_completion_time")
    least_s = fast.partition_task(itp.Task("t", 10**9)).expected_time_s
    in_time = p.partition_task(itp.Task("t", 10**9, deadline_s=1.01 * least_s))
    assert in_time.feasible
    p, _ = make("auto")
    assert len(p.partition_task(itp.Task("t", 10**9, min_bandwidth_mbps=360.0)).stream_ids) == 4


@pytest.mark.parametrize("order", ["fifo", "srpt"])
def test_at_hardly_any_load_least_marginal_cost_is_the_least_completion_time(order):
    sizes = heavy_tailed(2, 60)
    gap_s = 100.0 * max(sizes) / (370 * MBIT)
    auto = decide_all(*make("auto", order=order), sizes, gap_s)
    fast = decide_all(*make("least_completion_time", order=order), sizes, gap_s)
    # The first task spares streams under fifo: nothing is remembered yet.
    assert [d.stream_ids for d in auto[1:]] == [d.stream_ids for d in fast[1:]]


def test_a_large_task_leaves_the_fast_stream_to_the_many_small_ones():
    p, clock = make("auto")
    sizes = [100_000] * 60
    decide_all(p, clock, sizes, 0.02)
    clock.set(0.02 * 61)
    large = p.partition_task(itp.Task("large", 10**9))
    assert 0 not in large.stream_ids
    # Nobody comes for an hour: it takes all there is.
    clock.set(3600.0)
    assert 0 in p.partition_task(itp.Task("large", 10**9)).stream_ids or len(large.stream_ids) < 4


def test_size_intervals_keep_small_and_large_tasks_apart():
    p, clock = make("adaptive_size_interval", ((200, 10), (150, 10)))
    rng = np.random.default_rng(0)
    sizes = [int(s) for s in np.where(rng.random(200) < 0.05, 2e7, 1e5) * rng.uniform(0.5, 1.5, 200)]
    gap_s = float(np.mean(sizes)) / (350 * MBIT) / 0.5
    decide_all(p, clock, sizes, gap_s)
    clock.set(gap_s * 400)
    # Idle streams: nobody is far behind. The workload is as it was, but for one gap.
    small, large = p.partition_task(itp.Task("s", 100_000)), p.partition_task(itp.Task("l", 30_000_000))
    assert len(small.stream_ids) == len(large.stream_ids) == 1
    assert small.stream_ids != large.stream_ids


@pytest.mark.parametrize("rule", ADAPTIVE)
def test_sizes_that_are_all_alike_fill_all_streams(rule):
    decisions = decide_all(*make(rule, ((100, 10),) * 4, min_chunk_bytes=10**9), [1_000_000] * 80, 0.025)
    used = np.bincount([d.stream_ids[0] for d in decisions[20:]], minlength=4)
    assert (used == 15).all()


@pytest.mark.parametrize("order", ["fifo", "srpt"])
@pytest.mark.parametrize("rule", ADAPTIVE)
def test_demands_bind(rule, order):
    p, clock = make(rule, order=order, hard_deadlines=True)
    decide_all(p, clock, heavy_tailed(3, 40, median=1e5), 0.05)
    clock.set(1000.0)
    wide = p.partition_task(itp.Task("wide", 10**7, min_bandwidth_mbps=340.0))
    assert sum(PATHS[i][0] for i in wide.stream_ids) >= 340
    soon = p.partition_task(itp.Task("soon", 10**9, deadline_s=25.0))
    assert soon.feasible
    copies = p.partition_task(itp.Task("copies", 10**6, redundancy=3))
    assert len(copies.stream_ids) == 3
    assert set(copies.chunk_sizes) == {10**6}
    for stream in (0, 1, 3):
        p.set_stream_up(stream, False)
    assert p.partition_task(itp.Task("last", 10**8)).stream_ids == (2,)


@given(
    n=st.integers(1, 16),
    rule=st.sampled_from(ADAPTIVE),
    order=st.sampled_from(["fifo", "srpt"]),
    tasks=st.lists(
        st.tuples(
            st.one_of(st.integers(1, 2**63 - 1), st.integers(1, 10**5)),
            st.one_of(st.floats(0.0, 1e9), st.sampled_from([0.0, 1e-12, 604_800.0])),
        ),
        min_size=1,
        max_size=30,
    ),
    data=st.data(),
)
@settings(max_examples=150)
def test_any_workload(n, rule, order, tasks, data):
    rates = data.draw(st.lists(st.sampled_from([0.0, 1e-9, 1.0, 100.0, 1e6, 1e300]), min_size=n, max_size=n))
    p, clock = make(rule, [(rate, 10.0) for rate in rates], order=order)
    now_s, decisions = 0.0, []
    for size, gap_s in tasks:
        now_s += gap_s
        clock.set(now_s)
        d = p.partition_task(itp.Task("t", size))
        decisions.append(d)
        assert sum(d.chunk_sizes) == size
        assert all(chunk > 0 for chunk in d.chunk_sizes)
        assert not math.isnan(d.expected_time_s)


def test_a_week_without_tasks_and_sizes_a_million_times_as_large_are_taken_in_stride():
    p, clock = make("auto")
    sizes = heavy_tailed(4, 50, median=1e4, sigma=1.0)
    decide_all(p, clock, sizes, 0.01)
    clock.set(604_800.0)
    large = [p.partition_task(itp.Task("t", 10**10)) for _ in range(3)]
    assert all(d.expected_time_s < 4000.0 for d in large)


@pytest.mark.parametrize("rule", ADAPTIVE)
def test_a_restored_partitioner_decides_as_the_saved_one(rule, tmp_path):
    p, clock = make(rule)
    sizes = heavy_tailed(6, 200)
    decisions = decide_all(p, clock, sizes, 0.2)
    clock.set(1e6)
    del decisions  # nothing is in flight any more
    p.save(tmp_path / "learnt.json")
    other_clock = itp.ManualClock()
    other_clock.set(1e6)
    other = itp.TaskPartitioner(
        heuristic=rule, clock=other_clock, min_chunk_bytes=1, restore=tmp_path / "learnt.json"
    )
    for k, size in enumerate(heavy_tailed(7, 50)):
        for c in (clock, other_clock):
            c.set(1e6 + 0.2 * k)
        mine, restored = p.partition_task(itp.Task("t", size)), other.partition_task(itp.Task("t", size))
        assert restored.stream_ids == mine.stream_ids
        for partitioner, decision in ((p, mine), (other, restored)):
            # Estimates are left alone: the caller of the restored one has measured nothing yet.
            partitioner.report_outcome(decision, 10.0, 0.1, True, streams={})


@pytest.mark.parametrize("order", ["fifo", "srpt"])
@pytest.mark.parametrize("n", [2, 4, 8])
@pytest.mark.parametrize(
    "workload", ["lognormal-sizes", "exponential-sizes", "fixed-sizes", "closed-loop", "idle-host"]
)
def test_auto_is_never_far_from_the_best_rule(workload, n, order):
    worlds = load(workload).with_options(n_streams=n, service_order=order, tasks=150)

    def slowdown(rule):
        return math.exp(mean_log_slowdown(run(Simulator(worlds, n_envs=6, seed=2_000_000), Rule(rule))))

    best = min(slowdown(rule) for rule in ("single_best", "least_completion_time", "proportional"))
    assert slowdown("auto") < 1.05 * best


@pytest.mark.parametrize("order", ["fifo", "srpt"])
def test_where_a_model_has_no_finite_values_the_simulator_takes_the_default_rule(order):
    sim = Simulator(load("mixed").with_options(service_order=order), n_envs=32, seed=1)
    arrays = random_arrays()
    arrays["out.weight"][:] = arrays["hidden.bias"][:] = 3e38
    net = SetNet(arrays)
    plain = 0
    for _ in range(40):
        # Choices of rules share their arrays.
        auto = copy.deepcopy(sim.choose("auto", hard_deadlines=False))
        for decided in (sim.decide(np.full((32, 15), np.nan, np.float32)), sim.decide_sets(net)):
            assert (decided.masks == auto.masks).all()
            assert (decided.splits == auto.splits).all()
        plain += (sim.choose("least_completion_time").masks == auto.masks).sum()
        sim.step_masks(auto.masks, auto.splits)
    assert plain < 40 * 32


def test_every_rule_serves_in_the_simulator_and_in_production():
    sim = Simulator("mixed", n_envs=2, seed=1)
    for rule in ("auto", *POLICIES):
        assert sim.choose(rule).masks.all()
    with pytest.raises(ValueError, match="did you mean 'pull'"):
        sim.choose("pul")
