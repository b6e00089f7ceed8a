"""Comparisons of policies: what an episode is judged by, the bootstrap, and the processes that simulate."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from itp import EvaluationError
from itp.evaluation import compare
from itp.evaluation.analysis import analyse
from itp.evaluation.bootstrap import Bootstrap, estimates, mean
from itp.evaluation.metrics import METRICS, N_QUANTILES, episode_metrics, quantiles
from itp.policies.base import TEST_SEED
from itp.policies.episodes import run
from itp.policies.names import make
from itp.policies.rules import Rule
from itp.sim.scenario import load
from itp.sim.simulator import OUTCOME, Simulator
from processes import group_of
from reports import made_up
from transport_peers import eventually

RULES = ["round_robin", "least_completion_time", "pull"]


class Failing(Rule):
    """A rule that breaks under one order."""

    def act(self, sim):
        if sim.scenario.service_order == "srpt":
            raise ZeroDivisionError("out of luck")
        return super().act(sim)


class Dying(Rule):
    """A rule whose process is killed, as by a system short of memory."""

    def act(self, sim):
        os.kill(os.getpid(), signal.SIGKILL)
        return super().act(sim)


# --- what an episode is judged by ---


def test_metrics_are_those_of_the_outcomes():
    sim = Simulator("lossy", seeds=[TEST_SEED, TEST_SEED + 1], tasks=50)
    outcomes = run(sim, make("least_completion_time"))
    figures = episode_metrics(outcomes[::-1], 2, 50)
    for env in range(2):
        mine = outcomes[outcomes["env"] == env]
        taken_s = mine["completed_at_s"] - mine["arrived_at_s"]
        urgent = mine[np.isfinite(mine["deadline_s"])]
        slowdown = stats.gmean(taken_s / mine["reference_time_s"])
        makespan_s = mine["completed_at_s"].max() - mine["arrived_at_s"].min()
        assert np.exp(figures["log_slowdown"][env]) == pytest.approx(slowdown)
        assert figures["p99_s"][env] == pytest.approx(np.quantile(taken_s, 0.99))
        assert figures["reward"][env] == pytest.approx(mine["reward"].mean())
        assert figures["deadlines_met"][env] == pytest.approx(urgent["success"].mean())
        assert figures["goodput_mbps"][env] == pytest.approx(mine["size_bytes"].sum() * 8e-6 / makespan_s)
        assert figures["resent_bytes"][env] == mine["retransmitted_bytes"].sum()
        assert figures["tasks"][env] == 50
        assert figures["failed"][env] == 0


def test_given_up_and_missing_tasks_have_failed():
    outcomes = np.zeros(3, dtype=OUTCOME)
    outcomes["reference_time_s"] = outcomes["completed_at_s"] = 2.0
    outcomes["size_bytes"] = 10**6
    outcomes["deadline_s"] = [np.inf, np.inf, 1.0]  # delivered, given up, late
    outcomes["success"] = [True, False, False]
    figures = episode_metrics(outcomes, 2, 4)
    assert figures["failed"].tolist() == [2, 4]
    assert figures["goodput_mbps"][0] == pytest.approx(8.0)
    assert figures["deadlines_met"][0] == 0.0
    assert np.isnan(figures["mean_s"][1])


def test_quantiles_span_the_values():
    values = np.random.default_rng(1).exponential(size=10_000)
    points = quantiles(values)
    assert len(points) == N_QUANTILES
    assert (np.diff(points) >= 0).all()
    assert points[[0, -1]] == pytest.approx([values.min(), values.max()], rel=1e-5)


# --- bootstrap ---


def test_intervals_agree_with_scipy():
    values = np.random.default_rng(2).lognormal(size=(25, 3))
    found = estimates(values.mean(axis=0), Bootstrap(25).means(values))
    for k, estimate in enumerate(found):
        expected = stats.bootstrap(
            (values[:, k],), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(3)
        ).confidence_interval
        width = expected.high - expected.low
        assert estimate.value == pytest.approx(values[:, k].mean())
        assert estimate.low == pytest.approx(expected.low, abs=0.04 * width)
        assert estimate.high == pytest.approx(expected.high, abs=0.04 * width)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    values = np.random.default_rng(4).normal(loc=1.0, size=(30, 2000))
    found = estimates(values.mean(axis=0), Bootstrap(30, resamples=1000).means(values))
    covered = np.mean([estimate.low <= 1.0 <= estimate.high for estimate in found])
    assert 0.915 < covered < 0.96  # with 30 seeds a percentile interval is a little narrow


def test_paired_differences_shed_what_seeds_share():
    generator = np.random.default_rng(5)
    seeds = generator.normal(scale=10.0, size=30)
    values = np.stack([seeds, seeds + 1.0 + generator.normal(scale=0.1, size=30)], axis=1)
    resampled = Bootstrap(30).means(values)
    (difference,) = estimates(
        values[:, 1:].mean(axis=0) - values[:, :1].mean(axis=0), resampled[:, 1:] - resampled[:, :1]
    )
    assert difference.low == pytest.approx(1.0, abs=0.1)
    assert difference.high - difference.low < 0.1


def test_unknown_values_are_left_out():
    values = np.array([[1.0, np.nan], [3.0, np.nan], [np.nan, np.nan]])
    found = estimates(np.array([mean(column) for column in values.T]), Bootstrap(3).means(values))
    assert found[0].value == 2.0
    assert (found[0].low, found[0].high) == (1.0, 3.0)
    assert np.isnan([found[1].value, found[1].low, found[1].high]).all()
    with pytest.raises(ValueError, match="n_seeds"):
        Bootstrap(0)


# --- what the figures say ---


def test_share_of_the_gap_closed():
    report = made_up({"single_best": 1.0, "pull": 1.5, "learnt": 0.6, "oracle": 0.2}, noise=0.0)
    group = report.analysis.group("lossy", "srpt")
    assert [row.policy for row in group.rows] == ["oracle", "learnt", "single_best", "pull"]
    assert (group.best_classical, group.reference, group.certainty) == ("single_best", "single_best", 1.0)
    closed = {row.policy: row.gap_closed for row in group.rows}
    assert closed["learnt"].value == pytest.approx(0.5)
    assert (closed["learnt"].low, closed["learnt"].high) == pytest.approx((0.5, 0.5))
    assert closed["oracle"].value == 1.0
    assert closed["pull"].value == pytest.approx(-0.625)
    assert group.row("learnt").change.value == pytest.approx(np.exp(-0.4) - 1)
    assert group.row("learnt").verdict == "better"
    assert group.row("pull").verdict == "worse"
    assert group.row("single_best").verdict == "even"
    average = report.analysis.averages[0]
    assert average.row("learnt").gap_closed.value == pytest.approx(0.5)


def test_no_gap_where_the_oracle_is_not_ahead_for_certain():
    report = made_up({"pull": 1.0, "learnt": 0.9, "oracle": 0.99}, noise=1.0)
    assert np.isnan(report.analysis.groups[0].row("learnt").gap_closed.value)


def test_near_ties_between_rules_are_uncertain():
    report = made_up({"pull": 1.0, "single_best": 1.001, "score": 9.0}, noise=0.5)
    group = report.analysis.groups[0]
    assert group.best_classical in ("pull", "single_best")
    assert 0.2 < group.certainty < 0.99


def test_reference_stands_in_for_the_best_rule():
    report = made_up({"pull": 1.0, "single_best": 2.0, "oracle": 0.5}, noise=0.0, reference="single_best")
    group = report.analysis.groups[0]
    assert (group.reference, group.best_classical) == ("single_best", "pull")
    assert group.row("pull").gap_closed.value == pytest.approx(1 / 1.5)


def test_without_rules_nothing_is_compared():
    report = made_up({"learnt": 1.0, "oracle": 0.5})
    group = report.analysis.groups[0]
    assert group.reference is None
    assert not group.rows[0].differences
    assert np.isnan(group.row("learnt").change.value)


def test_analysis_repeats():
    report = made_up({"pull": 1.0, "learnt": 0.8, "oracle": 0.5})
    assert analyse(report.configuration, report.figures).as_dict() == report.analysis.as_dict()


# --- compare ---


def test_results_depend_on_neither_processes_nor_order():
    policies = [*RULES, "random", "oracle"]
    alone = compare(policies, ["lossy", "flaky"], 4, tasks=20, processes=1)
    shared = compare(policies, ["lossy", "flaky"], 4, tasks=20, processes=2)
    for name in METRICS:
        np.testing.assert_array_equal(alone.figures[name], shared.figures[name])
    np.testing.assert_array_equal(alone.slowdown, shared.slowdown)
    turned = compare(policies[::-1], ["flaky"], range(TEST_SEED + 2, TEST_SEED + 4), tasks=20, processes=1)
    for name in METRICS:
        np.testing.assert_array_equal(turned.figures[name][0, :, ::-1], alone.figures[name][1, :, :, 2:])


def test_cells_are_those_of_the_simulator():
    report = compare(["pull"], [load("mixed")], [TEST_SEED + 7], tasks=30, load=0.4, processes=1)
    for o, order in enumerate(report.configuration.service_orders):
        sim = Simulator("mixed", seeds=[TEST_SEED + 7], tasks=30, load=0.4, service_order=order)
        figures = episode_metrics(run(sim, make("pull")), 1, 30)
        for name in METRICS:
            np.testing.assert_array_equal(report.figures[name][0, o, 0], figures[name])
    assert {line.service_order for line in report.timelines} == {"fifo", "srpt"}
    assert "--load 0.4 --tasks 30" in report.configuration.command


def test_progress_ends_at_one():
    seen = []
    compare(
        RULES, ["lossy"], 2, tasks=5, processes=1, progress=lambda done, title: seen.append((done, title))
    )
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == pytest.approx(1.0)
    assert len(seen) == 6
    assert {title for _, title in seen} >= {"lossy, fifo, pull", "lossy, srpt, round_robin"}


@pytest.mark.parametrize("processes", [1, 2])
def test_failure_names_its_cell(processes):
    with pytest.raises(EvaluationError, match="lossy, srpt, pull: ZeroDivisionError: out of luck"):
        compare([Failing("pull"), "round_robin"], ["lossy"], 2, tasks=5, processes=processes)


def test_killed_process_is_reported():
    with pytest.raises(EvaluationError, match="a worker process died"):
        compare([Dying("pull"), "round_robin"], ["lossy"], 2, tasks=5, processes=2)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((["pul"], ["lossy"], 2), "did you mean 'pull'"),
        ((["pull", "pull"], ["lossy"], 2), "'pull' appears twice"),
        ((["pull"], ["lossy", "lossy"], 2), "'lossy' appears twice"),
        (([], ["lossy"], 2), "policies: expected at least one"),
        ((["pull"], [], 2), "scenarios: expected at least one"),
        ((["pull"], ["lossy"], 0), "seeds = 0"),
        ((["pull"], ["lossy"], [TEST_SEED, TEST_SEED]), "different integers"),
        ((["pull"], ["lossy"], [5]), "policies are trained on those below"),
    ],
)
def test_wrong_arguments_are_refused(arguments, text):
    with pytest.raises(ValueError, match=text):
        compare(*arguments, processes=1)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"service_orders": ["lifo"]}, ValueError, "'lifo': expected fifo or srpt"),
        ({"processes": 0}, ValueError, "processes = 0"),
        ({"reference": "score"}, ValueError, "reference = 'score'"),
        ({"tasks": 0}, ValueError, "tasks"),
        ({"load": -1.0}, ValueError, "load"),
    ],
)
def test_wrong_options_are_refused(options, error, text):
    with pytest.raises(error, match=text):
        compare(["pull"], ["lossy"], 2, **options)


def test_seeds_are_integers():
    with pytest.raises(TypeError, match="seeds"):
        compare(["pull"], ["lossy"], 2.5)


# --- processes ---

LONG = """
from itp.evaluation import compare
if __name__ == "__main__":
    print("started", flush=True)
    compare(["oracle"], ["mixed"], 1000, processes=2, progress=lambda *_: print("part", flush=True))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interruption_leaves_no_process(number, tmp_path):
    script = tmp_path / "long.py"
    script.write_text(LONG)
    process = subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        assert process.stdout.readline() == "started\n"
        assert process.stdout.readline() == "part\n"
        assert len(group_of(process.pid)) >= 3
        process.send_signal(number)
        process.wait(60)
    eventually(lambda: not group_of(process.pid), "the processes end")
