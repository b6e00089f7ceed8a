"""Worlds at other rates."""

import numpy as np
import pytest

from itp import ScenarioError
from itp.policies.episodes import run
from itp.policies.names import make
from itp.sim.scenario import FAMILIES, load
from itp.sim.simulator import Simulator

pytestmark = pytest.mark.core

SEEDS = range(1_000_000, 1_000_020)


@pytest.mark.parametrize("family", FAMILIES)
def test_rates_are_scaled_and_all_else_stays(family):
    plain, fast = load(family).sample(SEEDS), load(family).with_options(rate_scale=10).sample(SEEDS)
    used = [*range(plain.n_streams), *{*plain.paths["shared"].flat} - {-1}]
    rates = [worlds.links["rate_Bps"][:, used] for worlds in (plain, fast)]
    np.testing.assert_allclose(rates[1], 10 * rates[0], rtol=1e-12)
    np.testing.assert_allclose(fast.rows, plain.rows * [1, 10, 1, 1, 1], rtol=1e-12)
    # What CUBIC loses to losses does not grow with the rate.
    limited = ((plain.paths["cc"] == 0) & (plain.paths["loss"] > 0)).any(axis=1)
    gain = fast.capacity_Bps / plain.capacity_Bps
    np.testing.assert_allclose(gain[~limited], 10, rtol=1e-9)
    assert (gain <= 10 + 1e-9).all()
    # The same sizes at the same share of the capacity arrive that much more often.
    arrivals = [worlds.workload["arrivals_per_s"] for worlds in (plain, fast)]
    np.testing.assert_allclose(arrivals[1], gain * arrivals[0], rtol=1e-9)
    for before, after, scaled in (
        (plain.links, fast.links, {"rate_Bps"}),
        (plain.paths, fast.paths, set()),
        (plain.workload, fast.workload, {"arrivals_per_s"}),
    ):
        for name in set(before.dtype.names) - scaled:
            np.testing.assert_allclose(after[name], before[name], rtol=1e-12, err_msg=name)


def test_background_traffic_and_shared_links_are_scaled():
    tables = {
        "paths": [{"rtt_ms": 20}, {"rate_mbit": 50, "rtt_ms": 80}],
        "shared": [{"paths": [1], "rate_mbit": {"uniform": [20, 60]}}],
        "background": [{"path": 2, "udp_mbit": 5}],
    }
    plain, fast = load(tables).sample(SEEDS), load(tables).with_options(rate_scale=4).sample(SEEDS)
    np.testing.assert_array_equal(fast.links["udp_Bps"], 4 * plain.links["udp_Bps"])
    assert (plain.links["udp_Bps"][:, 1] > 0).all()
    np.testing.assert_array_equal(fast.links["rate_Bps"], 4 * plain.links["rate_Bps"])
    np.testing.assert_allclose(fast.capacity_Bps, 4 * plain.capacity_Bps, rtol=1e-12)


def test_queues_in_bytes_stay_in_bytes():
    queues = [
        load({"paths": [{"rate_mbit": 100, "rtt_ms": 20, **keys}]}).with_options(rate_scale=scale).sample([1])
        for keys in ({"queue_bytes": 250_000}, {"queue_ms": 30})
        for scale in (1.0, 4.0)
    ]
    assert [worlds.paths["queue_s"][0, 0] for worlds in queues] == pytest.approx([0.02, 0.005, 0.03, 0.03])


def test_what_the_simulator_carries_is_scaled():
    paths = [{"rate_mbit": 40, "rtt_ms": 10, "load": 0.25}, {"rate_mbit": 20, "rtt_ms": 30}]
    scenario = load({"paths": paths, "workload": {"load": 0.5}})
    slow, quick = (
        Simulator(scenario.with_options(rate_scale=scale), seeds=[5], tasks=400) for scale in (1.0, 8.0)
    )
    assert quick.world()["capacity_Bps"] == pytest.approx(8 * slow.world()["capacity_Bps"])
    outcomes = [np.sort(run(sim, make("pull")), order="task") for sim in (slow, quick)]
    np.testing.assert_array_equal(outcomes[0]["size_bytes"], outcomes[1]["size_bytes"])
    spans_s = [done["arrived_at_s"][-1] for done in outcomes]
    assert spans_s[0] == pytest.approx(8 * spans_s[1])


def test_scale_one_changes_nothing():
    scenario = load("mixed")
    there_and_back = scenario.with_options(rate_scale=4.0).with_options(rate_scale=0.25)
    for same in (scenario.with_options(rate_scale=1.0), there_and_back):
        for name in ("links", "paths", "workload", "rows", "capacity_Bps"):
            np.testing.assert_array_equal(
                getattr(same.sample(SEEDS), name), getattr(scenario.sample(SEEDS), name)
            )


@pytest.mark.parametrize("scale", [0.0, -2.0, float("nan"), float("inf"), 1e-4, 1e4, True, "fast"])
def test_wrong_scales_are_refused(scale):
    with pytest.raises(ScenarioError, match="rate_scale"):
        load("lossy").with_options(rate_scale=scale)


def test_a_list_of_tasks_cannot_keep_its_load():
    listed = load({"paths": [{"rate_mbit": 10, "rtt_ms": 5}], "workload": {"tasks": [[0, 1000]]}})
    with pytest.raises(ScenarioError, match="a list of tasks"):
        listed.with_options(rate_scale=2.0)
    assert listed.with_options(rate_scale=1.0).n_tasks == 1
