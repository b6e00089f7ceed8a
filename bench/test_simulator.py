"""Simulated decisions a second on one thread, and the memory of an environment."""

import sys

import numpy as np
import pytest

from itp_overhead.child import run_python
from itp_overhead.simulation import N_ENVS, random_step, rule_step, simulator

TASKS = 200
STEPS = {"random": random_step, "least_completion_time": rule_step}

pytestmark = pytest.mark.benchmark(group="simulator", min_rounds=50)


def check(sim):
    assert np.isfinite(sim.states).all()
    assert (sim.counters()["delivered_bytes"] >= 0).all()
    assert sim.now_s.min() > 0.0


@pytest.mark.parametrize("policy", STEPS)
def test_step(benchmark, policy):
    """A step of all environments, in episodes without end."""
    sim = simulator()
    step = STEPS[policy](sim)
    for _ in range(200):
        step()
    benchmark.extra_info["decisions"] = N_ENVS
    rewards = benchmark(step)
    assert rewards.shape == (N_ENVS,)
    assert not sim.done.any()
    check(sim)


@pytest.mark.parametrize("policy", STEPS)
def test_episodes(benchmark, policy):
    """Whole episodes: their ends and the next worlds included."""
    sim = simulator(tasks=TASKS)
    step = STEPS[policy](sim)
    begun = 0

    def episodes():
        nonlocal begun
        for _ in range(TASKS):
            step()
            begun += sim.reset_done()

    benchmark.extra_info["decisions"] = TASKS * N_ENVS
    benchmark.pedantic(episodes, rounds=5, warmup_rounds=1)
    assert begun == 6 * N_ENVS
    check(sim)


def test_experiences(benchmark):
    """Reading the experiences of a step; the step itself does not count."""
    sim = simulator(keep_states=True)
    step = random_step(sim)
    for _ in range(50):
        step()

    def advance():
        step()

    experiences = benchmark.pedantic(sim.experiences, setup=advance, rounds=500)
    assert len(experiences) == len(sim.completed())
    assert np.isfinite(experiences["reward"]).all()


MEMORY = f"""
from itp_overhead.resident import resident_bytes
from itp_overhead.simulation import random_step, simulator

def run(n_envs):
    sim = simulator(n_envs, tasks={TASKS})
    step = random_step(sim)
    for _ in range({TASKS}):
        step()
    return sim

run(8)
before = resident_bytes()
sim = run({4 * N_ENVS})
print(sim.memory_bytes() // sim.n_envs, (resident_bytes() - before) // sim.n_envs)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_memory(benchmark):
    """After an episode under random actions: as the simulator counts, and as the system does."""
    counted, resident = map(int, benchmark.pedantic(run_python, (MEMORY,), rounds=1).split())
    benchmark.extra_info["counted_bytes_an_env"] = counted
    benchmark.extra_info["resident_bytes_an_env"] = resident
    assert 0 < counted < 2**20
    assert 0 < resident < 2**20
