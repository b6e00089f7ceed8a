"""Set models as policies: any number of streams, preferences by name, cap and support heeded or set aside."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import itp
from itp import ModelError
from itp.evaluation import compare
from itp.policies.base import TEST_SEED
from itp.policies.episodes import rollout, rollouts
from itp.policies.names import ADAPTIVE, CLASSICAL, make
from itp.policies.served import ModelPolicy
from itp.schema import SOURCES
from itp.sim.choice import Choice
from itp.sim.scenario import load
from itp.sim.simulator import Simulator
from itp_overhead import dense_chain
from set_models import random_arrays, set_file

GUARD = SOURCES.index("guard")
WORLD = {
    "name": "any",
    "paths": 4,
    "defaults": {"rate_mbit": {"log_uniform": [20, 200]}, "rtt_ms": {"log_uniform": [5, 100]}},
    "workload": {"load": 0.5},
}
PREFERENCES = {"typical": 0.125, "balanced": 0.25, "bulk": 0.75}


def world(n_streams=4, order="fifo", tasks=40):
    return load(WORLD).with_options(n_streams=n_streams, service_order=order, tasks=tasks)


def simulator(n_streams=4, order="fifo", n_envs=8, tasks=40):
    return Simulator(world(n_streams, order, tasks), seeds=np.arange(n_envs) + TEST_SEED)


@pytest.fixture
def model(tmp_path):
    return set_file(tmp_path / "sets.onnx", metadata={"version": "s1", "preferences": PREFERENCES})


@pytest.mark.parametrize("order", ["fifo", "srpt"])
@pytest.mark.parametrize("n_streams", [1, 2, 3, 4, 6, 8, 12, 16])
def test_one_file_serves_any_number_of_streams_and_both_orders(n_streams, order, model):
    (played,) = rollouts(world(n_streams, order), make(str(model)), range(TEST_SEED, TEST_SEED + 4))
    assert len(played.outcomes) == 4 * 40
    assert played.guarded is not None
    assert (played.outcomes["mask"] < 1 << n_streams).all()


@pytest.mark.parametrize(
    ("suffix", "expected"),
    [
        ("", 0.25),
        (":balanced", 0.25),
        (":typical", 0.125),
        (":bulk", 0.75),
        (":prefer=0.375", 0.375),
        (":prefer=0", 0.0),
        (":bulk:hard-deadlines", 0.75),
    ],
)
def test_the_preference_is_what_the_name_says(suffix, expected, model):
    sim, policy = simulator(), make(f"{model}{suffix}")
    assert policy.name == f"sets{suffix}"
    assert make(policy.spec).name == policy.name
    policy.begin(sim)
    policy.act(sim)
    assert (sim.features().context[:, 17] == expected).all()
    # It goes to another process, and the model is loaded there.
    again = pickle.loads(pickle.dumps(policy))
    again.begin(sim)
    np.testing.assert_array_equal(again.act(sim).masks, policy.act(sim).masks)


def test_preferences_change_what_is_decided(model):
    masks = []
    for prefer in (0.0, 1.0):
        sim, policy = simulator(n_envs=64), ModelPolicy(model, prefer=prefer)
        policy.begin(sim)
        # Of the first task of all nothing is known, and the cap decides.
        sim.step_masks(*sim.choose("single_best"))
        masks.append(policy.act(sim).masks)
    assert (masks[0] != masks[1]).any()


@pytest.mark.parametrize(
    ("metadata", "least"),
    [
        ({"cap": {"idle_arrivals": 0.0, "idle_factor": 1.0, "factor": 1.0}}, 0.2),
        (
            {
                "support": {
                    "streams": [[5.0, 5.0]] * 12,
                    "context": [[5.0, 5.0]] * 22,
                    "candidates": [[5.0, 5.0]] * 10,
                }
            },
            0.2,
        ),
    ],
)
def test_cap_and_support_are_heeded_unless_set_aside(metadata, least, tmp_path):
    path = set_file(tmp_path / "m.onnx", metadata=metadata)
    played = {}
    for suffix in ("", ":no-guard"):
        sim, policy = simulator(), make(f"{path}{suffix}")
        policy.begin(sim)
        played[suffix] = rollout(sim, policy)
        assert policy.has_guard == (not suffix)
    assert played[":no-guard"].guarded is None
    assert played[""].guarded.sum() > least * len(played[""].outcomes)
    assert (played[":no-guard"].outcomes["source"] != GUARD).all()
    assert (played[""].outcomes["source"] == GUARD).sum() == played[""].guarded.sum()


def test_hard_deadlines_are_the_models_or_the_callers(tmp_path):
    chosen = {}
    scenario = world().with_options(load=0.9)
    for hard in (False, True):
        path = set_file(tmp_path / f"{hard}.onnx", metadata={"hard_deadlines": hard})
        for suffix in ("", ":hard-deadlines", ":soft-deadlines"):
            sim = Simulator(scenario, seeds=np.arange(64) + TEST_SEED)
            policy = make(f"{path}{suffix}")
            policy.begin(sim)
            masks = []
            for _ in range(6):
                choice = policy.act(sim)
                masks.append(choice.masks.copy())
                sim.step_masks(*choice)
            chosen[hard, suffix] = np.array(masks)
    soft, hard = chosen[False, ""], chosen[True, ""]
    assert (soft != hard).any()
    for given in (False, True):
        np.testing.assert_array_equal(chosen[given, ":hard-deadlines"], hard)
        np.testing.assert_array_equal(chosen[given, ":soft-deadlines"], soft)


def test_schema_1_has_no_preference_and_four_streams(tmp_path):
    chain = dense_chain(tmp_path / "chain.onnx", metadata={"schema": 1})
    with pytest.raises(
        ModelError, match=r"chain\.onnx: .* has schema 1: it knows no preference such as bulk"
    ):
        make(f"{chain}:bulk").begin(simulator())
    with pytest.raises(ModelError, match=r"schema 1 decide over 4 streams; any has 3"):
        make(str(chain)).begin(simulator(3))
    with pytest.raises(ValueError, match="prefer=2: expected a number from 0 to 1"):
        make(f"{chain}:prefer=2")


# --- the same as production ---


# Inputs that follow from measurements which the simulator makes at other times than a caller would.
MEASURED = {"first": (3, 6, 7, 8, 9, 11), "context": (9, 10, 21), "own": (4, 5, 6, 9)}


@pytest.mark.parametrize("order", ["fifo", "srpt"])
@pytest.mark.parametrize("n_streams", [2, 4, 9])
def test_a_partitioner_that_sees_the_same_decides_alike(n_streams, order, tmp_path):
    arrays = random_arrays(seed=4)
    for layer, columns in MEASURED.items():
        arrays[f"{layer}.weight"][:, columns] = 0.0
    arrays["out.weight"][:, [-10 + k for k in MEASURED["own"]]] = 0.0
    path = set_file(tmp_path / "m.onnx", arrays, {"preferences": PREFERENCES})
    sim, policy = simulator(n_streams, order, n_envs=3), make(f"{path}:bulk")
    policy.begin(sim)
    clocks = [itp.ManualClock() for _ in range(sim.n_envs)]
    partitioners = [
        itp.TaskPartitioner(n_streams=n_streams, model=path, service_order=order, clock=clock, prefer="bulk")
        for clock in clocks
    ]
    in_flight = {}
    decided = 0
    while not sim.done.all():
        choice, seen = Choice(*policy.act(sim)), sim.waiting()
        for env in np.flatnonzero(~sim.done):
            p = partitioners[env]
            clocks[env].set(sim.now_s[env], float(sim.states[env, -1]) * 86_400.0)
            for i in range(n_streams):
                work_s = seen["work_ahead_s"][env, i]
                p.update_stream(
                    i,
                    bandwidth_mbps=seen["bandwidth_Bps"][env, i] / 125_000.0,
                    latency_ms=seen["latency_s"][env, i] * 1e3,
                    congestion=work_s / (work_s + 1.0),
                    success_rate=seen["success_rate"][env, i],
                )
            deadline_s = seen["deadline_s"][env]
            task = itp.Task(
                f"{env}/{decided}",
                int(seen["size_bytes"][env]),
                seen["priority"][env],
                None if np.isinf(deadline_s) else deadline_s,
            )
            decision = p.partition_task(task)
            mask = sum(1 << i for i in decision.stream_ids)
            assert (mask, decision.source) == (choice.masks[env], SOURCES[choice.sources[env]])
            in_flight[env, decided] = decision
        sim.step_masks(*choice)
        for outcome in sim.completed():
            decision = in_flight.pop((outcome["env"], outcome["task"]))
            taken_s = outcome["completed_at_s"] - outcome["arrived_at_s"]
            partitioners[outcome["env"]].report_outcome(decision, 1.0, taken_s, bool(outcome["success"]))
        decided += 1
    assert decided == 40
    for p in partitioners:
        p.close()


def test_a_partitioner_evaluates_what_it_serves(model):
    found = []
    for prefer in ("typical", "bulk"):
        with itp.TaskPartitioner(model, n_streams=3, prefer=prefer) as p:
            found.append(p.evaluate(episodes=8, scenario="lognormal-sizes"))
    assert found[0] != found[1]
    scenario = load("lognormal-sizes").with_options(n_streams=3, service_order="fifo")
    (played,) = rollouts(scenario, make(f"{model}:bulk"), range(TEST_SEED, TEST_SEED + 8))
    assert found[1].mean_reward == pytest.approx(played.outcomes["reward"].mean())


@pytest.mark.parametrize("n_streams", [3, 9])
def test_exploration_draws_from_the_candidates(n_streams, model):
    sim, policy = simulator(n_streams, n_envs=3000, tasks=1), make(str(model))
    policy.begin(sim)
    greedy = policy.act(sim)
    candidates = sim.features().masks
    explored = sim.explore(greedy, 0.5)
    assert (candidates == explored.masks[:, None]).any(axis=1).all()
    n_open = (candidates > 0).sum(axis=1)
    as_greedy = explored.masks == greedy.masks
    assert explored.propensities == pytest.approx(0.5 / n_open + np.where(as_greedy, 0.5, 0.0))
    # Every candidate is as likely as the others.
    drawn = explored.explored & (n_open == np.bincount(n_open).argmax())
    counts = np.bincount((candidates[drawn] == explored.masks[drawn][:, None]).argmax(axis=1))
    assert counts.min() > 0.3 * counts.mean() > 5.0


# --- rules over any number of streams ---


@pytest.mark.parametrize("n_streams", [1, 2, 9, 16])
@pytest.mark.parametrize("name", [*CLASSICAL, *ADAPTIVE, "oracle"])
def test_every_policy_takes_any_number_of_streams(name, n_streams):
    policy = make(name)
    sim = simulator(n_streams, n_envs=2, tasks=6)
    policy.begin(sim)
    played = rollout(sim, policy)
    assert len(played.outcomes) == 12
    assert (played.outcomes["mask"] > 0).all()


def test_an_evaluation_over_three_streams(model):
    report = compare(
        [f"{model}:typical", f"{model}:bulk", "single_best", "least_completion_time", "oracle"],
        [world(3, tasks=20)],
        seeds=3,
        service_orders=["fifo"],
        processes=1,
    )
    assert report.configuration.policies[:2] == ("sets:typical", "sets:bulk")
    group = report.analysis.groups[0]
    assert group.best_classical in ("single_best", "least_completion_time")
    assert group.row("sets:bulk").figures["guarded"].value >= 0.0
    assert f"{model}:typical" in report.configuration.command
    assert "sets:typical against the best rules" in report.to_markdown()
