"""One update of the learner beside Stable-Baselines3's: the same network, batch and core."""

import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install 'itp[train]'")

from figures import subjects, updates
from itp_overhead.networks import one_torch_thread

DOUBLE_DQN = {"td_weight": 1.0, "look_ahead_share": 0.0, "gamma": 0.95}

pytestmark = pytest.mark.parametrize("batch_size", [32, 256])


@pytest.fixture
def timed(benchmark, batch_size):
    """A function that times an update."""
    benchmark.group = f"update-{batch_size}"

    def run(role, update):
        benchmark.extra_info["role"] = role
        with one_torch_thread():
            benchmark.pedantic(update, rounds=1000, warmup_rounds=50)

    return run


def test_update_look_ahead(timed, batch_size):
    update = subjects.update(batch_size).call
    timed("itp", update)
    assert update.__self__.updates == 1050


def test_update_double_dqn(timed, batch_size):
    update = subjects.update(batch_size, **DOUBLE_DQN).call
    timed("itp", update)
    assert update.__self__.updates == 1050


def test_update_stable_baselines3(timed, batch_size):
    for name in ("stable_baselines3", "gymnasium"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    update = updates.stable_baselines3_update(batch_size)
    before = update.func.__self__._n_updates
    timed("peer", update)
    assert update.func.__self__._n_updates == before + 1050
