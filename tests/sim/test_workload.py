"""Workloads: how many paths, what sizes, when they arrive; as files say it and as the simulator does it."""

import copy
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import itp.sim.scenario
from itp import ScenarioError
from itp.sim.scenario import FAMILIES, WORKLOADS, load
from itp.sim.simulator import Simulator

pytestmark = pytest.mark.core

GOODPUT = 125000 * 1448 / 1500
DEFAULTS = {"rate_mbit": {"log_uniform": [10, 100]}, "rtt_ms": {"uniform": [5, 50]}}
PLAIN = {"paths": 4, "defaults": DEFAULTS}
LINE = {"paths": 1, "defaults": {"rate_mbit": 1000, "rtt_ms": 10}}


def asked(size=None, arrivals="poisson", load=0.5, **keys):
    workload = {"load": load, "arrivals": arrivals, **keys}
    return {**LINE, "workload": workload | ({"size": size} if size else {})}


def met(scenario, n_envs=40, tasks=5000, rule="least_completion_time", **options):
    """Sizes and times of arrival as the simulator has them, [n_envs, tasks]."""
    sim = Simulator(scenario, n_envs, tasks=tasks, **options)
    size, at_s = np.zeros((2, n_envs, tasks))
    while not sim.done.all():
        sim.step_masks(*sim.choose(rule))
        done = sim.completed()
        size[done["env"], done["task"]] = done["size_bytes"]
        at_s[done["env"], done["task"]] = done["arrived_at_s"]
    return size, at_s


# --- any number of paths ---


@pytest.mark.parametrize("n", range(1, 17))
def test_a_number_of_paths(n):
    scenario = load({**PLAIN, "paths": n})
    assert scenario.n_streams == n
    worlds = scenario.sample(range(50))
    assert worlds.links.shape == worlds.paths.shape == (50, n)
    rate = worlds.links["rate_Bps"] / GOODPUT
    assert ((rate >= 10) & (rate <= 100)).all()
    assert len(np.unique(rate)) == rate.size
    # The first paths are the same, however many there are, and however they are asked for.
    for other in (
        load(PLAIN, n_streams=n),
        load(PLAIN).with_options(n_streams=n),
        load({"n_streams": n, "defaults": DEFAULTS}),
    ):
        assert (other.sample(range(50)).links == worlds.links).all()
    fewer = load(PLAIN, n_streams=max(n - 1, 1)).sample(range(50))
    assert (fewer.paths == worlds.paths[:, : fewer.n_streams]).all()
    sim = Simulator(PLAIN, 3, n_streams=n, tasks=20)
    assert sim.states.shape == (3, 4 * n + 4)
    while not sim.done.all():
        sim.step_masks(*sim.choose("least_completion_time"))


def test_options_go_together():
    options = {"n_streams": 7, "load": 0.2, "tasks": 9, "service_order": "srpt", "rate_scale": 10}
    both = load(PLAIN).with_options(**options).sample(range(20))
    one_by_one = load(PLAIN)
    for key, value in options.items():
        one_by_one = one_by_one.with_options(**{key: value})
    again = one_by_one.sample(range(20))
    assert both.n_streams == 7
    assert (both.links == again.links).all()
    assert (both.workload == again.workload).all()
    assert (both.n_tasks, both.stealing) == (again.n_tasks, again.stealing) == (9, True)


def test_mixtures_of_any_number_of_paths(tmp_path):
    for name, rate in (("slow", 10), ("fast", 1000)):
        (tmp_path / f"{name}.toml").write_text(f"paths = 2\n[defaults]\nrate_mbit = {rate}\n")
    mixture = {"base": str(tmp_path), "families": ["slow.toml", "fast.toml"]}
    (tmp_path / "both.toml").write_text('paths = 3\nfamilies = ["slow.toml", "fast.toml"]\n')
    both = load(tmp_path / "both.toml")
    assert both.n_streams == 3
    eight = both.with_options(n_streams=8).sample(range(100))
    assert eight.links.shape == (100, 8)
    assert np.unique(eight.links["rate_Bps"]).size == 2
    # A mixture among others stands for its members, but no deeper.
    (tmp_path / "more.toml").write_text('families = ["both.toml", "slow.toml"]\n[workload]\nload = 0.2\n')
    (tmp_path / "deep.toml").write_text('families = ["more.toml"]\n')
    worlds = load(tmp_path / "more.toml", n_streams=5).sample(range(300))
    assert (worlds.links["rate_Bps"][:, 0] > 100 * GOODPUT).mean() == pytest.approx(1 / 3, abs=0.1)
    mean = worlds.workload["arrivals_per_s"] / worlds.capacity_Bps
    assert mean.max() == pytest.approx(mean.min())
    with pytest.raises(ScenarioError, match="mixture of mixtures"):
        load(tmp_path / "deep.toml")
    with pytest.raises(ScenarioError, match="base: a mixture"):
        load(mixture)


@pytest.mark.parametrize(
    ("scenario", "n", "text"),
    [
        ("heterogeneous", 3, "n_streams = 3: expected 4, the number of paths in .*heterogeneous"),
        ("mixed", 8, "n_streams = 8: expected 4"),
        ({**PLAIN, "background": [{"path": 1, "udp_mbit": 1}]}, 3, "expected 4"),
        ({**PLAIN, "shared": [{"paths": [1, 2], "rate_mbit": 5}]}, 3, "expected 4"),
        (PLAIN, 0, "n_streams = 0: expected .* from 1 to 16"),
        (PLAIN, 17, "n_streams = 17: expected"),
        (PLAIN, 2.0, "n_streams = 2.0: expected"),
    ],
)
def test_other_numbers_are_refused(scenario, n, text):
    with pytest.raises(ScenarioError, match=text):
        load(scenario).with_options(n_streams=n)
    with pytest.raises(ScenarioError, match=text):
        Simulator(scenario, n_streams=n)
    own = load(scenario)
    assert own.with_options(n_streams=own.n_streams).n_streams == 4


def test_shared_links_of_so_many_paths():
    tables = {
        **PLAIN,
        "shuffle": True,
        "shared": [{"paths": 3, "rate_share": 0.5}, {"paths": 2, "rate_share": {"uniform": [0.2, 0.3]}}],
    }
    for n, members in ((1, (1, 0)), (2, (2, 0)), (3, (3, 0)), (4, (3, 1)), (5, (3, 2)), (16, (3, 2))):
        worlds = load(tables, n_streams=n).sample(range(40))
        of = worlds.paths["shared"]
        own, links = worlds.links["rate_Bps"][:, :n], worlds.links["rate_Bps"]
        for k, count in enumerate(members):
            assert ((of == n + k).sum(axis=1) == count).all()
            share = links[:, n + k] / np.maximum(np.where(of == n + k, own, 0).sum(axis=1), 1)
            if count:
                assert (share >= (0.5, 0.2)[k] * (1 - 1e-12)).all()
                assert (share <= (0.5, 0.3)[k] * (1 + 1e-12)).all()
        if n == 16:
            # Which paths cross the link is each seed's own.
            assert len(np.unique(of == n, axis=0)) > 30


def test_total_rate_and_spread():
    tables = {
        **PLAIN,
        "defaults": {"rate_mbit": 1, "rtt_ms": 1},
        "total_mbit": {"log_uniform": [1, 1.6e6]},
        "rate_spread": {"log_uniform": [1, 100]},
    }
    for n in (1, 4, 16):
        rate = load(tables, n_streams=n).sample(range(2000)).links["rate_Bps"] / GOODPUT
        total = np.log(rate.sum(axis=1)) / math.log(1.6e6)
        assert stats.kstest(total, "uniform").pvalue > 1e-3
        ratio = rate.max(axis=1) / rate.min(axis=1)
        assert ratio.max() <= 100
        if n == 16:
            # With many paths the ratio comes close to what the world has drawn.
            assert stats.kstest(np.log(ratio) / math.log(100), "uniform").statistic < 0.15
    even = load({**tables, "rate_spread": 1}).sample(range(5)).links["rate_Bps"]
    assert even.std(axis=1) == pytest.approx(0, abs=1e-9 * even.max())


@pytest.mark.parametrize("mbit", [1, 100_000])
def test_the_slowest_and_the_fastest_paths_carry_their_tasks(mbit):
    tables = {
        "paths": 16,
        "defaults": {"rate_mbit": mbit, "rtt_ms": 20},
        "workload": {"size": {"kind": "exponential", "mean_s": 1}, "load": 0.2},
    }
    sim = Simulator(tables, 2, tasks=50)
    while not sim.done.all():
        sim.step(np.full(2, 65534))
        done = sim.completed()
        assert done["success"].dtype == bool
        assert np.isfinite(done["completed_at_s"]).all()
    assert (sim.states == 0).all()


# --- sizes ---

MEANS = {"mean_bytes": 40e3}
RECORDED = [10, 10, 1000, 2000, 50_000, 1e12]


@pytest.fixture
def recorded(tmp_path):
    path = tmp_path / "sizes.csv"
    path.write_text("when,size_bytes\n" + "".join(f"x,{size}\n" for size in RECORDED))
    return str(path)


@pytest.mark.parametrize(
    "size",
    [
        {"kind": "fixed", **MEANS},
        {"kind": "exponential", **MEANS},
        {"kind": "lognormal", "sigma": 1.2, **MEANS},
        {"kind": "pareto", "shape": 1.5, "min_bytes": 1, "max_bytes": 100, **MEANS},
        {"kind": "log_uniform", "min_bytes": 10, "max_bytes": 1000, **MEANS},
        {"kind": "two_humped", "median_bytes": [1, 500], "sigma": [0.5, 0.3], "share": 0.1, **MEANS},
    ],
    ids=lambda size: size["kind"],
)
def test_sizes_of_a_mean(size):
    sizes, at_s = met(asked(size))
    assert sizes.mean() == pytest.approx(40e3, rel=0.02)
    # In seconds of what the paths carry together, whatever that is.
    in_seconds = {**{k: v for k, v in size.items() if k != "mean_bytes"}, "mean_s": 40e3 / (1000 * GOODPUT)}
    again, then_s = met(asked(in_seconds))
    assert np.abs(again - sizes).max() <= 1
    assert then_s == pytest.approx(at_s)
    capacity = load(asked(size)).sample([0]).capacity_Bps[0]
    assert (sizes.sum(axis=1) / at_s[:, -1]).mean() / capacity == pytest.approx(0.5, rel=0.03)


def test_two_humps():
    size = {"kind": "two_humped", "median_bytes": [1e3, 1e6], "sigma": [0.4, 0.2], "share": 0.25}
    sizes, _ = met(asked(size))
    sizes = sizes.ravel()
    small, large = sizes[sizes < 30e3], sizes[sizes > 30e3]
    assert len(large) / len(sizes) == pytest.approx(0.25, abs=0.005)
    for part, median, sigma in ((small, 1e3, 0.4), (large, 1e6, 0.2)):
        assert np.median(part) == pytest.approx(median, rel=0.02)
        assert np.log(part).std() == pytest.approx(sigma, rel=0.02)
    within = {**size, "min_bytes": 900, "max_bytes": 1e6}
    clipped, at_s = met(asked(within))
    assert (clipped == np.clip(sizes.reshape(clipped.shape), 900, 1e6)).all()
    capacity = load(asked(within)).sample([0]).capacity_Bps[0]
    assert (clipped.sum(axis=1) / at_s[:, -1]).mean() / capacity == pytest.approx(0.5, rel=0.02)


def test_recorded_sizes(recorded):
    scenario = load(asked({"kind": "recorded", "file": recorded}))
    worlds = scenario.sample([1, 2])
    assert worlds.sizes.tolist() == sorted(RECORDED)
    assert worlds.workload["size_count"].tolist() == [6, 6]
    assert worlds.workload["arrivals_per_s"][0] == pytest.approx(
        0.5 * worlds.capacity_Bps[0] / np.mean(RECORDED)
    )
    sizes, _ = met(asked({"kind": "recorded", "file": recorded, "max_bytes": 50_000}))
    found, count = np.unique(sizes, return_counts=True)
    assert found.tolist() == [10, 1000, 2000, 50_000]
    assert count / sizes.size == pytest.approx(np.array([2, 1, 1, 2]) / 6, abs=0.01)
    scaled = load(asked({"kind": "recorded", "file": recorded, "mean_s": 0.01}))
    worlds = scenario.sample([1])
    sizes, _ = met(scaled, n_envs=2, tasks=20)
    ratio = 0.01 * worlds.capacity_Bps[0] / np.mean(RECORDED)
    assert set(sizes.ravel()) <= {max(int(ratio * size), 1) for size in RECORDED}
    same = pickle.loads(pickle.dumps(Simulator(scenario, 3, tasks=9)))
    while not same.done.all():
        same.step_masks(*same.choose("single_best"))


def test_recorded_sizes_of_a_mixture(tmp_path, monkeypatch):
    for name, sizes in (("a", [5, 7]), ("b", [11, 13, 17])):
        (tmp_path / f"{name}.txt").write_text("# bytes\n" + "\n".join(map(str, sizes)))
        size = f'{{ kind = "recorded", file = "{name}.txt" }}'
        (tmp_path / f"{name}.toml").write_text(
            f"paths = 2\n[defaults]\nrate_mbit = 5\n[workload]\nsize = {size}\n"
        )
    (tmp_path / "both.toml").write_text('families = ["a.toml", "b.toml"]\n')
    sizes, _ = met(tmp_path / "both.toml", n_envs=60, tasks=40)
    kinds = {frozenset(row) for row in sizes.astype(int).tolist()}
    assert kinds == {frozenset({5, 7}), frozenset({11, 13, 17})}
    # What the mixture says lies beside the mixture.
    (tmp_path / "c.txt").write_text("19\n")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "mixture.toml").write_text(
        'families = ["../a.toml"]\n[workload]\nsize = { kind = "recorded", file = "../c.txt" }\n'
    )
    sizes, _ = met(tmp_path / "more" / "mixture.toml", n_envs=1, tasks=5)
    assert set(sizes.ravel()) == {19}
    monkeypatch.chdir(tmp_path)
    mine = {"families": ["recorded-sizes"], "workload": {"size": {"kind": "recorded", "file": "c.txt"}}}
    assert set(met(mine, n_envs=1, tasks=5)[0].ravel()) == {19}


def test_sizes_and_arrivals_of_each_worlds_own():
    scenario = asked(
        {"choice": [{"kind": "fixed", "bytes": 100}, {"kind": "fixed", "bytes": 5000}]},
        {"choice": ["periodic", "poisson"]},
    )
    worlds = load(scenario).sample(range(400)).workload
    assert np.unique(worlds["size_a"]).tolist() == [100, 5000]
    assert np.unique(worlds["arrivals"]).tolist() == [0, 1]
    both = np.unique(np.stack([worlds["size_a"], worlds["arrivals"]]), axis=1, return_counts=True)[1]
    assert both.min() > 70
    assert worlds["arrivals_per_s"] * worlds["size_a"] == pytest.approx(0.5 * 1000 * GOODPUT)


@pytest.mark.parametrize("kind", ["fixed", "exponential", "lognormal"])
@pytest.mark.parametrize(("mean_s", "mean_bytes"), [(1e-9, 1), (1e9, 2**50)])
def test_sizes_stay_within_a_byte_and_a_pebibyte(kind, mean_s, mean_bytes):
    size = {"kind": kind, "mean_s": mean_s} | ({"sigma": 1} if kind == "lognormal" else {})
    scenario = load(asked(size))
    worlds = scenario.sample(range(3))
    assert np.isfinite(worlds.workload["arrivals_per_s"]).all()
    sizes, _ = met(scenario, n_envs=2, tasks=10)
    assert sizes.min() >= 1
    assert sizes.max() <= 2**50
    assert sizes.mean() == pytest.approx(mean_bytes, rel=0.6)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        ({"kind": "zipf"}, "workload.size.kind = 'zipf'"),
        ({"kind": "fixed"}, r"bytes is missing \(or mean_s\)"),
        ({"kind": "fixed", "bytes": 5, "mean_s": 1}, "mean_s: contradicts bytes"),
        ({"kind": "exponential", "mean_bytes": 5, "mean_s": 1}, "mean_s: contradicts mean_bytes"),
        ({"kind": "lognormal", "mean_s": 1}, "sigma is missing"),
        ({"kind": "lognormal", "sigma": 1, "mean_bytes": 1, "mean_s": 1}, "mean_bytes: contradicts mean_s"),
        ({"kind": "pareto", "shape": 1, "mean_s": 1}, "min_bytes is missing"),
        ({"kind": "lognormal", "sigma": 1, "mean_s": 0}, "mean_s = 0: expected seconds > 0"),
        ({"kind": "two_humped", "median_bytes": [1, 5], "sigma": [1, 1]}, "share is missing"),
        ({"kind": "two_humped", "median_bytes": 1, "sigma": [1, 1], "share": 0}, r"\[small, large\]"),
        ({"kind": "recorded"}, "file is missing"),
        ({"kind": "recorded", "file": "nowhere.csv"}, "there is none at nowhere.csv"),
        ({"choice": []}, "workload.size.choice = "),
        ({"choice": [{"kind": "fixed"}]}, r"workload.size.choice\[1\]: bytes is missing"),
    ],
)
def test_wrong_sizes(size, text):
    with pytest.raises(ScenarioError, match=text):
        load(asked(size))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "expected 1 to .* sizes; got 0"),
        ("size_bytes\n", "expected 1 to .* sizes; got 0"),
        ("bytes\n5\n", "a column size_bytes"),
        ("5\nx\n", "line 2: 'x': expected bytes >= 1"),
        ("5\n0.5\n", "line 2: '0.5': expected bytes >= 1"),
        ("5\nnan\n", "line 2: 'nan'"),
        ("5\n1e300\n", "line 2"),
        ("a,size_bytes\n1\n", "line 2: expected at least 2 columns"),
    ],
)
def test_wrong_files_of_sizes(tmp_path, text, reason):
    path = tmp_path / "sizes.csv"
    path.write_text(text)
    with pytest.raises(ScenarioError, match=reason):
        load(asked({"kind": "recorded", "file": str(path)}))


# --- arrivals ---

SMALL = {"kind": "fixed", "bytes": 1000}
BURSTY = {"kind": "bursty", "tasks": 20, "share": 0.25}


@pytest.mark.parametrize(
    "arrivals",
    ["poisson", "periodic", BURSTY, {"kind": "daily", "swing": 0.9, "peak": 0.3}],
    ids=["poisson", "periodic", "bursty", "daily"],
)
def test_the_mean_load_is_as_asked(arrivals):
    scenario = load(asked(SMALL, arrivals, load=0.3, day_s=0.002))
    rate = scenario.sample([0]).workload["arrivals_per_s"][0]
    assert rate * 1000 / (1000 * GOODPUT) == pytest.approx(0.3)
    _, at_s = met(scenario, n_envs=100, tasks=10_000)
    assert (np.diff(at_s, axis=1) >= 0).all()
    assert at_s[:, -1].mean() * rate == pytest.approx(10_000, rel=0.02)


def test_bursts():
    scenario = load(asked(SMALL, BURSTY, load=0.3))
    rate = scenario.sample([0]).workload["arrivals_per_s"][0]
    _, at_s = met(scenario, n_envs=200, tasks=10_000)
    gaps = np.diff(at_s, axis=1).ravel() * rate
    # Within a burst tasks come four times as fast; a burst has 20 on average, then there is a pause.
    assert np.median(gaps) == pytest.approx(0.25 * math.log(2), rel=0.1)
    pauses = gaps[gaps > 5]
    assert len(pauses) / len(gaps) == pytest.approx(math.exp(-5 / 15) / 21, rel=0.15)
    # Index of dispersion for counts, of an interrupted Poisson process: 1 + 2 tasks (1 - share)^2.
    span = 400 / rate
    counts = np.stack([(at_s < k * span).sum(axis=1) for k in range(1, 24)], axis=1)
    counts = np.diff(counts, axis=1)
    assert counts.mean() == pytest.approx(400, rel=0.02)
    assert counts.var() / counts.mean() == pytest.approx(1 + 2 * 20 * 0.75**2, rel=0.1)
    # An episode begins at any time, not always with a burst.
    first = (at_s[:, :200] < 20 / rate).sum(axis=1)
    assert first.mean() == pytest.approx(20, rel=0.15)


def test_days():
    day_s = 2.0
    arrivals = {"kind": "daily", "swing": 0.8, "peak": 0.3}
    scenario = load(asked(SMALL, arrivals, load=0.01, day_s=day_s, day_start=0.1))
    rate = scenario.sample([0]).workload["arrivals_per_s"][0]
    _, at_s = met(scenario, n_envs=60, tasks=10_000)
    whole = at_s < 2 * day_s
    assert at_s.min(axis=0)[-1] > 2 * day_s
    time = (at_s[whole] / day_s + 0.1) % 1
    bins = np.histogram(time, 10, (0, 1))[0] / (60 * 2 * rate * day_s / 10)
    middle = (np.arange(10) + 0.5) / 10
    blur = np.sinc(0.1)
    assert bins == pytest.approx(1 + 0.8 * blur * np.cos(2 * np.pi * (middle - 0.3)), abs=0.05)


@pytest.mark.parametrize("day_s", [1e-3, 1.0, 86_400.0, 1e9])
@pytest.mark.parametrize("swing", [0, 0.5, 1])
def test_a_day_of_any_length(day_s, swing):
    """The integral of the rate between two tasks is exponential."""
    arrivals = {"kind": "daily", "swing": swing, "peak": 0.25}
    scenario = load(asked(SMALL, arrivals, load=0.1, day_s=day_s, day_start=0.6))
    rate = scenario.sample([0]).workload["arrivals_per_s"][0]
    _, at_s = met(scenario, n_envs=20, tasks=500)
    gap_s = np.diff(at_s, axis=1)
    assert (gap_s >= 0).all()
    half = np.pi * gap_s / day_s
    middle = 2 * np.pi * (0.6 - 0.25 + at_s[:, :-1] / day_s) + half
    carried = gap_s + swing * day_s / np.pi * np.sin(half) * np.cos(middle)
    plain = met(load(asked(SMALL, load=0.1)), n_envs=20, tasks=500)[1]
    assert carried * rate == pytest.approx(np.diff(plain, axis=1) * rate, rel=1e-6, abs=1e-6)


def test_arrivals_are_those_of_the_seed_whatever_is_decided():
    for arrivals in ("poisson", BURSTY, {"kind": "daily", "swing": 1, "peak": 0}):
        scenario = {**PLAIN, "workload": {"arrivals": arrivals, "size": SMALL, "load": 0.8}}
        one = met(scenario, 20, 200, "least_completion_time")
        two = met(scenario, 20, 200, "round_robin")
        later = met(scenario, 20, 200, "single_best", seed=5)
        for first, second, shifted in zip(one, two, later, strict=True):
            assert (first == second).all()
            assert (first[5:] == shifted[:15]).all()


@pytest.mark.parametrize(
    ("arrivals", "text"),
    [
        ("sometimes", "workload.arrivals = 'sometimes'"),
        ("bursty", "workload.arrivals = 'bursty'"),
        ({"kind": "bursty", "tasks": 5}, "share is missing"),
        ({"kind": "bursty", "tasks": 5, "share": 1}, "share = 1: expected"),
        ({"kind": "bursty", "tasks": 0, "share": 0.5}, "tasks = 0: expected"),
        ({"kind": "daily", "swing": 1.5, "peak": 0}, "swing = 1.5: expected"),
        ({"kind": "poisson", "tasks": 5}, "workload.arrivals.tasks: unknown key"),
        ({"tasks": 5}, "a table with kind"),
        ({"choice": ["poisson", "never"]}, r"workload.arrivals.choice\[2\] = 'never'"),
    ],
)
def test_wrong_arrivals(arrivals, text):
    with pytest.raises(ScenarioError, match=text):
        load(asked(SMALL, arrivals))


CLOSED = {"kind": "closed", "clients": 5}


def outcomes(sim, rule="least_completion_time"):
    """What is completed until the episodes are over, [n_envs, tasks]."""
    return flat_outcomes(sim, rule).reshape(sim.n_envs, -1)


def flat_outcomes(sim, rule="least_completion_time"):
    """What is completed until the episodes are over, by environment and task."""
    found = []
    while not sim.done.all():
        sim.step_masks(*sim.choose(rule))
        found.append(sim.completed())
    done = np.concatenate(found)
    return done[np.lexsort((done["task"], done["env"]))]


def closed(clients=5, load=0.2, **keys):
    size = {"kind": "exponential", "mean_s": 0.2}
    arrivals = {"kind": "closed", "clients": clients}
    return {**PLAIN, "workload": {"load": load, "arrivals": arrivals, "size": size, **keys}}


@pytest.mark.parametrize("clients", [1, 5, 40])
@pytest.mark.parametrize("rule", ["least_completion_time", "round_robin"])
def test_no_more_tasks_are_in_flight_than_there_are_clients(clients, rule):
    done = outcomes(Simulator(closed(clients, load=2), 10, tasks=400), rule)
    busy = outcomes(Simulator(closed(clients, load=100), 10, tasks=400), rule)
    for row in (*done, *busy):
        arrived = row["arrived_at_s"]
        assert (np.diff(arrived) >= 0).all()
        in_flight = (arrived[None, :] <= arrived[:, None]).sum(axis=1) - (
            row["completed_at_s"][None, :] <= arrived[:, None]
        ).sum(axis=1)
        assert in_flight.max() <= clients
    # Of those who need not think, none is idle.
    assert (np.sort(busy["arrived_at_s"], axis=1)[:, :clients] == 0).all()


def test_a_client_thinks_then_submits():
    done = outcomes(Simulator(closed(1), 50, tasks=200))
    thought_s = done["arrived_at_s"][:, 1:] - done["completed_at_s"][:, :-1]
    mean_s = load(closed(1)).sample(range(50)).workload["think_s"]
    assert mean_s.min() > 0
    assert stats.kstest((thought_s / mean_s[:, None]).ravel(), "expon").pvalue > 1e-3


@pytest.mark.parametrize("clients", [1, 5, 40])
def test_clients_offer_their_load_where_tasks_take_their_reference_time(clients):
    # Wide and empty: tasks take little more than their reference time.
    done = outcomes(Simulator(closed(clients, load=0.05), 100, tasks=300))
    capacity = load(closed(clients)).sample(range(100)).capacity_Bps
    took_s = done["completed_at_s"] - done["arrived_at_s"]
    wanted = clients / (0.05 / 0.2) - done["reference_time_s"].mean() + took_s.mean()
    rate = 300 / done["arrived_at_s"][:, -1].mean()
    assert rate == pytest.approx(clients / wanted, rel=0.05)
    assert (done["size_bytes"].sum(axis=1) / capacity).mean() == pytest.approx(300 * 0.2, rel=0.05)


def test_clients_that_cannot_offer_the_load_do_not_think():
    worlds = load(closed(2, load=10)).sample(range(20))
    assert (worlds.workload["think_s"] == 0).all()
    done = outcomes(Simulator(closed(2, load=10), 5, tasks=50))
    # Both begin at once, and each goes on where its task has ended.
    assert (done["arrived_at_s"][:, :2] == 0).all()
    assert np.isin(done["arrived_at_s"][:, 2:], done["completed_at_s"]).all()


def test_what_is_decided_moves_the_arrivals_of_clients_but_not_their_tasks():
    one, two = (
        outcomes(Simulator(closed(), 8, tasks=100), rule) for rule in ("least_completion_time", "round_robin")
    )
    for field in ("size_bytes", "priority", "deadline_s"):
        assert (one[field] == two[field]).all()
    assert (one["arrived_at_s"] != two["arrived_at_s"]).any()
    again = outcomes(Simulator(closed(), 8, tasks=100, threads=3))
    assert (again == one).all()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda sim: pickle.loads(pickle.dumps(sim))])
@pytest.mark.parametrize("order", ["fifo", "srpt"])
@pytest.mark.parametrize("arrivals", [CLOSED, BURSTY], ids=["closed", "bursty"])
def test_copies_go_on_as_the_original(arrivals, order, copied):
    scenario = {**PLAIN, "workload": {"arrivals": arrivals, "load": 0.9}}
    sim = Simulator(scenario, 6, tasks=120, service_order=order)
    for _ in range(50):
        sim.step_masks(*sim.choose("least_completion_time"))
        sim.completed()
    same, branch = copied(sim), sim.branch(np.arange(6), 200)
    kept = copied(sim)
    ends = [flat_outcomes(one) for one in (sim, same, branch)]
    for end in ends[1:]:
        assert (end == ends[0]).all()
    # Nor does a look ahead move anything.
    kept.look_ahead(20, "least_completion_time")
    assert (flat_outcomes(kept) == ends[0]).all()


def test_clients_give_up_what_never_comes():
    dead = {"rate_mbit": 10, "schedule": [[0, 10], [5, 0]]}
    for more in ({}, {"noise": {"sd": 0.1, "tau_s": 50}}):
        scenario = {
            "paths": 1,
            "defaults": dead | more,
            "workload": {"arrivals": {"kind": "closed", "clients": 3}, "load": 0.5},
        }
        done = outcomes(Simulator(scenario, 1, tasks=30))[0]
        assert len(done) == 30
        late = done["arrived_at_s"] > 6
        assert late.sum() > 5
        assert not done["success"][late].any()


def test_worlds_with_and_without_clients():
    arrivals = {"choice": ["poisson", {"kind": "closed", "clients": {"uniform": [1, 9]}}]}
    scenario = {**PLAIN, "workload": {"arrivals": arrivals}}
    worlds = load(scenario).sample(range(200))
    assert worlds.n_clients == 9
    assert np.unique(worlds.workload["clients"]).tolist() == list(range(10))
    sim = Simulator(scenario, 4, tasks=30)
    for _ in range(3):
        while not sim.done.all():
            sim.step_masks(*sim.choose("single_best"))
        sim.reset_done()


# --- shipped ---

# Capacity in bytes/s, when the hundredth task arrives, what a hundred tasks have to send, when the first is
# through: of the world of seed 5, by the single best stream.
FIFTH = {
    "homogeneous": (23651942.98, 2.587050335, 28015817, 0.09760767592),
    "heterogeneous": (23342554.53, 2.621339791, 28015817, 0.08874814172),
    "shared-bottleneck": (24903661.54, 2.457018897, 28015817, 0.07916164898),
    "lossy": (11418128.73, 5.358913747, 28015817, 0.163698099),
    "flaky": (21224656.27, 2.882909679, 28015817, 0.09112669835),
    "bursts": (17886800.54, 3.420889435, 28015817, 0.1040637157),
    "time-of-day": (17817759.58, 3.434144833, 28015817, 0.1137602128),
    "mixed": (23651942.98, 3.526957032, 28015817, 0.1089303383),
    "trace-driven": (23651942.98, 2.587050335, 28015817, 0.08515257018),
    "inter-region": (23170552.63, 2.640798775, 28015817, 0.1251000644),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_families_have_the_worlds_they_always_had(name):
    done = outcomes(Simulator(name, seed=5, tasks=100), "single_best")[0]
    capacity = load(name).sample([5]).capacity_Bps[0]
    found = capacity, done["arrived_at_s"][-1], done["size_bytes"].sum(), done["completed_at_s"][0]
    assert found == pytest.approx(FIFTH[name], rel=1e-9)


def test_workloads_are_the_shipped_files():
    shipped = Path(itp.sim.scenario.__file__).with_name("workloads").glob("*.toml")
    assert sorted(WORKLOADS) == sorted(path.stem for path in shipped)
    held_out = Path(__file__).parents[2] / "bench" / "scenarios"
    others = [*FAMILIES, *(path.stem for path in held_out.glob("*.toml"))]
    assert not {*WORKLOADS, "families", "workloads"} & set(others)


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_workload(name):
    scenario = load(name)
    assert (scenario.name, scenario.n_streams, scenario.n_tasks) == (name, 4, 200)
    assert scenario.about
    assert bool(scenario.warnings) == (name == "overload")
    for n in (1, 4, 16):
        worlds = scenario.with_options(n_streams=n).sample(range(300))
        for table in (worlds.links, worlds.paths, worlds.workload):
            for field in table.dtype.names:
                assert np.isfinite(table[field]).all(), field
        total = worlds.links["rate_Bps"].sum(axis=1) / GOODPUT
        assert total.min() > 9.9
        assert total.max() < 10_100
        assert (worlds.capacity_Bps > 0.3 * GOODPUT * total).all()
    done = outcomes(Simulator(name, 20, tasks=100))
    assert done["size_bytes"].min() >= 1


def test_workloads_have_what_they_are_named_for():
    def arrivals(name):
        return met(name, 300, 200)

    sizes, _ = arrivals("fixed-sizes")
    assert (sizes == sizes[:, :1]).all()
    assert len(np.unique(sizes)) > 250
    sizes, _ = arrivals("exponential-sizes")
    # Squared coefficient of variation, within worlds.
    assert (sizes.var(axis=1) / sizes.mean(axis=1) ** 2).mean() == pytest.approx(1, rel=0.1)
    sizes, _ = arrivals("lognormal-sizes")
    assert np.log(sizes).std(axis=1).mean() == pytest.approx(2, rel=0.05)
    sizes, _ = arrivals("two-humped-sizes")
    assert (sizes > 1e6).mean() == pytest.approx(0.05, abs=0.005)
    sizes, _ = arrivals("recorded-sizes")
    recorded = load("recorded-sizes").sample([1]).sizes
    assert set(np.unique(sizes)) <= set(recorded)
    assert np.median(sizes) == pytest.approx(np.median(recorded), rel=0.05)

    def dispersion(name):
        gaps = np.diff(arrivals(name)[1], axis=1)
        return np.median(gaps.var(axis=1) / gaps.mean(axis=1) ** 2)

    assert dispersion("bursty-arrivals") > 5
    assert dispersion("no-deadlines") == pytest.approx(1, abs=0.2)
    worlds = load("daily-arrivals").sample(range(50))
    assert worlds.workload["arrivals_per_s"] * worlds.workload["day_s"] == pytest.approx(200)
    assert set(load("closed-loop").sample(range(50)).workload["clients"]) == {4, 8, 16}
    assert (load("no-deadlines").sample(range(5)).workload["deadline_share"] == 0).all()
    for name, share in (("idle-host", 0.01), ("overload", 1.1)):
        sizes, at_s = arrivals(name)
        capacity = load(name).sample(range(300)).capacity_Bps
        assert (sizes.sum(axis=1) / capacity / at_s[:, -1]).mean() == pytest.approx(share, rel=0.15)


def test_long_idle_links_are_as_if_they_had_been_watched():
    def last(times):
        tasks = [[at_s, 2e6, 0.5] for at_s in times]
        scenario = {
            "paths": [{"rate_mbit": 20, "noise": {"sd": 0.2, "tau_s": 0.5}, "rtt_ms": 1}],
            "workload": {"tasks": tasks, "warm": True},
        }
        return outcomes(Simulator(scenario, 20, tasks=len(tasks)))["completed_at_s"][:, -1]

    watched, left_alone = last([*range(0, 3001, 20)]), last([0, 3000])
    assert (watched == left_alone).all()
    assert len(np.unique(watched)) > 15


# --- a clock of tasks ---


def test_times_in_mean_tasks():
    defaults = {
        "rate_mbit": 80,
        "noise": {"sd": 0.1, "tau_s": 40},
        "load": 0.1,
        "burst_ms": [5000, 9000],
        "random_outages": {"up_s": 300, "down_s": 20},
    }
    workload = {"size": {"kind": "exponential", "mean_s": 0.5}, "day_s": 1000, "load": 0.2}
    tables = {"paths": 2, "clock": "tasks", "defaults": defaults, "workload": workload}
    worlds = load(tables).sample(range(3))
    assert worlds.links["noise_tau_s"] == pytest.approx(20)
    assert worlds.links["burst_on_s"] == pytest.approx(2.5)
    assert worlds.links["burst_off_s"] == pytest.approx(4.5)
    assert worlds.paths["up_s"] == pytest.approx(150)
    assert worlds.paths["down_s"] == pytest.approx(10)
    assert worlds.workload["day_s"] == pytest.approx(500)
    seconds = load({**tables, "clock": "seconds"}).sample(range(3))
    assert seconds.capacity_Bps == pytest.approx(worlds.capacity_Bps)
    assert seconds.workload["arrivals_per_s"] == pytest.approx(worlds.workload["arrivals_per_s"])
    assert seconds.links["noise_tau_s"] == pytest.approx(40)
    lab = load(tables).wanlab(1)
    assert lab["paths"][0]["ab"]["burst_ms"] == pytest.approx([2500, 4500])
    assert lab["paths"][0]["ba"]["burst_ms"] == pytest.approx([2500, 4500])
