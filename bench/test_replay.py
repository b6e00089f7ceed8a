"""The replay buffer beside cpprb's: the same transitions, sizes and calls in one process."""

import numpy as np
import pytest

from itp._core.replay.replay import PrioritizedReplayBuffer

CAPACITY = 1_000_000
DIM = 20
BATCH = 256
ALPHA, BETA = 0.6, 0.4


@pytest.fixture(scope="module")
def peer():
    return pytest.importorskip("cpprb", reason="cpprb is not installed: pip install cpprb to compare with it")


def columns(n, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "state": rng.random((n, DIM), dtype=np.float32),
        "action": rng.integers(0, 15, n),
        "reward": rng.random(n, dtype=np.float32),
        "next_state": rng.random((n, DIM), dtype=np.float32),
        "done": rng.random(n) < 0.05,
        "priority": rng.random(n) + 0.01,
    }


PEER_NAMES = {
    "state": "obs",
    "action": "act",
    "reward": "rew",
    "next_state": "next_obs",
    "priority": "priorities",
}


def for_peer(transitions):
    return {PEER_NAMES.get(key, key): value for key, value in transitions.items()}


def new_itp():
    return PrioritizedReplayBuffer(CAPACITY, DIM, ALPHA, seed=0)


def new_peer(cpprb):
    fields = {
        "obs": {"shape": DIM},
        "act": {"dtype": np.int64},
        "rew": {},
        "next_obs": {"shape": DIM},
        "done": {},
    }
    return cpprb.PrioritizedReplayBuffer(CAPACITY, fields, alpha=ALPHA)


@pytest.fixture(scope="module")
def million_itp():
    buffer = new_itp()
    buffer.add_batch(**columns(CAPACITY))
    return buffer


@pytest.fixture(scope="module")
def million_peer(peer):
    buffer = new_peer(peer)
    buffer.add(**for_peer(columns(CAPACITY)))
    return buffer


@pytest.fixture
def timed(benchmark, request):
    """The benchmark, told whose turn it is by the test's name."""
    benchmark.extra_info["role"] = "itp" if request.node.name.endswith("_itp") else "peer"
    return benchmark


def one_transition():
    return {key: column[0] if column.ndim > 1 else column[0].item() for key, column in columns(1).items()}


def check_batch(batch, weights_like):
    assert batch["weights"].shape == batch["indexes"].shape == (BATCH,)
    np.testing.assert_allclose(batch["weights"], weights_like(batch), rtol=1e-3)


def expected_weights(batch):
    """Over the maximum of the batch."""
    priorities = columns(CAPACITY)["priority"][batch["indexes"]]
    return (priorities / priorities.min()) ** (-ALPHA * BETA)


def expected_peer_weights(batch):
    """Over the maximum of the buffer, as cpprb normalises; it adds 1e-4 to every priority."""
    priorities = columns(CAPACITY)["priority"] + 1e-4
    return (priorities[batch["indexes"]] / priorities.min()) ** (-ALPHA * BETA)


@pytest.mark.benchmark(group="replay-add")
def test_add_itp(timed):
    buffer, transition = new_itp(), one_transition()
    timed(lambda: buffer.add(**transition))
    assert len(buffer) > 0
    np.testing.assert_array_equal(buffer.sample(1)["state"][0], transition["state"])


@pytest.mark.benchmark(group="replay-add")
def test_add_cpprb(timed, peer):
    buffer, transition = new_peer(peer), for_peer(one_transition())
    timed(lambda: buffer.add(**transition))
    assert buffer.get_stored_size() > 0
    np.testing.assert_array_equal(buffer.sample(1)["obs"][0], transition["obs"])


@pytest.mark.benchmark(group="replay-add-batch")
def test_add_batch_itp(timed):
    buffer, rows = new_itp(), columns(BATCH)
    timed(lambda: buffer.add_batch(**rows))
    assert len(buffer) >= BATCH


@pytest.mark.benchmark(group="replay-add-batch")
def test_add_batch_cpprb(timed, peer):
    buffer, rows = new_peer(peer), for_peer(columns(BATCH))
    timed(lambda: buffer.add(**rows))
    assert buffer.get_stored_size() >= BATCH


@pytest.mark.benchmark(group="replay-sample-1M")
def test_sample_itp(timed, million_itp):
    check_batch(timed(million_itp.sample, BATCH, BETA), expected_weights)


@pytest.mark.benchmark(group="replay-sample-1M")
def test_sample_cpprb(timed, million_peer):
    check_batch(timed(million_peer.sample, BATCH, BETA), expected_peer_weights)


def time_updates(timed, buffer):
    """Each round updates a freshly drawn batch, as training does; cpprb passes over any other."""
    priorities = columns(CAPACITY)["priority"]

    def draw():
        indexes = buffer.sample(BATCH, BETA)["indexes"]
        return (indexes, priorities[indexes]), {}

    timed.pedantic(buffer.update_priorities, setup=draw, rounds=2000)


@pytest.mark.benchmark(group="replay-update-1M")
def test_update_itp(timed, million_itp):
    time_updates(timed, million_itp)
    check_batch(million_itp.sample(BATCH, BETA), expected_weights)


@pytest.mark.benchmark(group="replay-update-1M")
def test_update_cpprb(timed, million_peer):
    time_updates(timed, million_peer)
    check_batch(million_peer.sample(BATCH, BETA), expected_peer_weights)


def cycle(buffer, priorities):
    batch = buffer.sample(BATCH, BETA)
    buffer.update_priorities(batch["indexes"], priorities)
    return batch


@pytest.mark.benchmark(group="replay-cycle-1M")
def test_cycle_itp(timed, million_itp):
    priorities = np.random.default_rng(1).random(BATCH) + 0.01
    batch = timed(cycle, million_itp, priorities)
    assert batch["state"].shape == batch["next_state"].shape == (BATCH, DIM)
    assert batch["weights"].max() == 1


@pytest.mark.benchmark(group="replay-cycle-1M")
def test_cycle_cpprb(timed, million_peer):
    priorities = np.random.default_rng(1).random(BATCH) + 0.01
    batch = timed(cycle, million_peer, priorities)
    assert batch["obs"].shape == batch["next_obs"].shape == (BATCH, DIM)
    assert batch["weights"].max() <= 1
