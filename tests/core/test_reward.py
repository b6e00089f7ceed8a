"""The one reward: its formula, its bounds, its arguments."""

from __future__ import annotations

import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itp import RewardWeights
from itp._core.reward import reward, terms

pytestmark = pytest.mark.core

GOOD = {
    "size_bytes": 10**6,
    "reference_time_s": 0.5,
    "throughput_mbps": 8.0,
    "latency_s": 1.0,
    "success": True,
}


def test_formula():
    t = terms(**GOOD, retransmitted_bytes=250_000, imbalance=0.2)
    # The reference is 8 Mbit in 0.5 s: 16 Mbit/s.
    assert t["throughput"] == pytest.approx((8 - 16) / (8 + 16))
    assert t["latency"] == pytest.approx(1.0 / 1.5)
    assert t["imbalance"] == 0.2
    assert t["completion"] == 1.0
    assert t["retransmission"] == pytest.approx(0.2)
    total = t["throughput"] - 0.5 * t["latency"] - 0.3 * 0.2 + 2.0 - 1.0 * 0.2
    assert reward(RewardWeights(), **GOOD, retransmitted_bytes=250_000, imbalance=0.2) == pytest.approx(total)
    only = RewardWeights(throughput=0, latency=0, imbalance=0, completion=3, retransmission=0)
    assert reward(only, **GOOD) == 3.0


@given(
    size=st.integers(1, 2**63 - 1),
    reference=st.floats(1e-9, 1e12),
    throughput=st.floats(0, 1e18),
    latency=st.floats(0, 1e12),
    resent=st.integers(0, 2**63 - 1),
    imbalance=st.floats(0, 1),
    success=st.booleans(),
)
def test_every_term_is_bounded(size, reference, throughput, latency, resent, imbalance, success):
    t = terms(
        size_bytes=size,
        reference_time_s=reference,
        throughput_mbps=throughput,
        latency_s=latency,
        success=success,
        retransmitted_bytes=resent,
        imbalance=imbalance,
    )
    assert -1 <= t["throughput"] <= 1
    assert all(0 <= t[name] <= 1 for name in ("latency", "imbalance", "completion", "retransmission"))


def test_faster_is_better():
    slow = reward(RewardWeights(), **GOOD)
    assert reward(RewardWeights(), **{**GOOD, "throughput_mbps": 16.0, "latency_s": 0.5}) > slow
    assert reward(RewardWeights(), **{**GOOD, "success": False}) < slow
    assert reward(RewardWeights(), **GOOD, retransmitted_bytes=10**6) < slow


def test_weights():
    weights = RewardWeights(latency=1.5)
    assert weights == pickle.loads(pickle.dumps(weights))
    assert weights != RewardWeights()
    assert weights.as_dict()["latency"] == 1.5
    assert "latency=1.5" in repr(weights)
    assert len({weights, RewardWeights(latency=1.5)}) == 1
    for bad in (math.nan, math.inf, -1.0):
        with pytest.raises(ValueError, match="completion"):
            RewardWeights(completion=bad)


@pytest.mark.parametrize(
    "change",
    [
        {"latency_s": math.nan},
        {"latency_s": -1.0},
        {"throughput_mbps": math.inf},
        {"reference_time_s": 0.0},
        {"size_bytes": 0},
        {"imbalance": 1.5},
        {"retransmitted_bytes": -1},
    ],
)
def test_bad_outcomes(change):
    with pytest.raises(ValueError):
        terms(**{**GOOD, **change})
