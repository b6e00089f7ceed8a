"""The Gymnasium environments: what Gymnasium asks of them, and that they are the simulator."""

import subprocess
import sys
import warnings
from itertools import pairwise

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import DictInfoToList, RecordEpisodeStatistics

import itp.sim.gym
from itp.sim.simulator import Simulator

ID = "itp/Partition-v0"
TIMEOUT_S = 60


def make(scenario="flaky", tasks=12, **options):
    return gymnasium.make(ID, scenario=scenario, tasks=tasks, **options)


def make_vec(num_envs=4, mode="vector_entry_point", scenario="flaky", tasks=12, **options):
    return gymnasium.make_vec(
        ID, num_envs=num_envs, vectorization_mode=mode, scenario=scenario, tasks=tasks, **options
    )


def episode(env, seed, pick):
    """Everything an episode returns."""
    state, info = env.reset(seed=seed)
    steps = [(state, 0.0, False, info)]
    while not steps[-1][2]:
        state, reward, over, truncated, info = env.step(pick(info))
        assert not truncated
        steps.append((state, reward, over, info))
    return steps


def an_open_action(info):
    return int(np.flatnonzero(info["action_mask"])[-1])


# --- registration ---


def told(code):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=TIMEOUT_S, check=True
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    "code",
    [
        "import gymnasium; env = gymnasium.make('itp.sim.gym:itp/Partition-v0', tasks=3)",
        "import gymnasium, itp; env = gymnasium.make('itp/Partition-v0', tasks=3)",
        "import itp, itp.sim.gym, gymnasium; env = gymnasium.make('itp/Partition-v0', tasks=3)",
    ],
)
def test_gymnasium_knows_it(code):
    assert told(f"{code}; print(env.reset()[0].shape, env.action_space.n)") == ["(20,)", "15"]


def test_importing_itp_loads_neither_gymnasium_nor_the_environment():
    assert told("import itp, sys; print('gymnasium' in sys.modules)") == ["False"]
    assert told("import gymnasium, itp, sys; print('itp.sim.gym' in sys.modules)") == ["False"]


def test_without_gymnasium_the_message_names_the_extra():
    code = (
        "import sys; sys.modules['gymnasium'] = None\n"
        "from itp.errors import MissingExtraError\n"
        "try:\n    import itp.sim.gym\n"
        "except MissingExtraError as error:\n    print(error)"
    )
    assert "'itp[gym]'" in told(code)


# --- what checkers ask ---


@pytest.mark.parametrize("scenario", ["mixed", "shared-bottleneck"])
@pytest.mark.parametrize("tasks", [1, 200])
def test_gymnasiums_checker(scenario, tasks):
    check_env(make(scenario, tasks).unwrapped)


def test_stable_baselines3s_checker():
    pytest.importorskip("torch", reason="torch is not installed: Stable-Baselines3 needs it")
    checker = pytest.importorskip(
        "stable_baselines3.common.env_checker", reason="stable-baselines3 is not installed"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checker.check_env(make("mixed", 200).unwrapped)


def test_gymnasiums_vector_wrappers():
    envs = RecordEpisodeStatistics(make_vec(3, tasks=4))
    envs.reset(seed=1)
    for _ in range(4):
        *_, infos = envs.step(np.zeros(3, dtype=np.int64))
    assert infos["_episode"].all()
    assert infos["episode"]["l"].tolist() == [4, 4, 4]
    as_list = DictInfoToList(make_vec(3))
    _, infos = as_list.reset(seed=1)
    assert [info["action_mask"].shape for info in infos] == [(15,)] * 3


def test_spaces():
    envs = make_vec(8, scenario="mixed")
    assert envs.num_envs == 8
    assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert envs.single_action_space == gymnasium.spaces.Discrete(15)
    assert envs.observation_space.shape == (8, 20)
    states, infos = envs.reset(seed=0)
    assert states in envs.observation_space
    assert states.dtype == np.float32
    assert infos["action_mask"].shape == (8, 15)
    assert envs.step(envs.action_space.sample())[0] in envs.observation_space


# --- a single environment ---


def test_an_episode_is_a_function_of_its_seed_and_actions():
    env, other = make(), make()
    first, again = episode(env, 5, an_open_action), episode(other, 5, an_open_action)
    assert len(first) == len(again) == 13
    for (state, reward, over, info), expected in zip(first, again, strict=True):
        assert np.array_equal(state, expected[0])
        assert (reward, over, info["seed"]) == (expected[1], expected[2], expected[3]["seed"])
        assert np.array_equal(info["action_mask"], expected[3]["action_mask"])
    assert env.reset()[1]["seed"] == other.reset()[1]["seed"] != first[0][3]["seed"]
    assert env.reset(seed=6)[1]["seed"] != first[0][3]["seed"]


def test_a_step_rewards_the_tasks_completed_in_it():
    env = make("mixed", 60)
    env.reset(seed=3)
    rewards, tasks, over = [], 0, False
    while not over:
        _, reward, over, _, _ = env.step(14)
        completed = env.unwrapped.simulator.completed()
        assert reward == pytest.approx(completed["reward"].sum(), abs=1e-12)
        rewards.append(reward)
        tasks += len(completed)
    assert tasks == len(rewards) == 60
    assert np.count_nonzero(rewards) < 60


def test_it_is_the_simulator():
    env = make("mixed", 30, service_order="srpt", load=0.3)
    steps = episode(env, 9, an_open_action)
    sim = Simulator("mixed", seed=steps[0][3]["seed"], tasks=30, service_order="srpt", load=0.3)
    for (_, _, _, info), (state, reward, over, _) in pairwise(steps):
        assert sim.step([an_open_action(info)])[0] == reward
        assert np.array_equal(sim.states[0], state)
        assert sim.done[0] == over


def test_masked_are_the_actions_with_a_stream_that_is_down():
    env = make("flaky", 200)
    masks = [info["action_mask"] for *_, info in episode(env, 2, an_open_action)]
    assert 0 < sum(mask.all() for mask in masks) < len(masks)
    assert np.array_equal(env.unwrapped.action_masks(), masks[-1])


@pytest.mark.parametrize("action", [-1, 15, 1.5, None, [0, 1]])
def test_wrong_actions(action):
    env = make().unwrapped
    env.reset(seed=0)
    with pytest.raises(ValueError, match="actions: expected"):
        env.step(action)


# --- many environments ---


@pytest.mark.parametrize("threads", [1, 2])
def test_many_are_as_many_single_ones(threads):
    """World by world, over the ends of episodes, as Gymnasium's own vector of single environments."""
    envs, expected = make_vec(tasks=7, threads=threads), make_vec(mode="sync", tasks=7)
    rng = np.random.default_rng(0)
    results = [envs.reset(seed=40), expected.reset(seed=40)]
    ends = 0
    for _ in range(40):
        for left, right in zip(*results, strict=True):
            if isinstance(left, dict):
                assert left.keys() == right.keys()
                assert all(np.array_equal(left[key], right[key]) for key in left)
            else:
                assert np.array_equal(left, right)
                assert left.dtype == right.dtype
        actions = rng.integers(0, 15, 4)
        results = [envs.step(actions), expected.step(actions)]
        ends += results[0][2].sum()
    assert ends > 8


def test_an_episode_that_is_over_begins_again_with_the_next_step():
    envs = make_vec(2, tasks=3)
    _, first = envs.reset(seed=[7, None])
    actions = np.zeros(2, dtype=np.int64)
    for _ in range(3):
        last, _, over, truncated, infos = envs.step(actions)
    assert over.all()
    assert not truncated.any()
    assert (infos["seed"] == first["seed"]).all()
    assert not last.any()  # nothing waits any more
    states, rewards, over, _, infos = envs.step(actions)
    assert not over.any()
    assert not rewards.any()
    assert (infos["seed"] != first["seed"]).all()
    world = Simulator("flaky", seeds=infos["seed"], tasks=3)
    assert np.array_equal(states, world.states)


def test_seeds_of_many():
    envs, single = make_vec(3), make()
    _, by_first = envs.reset(seed=7)
    _, one_by_one = envs.reset(seed=[7, 8, 9])
    assert by_first["seed"].tolist() == one_by_one["seed"].tolist()
    assert by_first["seed"].tolist() == [single.reset(seed=seed)[1]["seed"] for seed in (7, 8, 9)]
    _, drawn = envs.reset()
    assert not set(drawn["seed"].tolist()) & set(by_first["seed"].tolist())
    with pytest.raises(ValueError, match="seed: expected 3 seeds"):
        envs.reset(seed=[1, 2])


def test_what_is_returned_is_the_callers():
    envs = make_vec(2)
    states, infos = envs.reset(seed=0)
    kept = states.copy(), infos["seed"].copy()
    envs.step(np.zeros(2, dtype=np.int64))
    envs.reset(seed=1)
    assert np.array_equal(states, kept[0])
    assert np.array_equal(infos["seed"], kept[1])


@pytest.mark.parametrize("actions", [[0, 15], [0], [0, -1], [0.0, 1.0]])
def test_wrong_actions_of_many(actions):
    envs = make_vec(2)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="actions: expected"):
        envs.step(np.array(actions))


def test_the_module_names_what_it_offers():
    assert isinstance(make().unwrapped, itp.sim.gym.PartitionEnv)
    assert isinstance(make_vec(), itp.sim.gym.PartitionVectorEnv)
