"""The scenarios that come with the trainer: worlds of any kind, over any number of paths."""

from __future__ import annotations

import numpy as np
import pytest

from itp._core.sim.world import ARRIVAL_KINDS, SIZE_KINDS
from itp.sim import scenario
from itp.sim.simulator import Simulator
from itp_training.collect import OWN

WIDE = scenario.load(OWN["anything"])


@pytest.mark.parametrize("n", [1, 2, 4, 16])
@pytest.mark.parametrize("order", ["fifo", "srpt"])
def test_anything_runs(n: int, order: str) -> None:
    sim = Simulator(WIDE, 40, n_streams=n, service_order=order, load={"log_uniform": [0.01, 1.1]}, tasks=30)
    while not sim.done.all():
        sim.step_masks(*sim.choose("least_completion_time"))
        assert np.isfinite(sim.states).all()


def test_anything_is_wide() -> None:
    worlds = WIDE.sample(range(4000))
    asked = worlds.workload
    kinds = set(range(len(SIZE_KINDS))) - {SIZE_KINDS.index("recorded")}
    assert set(asked["size_kind"]) == kinds
    assert set(asked["arrivals"]) == {ARRIVAL_KINDS.index(kind) for kind in ARRIVAL_KINDS[:4]}
    rate = worlds.links["rate_Bps"][:, :4]
    mbit = rate.sum(axis=1) * 8e-6
    assert np.quantile(mbit, [0.02, 0.98]) == pytest.approx([3.6, 41_000], rel=0.25)
    ratio = rate.max(axis=1) / rate.min(axis=1)
    assert (ratio < 1.3).mean() > 0.05
    assert (ratio > 10).mean() > 0.1
    rtt_ms = 1e3 * (worlds.paths["delay_s"] + worlds.paths["ack_delay_s"])
    assert np.quantile(rtt_ms, [0.02, 0.98]) == pytest.approx([1.14, 528], rel=0.1)
    for share in (
        worlds.paths["loss"] > 0,
        worlds.paths["up_s"] > 0,
        worlds.paths["shared"] >= 0,
        asked["deadline_share"] == 0,
        asked["priority_low"] == asked["priority_high"],
    ):
        assert 0.05 < share.mean() < 0.8


def test_links_change_slowly_compared_with_tasks() -> None:
    # So worlds whose tasks take minutes cost the simulator no more than those whose tasks take milliseconds.
    worlds = WIDE.with_options(load=1.0).sample(range(4000))
    task_s = 1 / worlds.workload["arrivals_per_s"]
    tau_s = np.where(worlds.links["noise"] > 0, worlds.links["noise_tau_s"], np.inf)
    assert (tau_s >= 19.9 * task_s[:, None]).all()
