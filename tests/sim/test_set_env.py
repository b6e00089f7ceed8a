"""``itp/Partition-v1``: padded inputs of a set model, candidates as actions, and masks."""

import copy
import pickle
import re
import subprocess
import sys
import warnings
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import itp.sim.gym
from itp.sim.outcomes import log_slowdowns
from itp.sim.simulator import Simulator

ID = "itp/Partition-v1"
EXAMPLE = Path(__file__).parents[2] / "examples" / "sb3_agents.py"
TIMEOUT_S = 300


def make(scenario="flaky", tasks=12, **options):
    return gymnasium.make(ID, scenario=scenario, tasks=tasks, **options)


def make_vec(num_envs=4, mode="vector_entry_point", scenario="flaky", tasks=12, **options):
    return gymnasium.make_vec(
        ID, num_envs=num_envs, vectorization_mode=mode, scenario=scenario, tasks=tasks, **options
    )


def equal(left, right):
    assert left.keys() == right.keys()
    for key in left:
        assert left[key].dtype == right[key].dtype
        assert np.array_equal(left[key], right[key])


def play(env, seed, rng):
    """Every (observation, reward, over, info) of an episode of open actions."""
    seen, info = env.reset(seed=seed)
    steps = [(seen, 0.0, False, info)]
    while not steps[-1][2]:
        action = int(rng.choice(np.flatnonzero(steps[-1][3]["action_mask"])))
        seen, reward, over, truncated, info = env.step(action)
        assert not truncated
        steps.append((seen, reward, over, info))
    return steps


def test_gymnasiums_checker():
    for options in ({}, {"scenario": "bursty-arrivals", "n_streams": 16}, {"tasks": 1}):
        check_env(make(**options).unwrapped)


def test_stable_baselines3s_checker():
    pytest.importorskip("torch", reason="torch is not installed: Stable-Baselines3 needs it")
    checker = pytest.importorskip(
        "stable_baselines3.common.env_checker", reason="stable-baselines3 is not installed"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # It says so of every matrix, which its extractor flattens.
        warnings.filterwarnings("ignore", "Your observation .* has an unconventional shape")
        checker.check_env(make("mixed", 50).unwrapped)


@pytest.mark.parametrize("n_streams", [1, 2, 3, 5, 6, 7, 16])
@pytest.mark.parametrize("order", ["fifo", "srpt"])
def test_an_observation_is_what_a_set_model_sees(n_streams, order):
    env = make("lognormal-sizes", 30, n_streams=n_streams, service_order=order, prefer="bulk")
    rng = np.random.default_rng(0)
    steps = play(env, 3, rng)
    sim = Simulator(
        "lognormal-sizes",
        seed=steps[0][3]["seed"],
        tasks=30,
        n_streams=n_streams,
        service_order=order,
    )
    sim.prefer(1.0)
    rng = np.random.default_rng(0)
    for seen, _, over, info in steps[:-1]:
        assert seen in env.observation_space
        found = sim.features()
        k = int(np.count_nonzero(found.masks[0]))
        up = int(seen["stream_mask"].sum())
        assert up == n_streams
        assert np.array_equal(info["action_mask"], np.arange(63) < k)
        assert np.array_equal(seen["candidate_mask"], info["action_mask"])
        assert np.array_equal(seen["candidates"][:k], found.candidates[0, :k])
        assert np.array_equal(seen["streams"][:n_streams], found.streams[0])
        assert np.array_equal(seen["context"], found.context[0])
        assert seen["context"][17] == 1.0
        bits = seen["members"] @ (1 << np.arange(16))
        assert np.array_equal(bits[:k], found.members[0, :k])
        assert not seen["members"][k:].any()
        assert not seen["candidates"][k:].any()
        assert not seen["streams"][n_streams:].any()
        action = int(rng.choice(np.flatnonzero(info["action_mask"])))
        assert not over
        sim.step_masks(found.masks[:, action].copy(), np.zeros(1, np.int32))
    assert sim.done[0]
    last = steps[-1][0]
    assert not any(part.any() for part in last.values())


def test_rewards_are_those_of_the_tasks_completed_in_a_step():
    by_reward, by_slowdown = make("mixed", 40), make("mixed", 40, objective="slowdown")
    for env in (by_reward, by_slowdown):
        env.reset(seed=2)
    over = False
    nonzero = 0
    while not over:
        _, reward, over, _, _ = by_reward.step(3)
        _, slowdown, *_ = by_slowdown.step(3)
        completed = by_slowdown.unwrapped.simulator.completed()
        assert reward == pytest.approx(completed["reward"].sum(), abs=1e-12)
        assert slowdown == pytest.approx(-log_slowdowns(completed).sum(), abs=1e-12)
        nonzero += slowdown != 0.0
    assert nonzero > 5


def test_a_closed_action_counts_on_from_the_first_candidate():
    one, other = make("mixed", 30), make("mixed", 30)
    one.reset(seed=5)
    other.reset(seed=5)
    rng = np.random.default_rng(1)
    over = False
    closed = 0
    while not over:
        mask = one.unwrapped.action_masks()
        action = int(rng.integers(63))
        closed += not mask[action]
        seen, reward, over, _, _ = one.step(action)
        expected, as_open, *_ = other.step(action % int(mask.sum()))
        equal(seen, expected)
        assert reward == as_open
    assert closed > 10


def test_streams_that_are_down_are_in_no_candidate():
    env = make("flaky", 200)
    rng = np.random.default_rng(0)
    numbers = {int(seen["stream_mask"].sum()) for seen, *_ in play(env, 2, rng)[:-1]}
    assert 4 in numbers
    assert min(numbers) < 4
    for seen, _, _, info in play(env, 2, rng)[:-1]:
        up = int(seen["stream_mask"].sum())
        assert 1 <= info["action_mask"].sum() <= 2**up - 1


def test_with_all_streams_down_the_task_goes_somewhere():
    path = {"rate_mbit": 10, "rtt_ms": 20, "outages": [[0.1, 30.0]]}
    scenario = {
        "name": "dark",
        "paths": [path, path],
        "workload": {"tasks": [[0.0, 1000], [20.0, 1000], [25.0, 1000], [60.0, 1000]]},
    }
    env = gymnasium.make(ID, scenario=scenario)
    steps = play(env, 0, np.random.default_rng(0))
    assert len(steps) == 5
    assert all(info["action_mask"].any() for *_, info in steps[:-1])
    assert all(np.isfinite(reward) for _, reward, *_ in steps)


@pytest.mark.parametrize("action", [-1, 63, 1.5, None, [0, 1]])
def test_wrong_actions(action):
    env = make().unwrapped
    env.reset(seed=0)
    with pytest.raises(ValueError, match="actions: expected"):
        env.step(action)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"prefer": "fast"}, "prefer = 'fast': expected typical, balanced, bulk, or a number"),
        ({"prefer": 1.5}, "prefer = 1.5"),
        ({"prefer": True}, "prefer = True"),
        ({"prefer": float("nan")}, "prefer = nan"),
        ({"objective": "speed"}, "objective = 'speed': expected one of reward, slowdown"),
    ],
)
def test_refused(options, text):
    with pytest.raises(ValueError, match=text):
        itp.sim.gym.SetPartitionEnv("mixed", **options)
    with pytest.raises(ValueError, match=text):
        itp.sim.gym.SetPartitionVectorEnv(2, "mixed", **options)


def test_a_preference_is_a_number_or_its_name():
    seen = [make(prefer=prefer).reset(seed=1)[0]["context"] for prefer in ("balanced", 0.5, "typical", 0)]
    assert np.array_equal(seen[0], seen[1])
    assert np.array_equal(seen[2], seen[3])
    assert (seen[0] != seen[2]).sum() == 1


@pytest.mark.parametrize("threads", [1, 2])
def test_many_are_as_many_single_ones(threads):
    options = {"scenario": "mixed", "tasks": 7, "objective": "slowdown", "prefer": 0.3}
    envs, expected = make_vec(threads=threads, **options), make_vec(mode="sync", **options)
    rng = np.random.default_rng(0)
    results = [envs.reset(seed=40), expected.reset(seed=40)]
    ends = 0
    for _ in range(30):
        (seen, *rest, infos), (seen_one_by_one, *others, others_infos) = results
        equal(seen, seen_one_by_one)
        assert all(np.array_equal(left, right) for left, right in zip(rest, others, strict=True))
        assert np.array_equal(infos["action_mask"], others_infos["action_mask"])
        actions = rng.integers(0, 63, 4)
        results = [envs.step(actions), expected.step(actions)]
        ends += results[0][2].sum()
    assert ends > 8


@pytest.mark.parametrize("how", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_a_copy_goes_on_as_the_original(how):
    env = make("mixed", 20, prefer="bulk", objective="slowdown")
    env.reset(seed=5)
    for _ in range(9):
        env.step(2)
    copied = how(env)
    for _ in range(11):
        seen, *rest, _ = env.step(4)
        expected, *others, _ = copied.step(4)
        equal(seen, expected)
        assert rest == others
    assert env.reset()[1]["seed"] == copied.reset()[1]["seed"]


def test_masks_are_for_the_action_space():
    envs = make_vec(5, tasks=50)
    envs.action_space.seed(0)
    _, infos = envs.reset(seed=2)
    for _ in range(49):
        masks = infos["action_mask"]
        assert masks.dtype == np.int8
        actions = envs.action_space.sample(mask=tuple(masks))
        assert masks[np.arange(5), actions].all()
        *_, infos = envs.step(actions)


@pytest.mark.parametrize(
    ("agent", "package", "options"),
    [
        ("dqn", "stable_baselines3", []),
        ("masked_ppo", "sb3_contrib", ["--scenario", "bursty-arrivals", "--streams", "7"]),
    ],
)
def test_agents_of_stable_baselines3(agent, package, options):
    pytest.importorskip("torch", reason="torch is not installed: Stable-Baselines3 needs it")
    pytest.importorskip(package, reason=f"{package} is not installed")
    command = [sys.executable, EXAMPLE, "--agent", agent, "--steps", "128", "--episodes", "1", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(
        rf"{agent}, 128 steps: slowdown \d+\.\d+\nleast_completion_time: slowdown \d+\.\d+\n", done.stdout
    )
