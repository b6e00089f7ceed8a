"""Scenarios as the lab reads them."""

import json

import numpy as np
import pytest

from itp import ScenarioError
from itp.sim.scenario import FAMILIES, load
from itp.sim.scenario.node import names

pytestmark = pytest.mark.core

# What the lab knows of a path.
LAB_KEYS = names(
    "about rate_mbit rtt_ms delay_ms jitter_ms loss_pct ge queue_ms queue_bytes trace schedule loop_s load "
    "burst_ms outages outage_period_s paths ab ba"
)
GOODPUT = 125000 * 1448 / 1500


def sides(scenario):
    for path in [*scenario["paths"], *scenario.get("shared", [])]:
        assert path.keys() <= LAB_KEYS
        for side in ("ab", "ba"):
            assert path[side].keys() <= LAB_KEYS
            yield side, path[side]


@pytest.mark.parametrize("name", FAMILIES)
def test_families(name):
    scenario = load(name)
    for seed in range(12):
        lab = json.loads(json.dumps(scenario.wanlab(seed, horizon_s=30), allow_nan=False))
        assert lab["seed"] == seed
        assert len(lab["paths"]) == 4
        for side, link in sides(lab):
            assert link["rate_mbit"] > 0
            assert link["queue_bytes"] >= 15000
            if side == "ab":
                rows = np.array(
                    [[np.nan if cell is None else cell for cell in row] for row in link["schedule"]]
                )
                assert rows[0, 0] == 0
                assert (np.diff(rows[:, 0]) > 0).all()
                assert 29 < rows[-1, 0] < 30
                assert (rows[:, 4] >= 0).all()
                assert (rows[:, 4] < 1).all()
            assert len(link.get("outages", [])) <= 64
            assert all(length > 0 for _, length in link.get("outages", []))


def test_the_world_is_the_same():
    scenario = load("shared-bottleneck")
    for seed in range(5):
        worlds, lab = scenario.sample([seed]), scenario.wanlab(seed)
        for i, path in enumerate(lab["paths"]):
            assert path["ab"]["rate_mbit"] * GOODPUT == pytest.approx(worlds.links["rate_Bps"][0, i])
            assert path["ab"]["delay_ms"] == pytest.approx(1e3 * worlds.paths["delay_s"][0, i])
            assert path["ba"]["delay_ms"] == pytest.approx(1e3 * worlds.paths["ack_delay_s"][0, i])
        members = [i + 1 for i in range(4) if worlds.paths["shared"][0, i] == 4]
        assert lab["shared"][0]["paths"] == members


def test_a_lab_scenario_says_the_same_again():
    tables = {
        "mtu": 1400,
        "seed": 5,
        "sysctl": {"net.ipv4.tcp_sack": "1"},
        "defaults": {"rtt_ms": 30},
        "paths": [
            {"rate_mbit": 80, "loss_pct": 1, "ge": {"loss_pct": 2, "burst_packets": 4}, "jitter_ms": 2},
            {"rate_mbit": 30, "schedule": [[0, None, 12, 2], [1, 0], [3, 30, None, None, 0.25]], "loop_s": 8},
            {"rate_mbit": 9, "load": 0.2, "burst_ms": [200, 300], "outages": [[4, 2]], "outage_period_s": 10},
            {"rate_mbit": 50, "queue_ms": 77, "ba": {"rate_mbit": 5, "delay_ms": 3}},
        ],
        "shared": [{"paths": [4, 1], "rate_mbit": 60, "queue_bytes": 123456}],
        "background": [
            {"path": 2, "udp_mbit": 3, "flows": 2, "start_s": 1, "seconds": 4},
            {"path": 3, "dir": "ba"},
        ],
    }
    scenario = load(tables)
    lab = scenario.wanlab(11)
    assert lab["sysctl"] == tables["sysctl"]
    assert lab["mtu"] == 1400
    assert lab["paths"][3]["ba"]["rate_mbit"] == 5
    assert lab["paths"][3]["ab"]["rate_mbit"] == 50
    again = load(json.loads(json.dumps(lab)))
    a, b = scenario.sample([11]), again.sample([11])
    for table in ("links", "paths"):
        x, y = getattr(a, table), getattr(b, table)
        for field in x.dtype.names:
            assert y[field] == pytest.approx(x[field], rel=1e-6), field
    assert b.rows == pytest.approx(a.rows, nan_ok=True)
    assert np.array_equal(a.outages, b.outages)
    assert again.wanlab(11)["paths"] == lab["paths"]


def test_statistics_of_what_the_lab_does_not_know():
    path = {
        "rate_mbit": 100,
        "load": 0.3,
        "noise": {"sd": 0.1, "tau_s": 2},
        "day": {"load": 0.2, "peak": 0.25},
        "random_outages": {"up_s": 40, "down_s": 8},
    }
    lab = load({"paths": [path], "workload": {"day_s": 40}}).wanlab(4, horizon_s=2000)["paths"][0]
    rows = np.array(lab["ab"]["schedule"], dtype=float)
    t, x = rows[:, 0], rows[:, 4]
    step = t[1]
    day = 0.1 * (1 + np.cos(2 * np.pi * ((t + 0.5 * step) / 40 - 0.25)))
    noise = x - 0.3 - day
    assert noise.std() == pytest.approx(0.1, rel=0.15)
    assert abs(noise.mean()) < 0.03
    lag = round(2 / step)
    assert np.corrcoef(noise[:-lag], noise[lag:])[0, 1] == pytest.approx(np.exp(-lag * step / 2), abs=0.1)
    assert "schedule" not in lab["ba"]
    assert lab["ba"]["outages"] == lab["ab"]["outages"]
    outages = np.array(lab["ab"]["outages"])
    assert 25 < len(outages) < 60
    assert 4 < outages[:, 1].mean() < 12


def test_bursts_keep_their_share():
    path = {"rate_mbit": 100, "load": 0.3, "burst_ms": [100, 200], "noise": {"sd": 0.1, "tau_s": 2}}
    link = load({"paths": [path]}).wanlab(4)["paths"][0]["ab"]
    assert link["burst_ms"] == [100, 200]
    rates, loads = np.array(link["schedule"], dtype=float)[:, [1, 4]].T
    assert (rates <= 100.0001).all()
    assert np.ptp(rates) > 5
    # A burst takes the same number of bits, whatever the noise takes.
    assert rates * loads == pytest.approx(np.full(len(rates), 30), rel=1e-6)


def test_more_outages_than_the_lab_takes():
    scenario = load({"paths": [{"rate_mbit": 9, "random_outages": {"up_s": 0.1, "down_s": 0.1}}]})
    with pytest.raises(ScenarioError, match="shorter horizon_s"):
        scenario.wanlab(1)
    assert len(scenario.wanlab(1, horizon_s=1)["paths"][0]["ab"]["outages"]) < 65


def test_arguments():
    scenario = load("homogeneous")
    for seed, horizon_s in (([1, 2], 1), (-1, 1), (1, 0), (1, np.nan), (1, 1e6)):
        with pytest.raises(ValueError, match=r"seed|horizon_s"):
            scenario.wanlab(seed, horizon_s=horizon_s)
