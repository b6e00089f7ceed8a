"""What a policy decides in the simulator is what a TaskPartitioner decides that sees the same."""

from __future__ import annotations

import numpy as np
import pytest

import itp
from itp.policies.rules import Rule
from itp.policies.served import ModelPolicy
from itp.schema import SOURCES
from itp.sim.choice import Choice
from itp.sim.scenario import load
from itp.sim.simulator import Simulator, masks_of_actions

DAY_S = 86_400.0


class ByHand:
    """A partitioner an environment, shown what the waiting task sees there."""

    def __init__(self, sim: Simulator, **options) -> None:
        order = sim.scenario.service_order
        self.clocks = [itp.ManualClock() for _ in range(sim.n_envs)]
        self.partitioners = [
            itp.TaskPartitioner(n_streams=sim.n_streams, service_order=order, clock=clock, **options)
            for clock in self.clocks
        ]
        self.in_flight: list[dict[int, itp.Decision]] = [{} for _ in range(sim.n_envs)]
        self.decided = [0] * sim.n_envs

    def decide(self, sim: Simulator, env: int, seen: dict) -> itp.Decision:
        p = self.partitioners[env]
        now_s = sim.now_s[env]
        self.clocks[env].set(now_s, float(sim.states[env, -1]) * DAY_S)
        for i in range(sim.n_streams):
            work_s = seen["work_ahead_s"][env, i]
            p.update_stream(
                i,
                bandwidth_mbps=seen["bandwidth_Bps"][env, i] / 125_000.0,
                latency_ms=seen["latency_s"][env, i] * 1e3,
                congestion=work_s / (work_s + 1.0),
                success_rate=seen["success_rate"][env, i],
            )
            p.set_stream_up(i, bool((seen["up"][env] >> i) & 1))
        deadline_s = seen["deadline_s"][env]
        decision = p.partition_task(
            itp.Task(
                str(self.decided[env]),
                int(seen["size_bytes"][env]),
                seen["priority"][env],
                None if np.isinf(deadline_s) else deadline_s,
            )
        )
        self.in_flight[env][self.decided[env]] = decision
        self.decided[env] += 1
        return decision

    def report(self, outcomes) -> None:
        for outcome in outcomes:
            decision = self.in_flight[outcome["env"]].pop(outcome["task"])
            taken_s = outcome["completed_at_s"] - outcome["arrived_at_s"]
            self.partitioners[outcome["env"]].report_outcome(decision, 1.0, taken_s, bool(outcome["success"]))


def compared(sim: Simulator, policy, by_hand: ByHand) -> tuple[int, int, int]:
    """Decisions, those that differ, and those the guard made, over whole episodes."""
    policy.begin(sim)
    sets = masks_of_actions(sim.n_streams)
    decisions = different = guarded = 0
    while not sim.done.all():
        choice = Choice(*policy.act(sim))
        seen, waiting = sim.waiting(), np.flatnonzero(~sim.done)
        for env in waiting:
            mine = by_hand.decide(sim, env, seen)
            source = "heuristic" if choice.sources is None else SOURCES[choice.sources[env]]
            guarded += source == "guard"
            different += (sets[mine.action], mine.source) != (choice.masks[env], source)
            decisions += 1
        sim.step_masks(*choice)
        by_hand.report(sim.completed())
    return decisions, different, guarded


@pytest.mark.parametrize("order", ["fifo", "srpt"])
@pytest.mark.parametrize("hard_deadlines", [None, True, False])
@pytest.mark.parametrize("family", ["mixed", "flaky"])
def test_a_model_decides_alike(family, order, hard_deadlines):
    sim = Simulator(load(family).with_options(service_order=order, load=0.8), n_envs=10, seed=1_000_000)
    by_hand = ByHand(sim, model="dqn_v1", hard_deadlines=hard_deadlines)
    policy = ModelPolicy("dqn_v1", hard_deadlines=hard_deadlines)
    decisions, different, guarded = compared(sim, policy, by_hand)
    assert decisions == 10 * sim.n_tasks
    assert different == 0
    assert guarded == sum(p.metrics().guarded_decisions for p in by_hand.partitioners)


@pytest.mark.parametrize("order", ["fifo", "srpt"])
@pytest.mark.parametrize("hard_deadlines", [None, False, True])
@pytest.mark.parametrize(
    "rule",
    [
        "least_completion_time",
        "single_best",
        "score",
        "proportional",
        "min_rtt",
        "pull",
        "least_completion_time_proportional",
        "adaptive_size_interval",
        "first_policy_iteration",
        "auto",
    ],
)
def test_a_heuristic_decides_alike(rule, hard_deadlines, order):
    sim = Simulator(load("bursts").with_options(service_order=order, load=0.7), n_envs=5, seed=1_000_000)
    by_hand = ByHand(sim, heuristic=rule, hard_deadlines=hard_deadlines)
    decisions, different, _ = compared(sim, Rule(rule, hard_deadlines=hard_deadlines), by_hand)
    assert (decisions, different) == (5 * sim.n_tasks, 0)


def test_hard_deadlines_close_actions_and_soft_ones_do_not():
    with (
        itp.TaskPartitioner(heuristic="single_best", hard_deadlines=True) as hard,
        itp.TaskPartitioner(heuristic="single_best", hard_deadlines=False) as soft,
    ):
        for p in (hard, soft):
            for i in range(4):
                p.update_stream(i, bandwidth_mbps=100.0, latency_ms=10.0, success_rate=1.0)
        # 100 MB take 8 s over one stream, 2 s over four.
        task = itp.Task("t", 100_000_000, deadline_s=4.0)
        met, missed = hard.partition_task(task), soft.partition_task(task)
    assert len(met.stream_ids) > 1
    assert met.feasible
    assert len(missed.stream_ids) == 1
    assert not missed.feasible


@pytest.mark.parametrize("epsilon", [0.0, 0.25, 1.0])
def test_propensities_are_the_frequencies_of_what_is_taken(epsilon):
    sim = Simulator("homogeneous", n_envs=4000, seed=3, tasks=1)
    greedy = Choice(*(array.copy() for array in sim.choose("single_best")[:2]))
    explored = sim.explore(greedy, epsilon)
    n_open = sim.action_masks.sum(axis=1)
    as_greedy = explored.masks == greedy.masks
    expected = epsilon / n_open + np.where(as_greedy, 1.0 - epsilon, 0.0)
    assert explored.propensities == pytest.approx(expected)
    assert explored.explored.mean() == pytest.approx(epsilon, abs=0.03)
    # Every action is drawn as often as the others.
    drawn = explored.masks[explored.explored]
    if len(drawn):
        counts = np.bincount(drawn, minlength=16)[1:]
        assert counts.min() > 0.6 * len(drawn) / 15
    assert not explored.explored[~as_greedy].size or explored.explored[~as_greedy].all()


def test_exploration_depends_on_world_and_task_alone():
    def explored(n_envs: int, threads: int) -> list[tuple]:
        found = []
        for first in range(100, 116, n_envs):
            sim = Simulator("mixed", seeds=range(first, first + n_envs), tasks=5, threads=threads)
            rows = []
            while not sim.done.all():
                choice = sim.explore(sim.choose("single_best"), 0.5)
                rows.append((choice.masks, choice.propensities, choice.explored))
                sim.step_masks(*choice)
            found += [tuple((m[k], p[k], e[k]) for m, p, e in rows) for k in range(n_envs)]
        return found

    assert explored(16, 2) == explored(1, 1) == explored(4, 1)


@pytest.mark.parametrize("order", ["fifo", "srpt"])
@pytest.mark.parametrize("hard_deadlines", [None, True, False])
def test_exploration_is_closed_to_what_deadlines_close(hard_deadlines, order):
    sim = Simulator("heterogeneous", n_envs=300, seed=7, load=0.8, tasks=30, service_order=order)
    by_hand = ByHand(sim, heuristic="single_best", hard_deadlines=hard_deadlines, epsilon=1.0, seed=1)
    policy = Rule("single_best", hard_deadlines=hard_deadlines)
    closed = 0
    for _ in range(5):
        explored = sim.explore(policy.act(sim), 1.0)
        seen = sim.waiting()
        for env in range(0, sim.n_envs, 6):
            mine = by_hand.decide(sim, env, seen)
            assert mine.propensity == pytest.approx(explored.propensities[env])
            closed += mine.propensity > 1 / (2 ** bin(seen["up"][env]).count("1") - 1) + 1e-9
        sim.step_masks(*explored)
    hard = hard_deadlines if hard_deadlines is not None else order == "srpt"
    assert (closed > 0) == hard


def test_a_drawn_action_is_the_engines_own():
    sim = Simulator("mixed", n_envs=64, seed=2)
    q_values = np.random.default_rng(0).random((64, 15), dtype=np.float32)
    guarded = sim.decide(q_values, guard=itp._core.choose.Guard("single_best", 1.0), source="onnxruntime")
    assert (guarded.sources == SOURCES.index("guard")).any()
    drawn = sim.explore(guarded, 1.0)
    assert (drawn.sources == SOURCES.index("onnxruntime")).all()


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"hard_deadlines": None}, TypeError, "hard_deadlines = None"),
        ({"hard_deadlines": "no"}, TypeError, "hard_deadlines = 'no'"),
        ({"source": "bad"}, ValueError, "source = 'bad'"),
    ],
)
def test_wrong_options_of_a_decision_are_refused(options, error, text):
    sim = Simulator("mixed", n_envs=2)
    with pytest.raises(error, match=text):
        sim.decide(np.zeros((2, 15), np.float32), **options)
    for epsilon, kind in ((True, TypeError), ("x", TypeError), (1.5, ValueError), (float("nan"), ValueError)):
        with pytest.raises(kind, match="epsilon"):
            sim.explore(sim.choose("pull"), epsilon)
