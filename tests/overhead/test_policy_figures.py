"""The check ``policy``: families, comparison with the best rules, promises, idle hosts, rescaled worlds."""

import math
from functools import partial

import numpy as np
import pytest

from figures import comparison, families, idle_hosts, policy, promises, rescaling, serving
from figures.comparison import MEAN_TIME, SLOWDOWN, Cell, Seeds
from figures.families import HELD_OUT, LOADS, PATHS, SWEEP, WORKLOAD
from figures.figure import Figure, at_most
from itp.evaluation import compare
from itp.sim.scenario import FAMILIES, WORKLOADS, load

RULES = {"single_best": 2.0, "least_completion_time": 3.0, "size_interval": 1.9}


@pytest.fixture(scope="module")
def every_family():
    return families.all_families()


def cell(family, order="fifo", slowdowns=RULES, times=None, spread=0.01):
    """A cell in which each policy has this geometric-mean slowdown and mean time, over four worlds."""
    around = spread * np.array([-1.0, 1.0, -1.0, 1.0])
    figures = {
        measure: {name: np.log(value) + around for name, value in values.items()}
        for measure, values in ((SLOWDOWN, slowdowns), (MEAN_TIME, slowdowns if times is None else times))
    }
    return Cell(family, order, figures)


def by_name(figures):
    named = {figure.name: figure for figure in figures}
    assert len(named) == len(figures)
    return named


# --- families ---


def test_families_are_each_there_once(every_family):
    assert len({family.name for family in every_family}) == len(every_family)
    of_set = {name: [f for f in every_family if f.set == name] for name in (PATHS, WORKLOAD, HELD_OUT)}
    assert [family.name for family in of_set[PATHS]] == list(FAMILIES)
    assert [family.name for family in of_set[WORKLOAD]] == list(WORKLOADS)
    assert {family.n_streams for family in of_set[WORKLOAD]} == {4}
    loads = [family.name for family in every_family if family.set == LOADS]
    assert loads == [f"heterogeneous at load {share}" for share in ("0.01", "0.1", "1.1")]
    swept = [family for family in every_family if family.set == SWEEP]
    assert sorted({family.n_streams for family in swept} | {4}) == list(families.NUMBERS_OF_PATHS)
    assert len(swept) == len(WORKLOADS) * (len(families.NUMBERS_OF_PATHS) - 1)


@pytest.mark.parametrize("path", families.UNTUNED, ids=lambda path: path.stem)
def test_scenarios_nothing_was_tuned_on(path):
    loaded = load(path)
    assert loaded.name == path.stem
    assert loaded.about
    assert not loaded.warnings
    assert path.stem not in (*FAMILIES, *WORKLOADS)


def test_the_scenarios_are_found():
    numbers = {load(path).n_streams for path in families.UNTUNED}
    assert {2, 3, 4, 6, 8, 16} <= numbers
    assert {path.stem for path in families.UNTUNED} >= {"large-objects", "nightly-batch", "four-clients"}


# --- comparison ---


def test_a_ratio_is_to_the_best_rule_of_each_cell(every_family):
    here = cell(every_family[0], slowdowns={**RULES, "mine": 1.5})
    there = cell(every_family[1], slowdowns={"single_best": 4.0, "least_completion_time": 2.5, "mine": 5.0})
    assert here.best(SLOWDOWN, RULES) == "size_interval"
    ratio = comparison.ratio([here, there], "mine", SLOWDOWN, RULES)
    assert ratio.value == pytest.approx(math.sqrt((1.5 / 1.9) * (5.0 / 2.5)))
    # Policies rise and fall with the worlds together: the comparison is paired.
    assert ratio.low == pytest.approx(ratio.value)
    assert ratio.high == pytest.approx(ratio.value)
    untuned = comparison.ratio([here], "mine", SLOWDOWN, comparison.UNTUNED_RULES)
    assert untuned.value == pytest.approx(1.5 / 2.0)


def test_intervals_are_over_worlds(every_family):
    noisy = cell(every_family[0], slowdowns=RULES)
    noisy.figures[SLOWDOWN]["mine"] = np.log([1.0, 2.0, 4.0, 2.0])
    ratio = comparison.ratio([noisy], "mine", SLOWDOWN, RULES)
    assert ratio.low < ratio.value < ratio.high


def test_the_share_of_the_oracles_lead(every_family):
    some = cell(every_family[0], slowdowns={**RULES, "oracle": 1.0, "mine": math.sqrt(1.9)})
    assert comparison.gap_closed([some], "mine").value == pytest.approx(0.5)
    behind = cell(every_family[0], slowdowns={**RULES, "oracle": 2.5, "mine": 1.0})
    assert math.isnan(comparison.gap_closed([behind], "mine").value)


def test_an_evaluation(every_family, monkeypatch):
    """Of whatever can run where: the old model over four streams, slow rivals over few."""
    monkeypatch.setattr(comparison, "is_shipped", lambda _: False)
    monkeypatch.setattr(comparison, "compare", partial(compare, tasks=10, processes=1))
    monkeypatch.setattr(comparison, "CLASSICAL", ("single_best", "least_completion_time"))
    chosen = [
        next(f for f in every_family if f.set == name and f.n_streams == n)
        for name, n in ((PATHS, 4), (SWEEP, 2), (SWEEP, 8), (HELD_OUT, 16))
    ]
    told = []
    cells = comparison.evaluate(chosen, Seeds(3, 2), told.append)
    assert [c.family.name for c in cells] == [f.name for f in chosen for _ in range(2)]
    assert [c.order for c in cells] == ["fifo", "srpt"] * 4
    assert [len(c.figures[SLOWDOWN]["single_best"]) for c in cells[::2]] == [3, 2, 2, 3]
    assert [c.has("dqn_v1") for c in cells[::2]] == [True, False, False, False]
    assert all(c.has("oracle") for c in cells)
    assert told[0].startswith("policies, part 1 of ")
    report = compare(["single_best"], [chosen[0].scenario], 3, tasks=10, processes=1)
    assert np.array_equal(cells[0].figures[SLOWDOWN]["single_best"], report.figures["log_slowdown"][0, 0, 0])
    assert np.array_equal(
        cells[0].figures[MEAN_TIME]["single_best"], np.log(report.figures["mean_s"][0, 0, 0])
    )


def test_rivals_that_are_too_slow():
    assert comparison.too_slow(8) == []
    assert comparison.too_slow(12) == ["least_completion_time_proportional"]


# --- promises ---


@pytest.fixture
def cells(every_family):
    """Cells in which the model is 30 % better than the best rule, but for one family."""
    found = []
    for family in every_family:
        for order in ("fifo", "srpt"):
            ours = 3.0 if family.name == "flaky" else 1.33
            models = {f"set_v2:{p}": ours for p in ("typical", "balanced", "bulk")}
            slowdowns = {**RULES, "oracle": 1.0, **models, "dqn_v1": 1.8}
            if family.n_streams != 4:
                del slowdowns["dqn_v1"]
            found.append(cell(family, order, slowdowns))
    return found


def test_promises(cells, every_family):
    figures = by_name(promises.figures_of(cells))
    worst = figures["typical_fifo_worst"]
    assert worst.value == pytest.approx(3.0 / 1.9)
    assert worst.note.startswith("flaky; 1 of ")
    assert worst.asked == at_most(1.02)
    assert worst.holds is False
    assert figures["typical_srpt_worst"].asked == at_most(1.01)
    average = figures["bulk_srpt_workloads"]
    assert (average.value, average.asked, average.holds) == (pytest.approx(0.7), at_most(0.98), True)
    paths = figures["typical_fifo_paths"]
    assert paths.value == pytest.approx(math.exp((9 * math.log(0.7) + math.log(3.0 / 1.9)) / 10))
    assert paths.holds is False
    assert figures["typical_fifo_paths_untuned_rules"].value < paths.value
    assert figures["typical_fifo_paths_untuned_rules"].asked is None
    gap = figures["typical_fifo_gap_held_out"]
    assert gap.value == pytest.approx(100.0 * math.log(1.9 / 1.33) / math.log(1.9))
    assert gap.asked.value == 75.0
    assert figures["typical_srpt_gap_n2"].asked.value == 55.0
    assert not figures["typical_fifo_n8"].note
    assert "too slow" in figures["typical_fifo_n12"].note
    assert figures["typical_fifo_n12"].value == pytest.approx(0.7)
    # With one path there is nothing to choose.
    assert "typical_fifo_n1" not in figures
    assert figures["typical_fifo_worst_n1"].value == pytest.approx(0.7)
    names = {family.name for family in every_family if family.set != SWEEP}
    assert {name.removeprefix("bulk_fifo:") for name in figures if name.startswith("bulk_fifo:")} == names
    assert "size interval" in figures["typical_fifo:data-centre"].note


def test_balanced_is_judged_by_the_lesser_ratio(every_family):
    family = every_family[0]
    slowdowns = {"single_best": 2.0, "least_completion_time": 3.0, "size_interval": 0.1}
    times = {"single_best": 5.0, "least_completion_time": 4.0, "size_interval": 0.1}
    both = [
        cell(family, "fifo", {**slowdowns, "set_v2:balanced": s}, {**times, "set_v2:balanced": t})
        for s, t in ((1.6, 5.0), (2.2, 3.2))
    ]
    figures = by_name(promises.figures_of(both[:1]))
    assert figures["balanced_fifo_slowdown_paths"].value == pytest.approx(0.8)
    assert figures["balanced_fifo_mean_time_paths"].value == pytest.approx(1.25)
    assert figures["balanced_fifo_mean_time_paths"].holds is False
    assert figures["balanced_fifo_worst_paths"].value == pytest.approx(0.8)
    worst = promises._lesser("worst", "", both)
    assert worst.value == pytest.approx(0.8)
    lost = cell(family, "fifo", {**slowdowns, "set_v2:balanced": 2.2}, {**times, "set_v2:balanced": 4.2})
    worst = promises._lesser("worst", "", [*both, lost])
    assert worst.value == pytest.approx(1.05)
    assert worst.holds is False


def test_the_old_model(cells):
    figures = by_name(promises.figures_of(cells))
    assert figures["dqn_v1_fifo_worst"].value == pytest.approx(1.8 / 1.9)
    assert figures["dqn_v1_fifo_worst"].asked == at_most(1.05)
    assert figures["dqn_v1_srpt_paths"].asked is None
    assert "dqn_v1_srpt:sixteen-mixed" not in figures


def test_without_the_model_nothing_is_claimed(cells):
    for each in cells:
        for of_policies in each.figures.values():
            for name in [name for name in of_policies if name.startswith("set_v2")]:
                del of_policies[name]
    figures = promises.figures_of(cells)
    ours = [figure for figure in figures if not figure.name.startswith("dqn_v1")]
    assert len(ours) > 50
    for figure in ours:
        assert figure.value is None
        assert figure.holds is None
        assert "set_v2 is not shipped" in figure.note
    assert by_name(figures)["dqn_v1_fifo_worst"].holds is True


# --- idle hosts, rescaled worlds, times ---


def test_idle_hosts():
    """By a rule that plans the least, and by one that does not."""
    by_streams = {1: 2, 3: 20}
    least = idle_hosts.longest(None, by_streams, 1.25, heuristic="least_completion_time")
    assert least.ratio == pytest.approx(1.0)
    assert (least.over, least.hosts) == (0, 44)
    equal = idle_hosts.longest(None, by_streams, 1.25, heuristic="equal_split")
    assert equal.ratio > 2.0
    assert 0 < equal.over < equal.hosts
    assert len(equal.host.rates_mbit) == 3


def test_idle_hosts_are_as_wide_as_users():
    hosts = list(idle_hosts.hosts(300, 2))
    rates = np.array([host.rates_mbit for host in hosts])
    assert rates.min() >= 1.0
    assert rates.min() < 3.0
    assert rates.max() <= 100_000.0
    assert rates.max() > 30_000.0
    sizes = [host.size_bytes for host in hosts]
    assert min(sizes) >= 1_000
    assert max(sizes) <= 1e11
    assert hosts == list(idle_hosts.hosts(300, 2))
    assert hosts[0] != next(idle_hosts.hosts(1, 3))


def test_a_rule_decides_the_same_in_rescaled_worlds():
    found = rescaling.agreement("least_completion_time", (2, 4), worlds=2, tasks=15)
    assert found.decisions == 2 * len(rescaling.SCENARIOS) * 2 * 2 * 15
    assert found.share > 0.995


def test_a_model_that_knows_absolute_sizes_does_not():
    assert rescaling.agreement("dqn_v1", (4,), worlds=2, tasks=30).share < 0.95


def test_decision_times():
    times = serving.decision_times("dqn_v1", (4,), seconds=0.2, calls=200)
    p50_us, p99_us, busy_us = times[4].quantiles_us()
    assert 0.0 < p50_us <= p99_us
    assert busy_us is None or busy_us > 0.0


# --- the check ---


def figure(name, value, asked=None):
    return Figure(name=name, about=name, value=value, unit="x", asked=asked)


def test_losses_come_first():
    given = [
        figure("holds", 1.0, at_most(2.0)),
        figure("free", None),
        figure("missing", None, at_most(2.0)),
        figure("broken", 3.0, at_most(2.0)),
        figure("too", 4.0, at_most(2.0)),
    ]
    assert [f.name for f in policy.losses_first(given)] == ["broken", "too", "missing", "holds", "free"]


@pytest.mark.parametrize("quick", [True, False])
def test_the_check(monkeypatch, cells, quick):
    asked = []

    def evaluated(chosen, seeds, progress):
        asked.append((len(chosen), seeds))
        return cells

    tiny = policy.Extent(seeds=Seeds(2, 1), hosts=1, worlds=1, tasks=5, seconds=0.01)
    monkeypatch.setattr(policy, "evaluate", evaluated)
    monkeypatch.setattr(policy, "is_shipped", lambda model: model == "dqn_v1")
    monkeypatch.setattr(policy, "_FULL", tiny)
    monkeypatch.setattr(policy, "_QUICK", tiny)
    figures = by_name(policy.measure(quick=quick, progress=lambda _: None))
    assert asked == [(len(families.all_families()), tiny.seeds)]
    assert all(figure.rough is quick for figure in figures.values())
    assert figures["idle_host_dqn_v1"].value >= 1.0
    for name in ("decision_p50_n4", "decision_p99_busy_n16", "idle_host_typical", "rescaled_bulk"):
        assert figures[name].value is None
        assert "set_v2 is not shipped" in figures[name].note
    assert figures["decision_p99_n16"].asked == at_most(36.0)
    places = [{False: 0, None: 1, True: 2}[f.holds] for f in figures.values() if f.asked is not None]
    assert places == sorted(places)
