"""Episodes under a policy: the same whatever runs beside them, with honest propensities."""

import numpy as np
import pytest
from scipy import stats

from itp import policies
from itp.actions import stream_sets
from itp.policies.episodes import rollouts
from itp.sim import scenario
from itp.sim.simulator import Simulator


def run(name="flaky", policy="least_completion_time", seeds=range(6), tasks=60, **options):
    world = scenario.load(name).with_options(tasks=tasks)
    return list(rollouts(world, policies.make(policy), seeds, experiences=True, **options))


def by_task(parts):
    rows = np.concatenate([part.experiences for part in parts])
    seeds = np.concatenate([part.seeds[part.outcomes["env"]] for part in parts])
    return rows[np.lexsort((rows["number"], seeds))]


@pytest.mark.parametrize("policy", ["least_completion_time", "random", "pull", "size_interval"])
def test_what_happens_does_not_depend_on_the_batch(policy):
    whole = by_task(run(policy=policy, epsilon=0.3))
    for options in ({"n_envs": 4}, {"n_envs": 1}, {"threads": 3}):
        parts = run(policy=policy, epsilon=0.3, **options)
        assert by_task(parts).tobytes() == whole.tobytes()
        assert np.concatenate([part.seeds for part in parts]).tolist() == list(range(6))
    assert len(whole) == 6 * 60


def test_without_exploration_it_is_the_policys_own_run():
    (part,) = run("mixed", seeds=range(5))
    sim = Simulator("mixed", seeds=range(5), tasks=60)
    expected = policies.run(sim, policies.make("least_completion_time"))
    assert part.outcomes.tobytes() == expected.tobytes()
    assert (part.experiences["propensity"] == 1.0).all()
    assert not part.experiences["explored"].any()


def test_experiences_belong_to_their_outcomes():
    (part,) = run(epsilon=0.5)
    outcomes, rows = part.outcomes, part.experiences
    sets = stream_sets(4)
    masks = [sum(1 << stream for stream in sets[action]) for action in rows["action"]]
    assert masks == outcomes["mask"].tolist()
    assert rows["task_id"].tolist() == [
        f"{part.seeds[env]}/{task}".encode() for env, task in outcomes[["env", "task"]]
    ]
    assert (rows["number"] == outcomes["task"]).all()
    assert (rows["reward"] == outcomes["reward"].astype(np.float32)).all()
    assert (rows["done"] == (outcomes["task"] == 59)).all()
    # The next state of a task is the state of the one that follows.
    ordered = by_task([part]).reshape(6, 60)
    assert (ordered["next_state"][:, :-1] == ordered["state"][:, 1:]).all()


@pytest.mark.parametrize("epsilon", [0.2, 1.0])
def test_propensities_are_the_frequencies_of_exploration(epsilon):
    # Four streams that never fail: 15 actions are open to every task.
    rows = by_task(run("homogeneous", seeds=range(40), epsilon=epsilon))
    share = rows["explored"].mean()
    assert abs(share - epsilon) <= 4 * np.sqrt(epsilon * (1 - epsilon) / len(rows))
    drawn = np.bincount(rows["action"][rows["explored"]], minlength=15)
    assert stats.chisquare(drawn).pvalue > 1e-4
    likely, unlikely = epsilon / 15 + 1 - epsilon, epsilon / 15
    assert set(np.float32(rows["propensity"])) <= {np.float32(likely), np.float32(unlikely)}
    assert (rows["propensity"][~rows["explored"]] == np.float32(likely)).all()
    # Inverse propensities estimate how many actions there are.
    assert np.mean(1 / rows["propensity"]) == pytest.approx(15, rel=0.15)


def test_the_random_policy_tells_its_propensity():
    rows = by_task(run("homogeneous", policy="random", seeds=range(3)))
    assert (rows["propensity"] == np.float32(1 / 15)).all()
    assert rows["explored"].all()


def test_streams_that_are_down_are_not_explored():
    rows = by_task(run("flaky", seeds=range(30), epsilon=1.0, tasks=200))
    # The success rate of a stream that is down reads 0: see the state vector's schema.
    up = rows["state"][:, 12:16] > 0.0
    assert not up.all()
    sets = stream_sets(4)
    partly = up.any(axis=1)
    for k in np.flatnonzero(partly & ~up.all(axis=1)):
        assert up[k, list(sets[rows["action"][k]])].all()
    expected = 1.0 / (2.0 ** up.sum(axis=1) - 1)[partly]
    np.testing.assert_allclose(rows["propensity"][partly], expected, rtol=1e-6)


def test_progress_counts_every_decision():
    told = []
    run(n_envs=4, progress=told.append)
    assert sum(told) == 6 * 60


@pytest.mark.parametrize("epsilon", [-0.1, 1.1, float("nan")])
def test_epsilon_is_a_probability(epsilon):
    with pytest.raises(ValueError, match="epsilon"):
        run(epsilon=epsilon)
