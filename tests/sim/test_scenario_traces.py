"""Schedules, traces and region tables: the rows they become."""

import gzip
import math

import numpy as np
import pytest
from scipy import stats

from itp import ScenarioError
from itp.sim.scenario import load

pytestmark = pytest.mark.core

GOODPUT = 125000 * 1448 / 1500


def world(tables):
    return load(tables).sample([1])


def rows_of(worlds, j=0):
    link = worlds.links[0, j]
    return worlds.rows[link["row_first"] : link["row_first"] + link["row_count"]], link["loop_s"]


def test_schedule():
    schedule = [[0], [1, 0], [2, 50, 30, 2], [3, None, None, None, 0.5]]
    base = {"rate_mbit": 100, "delay_ms": 10, "loss_pct": 1}
    rows, loop_s = rows_of(world({"paths": [{**base, "schedule": schedule}]}))
    assert loop_s == 0
    nan = math.nan
    expected = [
        [0, nan, nan, nan, nan],
        [1, 0, nan, nan, nan],
        [2, 50, 0.03, 0.02, nan],
        [3, 50, 0.03, 0.02, 0.5],
    ]
    scale = np.array([1, GOODPUT, 1, 1, 1])
    assert np.allclose(rows, np.array(expected) * scale, equal_nan=True)
    # With a loop, what the first row leaves unsaid is the base value in every round.
    rows, loop_s = rows_of(world({"paths": [{**base, "schedule": schedule, "loop_s": 4}]}))
    assert loop_s == 4
    expected = [
        [0, 100, 0.01, 0.01, 0],
        [1, 0, 0.01, 0.01, 0],
        [2, 50, 0.03, 0.02, 0],
        [3, 50, 0.03, 0.02, 0.5],
    ]
    assert np.allclose(rows, np.array(expected) * scale)


def test_schedule_loss_comes_on_top_of_bursts():
    ge = {"loss_pct": 10, "burst_packets": 3}
    rows, _ = rows_of(world({"paths": [{"rate_mbit": 1, "ge": ge, "schedule": [[0, None, None, 20]]}]}))
    assert rows[0, 3] == pytest.approx(1 - 0.9 * 0.8)


def test_files_lie_beside_the_scenario(tmp_path):
    (tmp_path / "day.sched").write_text("# t rate\n0 - - - 0.5\n1.5 30 # half\nloop 9\n")
    (tmp_path / "s.json").write_text(
        '{"paths": [{"rate_mbit": 60, "schedule": "day.sched"}, {"trace": "t.trace"}]}'
    )
    (tmp_path / "t.trace").write_text("50\n50\n100\n150\n")
    worlds = load(tmp_path / "s.json").sample([1])
    rows, loop_s = rows_of(worlds)
    assert loop_s == 9
    assert rows[:, 0].tolist() == [0, 1.5]
    assert rows[:, 1] == pytest.approx(np.array([60, 30]) * GOODPUT)
    rows, loop_s = rows_of(worlds, 1)
    # 3 packets in the first 100 ms, one in the 50 ms that are left.
    assert loop_s == 0.15
    assert rows[:, 0].tolist() == [0, 0.1]
    assert rows[:, 1] == pytest.approx(np.array([3 * 1448 / 0.1, 1448 / 0.05]))
    assert worlds.links["rate_Bps"][0, 1] == pytest.approx(4 * 1448 / 0.15)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("heading", [False, True])
def test_csv_trace(tmp_path, packed, heading):
    text = ("t,mbit\n" if heading else "") + "10,5\n10.5,15\n12,40\n\n"
    path = tmp_path / ("t.csv.gz" if packed else "t.csv")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    worlds = world({"paths": [{"trace": str(path), "trace_mean_mbit": 100}]})
    rows, loop_s = rows_of(worlds)
    assert loop_s == 3
    assert rows[:, 0].tolist() == [0, 0.5, 2]
    mean = (0.5 * 5 + 1.5 * 15 + 40) / 3
    assert rows[:, 1] == pytest.approx(np.array([5, 15, 40]) * 100 / mean * GOODPUT)
    assert worlds.links["rate_Bps"][0, 0] == pytest.approx(100 * GOODPUT)
    assert worlds.capacity_Bps[0] == pytest.approx(100 * GOODPUT)


def test_many_traces_and_starts(tmp_path):
    rows = [f"{name},{t},{10 * k + t}" for k, name in enumerate(("a", "b,c", "d")) for t in range(6)]
    (tmp_path / "t.csv").write_text("trace,t_s,mbit\n" + "\n".join(rows))
    one = {"paths": [{"rate_mbit": 1, "rtt_ms": 9}]}
    with pytest.raises(ScenarioError, match="names no trace"):
        load(one, trace=tmp_path / "t.csv")
    scenario = load({"paths": [{"trace": "x", "trace_starts": 3}] * 2}, trace=tmp_path / "t.csv")
    worlds = scenario.sample(range(3000))
    assert worlds.rows.shape == (3 * 3 * 6, 5)
    starts = worlds.rows[worlds.links["row_first"], 1] / GOODPUT
    values, counts = np.unique(starts[:, 0].round(6), return_counts=True)
    assert values.tolist() == [0, 2, 4, 10, 12, 14, 20, 22, 24]
    assert stats.chisquare(counts).pvalue > 1e-3
    assert (starts[:, 0] == starts[:, 1]).mean() < 0.2
    block = worlds.rows[worlds.links["row_first"][np.argmax(starts[:, 0] == starts[:, 0].max()), 0] :][:6]
    assert block[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert block[:, 1] / GOODPUT == pytest.approx([24, 25, 20, 21, 22, 23])


def test_traces_of_ones_own(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("0,1\n1,3\n2,2\n")
    for name in ("trace-driven", "mixed"):
        worlds = load(name, trace=path).sample(range(50))
        own = worlds.links[worlds.links["row_count"] > 0]
        assert set(own["row_count"]) == {3}
        assert set(own["loop_s"]) == {3}
    assert worlds.capacity_Bps.min() > 0


def test_regions_of_ones_own(tmp_path):
    path = tmp_path / "grid.csv"
    path.write_text(
        "src_region,dst_region,throughput_jan_mbit,throughput_nov_mbit,rtt_min_ms,rtt_avg_ms\n"
        "a,b,1,100,9,10\nb,a,300,,,40\na,c,70,70,,\nc,a,,,5,5\n"
    )
    worlds = load("inter-region", regions=path).sample(range(300))
    rates, delays = worlds.links["rate_Bps"], worlds.paths["delay_s"]
    assert np.allclose(rates.sum(axis=1), 200 * GOODPUT)
    assert set(delays.ravel().round(6)) == {0.005, 0.020}
    ratio = rates.max(axis=1) / rates.min(axis=1)
    assert set(ratio.round(6)) == {1, 3}
    assert np.array_equal(rates.argmax(axis=1), delays.argmax(axis=1))
