"""Set models in the simulator: features, decisions, preferences, look-ahead over candidates."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from itp import Simulator
from itp._core.setnet import MAX_CANDIDATES, SetNet
from itp.schema import CANDIDATE_FEATURES, CONTEXT_FEATURES, SOURCES, STREAM_FEATURES
from itp.sim.outcomes import log_slowdowns
from itp.sim.scenario import load
from set_models import random_arrays

pytestmark = pytest.mark.core

PREFERENCE = 17
NET = SetNet(random_arrays())


FLAKY = {
    "paths": 4,
    "defaults": {
        "rate_mbit": {"log_uniform": [20, 200]},
        "rtt_ms": {"log_uniform": [5, 100]},
        "random_outages": {"up_s": {"log_uniform": [2, 20]}, "down_s": {"log_uniform": [0.5, 2]}},
    },
}


def simulator(n_streams=4, order="fifo", n_envs=12, tasks=40, **options):
    scenario = load(FLAKY).with_options(n_streams=n_streams, service_order=order, tasks=tasks)
    return Simulator(scenario, n_envs, **options)


def advance(sim, steps):
    for _ in range(steps):
        sim.step_masks(*sim.choose("least_completion_time"))


@pytest.mark.parametrize("n_streams", [1, 2, 3, 5, 6, 7, 11, 16])
def test_features_hold_all_candidates(n_streams):
    sim = simulator(n_streams)
    most = 0
    for _ in range(20):
        found = sim.features()
        wide = (
            np.empty((sim.n_envs, n_streams, STREAM_FEATURES), np.float32),
            np.empty((sim.n_envs, CONTEXT_FEATURES), np.float32),
            np.empty((sim.n_envs, MAX_CANDIDATES, CANDIDATE_FEATURES), np.float32),
            np.empty((sim.n_envs, MAX_CANDIDATES), np.uint32),
            np.empty((sim.n_envs, MAX_CANDIDATES), np.uint32),
        )
        sim._batch.features(*wide, 0, sim.n_envs)
        k = found.masks.shape[1]
        for narrow, full in zip(found[2:], wide[2:], strict=True):
            np.testing.assert_array_equal(narrow, full[:, :k])
            assert not full[:, k:].any()
        most = max(most, int((wide[4] > 0).sum(axis=1).max()))
        assert all(np.isfinite(array).all() for array in found[:3])
        advance(sim, 1)
    assert most <= k
    # Nothing to spare where all subsets are candidates.
    assert n_streams > 6 or k == (1 << n_streams) - 1


def test_members_are_the_masks_over_the_streams_that_are_up():
    sim = simulator(5, n_envs=32, tasks=200)
    seen_down = 0
    for _ in range(100):
        found, up = sim.features(), sim.waiting()["up"]
        for env in np.flatnonzero(~sim.done):
            streams = [i for i in range(5) if up[env] >> i & 1]
            seen_down += len(streams) < 5
            n_up = round(float(found.context[env, 18]) * 16)
            assert n_up == len(streams)
            for member, mask in zip(found.members[env], found.masks[env], strict=True):
                assert mask == sum(1 << streams[j] for j in range(len(streams)) if member >> j & 1)
            assert len(set(found.masks[env][found.masks[env] > 0].tolist())) == (found.masks[env] > 0).sum()
        advance(sim, 1)
    assert seen_down


@pytest.mark.parametrize("order", ["fifo", "srpt"])
@pytest.mark.parametrize("n_streams", [2, 4, 9])
def test_the_greatest_value_decides(order, n_streams):
    sim = simulator(n_streams, order, n_envs=16)
    guarded = decided = 0
    for _ in range(40):
        found, chosen = sim.features(), sim.decide_sets(NET)
        for env in np.flatnonzero(~sim.done):
            k = int((found.masks[env] > 0).sum())
            m = round(float(found.context[env, 18]) * 16)
            values = NET(
                found.streams[env : env + 1, :m],
                found.context[env : env + 1],
                found.candidates[env : env + 1, :k],
                found.members[env : env + 1, :k],
            )[0]
            guard = SOURCES[chosen.sources[env]] == "guard"
            guarded += guard
            decided += 1
            assert guard == (chosen.masks[env] != found.masks[env, values.argmax()]) or k == 1
        sim.step_masks(*chosen)
    assert guarded < decided / 2


def test_preferences_are_inputs_and_stay():
    sim = simulator()
    assert (sim.features().context[:, PREFERENCE] == 0.5).all()
    wanted = np.linspace(0.0, 1.0, sim.n_envs)
    sim.prefer(wanted)
    advance(sim, 3)
    copies = [copy.deepcopy(sim), pickle.loads(pickle.dumps(sim)), sim.branch(np.arange(sim.n_envs), 5)]
    sim.reset()
    for one in (sim, *copies):
        np.testing.assert_allclose(one.features().context[:, PREFERENCE], wanted, rtol=1e-6)
    sim.prefer(1)
    assert (sim.features().context[:, PREFERENCE] == 1.0).all()


@pytest.mark.parametrize("wrong", [-0.1, 1.1, np.nan, np.inf, [0.5, 0.5], np.full((12, 1), 0.5)])
def test_preferences_that_are_none(wrong):
    sim = simulator()
    with pytest.raises(ValueError, match="preferences"):
        sim.prefer(wrong)


@pytest.mark.parametrize("order", ["fifo", "srpt"])
def test_copies_see_the_same_workload(order):
    sim = simulator(order=order)
    advance(sim, 15)
    others = [copy.deepcopy(sim), pickle.loads(pickle.dumps(sim)), sim.branch(np.arange(sim.n_envs), 30)]
    for _ in range(10):
        for other in others:
            for mine, theirs in zip(sim.features(), other.features(), strict=True):
                np.testing.assert_array_equal(mine, theirs)
            other.step_masks(*other.decide_sets(NET))
        sim.step_masks(*sim.decide_sets(NET))


def costs_by_branching(sim, env, mask, horizon, net):
    """The sums over the waiting task, the next ones and those in flight, by stepping a copy."""
    ahead = sim.branch([env], horizon)
    ahead.prefer(sim.features().context[env, PREFERENCE])
    outcomes = []
    choice = np.array([mask], np.uint32), np.zeros(1, np.int32)
    while True:
        ahead.step_masks(*choice)
        outcomes.append(ahead.completed())
        if ahead.done.all():
            break
        if net is not None:
            chosen = ahead.decide_sets(net)
        else:
            rule = "single_best" if sim.scenario.service_order == "fifo" else "least_completion_time"
            chosen = ahead.choose(rule)
        choice = chosen[:2]
    found = np.concatenate(outcomes)
    return log_slowdowns(found).sum(), (found["completed_at_s"] - found["arrived_at_s"]).sum()


@pytest.mark.parametrize("order", ["fifo", "srpt"])
@pytest.mark.parametrize("net", [None, NET], ids=["rule", "model"])
def test_costs_are_what_happens_when_the_candidate_is_taken(order, net):
    sim = simulator(3, order, n_envs=6, tasks=25)
    sim.prefer(np.linspace(0, 1, 6))
    advance(sim, 10)
    horizons = np.array([1, 2, 5, 8, 8, 100])
    costs = sim.look_ahead_costs(net, horizons)
    assert (np.isnan(costs.log_slowdowns) == (costs.masks == 0)).all()
    assert (np.isnan(costs.times_s) == (costs.masks == 0)).all()
    for env, k in zip(*np.nonzero(costs.masks), strict=True):
        expected = costs_by_branching(sim, env, costs.masks[env, k], horizons[env], net)
        assert costs.log_slowdowns[env, k] == pytest.approx(expected[0], rel=1e-9, abs=1e-9)
        assert costs.times_s[env, k] == pytest.approx(expected[1], rel=1e-9)


@pytest.mark.parametrize("n_streams", [4, 16])
def test_threads_change_nothing(n_streams):
    one, many = (simulator(n_streams, n_envs=19, tasks=20, threads=threads) for threads in (1, 3))
    for _ in range(6):
        for mine, theirs in zip(one.features(), many.features(), strict=True):
            np.testing.assert_array_equal(mine, theirs)
        found = one.look_ahead_costs(NET, 4), many.look_ahead_costs(NET, 4)
        for mine, theirs in zip(*found, strict=True):
            np.testing.assert_array_equal(mine, theirs)
        chosen = one.decide_sets(NET), many.decide_sets(NET)
        for mine, theirs in zip(chosen[0][:2], chosen[1][:2], strict=True):
            np.testing.assert_array_equal(mine, theirs)
        one.step_masks(*chosen[0])
        many.step_masks(*chosen[1])


def test_where_an_episode_is_over_nothing_is_looked_at():
    sim = simulator(n_envs=2, tasks=3)
    advance(sim, 4)
    assert sim.done.all()
    found = sim.features()
    assert not any(array.any() for array in found)
    costs = sim.look_ahead_costs(None, 5)
    assert np.isnan(costs.times_s).all()
    assert not sim.decide_sets(NET).masks.any()


@pytest.mark.parametrize("horizon", [0, -1])
def test_horizons_that_are_none(horizon):
    with pytest.raises(ValueError, match="horizons"):
        simulator().look_ahead_costs(None, horizon)
    with pytest.raises(TypeError, match="horizons"):
        simulator().look_ahead_costs(None, 1.5)
    with pytest.raises(TypeError, match="horizons"):
        simulator().look_ahead_costs(None, [4, 4])


def test_hard_deadlines_must_be_truth_values():
    with pytest.raises(TypeError, match="hard_deadlines"):
        simulator().decide_sets(NET, hard_deadlines=1)


@pytest.mark.parametrize("n_streams", [8, 16])
def test_a_clairvoyant_over_many_streams_tries_the_candidates(n_streams):
    sim = simulator(n_streams, n_envs=4, tasks=12)
    advance(sim, 4)
    masks = sim.look_ahead(6, "single_best").masks
    costs = sim.look_ahead_costs(None, 6)
    best = np.nanargmin(costs.log_slowdowns, axis=1)
    np.testing.assert_array_equal(masks, costs.masks[np.arange(4), best])


@pytest.mark.parametrize("n_streams", [1, 4, 16])
def test_environments_need_no_more_memory_than_is_asked_for(n_streams):
    """The workload's memory and the preference are part of an environment; copies of it hold as much."""
    sim = simulator(n_streams, n_envs=32, tasks=60)
    empty = sim.memory_bytes()
    advance(sim, 50)
    sim.features()
    assert empty <= sim.memory_bytes() < 32 * (10_000 + 2_500 * n_streams)
    assert pickle.loads(pickle.dumps(sim)).memory_bytes() <= sim.memory_bytes()
