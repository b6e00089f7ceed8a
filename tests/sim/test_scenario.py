"""Scenarios: what they load, and the worlds they draw."""

import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import itp.sim.scenario
from itp import ScenarioError
from itp._core.sim.world import SIZE_KINDS
from itp.sim.scenario import FAMILIES, LINK, PATH, WORKLOAD, load
from itp.sim.scenario.capacity import mean_size_bytes

pytestmark = pytest.mark.core

PLAIN = {"paths": [{"rate_mbit": 100, "rtt_ms": 20}, {"rate_mbit": 50, "rtt_ms": 80}]}
GOODPUT = 125000 * 1448 / 1500


def world(tables, seed=1, **options):
    return load(tables, **options).sample([seed])


def arrays(worlds):
    return [worlds.seeds, worlds.links, worlds.paths, worlds.workload, worlds.capacity_Bps]


# --- families ---


def test_families_are_the_shipped_files():
    shipped = Path(itp.sim.scenario.__file__).with_name("families").glob("*.toml")
    assert sorted(FAMILIES) == sorted(path.stem for path in shipped)


@pytest.mark.parametrize("name", FAMILIES)
def test_family(name):
    scenario = load(name)
    assert (scenario.name, scenario.n_streams, scenario.n_tasks) == (name, 4, 200)
    assert scenario.about
    assert scenario.warnings == ()
    assert (scenario.service_order, scenario.stealing) == ("fifo", False)
    srpt = scenario.with_options(service_order="srpt")
    assert (srpt.service_order, srpt.stealing) == ("srpt", True)
    worlds = scenario.sample(range(2000))
    assert worlds.links.dtype == LINK
    assert worlds.paths.dtype == PATH
    assert worlds.workload.dtype == WORKLOAD
    assert all(dtype.itemsize == 8 * len(dtype.names) for dtype in (LINK, PATH, WORKLOAD))
    for table in (worlds.links, worlds.paths, worlds.workload):
        for field in table.dtype.names:
            assert np.isfinite(table[field]).all(), field
    # What the world can carry at its nominal rates, shared links taken into account.
    own, shared = worlds.links["rate_Bps"][:, :4], worlds.paths["shared"]
    nominal = np.where(shared < 0, own, 0).sum(axis=1)
    for j in range(4, worlds.links.shape[1]):
        nominal += np.minimum(np.where(shared == j, own, 0).sum(axis=1), worlds.links["rate_Bps"][:, j])
    assert nominal.mean() / GOODPUT == pytest.approx(200, rel=0.03)
    assert (worlds.capacity_Bps <= nominal).all()
    assert (worlds.capacity_Bps > 0.15 * nominal).all()
    load_asked = worlds.workload["arrivals_per_s"] * mean_of(worlds) / worlds.capacity_Bps
    low, high = (0.3, 0.9) if name == "mixed" else (0.6, 0.6)
    assert load_asked.min() == pytest.approx(low, abs=1e-2)
    assert load_asked.max() == pytest.approx(high, abs=1e-2)
    assert load_asked.mean() == pytest.approx(0.6, abs=0.02)
    assert 300e3 < mean_of(worlds).mean() < 600e3
    assert (worlds.links["noise"][:, 0] > 0).all()
    busy = worlds.links["load"] + worlds.links["day_load"]
    assert busy.max() < 1


def mean_of(worlds):
    asked = worlds.workload
    kind = SIZE_KINDS[asked["size_kind"][0]]
    return mean_size_bytes(kind, asked["size_a"], asked["size_b"], asked["size_min"], asked["size_max"])


def test_families_have_what_they_are_named_for():
    worlds = {name: load(name).sample(range(500)) for name in FAMILIES}
    het = worlds["heterogeneous"]
    rates = np.sort(het.links["rate_Bps"], axis=1) / GOODPUT
    assert np.allclose(rates.mean(axis=0), [20, 30, 50, 100], rtol=0.1)
    rtt_ms = 1e3 * (het.paths["delay_s"] + het.paths["ack_delay_s"])
    assert 10 <= rtt_ms.min() < 12
    assert 140 < rtt_ms.max() <= 150
    assert len(set(het.links["rate_Bps"].argmax(axis=1))) == 4
    assert ((worlds["shared-bottleneck"].paths["shared"] == 4).sum(axis=1) == 2).all()
    lossy = worlds["lossy"].paths
    assert lossy["loss"].min() >= 0.001
    assert lossy["loss"].max() <= 0.02
    assert set(lossy["cc"].ravel()) == {0, 1}
    assert (lossy["burst_packets"] > 1).any(axis=1).all()
    assert ((worlds["flaky"].paths["up_s"] > 0).sum(axis=1) == 2).all()
    assert (worlds["bursts"].links["burst_on_s"] > 0).all()
    assert (worlds["time-of-day"].links["day_load"].max(axis=1) >= 0.4).all()
    assert len(np.unique(worlds["time-of-day"].workload["day_start"])) == 500
    assert (worlds["trace-driven"].links["row_count"] == 60).all()
    assert len(np.unique(worlds["trace-driven"].links["row_first"])) > 90
    mixed = worlds["mixed"]
    for feature in (
        mixed.paths["shared"] >= 0,
        mixed.paths["up_s"] > 0,
        mixed.paths["cc"] == 0,
        mixed.links["burst_on_s"] > 0,
        mixed.links["day_load"] > 0,
        mixed.links["row_count"] > 0,
    ):
        assert 0.03 < feature.any(axis=1).mean() < 0.3


# --- sampling ---


@pytest.mark.parametrize("name", [*FAMILIES, "sixteen"])
def test_world_depends_on_its_seed_alone(name):
    path = {
        "rate_mbit": {"log_uniform": [1, 1000]},
        "rtt_ms": {"uniform": [1, 300]},
        "loss_pct": {"choice": [0, 0.1, 1]},
        "cc": {"choice": ["cubic", "bbr"]},
        "load": {"uniform": [0, 0.9]},
        "noise": {"sd": {"uniform": [0, 0.5]}, "tau_s": 1},
    }
    size = {"kind": "lognormal", "median_bytes": {"log_uniform": [1e3, 1e6]}, "sigma": 1.5}
    sixteen = {"shuffle": True, "paths": [path] * 16, "workload": {"size": size}}
    scenario = load(sixteen if name == "sixteen" else name)
    alone = arrays(scenario.sample([9]))
    many = np.random.default_rng(1).permutation(300)
    many[217] = 9
    for seeds, at in (([5, 9], 1), (range(64), 9), (many, 217), (9, 0)):
        for a, b in zip(alone, arrays(scenario.sample(seeds)), strict=True):
            assert b[at].tobytes() == a[0].tobytes()
    for a, b in zip(alone, arrays(pickle.loads(pickle.dumps(scenario)).sample([9])), strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("name", ["trace-driven", "mixed"])
def test_worlds_share_rows_and_are_read_only(name):
    scenario = load(name)
    a, b = scenario.sample([1]), scenario.sample(range(100))
    assert np.shares_memory(a.rows, b.rows)
    for table in (a.links, a.paths, a.workload, a.capacity_Bps, a.seeds, a.rows, a.outages):
        assert not table.flags.writeable


@pytest.mark.parametrize(
    "seeds", [[-1], [2**64], np.array([-1]), np.array([1.0]), [[1], [2]], "a", [1.5], None]
)
def test_bad_seeds(seeds):
    with pytest.raises((TypeError, ValueError), match="seeds"):
        load("homogeneous").sample(seeds)


def test_seeds_of_64_bits():
    worlds = load("heterogeneous").sample([0, 1, 2**63, 2**64 - 1])
    assert worlds.seeds.tolist() == [0, 1, 2**63, 2**64 - 1]
    assert len(np.unique(worlds.links["rate_Bps"])) == 16


@pytest.mark.parametrize(
    ("entry", "law"),
    [
        ({"uniform": [20, 80]}, stats.uniform(20, 60)),
        ({"log_uniform": [2, 200]}, stats.loguniform(2, 200)),
    ],
)
def test_distributions(entry, law):
    links = load({"defaults": {"rate_mbit": entry}, "n_streams": 3}).sample(range(4000)).links
    rates = links["rate_Bps"] / GOODPUT
    for i in range(3):
        assert stats.kstest(rates[:, i], law.cdf).pvalue > 1e-3
    assert abs(np.corrcoef(rates.T)[0, 1:]).max() < 0.05


def test_choice_and_numbers_of_one_path_are_independent():
    path = {"rate_mbit": {"choice": [10, 20, 40]}, "rtt_ms": {"choice": [10, 100]}}
    worlds = load({"paths": [path]}).sample(range(6000))
    rates, delays = worlds.links["rate_Bps"][:, 0].round(), worlds.paths["delay_s"][:, 0]
    counts = [np.sum((rates == r) & (delays == d)) for r in np.unique(rates) for d in np.unique(delays)]
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > 1e-3


def test_units_of_a_path():
    tables = {
        "mtu": 1400,
        "defaults": {"rtt_ms": 30, "queue_ms": 40},
        "paths": [
            {
                "rate_mbit": 80,
                "jitter_ms": 2,
                "loss_pct": 1,
                "load": 0.25,
                "burst_ms": [200, 600],
                "noise": {"sd": 0.1, "tau_s": 3},
                "day": {"load": 0.2, "peak": 0.75},
                "outages": [[5, 1], [1, 2], [2.5, 1]],
                "outage_period_s": 10,
                "cc": "cubic",
                "ba": {"delay_ms": 70, "loss_pct": 50, "rate_mbit": 1},
            },
            {
                "rate_mbit": 8,
                "delay_ms": 0,
                "queue_bytes": 40000,
                "random_outages": {"up_s": 20, "down_s": 2},
            },
        ],
    }
    worlds = world(tables)
    link, path = worlds.links[0, 0], worlds.paths[0, 0]
    assert link["rate_Bps"] == pytest.approx(80 * 125000 * 1348 / 1400)
    assert [link[key] for key in ("load", "burst_on_s", "burst_off_s", "noise", "noise_tau_s")] == [
        0.25,
        0.2,
        0.6,
        0.1,
        3,
    ]
    assert (link["day_load"], link["day_peak"], link["row_count"], link["flows"]) == (0.2, 0.75, 0, 0)
    assert (path["delay_s"], path["ack_delay_s"], path["jitter_s"]) == pytest.approx((0.015, 0.07, 0.002))
    assert (path["loss"], path["burst_packets"], path["cc"], path["shared"]) == pytest.approx(
        (0.01, 1, 0, -1)
    )
    assert (path["up_s"], path["down_s"], path["outage_period_s"]) == (0, 0, 10)
    first = path["outage_first"]
    assert worlds.outages[first : first + path["outage_count"]].tolist() == [[1, 3.5], [5, 6]]
    assert path["queue_s"] == pytest.approx(0.04)
    other = worlds.paths[0, 1]
    assert (other["delay_s"], other["ack_delay_s"], other["cc"]) == (0, 0, 1)
    assert (other["up_s"], other["down_s"], other["outage_count"]) == (20, 2, 0)
    assert other["queue_s"] == pytest.approx(40000 / 1e6)


def test_queue_is_a_round_trip_by_default():
    paths = world(
        {"paths": [{"rate_mbit": 100, "rtt_ms": 60}, {"rate_mbit": 100, "rtt_ms": 4}, {"rate_mbit": 1}]}
    ).paths
    assert paths["queue_s"][0] == pytest.approx([0.06, 0.02, 10 * 1500 / 125000])


def test_burst_losses():
    ge = {"loss_pct": 2, "burst_packets": 5}
    paths = world({"defaults": {"rate_mbit": 9}, "paths": [{"ge": ge}, {"ge": ge, "loss_pct": 2}]}).paths[0]
    assert paths["loss"] == pytest.approx([0.02, 1 - 0.98**2])
    assert paths["burst_packets"] == pytest.approx([5, 4 / (2 / 5 + 2)])


def test_ab_is_the_direction_of_the_data():
    tables = {"paths": [{"ab": {"rate_mbit": 30, "delay_ms": 7}, "ba": {"rate_mbit": 4}, "rtt_ms": 50}]}
    worlds = world(tables)
    assert worlds.links["rate_Bps"][0, 0] == pytest.approx(30 * GOODPUT)
    assert (worlds.paths["delay_s"][0, 0], worlds.paths["ack_delay_s"][0, 0]) == (0.007, 0.025)


def test_round_trip_is_drawn_once():
    worlds = load({"paths": [{"rate_mbit": 1, "rtt_ms": {"uniform": [10, 90]}}]}).sample(range(50))
    assert np.array_equal(worlds.paths["delay_s"], worlds.paths["ack_delay_s"])


def test_shared_link():
    tables = {
        "defaults": {"rate_mbit": 100, "rtt_ms": 30},
        "paths": [{}, {"rate_mbit": 30}, {}],
        "shared": [{"paths": [3, 2], "rate_mbit": 60, "queue_ms": 90, "load": 0.1}],
    }
    worlds = world(tables)
    assert worlds.links.shape == (1, 4)
    assert worlds.paths["shared"].tolist() == [[-1, 3, 3]]
    assert worlds.paths["queue_s"][0] == pytest.approx([0.03, 0.03, 0.09])
    assert worlds.capacity_Bps[0] == pytest.approx((100 + 54) * GOODPUT)


def test_path_without_a_rate_of_its_own():
    tables = {"paths": [{"rtt_ms": 10}, {"rate_mbit": 5}], "shared": [{"paths": [1], "rate_mbit": 20}]}
    assert world(tables).links["rate_Bps"][0] == pytest.approx(np.array([20, 5, 20]) * GOODPUT)


def test_shuffle_moves_paths_as_a_whole():
    tables = {
        "shuffle": True,
        "paths": [{"rate_mbit": 10 * i, "rtt_ms": 10 * i, "loss_pct": i / 10} for i in range(1, 5)],
        "shared": [{"paths": [1, 2], "rate_mbit": 25}],
    }
    worlds = load(tables).sample(range(400))
    rates = worlds.links["rate_Bps"][:, :4] / GOODPUT
    assert np.allclose(worlds.paths["delay_s"] * 2000, rates)
    assert np.allclose(worlds.paths["loss"] * 1e4, rates)
    assert np.array_equal(worlds.paths["shared"] == 4, rates < 25)
    assert len(np.unique(rates.round(), axis=0)) == 24
    assert np.allclose(worlds.capacity_Bps / GOODPUT, 25 + 30 * 0.997 + 40 * 0.996)


def test_total_rate():
    tables = {"total_mbit": 200, "n_streams": 4, "defaults": {"rate_mbit": {"uniform": [1, 9]}}}
    rates = load(tables).sample(range(50)).links["rate_Bps"] / GOODPUT
    assert np.allclose(rates.sum(axis=1), 200)
    assert np.ptp(rates[:, 0]) > 20


def test_background():
    tables = {
        "defaults": {"rate_mbit": 100},
        "paths": [{}, {}, {}],
        "shared": [{"paths": [2], "rate_mbit": 80}],
        "background": [
            {"path": 1, "udp_mbit": 10, "flows": 2, "start_s": 3, "seconds": 4},
            {"path": 2, "flows": 3},
            {"path": 3, "dir": "ba", "udp_mbit": 50},
        ],
    }
    worlds = world(tables)
    links = worlds.links[0]
    assert links["udp_Bps"] == pytest.approx([20 * 1428 / 1400 * GOODPUT, 0, 0, 0])
    assert links["flows"].tolist() == [0, 3, 0, 3]
    assert links["background_start_s"].tolist() == [3, 0, 0, 0]
    assert links["background_end_s"].tolist() == [7, math.inf, 0, math.inf]
    assert worlds.capacity_Bps[0] == pytest.approx((100 + 20 + 100) * GOODPUT)


# --- workload and options ---


def test_workload_defaults_and_keys():
    asked = world(PLAIN).workload[0]
    assert SIZE_KINDS[asked["size_kind"]] == "pareto"
    assert [asked[key] for key in ("priority_low", "priority_high", "urgent", "deadline_share")] == [
        0.25,
        0.5,
        0.1,
        0.5,
    ]
    assert [asked[key] for key in ("deadline_low", "deadline_high", "day_s", "day_start")] == [
        2,
        20,
        86400,
        0,
    ]
    assert [asked[key] for key in ("estimate_noise", "stall_timeout_s", "warm", "arrivals")] == [
        0.1,
        0.5,
        1,
        0,
    ]
    workload = {
        "arrivals": "periodic",
        "priority": [0.2, 0.4],
        "urgent": 0,
        "deadline": {"share": 0, "low": 1, "high": 3},
        "day_s": 60,
        "day_start": {"uniform": [0.5, 0.6]},
        "estimate_noise": 0,
        "stall_timeout_s": 2,
        "warm": False,
    }
    asked = world({**PLAIN, "workload": workload}).workload[0]
    assert [asked[key] for key in ("priority_low", "priority_high", "urgent", "deadline_share")] == [
        0.2,
        0.4,
        0,
        0,
    ]
    assert [asked[key] for key in ("deadline_low", "deadline_high", "day_s")] == [1, 3, 60]
    assert 0.5 < asked["day_start"] < 0.6
    assert [asked[key] for key in ("estimate_noise", "stall_timeout_s", "warm", "arrivals")] == [0, 2, 0, 1]


def test_explicit_tasks():
    rows = [[0, 1000], [0.5, 2000, 0.9], [0.5, 3000, 0.1, 4.0], [2, 5, 0, None]]
    scenario = load({**PLAIN, "workload": {"tasks": rows}})
    worlds = scenario.sample([1, 2])
    inf = math.inf
    assert worlds.tasks.tolist() == [
        [0, 1000, 0.5, inf],
        [0.5, 2000, 0.9, inf],
        [0.5, 3000, 0.1, 4],
        [2, 5, 0, inf],
    ]
    assert worlds.workload["task_count"].tolist() == [4, 4]
    assert worlds.n_tasks == 4
    assert scenario.with_options(tasks=2).sample([1]).n_tasks == 2
    for options in ({"load": 0.5}, {"tasks": 5}):
        with pytest.raises(ScenarioError):
            scenario.with_options(**options)


def test_options():
    scenario = load({**PLAIN, "service_order": "srpt", "tasks": 30, "seed": 7, "name": "n", "about": "a"})
    assert (scenario.name, scenario.about, scenario.seed, scenario.n_tasks) == ("n", "a", 7, 30)
    assert scenario.stealing
    assert not scenario.with_options(service_order="fifo").stealing
    fixed = scenario.with_options(stealing=False)
    assert not fixed.with_options(service_order="srpt").stealing
    twice = scenario.with_options(load=1.2, tasks=5)
    assert twice.sample([1]).workload["arrivals_per_s"] / scenario.sample([1]).workload["arrivals_per_s"] == 2
    assert twice.n_tasks == 5
    assert "grow without bound" in twice.warnings[0]
    assert scenario.warnings == ()
    assert len(np.unique(scenario.with_options(load={"uniform": [0.1, 0.2]}).sample(range(9)).workload)) == 9
    for options in (
        {"service_order": "lifo"},
        {"load": 0},
        {"load": math.nan},
        {"tasks": 0},
        {"tasks": 1.5},
        {"stealing": 1},
    ):
        with pytest.raises(ScenarioError, match=next(iter(options))):
            scenario.with_options(**options)
    assert load(scenario) is scenario
    with pytest.raises(ValueError, match="Scenario"):
        load(scenario, trace="x")
