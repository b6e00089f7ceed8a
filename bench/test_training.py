"""One update of the learner beside Stable-Baselines3's: the same network, batch and core."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'itp[train]'")

from itp_training.collect import Experiences  # noqa: E402 (after the check for PyTorch)
from itp_training.config import TrainingConfig  # noqa: E402
from itp_training.learner import Learner  # noqa: E402

N = 20_000
BATCHES = (32, 256)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def experiences():
    rng = np.random.default_rng(0)
    return Experiences(
        state=rng.random((N, 20), dtype=np.float32),
        action=rng.integers(0, 15, N),
        reward=rng.normal(size=N),
        next_state=rng.random((N, 20), dtype=np.float32),
        done=rng.random(N) < 0.005,
        returns=rng.normal(size=(N, 15)).astype(np.float32),
    )


def itp_update(benchmark, config):
    learner = Learner(config, torch.device("cpu"))
    learner.replay.store(experiences())
    benchmark.extra_info["role"] = "itp"
    benchmark.pedantic(learner.update, rounds=1000, warmup_rounds=50)
    assert learner.updates == 1050


@pytest.mark.parametrize("batch_size", BATCHES)
def test_update_look_ahead(benchmark, batch_size):
    benchmark.group = f"update-{batch_size}"
    itp_update(benchmark, TrainingConfig(batch_size=batch_size))


@pytest.mark.parametrize("batch_size", BATCHES)
def test_update_double_dqn(benchmark, batch_size):
    benchmark.group = f"update-{batch_size}"
    itp_update(
        benchmark, TrainingConfig(batch_size=batch_size, td_weight=1.0, look_ahead_share=0.0, gamma=0.95)
    )


@pytest.mark.parametrize("batch_size", BATCHES)
def test_update_stable_baselines3(benchmark, batch_size):
    sb3 = pytest.importorskip("stable_baselines3", reason="stable-baselines3 is not installed")
    gymnasium = pytest.importorskip("gymnasium", reason="gymnasium is not installed")
    benchmark.group = f"update-{batch_size}"
    benchmark.extra_info["role"] = "peer"
    model = sb3.DQN(
        "MlpPolicy",
        gymnasium.make("itp.sim.gym:itp/Partition-v0", scenario="mixed"),
        batch_size=batch_size,
        learning_starts=5_000,
        policy_kwargs={"net_arch": [128, 128, 64]},
        device="cpu",
    )
    model.learn(4_000)
    before = model._n_updates
    benchmark.pedantic(model.train, (1, batch_size), rounds=1000, warmup_rounds=50)
    assert model._n_updates == before + 1050
