"""Simulated decisions a second on one thread, and the memory of an environment."""

import subprocess
import sys
from itertools import cycle

import numpy as np
import pytest

from itp.sim.simulator import Simulator

N_ENVS = 1024
OPTIONS = {"service_order": "fifo", "load": 0.6}
TIMEOUT_S = 120

pytestmark = pytest.mark.benchmark(group="simulator", min_rounds=50)


def simulator(tasks=200):
    return Simulator("mixed", n_envs=N_ENVS, tasks=tasks, threads=1, **OPTIONS)


@pytest.fixture
def counted(benchmark):
    """The benchmark, told that a round is one decision of every environment."""
    benchmark.extra_info["decisions"] = N_ENVS
    return benchmark


def random_actions(sim):
    """Drawn beforehand."""
    rng = np.random.default_rng(0)
    return cycle(rng.integers(0, sim.n_actions, (64, sim.n_envs)))


def check(sim):
    assert np.isfinite(sim.states).all()
    assert (sim.counters()["delivered_bytes"] >= 0).all()
    assert sim.now_s.min() > 0.0


def test_step_random(counted):
    """The step alone, in an episode without end."""
    sim = simulator(tasks=1_000_000)
    actions = random_actions(sim)
    for _ in range(200):
        sim.step(next(actions))
    rewards = counted(lambda: sim.step(next(actions)))
    assert rewards.shape == (N_ENVS,)
    assert not sim.done.any()
    check(sim)


def test_step_least_completion_time(counted):
    sim = simulator(tasks=1_000_000)

    def step():
        return sim.step_masks(*sim.choose("least_completion_time"))

    for _ in range(200):
        step()
    rewards = counted(step)
    assert rewards.shape == (N_ENVS,)
    check(sim)


def test_episodes_random(counted):
    """Episodes of 200 tasks: their ends and the next worlds included."""
    sim = simulator()
    actions = random_actions(sim)
    begun = 0

    def episodes():
        nonlocal begun
        for _ in range(200):
            sim.step(next(actions))
            begun += sim.reset_done()

    counted.extra_info["decisions"] = 200 * N_ENVS
    counted.pedantic(episodes, rounds=5, warmup_rounds=1)
    assert begun == 6 * N_ENVS
    check(sim)


def test_episodes_least_completion_time(counted):
    """The same with a rule that tries every set of streams for every task."""
    sim = simulator()
    begun = 0

    def episodes():
        nonlocal begun
        for _ in range(200):
            sim.step_masks(*sim.choose("least_completion_time"))
            begun += sim.reset_done()

    counted.extra_info["decisions"] = 200 * N_ENVS
    counted.pedantic(episodes, rounds=5, warmup_rounds=1)
    assert begun == 6 * N_ENVS
    check(sim)


MEMORY = """
import numpy as np
from itp.sim.simulator import Simulator

def resident_bytes():
    with open("/proc/self/status") as status:
        lines = dict(line.split(":", 1) for line in status)
    return int(lines["VmRSS"].split()[0]) * 1024

def run(sim):
    rng = np.random.default_rng(0)
    for _ in range(sim.n_tasks):
        sim.step(rng.integers(0, sim.n_actions, sim.n_envs))

options = {options!r}
run(Simulator("mixed", n_envs=8, **options))
before = resident_bytes()
sim = Simulator("mixed", n_envs={n_envs}, **options)
run(sim)
print(sim.memory_bytes() // sim.n_envs, (resident_bytes() - before) // sim.n_envs)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_memory(benchmark):
    """After an episode under random actions, as the simulator counts and as the system does."""
    code = MEMORY.format(options={**OPTIONS, "tasks": 200}, n_envs=4 * N_ENVS)
    command = [sys.executable, "-c", code]
    done = benchmark.pedantic(
        lambda: subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True),
        rounds=1,
    )
    counted, resident = map(int, done.stdout.split())
    benchmark.extra_info["counted_bytes_an_env"] = counted
    benchmark.extra_info["resident_bytes_an_env"] = resident
    assert 0 < counted < 2**20
    assert 0 < resident < 2**20
