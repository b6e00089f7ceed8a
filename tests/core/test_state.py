"""Metrics, the ledger against a plain model of one line, and the state vector."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference
from itp import NetworkState
from itp._core.order import AGEING_S

pytestmark = pytest.mark.core

MBIT = 125_000


def make(n=4, order="fifo", mbps=8.0):
    state = NetworkState(n, order)
    for i in range(n):
        state.update_stream(i, bandwidth_mbps=mbps, latency_ms=10.0, success_rate=1.0, now_s=0.0)
    return state


def test_a_chunk_drains_at_the_streams_bandwidth():
    state = make()  # 8 Mbit/s: a million bytes a second
    state.admit(1, 3_000_000, [0, 2], [2_000_000, 1_000_000], now_s=0.0)
    assert state.queue_depth == 1
    assert state.work_ahead_bytes(1, now_s=0.0).tolist() == [2_000_000, 0, 1_000_000, 0]
    assert state.work_ahead_bytes(1, now_s=0.5).tolist() == [1_500_000, 0, 500_000, 0]
    assert state.work_ahead_bytes(1, now_s=9.0).tolist() == [0, 0, 0, 0]
    assert state.queue_depth == 1
    assert state.release(1, now_s=9.0)
    assert state.queue_depth == 0
    assert not state.release(1, now_s=9.0)
    assert state.queue_depth == 0


def test_progress_replaces_the_presumption():
    state = make()
    state.admit(1, 2_000_000, [0], [2_000_000], now_s=0.0)
    state.report_progress(0, 100_000, now_s=1.0)  # slower than its bandwidth says
    assert state.work_ahead_bytes(1, now_s=1.0)[0] == 1_900_000
    assert state.work_ahead_bytes(1, now_s=1.1)[0] == pytest.approx(1_800_000)
    state.report_progress(0, 1_900_000, now_s=1.1)  # and faster
    assert state.work_ahead_bytes(1, now_s=1.1)[0] == 0


def test_an_outcome_settles_what_was_presumed():
    state = make()
    state.admit(1, 1_000_000, [0], [1_000_000], now_s=0.0)
    state.admit(2, 1_000_000, [0], [1_000_000], now_s=0.0)
    state.release(1, now_s=1.0)
    assert state.work_ahead_bytes(1, now_s=1.0)[0] == 1_000_000
    # Done sooner than presumed: what is left is the other chunk alone.
    state.release(2, now_s=1.2)
    assert state.work_ahead_bytes(1, now_s=1.2)[0] == 0


def test_a_stream_that_is_down_drains_nothing():
    state = make()
    state.admit(1, 1_000_000, [0], [1_000_000], now_s=0.0)
    state.set_stream_up(0, False, now_s=0.25)
    assert state.work_ahead_bytes(1, now_s=5.0)[0] == 750_000
    state.set_stream_up(0, True, now_s=5.0)
    assert state.work_ahead_bytes(1, now_s=5.5)[0] == 250_000


def test_srpt_counts_only_what_goes_before_the_task():
    state = make(order="srpt")
    state.admit(1, 1000, [0], [1000], priority=0.5, now_s=0.0)
    state.admit(2, 9000, [0, 1], [4000, 5000], priority=0.5, now_s=0.0)
    state.admit(3, 500, [0], [500], priority=0.9, now_s=0.0)
    state.admit(4, 100, [0], [100], priority=0.1, now_s=0.0)

    def ahead(size, priority):
        return state.work_ahead_bytes(size, priority, now_s=0.0)[0]

    assert ahead(999, 0.5) == 500
    assert ahead(1000, 0.5) == 1500
    assert ahead(9000, 0.5) == 5500  # ranked by the whole task, counted by its chunk
    assert ahead(1, 0.8) == 0
    assert ahead(10**9, 0.1) == 5600
    # What has waited too long goes before everything.
    assert state.work_ahead_bytes(1, 1.0, now_s=AGEING_S - 0.1)[0] == 0
    for number in (3, 4):
        state.release(number, now_s=AGEING_S)
    state.set_stream_up(0, False, now_s=AGEING_S)
    late = make(order="srpt", mbps=0.0)
    late.admit(1, 1000, [0], [1000], now_s=0.0)
    assert late.work_ahead_bytes(1, 1.0, now_s=AGEING_S - 0.1)[0] == 0
    assert late.work_ahead_bytes(1, 1.0, now_s=AGEING_S)[0] == 1000


@st.composite
def histories(draw):
    events = []
    number = 0
    for _ in range(draw(st.integers(1, 40))):
        kind = draw(st.sampled_from(["admit", "admit", "serve", "release", "look"]))
        if kind == "admit":
            number += 1
            size = draw(st.integers(1, 10_000))
            chunk = draw(st.integers(1, size))
            events.append(("admit", number, size, chunk, draw(st.sampled_from([0.0, 0.3, 0.5, 0.8, 1.0]))))
        elif kind == "serve":
            events.append(("serve", draw(st.integers(0, 8_000))))
        elif kind == "release" and number:
            events.append(("release", draw(st.integers(1, number))))
        else:
            events.append(("look", draw(st.integers(1, 12_000)), draw(st.sampled_from([0.0, 0.5, 1.0]))))
    return events


@given(events=histories(), order=st.sampled_from(["fifo", "srpt"]))
@settings(max_examples=300)
def test_the_ledger_agrees_with_a_plain_model(events, order):
    # Bandwidth 0 drains nothing between reports, so that only facts count here.
    state = make(2, order, mbps=0.0)
    model = reference.Ledger(order, AGEING_S)
    now_s = 0.0
    for kind, *arguments in events:
        now_s += 1.5
        if kind == "admit":
            number, size, chunk, priority = arguments
            chunks = [chunk] if chunk == size else [chunk, size - chunk]
            state.admit(number, size, range(len(chunks)), chunks, priority=priority, now_s=now_s)
            model.admit(number, size, chunk, priority, now_s)
        elif kind == "serve":
            state.report_progress(0, arguments[0], now_s=now_s)
            model.serve(arguments[0], now_s)
        elif kind == "release":
            known = any(f["number"] == arguments[0] for f in model.flights)
            assert state.release(arguments[0], now_s=now_s) == known
            model.release(arguments[0])
        else:
            size, priority = arguments
            got = state.work_ahead_bytes(size, priority, now_s=now_s)[0]
            assert got == model.ahead(size, priority, now_s)
    assert state.queue_depth == len(model.flights)


def test_ten_thousand_flights_released_in_any_order():
    state = make(4)
    rng = np.random.default_rng(5)
    for number in range(1, 10_001):
        state.admit(number, 1000, [number % 4], [1000], now_s=0.0)
    assert state.work_ahead_bytes(1, now_s=0.0).tolist() == [2_500_000] * 4
    for number in rng.permutation(np.arange(1, 10_001)):
        assert state.release(int(number), now_s=0.0)
    assert state.work_ahead_bytes(1, now_s=0.0).tolist() == [0] * 4


def test_srpt_serves_a_long_line_in_order():
    state = make(1, "srpt", mbps=0.0)
    model = reference.Ledger("srpt", AGEING_S)
    rng = np.random.default_rng(2)
    for number in range(1, 301):
        size, priority = int(rng.integers(1, 1000)), float(rng.random())
        state.admit(number, size, [0], [size], priority=priority, now_s=number / 5)
        model.admit(number, size, size, priority, number / 5)
    for delivered in (1, 20_000, 7, 50_000, 10**9):
        state.report_progress(0, delivered, now_s=61.0)
        model.serve(delivered, 61.0)
        for size in (1, 100, 500, 1000):
            for priority in (0.0, 0.3, 0.6, 1.0):
                got = state.work_ahead_bytes(size, priority, now_s=61.0)[0]
                assert got == model.ahead(size, priority, 61.0)


def test_vector_entries():
    state = NetworkState(4)
    figures = [(120.0, 18.0, 0.25, 0.99), (1.0, 0.1, 0.0, 1.0), (1e5, 1e4, 1.0, 0.0), (1e9, 1e9, 0.5, 0.5)]
    for i, (bandwidth, latency, congestion, success) in enumerate(figures):
        state.update_stream(i, bandwidth, latency, congestion, success)
    vector = state.vector(2**20, 0.8, time_of_day=0.5)
    assert vector.dtype == np.float32
    assert vector.shape == (20,)
    expected = (
        [reference.log_scaled(b, 1.0, 1e5) for b, *_ in figures]
        + [reference.log_scaled(x, 0.1, 1e4) for _, x, *_ in figures]
        + [0.25, 0.0, 1.0, 0.5]
        + [0.99, 1.0, 0.0, 0.5]
        + [0.0, reference.log_scaled(2**20, 1024, 2**40), 0.8, 0.5]
    )
    np.testing.assert_allclose(vector, np.array(expected, np.float32), atol=1e-6)


def test_congestion_comes_from_the_ledger_and_a_down_stream_shows():
    state = make()
    state.admit(1, 3_000_000, [1], [3_000_000], now_s=0.0)
    state.set_stream_up(3, False, now_s=0.0)
    vector = state.vector(1000, 0.5, time_of_day=0.0, now_s=0.0)
    assert vector[8:12].tolist() == [0.0, 0.75, 0.0, 1.0]  # 3 s of work: 3 / (3 + 1)
    assert vector[[3, 7, 15]].tolist() == [0.0, 1.0, 0.0]
    assert vector[16] == np.float32(1 / 17)


@given(
    bandwidth=st.floats(0, 1.7e308),
    latency=st.floats(0, 1.7e308),
    success=st.floats(0, 1),
    size=st.integers(1, 2**63 - 1),
    n=st.integers(1, 16),
)
def test_every_entry_is_from_0_to_1(bandwidth, latency, success, size, n):
    state = NetworkState(n)
    for i in range(n):
        state.update_stream(i, bandwidth, latency, None, success, now_s=0.0)
    state.admit(1, size, [0], [size], now_s=0.0)
    vector = state.vector(size, 1.0, now_s=1.0)
    assert vector.shape == (4 * n + 4,)
    assert np.isfinite(vector).all()
    assert ((vector >= 0) & (vector <= 1)).all()


BAD = [math.nan, math.inf, -math.inf, -1.0]


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("name", ["bandwidth_mbps", "latency_ms", "congestion", "success_rate"])
def test_bad_metrics_change_nothing(name, value):
    state = make()
    before = state.stream(1, now_s=1.0)
    good = {"bandwidth_mbps": 5.0, "latency_ms": 5.0, "congestion": 0.5, "success_rate": 0.5}
    with pytest.raises(ValueError, match=name):
        state.update_stream(1, **{**good, name: value})
    assert state.stream(1, now_s=1.0) == before


@pytest.mark.parametrize("value", ["fast", [1.0], {}])
def test_metrics_that_are_no_numbers(value):
    with pytest.raises(TypeError, match="bandwidth_mbps"):
        make().update_stream(0, bandwidth_mbps=value)


@pytest.mark.parametrize("stream", [-1, 4, 10**30])
def test_a_stream_out_of_range(stream):
    state = make()
    for call in (
        lambda: state.update_stream(stream, 1.0, 1.0),
        lambda: state.set_stream_up(stream, True),
        lambda: state.report_progress(stream, 1),
        lambda: state.stream(stream),
    ):
        with pytest.raises(ValueError, match="expected 0 to 3"):
            call()


@pytest.mark.parametrize("stream", [1.0, "0", None, True])
def test_a_stream_that_is_no_integer(stream):
    with pytest.raises(TypeError, match="stream"):
        make().update_stream(stream, 1.0, 1.0)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((0,), ValueError),
        ((17,), ValueError),
        ((2.0,), TypeError),
        ((True,), TypeError),
        ((4, "lifo"), ValueError),
    ],
)
def test_bad_construction(arguments, error):
    with pytest.raises(error):
        NetworkState(*arguments)


def test_bad_ledger_entries():
    state = make()
    state.admit(5, 100, [0], [100])
    for call in (
        lambda: state.admit(5, 100, [1], [100]),
        lambda: state.admit(-1, 100, [0], [100]),
        lambda: state.admit(2**64, 100, [0], [100]),
        lambda: state.release(-1),
        lambda: state.admit(6, 100, [0, 1], [60, 50]),
        lambda: state.work_ahead_bytes(1, now_s=-1.0),
        lambda: state.admit(6, 100, [0, 0], [50, 50]),
        lambda: state.admit(6, 100, [0], [101]),
        lambda: state.admit(6, 100, [0, 1], [100]),
        lambda: state.admit(6, 100, [], []),
        lambda: state.admit(6, 100, [4], [100]),
        lambda: state.report_progress(0, -1),
        lambda: state.report_progress(0, 2**63),
    ):
        with pytest.raises(ValueError):
            call()
    assert state.queue_depth == 1
