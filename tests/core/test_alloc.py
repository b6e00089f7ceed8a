"""Chunk sizes against exact rational arithmetic, for every size, metric and action."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference
from itp._core import alloc

pytestmark = pytest.mark.core

SIZES = st.one_of(
    st.integers(1, 2**63 - 1), st.integers(1, 100), st.integers(2**62, 2**63 - 1), st.integers(1, 2**31)
)
TAME = st.floats(1e-3, 1e12)
RATES = st.one_of(TAME, st.just(0.0), st.sampled_from([1.0, 1e6, 12.5e6, 1.25e10]))
WILD = st.one_of(st.floats(0.0, 1.7e308), st.sampled_from([0.0, 5e-324, 1e-300, 1.7e308]))
DELAYS = st.one_of(st.floats(0.0, 100.0), st.just(0.0), st.sampled_from([0.01, 0.5, 1e9]))


def check_chunks(chunks: list[int], size: int) -> None:
    assert sum(chunks) == size
    assert all(isinstance(c, int) and c >= 0 for c in chunks)


@given(size=SIZES, paths=st.lists(st.tuples(RATES, DELAYS), min_size=1, max_size=16))
@settings(max_examples=600)
def test_water_filling_is_within_a_byte_of_the_exact_solution(size, paths):
    rates, delays = [r for r, _ in paths], [d for _, d in paths]
    chunks = alloc.water_filling(size, rates, delays)
    check_chunks(chunks, size)
    exact = (
        reference.water_shares(size, rates, delays)
        if any(rates)
        else reference.proportional_shares(size, rates)
    )
    # Streams whose exact share is under a byte are dropped; with all 16 near that, bytes move among them.
    if all(share == 0 or share >= 1 for share in exact):
        for chunk, share in zip(chunks, exact, strict=True):
            assert abs(chunk - share) <= 1
    for chunk, share in zip(chunks, exact, strict=True):
        assert abs(chunk - share) <= 1 + sum(1 for s in exact if 0 < s < 1)


@given(size=SIZES, weights=st.lists(RATES, min_size=1, max_size=16))
@settings(max_examples=400)
def test_proportional_is_within_a_byte_of_the_exact_shares(size, weights):
    chunks = alloc.proportional(size, weights)
    check_chunks(chunks, size)
    exact = reference.proportional_shares(size, weights)
    small = sum(1 for s in exact if 0 < s < 1)
    for chunk, share in zip(chunks, exact, strict=True):
        assert abs(chunk - share) <= 1 + small


@given(size=SIZES, rates=st.lists(WILD, min_size=1, max_size=16), seed=st.randoms(use_true_random=False))
@settings(max_examples=400)
def test_wild_metrics_still_give_exact_sums(size, rates, seed):
    delays = [seed.choice([0.0, 1e-300, 0.1, 1e9, 1e300, 1.7e308]) for _ in rates]
    check_chunks(alloc.water_filling(size, rates, delays), size)
    check_chunks(alloc.proportional(size, rates), size)


@given(
    size=st.integers(1, 10**12),
    paths=st.lists(st.tuples(st.floats(1e3, 1e9), st.floats(0.0, 5.0)), min_size=1, max_size=8),
    minimum=st.integers(1, 10**9),
)
@settings(max_examples=300)
def test_no_chunk_falls_under_the_minimum(size, paths, minimum):
    rates, delays = [r for r, _ in paths], [d for _, d in paths]
    for chunks in (
        alloc.water_filling(size, rates, delays, min_chunk_bytes=minimum),
        alloc.proportional(size, rates, min_chunk_bytes=minimum),
    ):
        check_chunks(chunks, size)
        used = [c for c in chunks if c]
        assert len(used) == 1 or min(used) >= minimum - 1  # rounding may take a byte


@given(
    size=st.integers(10**6, 10**15),
    paths=st.lists(st.tuples(st.floats(1e3, 1e9), st.floats(0.0, 5.0)), min_size=2, max_size=8),
)
@settings(max_examples=300)
def test_water_filling_finishes_no_later_than_proportional_or_any_single(size, paths):
    rates, delays = [r for r, _ in paths], [d for _, d in paths]

    def time(chunks):
        return alloc.estimate_completion_s(chunks, rates, delays)

    filled = time(alloc.water_filling(size, rates, delays))
    assert filled <= time(alloc.proportional(size, rates)) * (1 + 1e-9) + 1e-3
    for i in range(len(rates)):
        assert filled <= time([size if k == i else 0 for k in range(len(rates))]) * (1 + 1e-9) + 1e-3
    # Rounding by one byte costs at most that byte's time.
    level = float(reference.water_level(size, rates, delays))
    assert filled == pytest.approx(level, rel=1e-9, abs=2 / min(rates))


def test_known_splits():
    assert alloc.proportional(10, [1, 1, 1]) == [4, 3, 3]
    assert alloc.proportional(100, [0.0, 0.0]) == [50, 50]
    assert alloc.proportional(100, [3.0, 0.0, 1.0]) == [75, 0, 25]
    assert alloc.water_filling(100, [10.0, 10.0], [0.0, 100.0]) == [100, 0]
    assert alloc.water_filling(100, [10.0, 10.0], [0.0, 2.0]) == [60, 40]
    assert alloc.water_filling(1, [1.0] * 16, [0.0] * 16) == [1] + [0] * 15
    assert sum(alloc.water_filling(2**63 - 1, [1.0] * 16, [0.0] * 16)) == 2**63 - 1


def test_completion_estimate():
    assert alloc.estimate_completion_s([100, 0], [10.0, 0.0], [0.5, 9.0]) == 10.5
    assert alloc.estimate_completion_s([100, 1], [10.0, 0.0], [0.5, 9.0]) == math.inf


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: alloc.proportional(0, [1.0]), ValueError, "size_bytes"),
        (lambda: alloc.proportional(2**63, [1.0]), ValueError, "size_bytes"),
        (lambda: alloc.proportional(1.5, [1.0]), TypeError, "size_bytes"),
        (lambda: alloc.proportional(True, [1.0]), TypeError, "size_bytes"),
        (lambda: alloc.proportional(1, []), ValueError, "weights"),
        (lambda: alloc.proportional(1, [1.0] * 17), ValueError, "weights"),
        (lambda: alloc.proportional(1, [math.nan]), ValueError, r"weights\[0\]"),
        (lambda: alloc.proportional(1, [1.0, -1.0]), ValueError, r"weights\[1\]"),
        (lambda: alloc.water_filling(1, [math.inf], [0.0]), ValueError, "rates_Bps"),
        (lambda: alloc.water_filling(1, [1.0], [0.0, 1.0]), ValueError, "delays_s"),
        (lambda: alloc.water_filling(1, [1.0], [0.0], min_chunk_bytes=0), ValueError, "min_chunk_bytes"),
        (lambda: alloc.estimate_completion_s([1], [1.0, 2.0], [0.0, 0.0]), ValueError, "chunk_sizes"),
    ],
)
def test_bad_arguments(call, error, text):
    with pytest.raises(error, match=text):
        call()


EXTREME = st.sampled_from([0.0, 5e-324, 2.2e-308, 1e-199, 1.0, 12.5e6, 1e100, 1e308, 1.7e308])


@given(
    size=SIZES,
    paths=st.lists(st.tuples(st.one_of(EXTREME, RATES), st.one_of(EXTREME, DELAYS)), min_size=1, max_size=16),
)
@settings(max_examples=500)
def test_extremes_too_are_within_a_byte_of_the_exact_solution(size, paths):
    # A rate under 1e-200 counts as zero: that is the one thing the exact solution is not asked.
    rates = [r if r >= 1e-200 else 0.0 for r, _ in paths]
    delays = [d for _, d in paths]
    chunks = alloc.water_filling(size, [r for r, _ in paths], delays)
    check_chunks(chunks, size)
    if any(rates):
        exact = reference.water_shares(size, rates, delays)
        small = sum(1 for s in exact if 0 < s < 1)
        for chunk, share in zip(chunks, exact, strict=True):
            assert abs(chunk - share) <= 1 + small


def test_extremes_that_cancel():
    assert alloc.water_filling(2**63 - 3, [1e308, 1.0, 2.2e-308], [1.0, 0.0, 5e-324]) == [2**63 - 4, 1, 0]
    assert alloc.water_filling(1000, [1.0, 1e308], [0.0, 4.0]) == [4, 996]
