"""What reported outcomes teach: bandwidth, latency, success, lateness, and whose estimate it is."""

from __future__ import annotations

import heapq
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import itp
from itp._core.reward import reward

pytestmark = pytest.mark.core

MBIT = 125_000.0


def make(paths, **options):
    """A partitioner whose streams were measured once, and its clock."""
    clock = itp.ManualClock()
    p = itp.TaskPartitioner(n_streams=len(paths), clock=clock, **options)
    for i, (mbps, latency_ms) in enumerate(paths):
        p.update_stream(i, bandwidth_mbps=mbps, latency_ms=latency_ms)
    return p, clock


def mbps(p, stream=0):
    return p.network.stream(stream)["bandwidth_mbps"]


def sent(p, clock, size, true_mbps, latency_s=0.01, *, by_stream=False):
    """Send one task alone over the one stream, and report it when it is through."""
    d = p.partition_task(itp.Task("t", size))
    seconds = latency_s + size / (true_mbps * MBIT)
    clock.set(clock.monotonic_s + seconds)
    p.report_outcome(
        d, size / MBIT / seconds, seconds, True, streams={0: (size, seconds)} if by_stream else None
    )


class Wan:
    """FIFO streams of their own true rates, over which a partitioner sends tasks that arrive at random."""

    def __init__(
        self, rates_mbps, latencies_s, measured, *, order="fifo", heuristic="least_completion_time", seed=0
    ):
        self.rates_mbps, self.latencies_s = rates_mbps, latencies_s
        self.p, self.clock = make(measured, service_order=order, heuristic=heuristic)
        self.random = random.Random(seed)
        self.free_s = [0.0] * len(rates_mbps)
        self.due: list = []
        self.used: list[tuple[int, ...]] = []

    def run(self, tasks, *, every_s, by_stream=True, noise=0.0, changes=None):
        for k in range(tasks):
            now_s = self.clock.monotonic_s + self.random.expovariate(1 / every_s)
            self.report_until(now_s, by_stream)
            if changes and k in changes:
                self.rates_mbps = changes[k]
            d = self.p.partition_task(itp.Task("t", int(self.random.lognormvariate(13.5, 1.0)) + 1))
            self.used.append(d.stream_ids)
            streams = {}
            for i, chunk in zip(d.stream_ids, d.chunk_sizes, strict=True):
                rate = self.rates_mbps[i] * MBIT * math.exp(self.random.gauss(0, noise))
                self.free_s[i] = max(self.free_s[i], now_s) + chunk / rate
                streams[i] = chunk, self.free_s[i] + self.latencies_s[i] - now_s
            seconds = max(s for _, s in streams.values())
            heapq.heappush(self.due, (now_s + seconds, d.number, d, seconds, streams))
        self.report_until(math.inf, by_stream)

    def report_until(self, until_s, by_stream):
        while self.due and self.due[0][0] <= until_s:
            at_s, _, d, seconds, streams = heapq.heappop(self.due)
            self.clock.set(at_s)
            self.p.report_outcome(
                d, d.task.size_bytes / MBIT / seconds, seconds, True, streams=streams if by_stream else None
            )
        if math.isfinite(until_s):
            self.clock.set(until_s)


# --- estimates follow ---


@pytest.mark.parametrize("size", [10**5, 10**6, 10**8])
@pytest.mark.parametrize("by_stream", [False, True])
@pytest.mark.parametrize("true_mbps", [5.0, 4000.0])
def test_outcomes_replace_what_was_measured_once(size, by_stream, true_mbps):
    p, clock = make([(200, 1)])
    for _ in range(10):
        sent(p, clock, size, true_mbps, 0.001, by_stream=by_stream)
    if size * 8e-6 / true_mbps > 0.004:  # else it tells of the latency
        assert mbps(p) == pytest.approx(true_mbps, rel=0.2)
        assert p.network.stream(0)["source"] == "outcomes"
    for _ in range(40):
        sent(p, clock, size, true_mbps, 0.001, by_stream=by_stream)
    assert p.partition_task(itp.Task("t", size)).expected_time_s == pytest.approx(
        0.001 + size / (true_mbps * MBIT), rel=0.05
    )


def test_outcomes_of_no_time_at_all_on_the_clock_count_too():
    with itp.TaskPartitioner(n_streams=1) as p:
        p.update_stream(0, bandwidth_mbps=200.0, latency_ms=10.0)
        for _ in range(50):
            p.report_outcome(p.partition_task(itp.Task("t", 10**6)), 5.0, 1.6, True)
        assert mbps(p) == pytest.approx(5.0, rel=0.05)


def test_the_first_outcomes_of_a_stream_that_nobody_measured():
    with itp.TaskPartitioner(n_streams=1) as p:
        assert p.network.stream(0)["source"] == "default"
        for _ in range(4):
            p.report_outcome(p.partition_task(itp.Task("t", 10**6)), 5.0, 1.6, True)
        assert mbps(p) == pytest.approx(5.0, rel=0.05)


def test_a_change_is_followed_within_a_few_outcomes_each_way():
    p, clock = make([(200, 10)])
    for true_mbps in (200, 5, 200, 20):
        for _ in range(10):
            sent(p, clock, 10**7, true_mbps)
        assert mbps(p) == pytest.approx(true_mbps, rel=0.1)


def test_only_the_stream_that_deviates_changes():
    p, clock = make([(80, 10), (80, 10), (80, 10)], heuristic="least_completion_time")
    for _ in range(15):
        d = p.partition_task(itp.Task("t", 3 * 10**7))
        assert len(d.stream_ids) == 3
        seconds = [0.01 + c / (rate * MBIT) for c, rate in zip(d.chunk_sizes, (80, 40, 80), strict=True)]
        clock.set(clock.monotonic_s + max(seconds))
        p.report_outcome(
            d, 100.0, max(seconds), True, streams=dict(enumerate(zip(d.chunk_sizes, seconds, strict=True)))
        )
    assert [mbps(p, i) for i in range(3)] == pytest.approx([80, 40, 80], rel=0.02)


def test_without_the_streams_figures_all_of_them_follow_the_whole():
    p, clock = make([(80, 10), (40, 10)], heuristic="least_completion_time")
    for _ in range(20):
        d = p.partition_task(itp.Task("t", 3 * 10**7))
        assert len(d.stream_ids) == 2
        seconds = 0.01 + 3e7 / (60 * MBIT)
        clock.set(clock.monotonic_s + seconds)
        p.report_outcome(d, 60.0, seconds, True)
    assert mbps(p, 0) + mbps(p, 1) == pytest.approx(60, rel=0.05)
    assert mbps(p, 0) / mbps(p, 1) == pytest.approx(2.0, rel=0.05)


def test_as_planned_nothing_changes():
    """Also where no time passes on the clock, and many are in flight."""
    p, _ = make([(200, 10), (100, 40), (50, 80)], heuristic="least_completion_time")
    in_flight = []
    for k in range(300):
        d = p.partition_task(itp.Task("t", 10**4 * (1 + k * 37 % 100)))
        in_flight.append(d)
        if len(in_flight) > 16:
            d = in_flight.pop(0)
            p.report_outcome(d, d.task.size_bytes / MBIT / d.expected_time_s, d.expected_time_s, True)
    assert [mbps(p, i) for i in range(3)] == pytest.approx([200, 100, 50], rel=1e-6)


# --- a queue is no slow path ---


@pytest.mark.parametrize("by_stream", [False, True])
@pytest.mark.parametrize("heuristic", ["single_best", "least_completion_time"])
def test_waiting_behind_others_is_not_slowness(by_stream, heuristic):
    wan = Wan([20, 10], [0.02, 0.02], [(20, 20), (10, 20)], heuristic=heuristic)
    wan.run(300, every_s=0.25, by_stream=by_stream)  # more than the streams carry
    assert wan.p.metrics().avg_reward < 2.2  # they queue
    assert [mbps(wan.p, i) for i in range(2)] == pytest.approx([20, 10], rel=0.02)


@pytest.mark.parametrize("measured", [(100, 20), (1, 20), (3000, 1)])
def test_waiting_is_told_from_slowness_from_wrong_estimates_too(measured):
    wan = Wan([20, 10], [0.02, 0.02], [measured, measured], heuristic="single_best")
    wan.run(400, every_s=0.4)
    assert [mbps(wan.p, i) for i in range(2)] == pytest.approx([20, 10], rel=0.1)


def test_a_batch_whose_times_the_clock_knows_nothing_of():
    p, _ = make([(8, 0)])
    for _ in range(5):
        decisions = p.partition_batch([itp.Task(str(k), 10**6) for k in range(6)])
        for k, d in enumerate(decisions):
            p.report_outcome(d, 8 / (k + 1), k + 1.0, True)
    assert mbps(p) == pytest.approx(8.0, rel=0.01)


def test_overtaken_tasks_under_srpt():
    """A large task that small ones keep passing takes twice its time on a stream as fast as ever."""
    p, clock = make([(80, 0)], service_order="srpt")
    for _ in range(20):
        large = p.partition_task(itp.Task("large", 10**7))  # a second
        began_s = clock.monotonic_s
        for _ in range(10):
            clock.set(clock.monotonic_s + 0.1)
            d = p.partition_task(itp.Task("small", 10**6))
            clock.set(clock.monotonic_s + 0.1)
            p.report_outcome(d, 80.0, 0.1, True)
        seconds = clock.monotonic_s - began_s
        p.report_outcome(large, 1e7 / MBIT / seconds, seconds, True)
    assert mbps(p) == pytest.approx(80, rel=0.02)


# --- what an outcome cannot say ---


def test_small_tasks_tell_of_the_latency_and_not_of_the_bandwidth():
    p, clock = make([(200, 20)])
    for _ in range(40):
        sent(p, clock, 1000, 200, 0.2)
    assert mbps(p) == pytest.approx(200, rel=0.01)
    assert p.network.stream(0)["latency_ms"] == pytest.approx(200, rel=0.05)
    for _ in range(40):
        sent(p, clock, 1000, 200, 0.004)
    assert p.network.stream(0)["latency_ms"] == pytest.approx(4, rel=0.1)


def test_small_and_large_tasks_together_tell_both():
    p, clock = make([(500, 300)])
    for k in range(200):
        sent(p, clock, 10**4 if k % 2 else 5 * 10**7, 100, 0.03)
    assert mbps(p) == pytest.approx(100, rel=0.05)
    assert p.network.stream(0)["latency_ms"] == pytest.approx(30, rel=0.1)


def test_noise_averages_out():
    wan = Wan([50], [0.01], [(50, 10)])
    wan.run(400, every_s=0.5, noise=0.3)
    seen = []
    for _ in range(50):
        wan.run(10, every_s=0.5, noise=0.3)
        seen.append(math.log(mbps(wan.p) / 50))
    assert abs(sum(seen) / len(seen)) < 0.12
    assert max(map(abs, seen)) < 0.6
    assert 0.05 < wan.p.network.stream(0)["variability"] < 0.3


def test_one_outlier_moves_little_and_never_more_than_fourfold():
    for seconds in (1e-9, 1e9):
        p, clock = make([(80, 10)])
        for _ in range(50):
            sent(p, clock, 10**6, 80)
        d = p.partition_task(itp.Task("t", 10**6))
        clock.set(clock.monotonic_s + seconds)
        p.report_outcome(d, 1e6 / MBIT / seconds, seconds, True)
        assert 80 / 2 < mbps(p) < 80 * 2
        for _ in range(8):
            sent(p, clock, 10**6, 80)
        assert mbps(p) == pytest.approx(80, rel=0.15)


def test_failures_tell_of_success_and_of_no_bandwidth():
    p, clock = make([(80, 10)])
    for _ in range(100):
        d = p.partition_task(itp.Task("t", 10**6))
        clock.set(clock.monotonic_s + 5.0)
        p.report_outcome(d, 0.0, 5.0, False)
    known = p.network.stream(0)
    assert (known["bandwidth_mbps"], known["latency_ms"], known["lateness"]) == (80, 10, 0)
    assert 0.0 < known["success_rate"] < 0.1
    for _ in range(100):
        sent(p, clock, 10**6, 80)
    assert p.network.stream(0)["success_rate"] > 0.95


def test_a_failure_that_delivered_something_tells_how_fast():
    p, clock = make([(80, 10)])
    for _ in range(30):
        d = p.partition_task(itp.Task("t", 10**7))
        clock.set(clock.monotonic_s + 1.01)
        p.report_outcome(d, 0.0, 1.01, False, streams={0: (10**6, 1.01)})
    known = p.network.stream(0)
    assert known["bandwidth_mbps"] * known["success_rate"] == pytest.approx(8.0, rel=0.1)


def test_retransmissions_lower_the_success_rate_and_the_goodput_is_kept():
    p, clock = make([(80, 0)])
    for _ in range(60):
        d = p.partition_task(itp.Task("t", 10**6))
        clock.set(clock.monotonic_s + 0.1)
        p.report_outcome(d, 80.0, 0.1, True, streams={0: itp.StreamOutcome(10**6, 0.1, 250_000)})
    known = p.network.stream(0)
    assert known["success_rate"] == pytest.approx(0.8, rel=0.01)
    assert known["bandwidth_mbps"] * known["success_rate"] == pytest.approx(80, rel=0.01)
    assert p.metrics().retransmitted_bytes == 60 * 250_000


def test_nothing_is_learnt_where_the_caller_says_that_nothing_is_known():
    p, clock = make([(80, 10), (80, 10)])
    before = [p.network.stream(i, now_s=0.0) for i in range(2)]
    for seconds in (0.1, 7.0, 0.0):
        d = p.partition_task(itp.Task("t", 10**7))
        clock.set(clock.monotonic_s + seconds)
        p.report_outcome(d, 1.0, seconds, True, streams={})
    assert [p.network.stream(i, now_s=0.0) for i in range(2)] == before


def test_copies_tell_only_by_stream():
    p, clock = make([(80, 10), (80, 10)])

    def copies(streams):
        d = p.partition_task(itp.Task("t", 10**6, redundancy=2))
        clock.set(clock.monotonic_s + 1.0)
        p.report_outcome(d, 8.0, 1.0, True, streams=streams)
        return [mbps(p, i) for i in range(2)]

    for _ in range(10):
        assert copies(None) == [80, 80]
    for _ in range(10):
        found = copies({0: (10**6, 1.0), 1: (10**6, 0.1)})
    assert found == pytest.approx([8.08, 88.9], rel=0.05)


@given(
    outcomes=st.lists(
        st.tuples(
            st.sampled_from([1, 1000, 10**6, 2**62]),
            st.sampled_from([0.0, 1e-300, 1e-6, 1.0, 1e9, 1e300]),
            st.sampled_from([0.0, 1e-300, 5.0, 1e300]),
            st.booleans(),
            st.sampled_from([0, 1, 2**62]),
            st.sampled_from(["none", "empty", "first", "all"]),
            st.sampled_from([0.0, 1e-9, 0.1, 1e6]),
        ),
        min_size=1,
        max_size=40,
    ),
    measured=st.sampled_from([None, (0.0, 0.0), (1e300, 1e300), (1e-300, 1e-300), (100.0, 20.0)]),
    congestion=st.sampled_from([None, 0.0, 0.5, 1.0]),
    order=st.sampled_from(["fifo", "srpt"]),
    redundancy=st.sampled_from([1, 2]),
)
@settings(max_examples=300)
def test_whatever_is_reported_figures_stay_figures(outcomes, measured, congestion, order, redundancy):
    clock = itp.ManualClock()
    p = itp.TaskPartitioner(n_streams=3, clock=clock, service_order=order, heuristic="least_completion_time")
    if measured:
        for i in range(3):
            p.update_stream(i, *measured, congestion)
    waiting = []
    for k, (size, seconds, throughput, success, resent, known, passed_s) in enumerate(outcomes):
        waiting.append(p.partition_task(itp.Task("t", size, redundancy=redundancy)))
        clock.set(clock.monotonic_s + passed_s)
        if k % 3 == 1:
            continue
        d = waiting.pop(k * 7 % len(waiting))
        figures = [(c, seconds, resent) for c in d.chunk_sizes]
        streams = {
            "none": None,
            "empty": {},
            "first": {d.stream_ids[0]: (0, seconds)},
            "all": dict(zip(d.stream_ids, figures, strict=True)),
        }[known]
        assert math.isfinite(p.report_outcome(d, throughput, seconds, success, resent, streams=streams))
    for i in range(3):
        found = p.network.stream(i)
        assert 0 <= found["bandwidth_mbps"] <= 1e12
        assert found["bandwidth_mbps"] > 0 or (measured and measured[0] < 1e-3)
        assert 0 <= found["latency_ms"] <= 1e12
        assert 0 < found["success_rate"] <= 1
        assert 0 <= found["variability"] <= 1
        assert -1 <= found["lateness"] <= 1
        assert found["measured_age_s"] is None or 0 <= found["measured_age_s"] < math.inf


# --- the caller's own measurements ---


def test_a_caller_that_measures_keeps_its_figures():
    p, clock = make([(200, 10)])
    for k in range(60):
        p.update_stream(0, bandwidth_mbps=200.0 + k % 2, latency_ms=10.0, success_rate=1.0)
        sent(p, clock, 10**6, 5)
        assert p.network.stream(0)["source"] == "caller"
        assert mbps(p) == pytest.approx(200, rel=0.01) or k < 2
        assert p.network.stream(0)["success_rate"] == 1.0
    assert p.network.stream(0)["lateness"] > 0.8  # it shows all the same
    # Then it stops measuring.
    for _ in range(12):
        sent(p, clock, 10**6, 5)
    assert mbps(p) == pytest.approx(5, rel=0.2)
    assert p.network.stream(0)["source"] == "outcomes"
    p.update_stream(0, bandwidth_mbps=150.0)
    assert (mbps(p), p.network.stream(0)["source"]) == (150.0, "caller")
    sent(p, clock, 10**6, 5)
    assert mbps(p) == 150.0


def test_a_figure_that_is_not_measured_is_not_held():
    p, clock = make([(200, 10)])
    for _ in range(30):
        p.update_stream(0, latency_ms=10.0)
        sent(p, clock, 10**6, 5)
    assert mbps(p) == pytest.approx(5, rel=0.1)
    assert p.network.stream(0)["latency_ms"] == 10.0


def test_what_can_be_read_of_an_estimate():
    clock = itp.ManualClock(monotonic_s=100.0)
    p = itp.TaskPartitioner(n_streams=2, clock=clock)
    fresh = p.network.stream(0)
    assert (fresh["source"], fresh["measured_age_s"]) == ("default", None)
    assert (fresh["variability"], fresh["lateness"]) == (0.0, 0.0)
    p.update_stream(0, bandwidth_mbps=100.0)
    clock.set(103.0)
    known = p.network.stream(0)
    assert (known["source"], known["measured_age_s"], known["variability"]) == ("caller", 3.0, 0.0)
    p.update_stream(0, bandwidth_mbps=300.0)
    assert p.network.stream(0)["variability"] == pytest.approx(0.25 * 0.5)
    p.update_stream(0, latency_ms=5.0)
    clock.set(105.0)
    assert p.network.stream(0)["measured_age_s"] == 2.0
    assert p.network.stream(0, now_s=107.0)["measured_age_s"] == 4.0
    assert p.network.stream(1)["source"] == "default"
    d = p.partition_task(itp.Task("t", 10**6))
    clock.set(105.0 + 3 * d.expected_time_s)
    p.report_outcome(d, 10.0, 3 * d.expected_time_s, True)
    (stream,) = d.stream_ids
    assert p.network.stream(stream)["lateness"] == pytest.approx(0.25 * 0.5)
    assert p.network.stream(stream)["measured_age_s"] in (0.0, pytest.approx(2.0 + 3 * d.expected_time_s))


# --- a path that was slow ---


def test_a_path_that_gets_better_is_used_again():
    """Closed loops: the fastest path fails for a while; it is avoided, and found again."""
    for heuristic in ("single_best", "least_completion_time"):
        wan = Wan([100, 40], [0.01, 0.02], [(100, 10), (40, 20)], heuristic=heuristic, seed=3)
        wan.run(300, every_s=0.4, noise=0.1)
        wan.run(200, every_s=0.4, noise=0.1, changes={0: [2, 40]})
        assert sum(0 in used for used in wan.used[-100:]) < 50
        assert mbps(wan.p, 0) < 6
        wan.run(1000, every_s=0.4, noise=0.1, changes={0: [100, 40]})
        assert sum(0 in used for used in wan.used[-100:]) > 60
        assert mbps(wan.p, 0) == pytest.approx(100, rel=0.3)


def test_a_stale_low_estimate_rises_slowly_and_no_further_than_usual():
    p, clock = make([(100, 10), (50, 10)], heuristic="single_best")
    for true_mbps in (100, 5):
        for _ in range(20):
            d = p.partition_task(itp.Task("t", 10**6, redundancy=2))
            clock.set(clock.monotonic_s + 2.0)
            streams = {0: (10**6, 0.01 + 8 / true_mbps), 1: (10**6, 0.17)}
            p.report_outcome(d, 8.0, 2.0, True, streams=streams)
    low = mbps(p, 0)
    assert low == pytest.approx(5, rel=0.05)

    def after(seconds):
        clock.set(clock.monotonic_s + seconds)
        d = p.partition_task(itp.Task("t", 10**6))
        clock.set(clock.monotonic_s + 0.17)
        p.report_outcome(d, 8.0, 0.17, True)
        assert d.stream_ids == (1,)
        return mbps(p, 0)

    assert low < after(10.0) < 2 * low
    seen = [mbps(p, 0)]
    while len(seen) < 20 and (seen[-1] < 30):
        seen.append(after(20.0))
    assert seen == sorted(seen)
    assert 30 < seen[-1] < 100
    # What the caller measured stays.
    p.update_stream(0, bandwidth_mbps=5.0)
    assert after(1000.0) == 5.0


# --- what is refused, and the reward ---


@pytest.mark.parametrize(
    ("streams", "error", "match"),
    [
        ({2: (1, 1.0)}, ValueError, "stream 2, which carries nothing of task 't'"),
        ({7: (1, 1.0)}, ValueError, "stream = 7: expected 0 to 2"),
        ({-1: (1, 1.0)}, ValueError, "stream = -1"),
        ({"a": (1, 1.0)}, TypeError, "stream = 'a': expected an integer"),
        ({True: (1, 1.0)}, TypeError, "stream = True"),
        ({0: (-1, 1.0)}, ValueError, "bytes = -1"),
        ({0: (1.5, 1.0)}, TypeError, "bytes = 1.5: expected an integer"),
        ({0: (1, -1.0)}, ValueError, "seconds = -1.0"),
        ({0: (1, math.nan)}, ValueError, "seconds = nan"),
        ({0: (1, math.inf)}, ValueError, "seconds = inf"),
        ({0: (1, 1.0, -1)}, ValueError, "retransmitted_bytes = -1"),
        ({0: (10_000_001, 1.0)}, ValueError, "more bytes than the 10000000 of task 't'"),
        ({0: (9_000_000, 1.0), 1: (1_000_001, 1.0)}, ValueError, "more bytes than"),
        ({0: (2**63 - 1, 1.0), 1: (2**63 - 1, 1.0)}, ValueError, "more bytes than"),
        ({0: 5}, TypeError, r"streams\[0\] = 5: expected \(bytes, seconds\)"),
        ({0: (1,)}, TypeError, "expected"),
        ({0: (1, 1.0, 0, 0)}, TypeError, "expected"),
        ([(0, 1, 1.0)], TypeError, "expected a mapping"),
    ],
)
def test_bad_figures_of_streams_leave_the_decision_open(streams, error, match):
    p, clock = make([(80, 10), (80, 10), (1, 1000)], heuristic="least_completion_time")
    d = p.partition_task(itp.Task("t", 10**7))
    assert d.stream_ids == (0, 1)
    clock.set(1.0)
    before = [p.network.stream(i) for i in range(3)]
    with pytest.raises(error, match=match):
        p.report_outcome(d, 80.0, 1.0, True, streams=streams)
    assert not d.reported
    assert p.metrics().in_flight == 1
    assert [p.network.stream(i) for i in range(3)] == before
    p.report_outcome(d, 80.0, 1.0, True, streams={0: (5_000_000, 1.0), 1: (5_000_000, 1.0)})


def test_the_rewards_imbalance_is_real_where_the_streams_times_are_known():
    p, _ = make([(80, 10), (40, 10)], heuristic="equal_split")
    weights = itp.RewardWeights()

    def rewarded(streams, retransmitted_bytes=0):
        p.update_stream(0, 80.0, 10.0, None, 1.0)
        p.update_stream(1, 40.0, 10.0, None, 1.0)
        d = p.partition_task(itp.Task("t", 10**7))
        assert d.chunk_sizes == (5_000_000, 5_000_000)
        return p.report_outcome(d, 40.0, 2.0, True, retransmitted_bytes, streams=streams)

    def expected(imbalance, retransmitted_bytes=0):
        return pytest.approx(
            reward(
                weights,
                size_bytes=10**7,
                reference_time_s=0.01 + 80 / 120,
                throughput_mbps=40.0,
                latency_s=2.0,
                success=True,
                retransmitted_bytes=retransmitted_bytes,
                imbalance=imbalance,
            )
        )

    planned = 1 - (0.01 + 0.5) / (0.01 + 1.0)
    assert rewarded(None) == expected(planned)
    assert rewarded({}) == expected(planned)
    assert rewarded({0: (5_000_000, 0.5)}) == expected(planned)
    assert rewarded({0: (5_000_000, 0.5), 1: (5_000_000, 2.0)}) == expected(0.75)
    assert rewarded({0: (5_000_000, 2.0), 1: (5_000_000, 2.0)}) == expected(0.0)
    assert rewarded({0: (5_000_000, 2.0, 30), 1: (5_000_000, 2.0, 40)}, 50) == expected(0.0, 70)
    assert rewarded({0: (0, 0.0), 1: (10**7, 2.0)}) == expected(0.0)
    assert rewarded({0: (5_000_000, 0.0), 1: (5_000_000, 0.0)}) == expected(0.0)
