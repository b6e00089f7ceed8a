"""The Gymnasium environments: what Gymnasium asks of them, and that they are the simulator."""

import copy
import multiprocessing
import pickle
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
from processes import in_child

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
    env = make("mixed", 200).unwrapped
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checker.check_env(env)


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


def test_masks_are_for_the_action_space():
    """As Gymnasium's own environments have them: int8, and taken by `sample`."""
    env = make("flaky", 200)
    env.action_space.seed(0)
    _, info = env.reset(seed=2)
    closed, over = 0, False
    while not over:
        mask = info["action_mask"]
        assert mask.dtype == np.int8
        assert np.array_equal(mask, env.unwrapped.action_masks())
        action = env.action_space.sample(mask=mask)
        assert mask[action] == 1
        closed += not mask.all()
        _, _, over, _, info = env.step(action)
    assert closed > 0
    envs = make_vec(5, tasks=200)
    envs.action_space.seed(0)
    _, infos = envs.reset(seed=2)
    closed = 0
    for _ in range(200):
        masks = infos["action_mask"]
        assert masks.dtype == np.int8
        actions = envs.action_space.sample(mask=tuple(masks))
        assert masks[np.arange(5), actions].all()
        closed += (masks == 0).sum()
        *_, infos = envs.step(actions)
    assert closed > 0


def test_with_all_streams_down_every_action_is_open():
    """The task has to go somewhere: it waits on whichever streams it is given to."""
    path = {"rate_mbit": 10, "rtt_ms": 20, "outages": [[0.1, 30.0]]}
    scenario = {
        "name": "dark",
        "paths": [path, path],
        "workload": {"tasks": [[0.0, 1000], [20.0, 1000], [25.0, 1000], [60.0, 1000]]},
    }
    env = gymnasium.make(ID, scenario=scenario)
    sim = env.unwrapped.simulator
    dark = []

    def note(info):
        dark.append(sim.world()["outage"].all())
        return an_open_action(info)

    steps = episode(env, 0, note)
    assert dark == [False, True, True, False]
    assert all(info["action_mask"].tolist() == [1, 1, 1] for *_, info in steps)
    assert all(np.isfinite(reward) for _, reward, *_ in steps)


def line_of(n_streams):
    paths = [{"rate_mbit": 10 + i, "rtt_ms": 20 + i} for i in range(n_streams)]
    return {"name": f"line of {n_streams}", "paths": paths, "tasks": 10}


@pytest.mark.parametrize("n_streams", range(1, 17))
def test_any_number_of_streams(n_streams):
    env = gymnasium.make(ID, scenario=line_of(n_streams))
    assert env.action_space.n == 2**n_streams - 1
    assert env.observation_space.shape == (4 * n_streams + 4,)
    first = episode(env, 1, lambda info: env.action_space.sample(mask=info["action_mask"]))
    assert len(first) == 11
    assert all(state in env.observation_space for state, *_ in first)


# --- copies ---

COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda env: pickle.loads(pickle.dumps(env)),
    "copy of a copy": lambda env: pickle.loads(pickle.dumps(copy.deepcopy(env))),
}


def continuation(env, seed):
    """All that comes after: this episode, one in a world drawn now, and one in a given world."""
    rng = np.random.default_rng(seed)
    seen = []
    for begin in (None, env.reset, lambda: env.reset(seed=99)):
        if begin is not None:
            state, info = begin()
            seen.append((state.tobytes(), info["seed"]))
        over = False
        while not over:
            state, reward, over, _, info = env.step(int(rng.integers(env.action_space.n)))
            completed = env.unwrapped.simulator.completed().tobytes()
            seen.append((state.tobytes(), reward, info["action_mask"].tobytes(), completed))
    return [*seen, env.np_random.integers(2**62), env.action_space.sample()]


@pytest.mark.parametrize("steps", [0, 7, 11, 12])
@pytest.mark.parametrize("order", ["fifo", "srpt"])
@pytest.mark.parametrize("how", COPIES)
def test_a_copy_goes_on_as_the_original(how, order, steps):
    env = make("mixed", service_order=order)
    env.action_space.seed(1)
    _, info = env.reset(seed=5)
    for _ in range(steps):
        *_, info = env.step(an_open_action(info))
    copied = COPIES[how](env)
    again = COPIES[how](copied)
    expected = continuation(env, 0)
    assert continuation(copied, 0) == expected
    assert continuation(again, 0) == expected


def test_copies_are_apart():
    env = make("mixed", 50)
    env.reset(seed=5)
    copied = copy.deepcopy(env)
    before = copied.unwrapped.simulator.states.copy()
    for _ in range(20):
        env.step(0)
    assert np.array_equal(copied.unwrapped.simulator.states, before)
    del env
    assert continuation(copied, 3)


def test_a_copy_that_was_never_reset():
    with pytest.raises(gymnasium.error.ResetNeeded):
        copy.deepcopy(make()).step(0)
    env = make().unwrapped
    copied = pickle.loads(pickle.dumps(env))
    assert copied.reset(seed=3)[1]["seed"] == env.reset(seed=3)[1]["seed"]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("how", COPIES)
def test_copies_of_many(how, threads):
    envs = make_vec(5, tasks=9, threads=threads)
    envs.reset(seed=[4, None, 6, None, 8])
    rng = np.random.default_rng(0)
    for _ in range(13):
        envs.step(rng.integers(0, 15, 5))
    copied = COPIES[how](envs)
    for _ in range(30):
        actions = rng.integers(0, 15, 5)
        *expected, infos = envs.step(actions)
        *found, found_infos = copied.step(actions)
        assert all(np.array_equal(left, right) for left, right in zip(expected, found, strict=True))
        assert all(np.array_equal(infos[key], found_infos[key]) for key in infos)


def test_a_pickle_goes_to_another_process():
    env = make("mixed", 40)
    env.action_space.seed(1)
    env.reset(seed=5)
    for _ in range(9):
        env.step(3)
    for method in ("spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            assert pool.apply(continuation, (env, 1)) == continuation(copy.deepcopy(env), 1)


def test_a_damaged_pickle_is_refused():
    load, arguments = Simulator("homogeneous", tasks=5)._batch.__reduce__()
    *others, saved, intervals, (layout, checksum) = arguments
    assert load(*arguments).n_envs == 1
    with pytest.raises(ValueError, match="damaged"):
        load(*others, saved[:-1], intervals, (layout, checksum))
    with pytest.raises(ValueError, match="another build of itp"):
        load(*others, saved, intervals, ((*layout[:-1], 1), checksum))
    state = Simulator("homogeneous", tasks=5).__getstate__()
    with pytest.raises(ValueError, match=r"pickled by itp 0\.0; this is"):
        object.__new__(Simulator).__setstate__({**state, "version": "0.0"})


# --- forks ---


def worlds(env, episodes=3):
    seeds = [env.reset()[1]["seed"] for _ in range(episodes)]
    return [tuple(np.atleast_1d(seed).tolist()) for seed in seeds]


@pytest.mark.parametrize("seed", [None, 5])
@pytest.mark.parametrize("many", [False, True])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_meets_other_worlds(many, seed):
    env = make_vec(2) if many else make()
    env.reset(seed=seed)
    children = [in_child(lambda: worlds(env)) for _ in range(2)]
    grandchild = in_child(lambda: in_child(lambda: worlds(env)))
    copies = in_child(lambda: worlds(copy.deepcopy(env)) + worlds(env))
    assert copies[:3] == copies[3:]
    drawn = [*children[0], *children[1], *grandchild, *copies[:3], *worlds(env)]
    assert len(set(drawn)) == 15
    # A seed of its own counts for more than where it comes from.
    assert in_child(lambda: env.reset(seed=7) and worlds(env)) == (env.reset(seed=7) and worlds(env))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_steps_on_threads_of_its_own():
    envs, alone = make_vec(4, threads=2), make_vec(4)
    for each in (envs, alone):
        each.reset(seed=1)
        each.step(np.zeros(4, dtype=np.int64))
    rewards = in_child(lambda: envs.step(np.ones(4, dtype=np.int64))[1])
    expected = alone.step(np.ones(4, dtype=np.int64))[1]
    assert np.array_equal(rewards, expected)
    assert np.array_equal(envs.step(np.ones(4, dtype=np.int64))[1], expected)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_gymnasiums_workers():
    envs = make_vec(3, mode="async", tasks=4)
    try:
        _, infos = envs.reset(seed=7)
        assert infos["seed"].tolist() == make_vec(3).reset(seed=7)[1]["seed"].tolist()
        assert infos["action_mask"].dtype == np.int8
        envs.step(envs.action_space.sample(mask=tuple(infos["action_mask"])))
    finally:
        envs.close()


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
