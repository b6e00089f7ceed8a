"""What a world's paths carry together, and the mean size of its tasks."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from itp.sim.scenario import load
from itp.sim.scenario.capacity import positive_part

pytestmark = pytest.mark.core

PLAIN = {"paths": [{"rate_mbit": 100, "rtt_ms": 20}, {"rate_mbit": 50, "rtt_ms": 80}]}
GOODPUT = 125000 * 1448 / 1500


def world(tables):
    return load(tables).sample([1])


@pytest.mark.parametrize(
    ("keys", "mbit"),
    [
        ({}, 100),
        ({"load": 0.3}, 70),
        ({"load": 0.3, "burst_ms": [100, 300]}, 77.5),  # bursts of 1.2 are cut at 0.9
        ({"load": 0.1, "day": {"load": 0.4, "peak": 0}}, 70),
        ({"loss_pct": 1}, 99),
        ({"outages": [[1, 2]], "outage_period_s": 10}, 80),
        ({"outages": [[1, 2]]}, 100),
        ({"random_outages": {"up_s": 8, "down_s": 2}}, 80),
        ({"schedule": [[0, 50], [1, 150, None, None, 0.5]], "loop_s": 4}, 68.75),
        ({"noise": {"sd": 0.1, "tau_s": 1}}, 100 - 10 / math.sqrt(2 * math.pi)),
        ({"noise": {"sd": 0.1, "tau_s": 1}, "load": 0.5}, 50),
        ({"loss_pct": 0.5, "cc": "cubic", "rtt_ms": 40}, None),
    ],
)
def test_capacity(keys, mbit):
    capacity = world({"paths": [{"rate_mbit": 100, **keys}]}).capacity_Bps[0]
    expected = 1.22 * 1448 / (0.04 * math.sqrt(0.005)) * 0.995 if mbit is None else mbit * GOODPUT
    assert capacity == pytest.approx(expected, rel=1e-4)


def test_positive_part():
    rng = np.random.default_rng(2)
    for mean, sd in ((0.0, 0.1), (0.2, 0.1), (0.05, 0.3), (0.7, 0.0), (0.5, 1e-12)):
        drawn = np.maximum(mean + sd * rng.standard_normal(400_000), 0).mean()
        assert positive_part(np.array([mean]), np.array([sd]))[0] == pytest.approx(drawn, abs=1e-3)


SIZES = [
    {"kind": "fixed", "bytes": 3000},
    {"kind": "fixed", "bytes": 3000, "max_bytes": 1000},
    {"kind": "exponential", "mean_bytes": 5000, "min_bytes": 1000, "max_bytes": 9000},
    {"kind": "exponential", "mean_bytes": 5000},
    {"kind": "lognormal", "median_bytes": 5000, "sigma": 1.3, "min_bytes": 2000, "max_bytes": 40000},
    {"kind": "lognormal", "median_bytes": 5000, "sigma": 0},
    {"kind": "pareto", "shape": 1.1, "min_bytes": 50e3, "max_bytes": 50e6},
    {"kind": "pareto", "shape": 1, "min_bytes": 50e3, "max_bytes": 50e6},
    {"kind": "pareto", "shape": 0.5, "min_bytes": 50e3, "max_bytes": 50e6},
    {"kind": "pareto", "shape": 3, "min_bytes": 7, "max_bytes": 7},
    {"kind": "log_uniform", "min_bytes": 1e3, "max_bytes": 1e9},
    {"kind": "log_uniform", "min_bytes": 5, "max_bytes": 5},
]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_mean_size(size):
    worlds = world({**PLAIN, "workload": {"size": size, "load": 0.5}})
    asked = worlds.workload[0]
    low, high = size.get("min_bytes", 1), size.get("max_bytes", 2**50)
    assert (asked["size_min"], asked["size_max"]) == (low, high)
    if size["kind"] == "fixed":
        mean = min(max(size["bytes"], low), high)
    elif low == high or size.get("sigma") == 0:
        mean = size.get("median_bytes", low)
    elif size["kind"] in ("pareto", "log_uniform"):
        b = size.get("shape", 0)
        assert asked["size_a"] == low
        assert asked["size_b"] == b
        over_log = [
            integrate.quad(
                lambda t, p=p: math.exp(p * t), math.log(low), math.log(high), epsabs=0, limit=200
            )[0]
            for p in (1 - b, -b)
        ]
        mean = over_log[0] / over_log[1]
    else:
        law = (
            stats.expon(scale=5000)
            if size["kind"] == "exponential"
            else stats.lognorm(size["sigma"], scale=5000)
        )
        top = min(high, law.isf(1e-12))
        mean = low + integrate.quad(law.sf, low, top, epsabs=0, limit=500)[0]
    assert asked["arrivals_per_s"] == pytest.approx(0.5 * worlds.capacity_Bps[0] / mean, rel=1e-6)
