"""The prioritized replay buffer against its definition."""

import contextlib
import hashlib
import os
import struct
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import reference_replay as reference
from itp import Simulator
from itp._core.replay.replay import PrioritizedReplayBuffer

pytestmark = pytest.mark.core

DIM = 3


def transition(number, dim=DIM):
    state = np.arange(dim, dtype=np.float32) + number
    return {
        "state": state,
        "action": number,
        "reward": number / 4,
        "next_state": -state - 1,
        "done": number % 3 == 0,
    }


def filled(n, capacity=None, priorities=None, dim=DIM, **kwargs):
    buffer = PrioritizedReplayBuffer(capacity or n, dim, **kwargs)
    for number in range(n):
        buffer.add(**transition(number, dim), priority=None if priorities is None else priorities[number])
    return buffer


def fingerprint(buffer, path):
    """Everything a buffer is, as bytes."""
    buffer.save(path)
    return Path(path).read_bytes()


def bits(batch):
    return {key: array.tobytes() for key, array in batch.items()}


@pytest.fixture
def unchanged(tmp_path):
    """A context that a buffer has to leave to the bit as it was."""

    @contextlib.contextmanager
    def check(buffer):
        before = fingerprint(buffer, tmp_path / "before")
        yield
        assert fingerprint(buffer, tmp_path / "after") == before

    return check


def assert_batch_is_consistent(batch, dim=DIM):
    numbers = batch["indexes"]
    offsets = np.arange(dim)
    np.testing.assert_array_equal(batch["action"], numbers)
    np.testing.assert_array_equal(batch["state"], numbers[:, None] + offsets)
    np.testing.assert_array_equal(batch["next_state"], -(numbers[:, None] + offsets) - 1)
    np.testing.assert_array_equal(batch["reward"], numbers / 4)
    np.testing.assert_array_equal(batch["done"], numbers % 3 == 0)


def test_a_batch_has_the_documented_arrays():
    batch = filled(10).sample(4)
    expected = {
        "state": (np.float32, (4, DIM)),
        "action": (np.int64, (4,)),
        "reward": (np.float32, (4,)),
        "next_state": (np.float32, (4, DIM)),
        "done": (np.bool_, (4,)),
        "weights": (np.float32, (4,)),
        "indexes": (np.int64, (4,)),
    }
    assert {key: (array.dtype, array.shape) for key, array in batch.items()} == expected
    assert all(array.flags.owndata for array in batch.values())


def test_defaults():
    buffer = PrioritizedReplayBuffer(5)
    assert (buffer.capacity, buffer.state_dim, buffer.alpha, buffer.n_actions) == (5, 20, 0.6, None)
    assert (len(buffer), buffer.get_stored_size(), buffer.max_priority) == (0, 0, 0.0)


@pytest.mark.parametrize("capacity", [1, 2, 7, 8, 9, 63, 64, 65, 257])
@pytest.mark.parametrize("dim", [1, 20, 33])
def test_the_ring_keeps_the_newest(capacity, dim):
    buffer = PrioritizedReplayBuffer(capacity, dim)
    for number in range(2 * capacity + 3):
        assert buffer.add(**transition(number, dim)) == number
        assert len(buffer) == buffer.get_stored_size() == min(number + 1, capacity)
        oldest = number + 1 - len(buffer)
        batch = buffer.sample(3 * len(buffer))
        assert_batch_is_consistent(batch, dim)
        assert set(batch["indexes"].tolist()) == set(range(oldest, number + 1))


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 40),
    st.lists(st.one_of(st.none(), st.sampled_from([0.0, 0.25, 1.0, 3.5, 40.0])), min_size=1, max_size=90),
    st.lists(st.tuples(st.integers(0, 89), st.sampled_from([0.0, 0.5, 2.0, 9.0, 50.0])), max_size=60),
    st.sampled_from([0.0, 0.5, 0.6, 1.0]),
)
def test_stratified_counts_follow_the_definition(capacity, priorities, updates, alpha):
    buffer, ring = PrioritizedReplayBuffer(capacity, DIM, alpha=alpha), reference.Ring(capacity)
    for number, priority in enumerate(priorities):
        buffer.add(**transition(number), priority=priority)
        ring.add(number, priority)
    updates = [(index, priority) for index, priority in updates if index < len(priorities)]
    indexes, wanted = [i for i, _ in updates], [p for _, p in updates]
    assert buffer.update_priorities(np.array(indexes, np.int64), wanted) == ring.update(indexes, wanted)
    assert buffer.max_priority == ring.max_priority
    live = list(ring.live())
    assert len(buffer) == len(live)
    raw = np.array([ring.priorities[i] for i in live])
    if not raw.any():
        with pytest.raises(ValueError, match="every priority in the buffer is 0"):
            buffer.sample(1)
        return
    n = 500
    batch = buffer.sample(n, beta=0.7)
    counts = np.bincount(batch["indexes"] - live[0], minlength=len(live))
    probability = reference.probabilities(raw, alpha)
    # A leaf spans P(i) n strata: those wholly inside are sure, two at its ends are chance.
    assert (counts >= np.floor(probability * n - 2 - 1e-6)).all()
    assert (counts <= np.ceil(probability * n + 2 + 1e-6)).all()
    assert not counts[raw == 0].any()
    expected = reference.weights(probability[batch["indexes"] - live[0]], len(live), 0.7)
    np.testing.assert_allclose(batch["weights"], expected, rtol=2e-7)
    assert batch["weights"].max() == 1
    assert_batch_is_consistent(batch)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
def test_frequencies_pass_a_chi_square_test(alpha):
    # Single draws are independent, unlike those of one stratified batch.
    priorities = np.random.default_rng(1).random(50) * 10 + 0.01
    buffer = filled(50, priorities=priorities, alpha=alpha, seed=7)
    draws = 50_000
    counts = np.zeros(50)
    for _ in range(draws):
        counts[buffer.sample(1)["indexes"][0]] += 1
    expected = reference.probabilities(priorities, alpha) * draws
    assert stats.chisquare(counts, expected).pvalue > 1e-3


def test_each_draw_is_uniform_within_its_stratum():
    buffer = filled(4096, alpha=1.0, seed=11)
    draws = np.array([buffer.sample(4)["indexes"] for _ in range(3000)])
    for stratum in range(4):
        inside = draws[:, stratum] - 1024 * stratum
        assert ((inside >= 0) & (inside < 1024)).all()
        assert stats.chisquare(np.bincount(inside // 64, minlength=16)).pvalue > 1e-3


@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
def test_weights(beta):
    priorities = np.random.default_rng(5).random(200) ** 6 * 100 + 1e-6
    batch = filled(200, priorities=priorities).sample(64, beta)
    probability = reference.probabilities(priorities, 0.6)[batch["indexes"]]
    np.testing.assert_allclose(batch["weights"], reference.weights(probability, 200, beta), rtol=2e-7)
    assert batch["weights"].max() == 1


def test_a_new_transition_gets_the_raw_maximum_once_to_the_power_of_alpha():
    buffer = filled(3, capacity=4, priorities=[2.0, 9.0, 5.0], alpha=0.5)
    buffer.add(**transition(3))
    counts = np.bincount(buffer.sample(10_000)["indexes"])
    np.testing.assert_allclose(counts / 10_000, reference.probabilities([2, 9, 5, 9], 0.5), atol=2e-4)


def test_the_first_transition_has_priority_one():
    buffer = filled(1, capacity=2)
    assert buffer.max_priority == 1.0
    assert filled(2, priorities=[0.0, None]).max_priority == 1.0


def test_repeated_indexes_the_last_priority_stays():
    buffer = filled(2, alpha=1.0)
    assert buffer.update_priorities([0, 1, 0, 0], [90.0, 2.0, 80.0, 6.0]) == 4
    assert buffer.max_priority == 90.0
    assert np.bincount(buffer.sample(800)["indexes"]).tolist() == [600, 200]


def test_stale_indexes_are_passed_over():
    buffer = filled(4, alpha=1.0)
    batch = buffer.sample(4)
    assert sorted(batch["indexes"]) == [0, 1, 2, 3]
    for number in (4, 5):
        buffer.add(**transition(number))
    assert buffer.update_priorities(batch["indexes"], np.full(4, 7.0)) == 2
    indexes = buffer.sample(1600)["indexes"]
    assert {i: int((indexes == i).sum()) for i in range(2, 6)} == {2: 700, 3: 700, 4: 100, 5: 100}
    assert buffer.update_priorities([0, 1], [1e9, 1e9]) == 0
    assert buffer.max_priority == 7.0


def test_zero_priorities_and_their_return():
    buffer = filled(3, priorities=[0.0, 1.0, 0.0])
    assert set(buffer.sample(500)["indexes"]) == {1}
    buffer.update_priorities([1], [0.0])
    with pytest.raises(ValueError, match="every priority in the buffer is 0"):
        buffer.sample(1)
    buffer.update_priorities([2], [1e-9])
    assert set(buffer.sample(500)["indexes"]) == {2}


def test_the_same_seed_gives_the_same_bits():
    def history(seed):
        buffer = filled(300, capacity=200, seed=seed)
        pieces = []
        for _ in range(20):
            batch = buffer.sample(32, 0.5)
            buffer.update_priorities(batch["indexes"], batch["reward"] + 1)
            pieces.append(bits(batch))
        return pieces

    assert history(3) == history(3)
    assert history(3) != history(4)


def batch_of(numbers, dim=DIM):
    rows = [transition(number, dim) for number in numbers]
    return {key: np.array([row[key] for row in rows]) for key in rows[0]}


@pytest.mark.parametrize("capacity", [1, 5, 8, 30, 100])
@pytest.mark.parametrize("prioritized", [False, True])
def test_add_batch_is_add_in_a_loop(capacity, prioritized, tmp_path):
    priorities = np.random.default_rng(0).random(30) if prioritized else None
    one, many = (PrioritizedReplayBuffer(capacity, DIM) for _ in range(2))
    for number in range(30):
        one.add(**transition(number), priority=None if priorities is None else priorities[number])
    for part in (slice(0, 4), slice(4, 4), slice(4, 30)):
        indexes = many.add_batch(
            **{key: array[part] for key, array in batch_of(range(30)).items()},
            priority=None if priorities is None else priorities[part],
        )
        assert indexes.dtype == np.int64
        assert indexes.tolist() == list(range(30))[part]
    assert fingerprint(one, tmp_path / "one") == fingerprint(many, tmp_path / "many")


@pytest.mark.parametrize(
    "convert",
    [
        np.float32,
        np.float64,
        np.float16,
        np.int8,
        lambda x: np.repeat(x, 2)[::2],
        lambda x: x.astype(">f4"),
        list,
        tuple,
        lambda x: memoryview(x.astype(np.float64)),
    ],
)
def test_states_of_every_real_type_are_taken(convert):
    buffer = PrioritizedReplayBuffer(2, DIM)
    buffer.add(**{**transition(2), "state": convert(transition(2)["state"])})
    np.testing.assert_array_equal(buffer.sample(1)["state"], [[2, 3, 4]])


def test_numpy_scalars_are_taken():
    buffer = PrioritizedReplayBuffer(2, DIM)
    more = {"action": np.int32(2), "reward": np.float32(0.5), "done": np.True_, "priority": np.float64(3)}
    buffer.add(**{**transition(2), **more})
    batch = buffer.sample(1)
    assert (batch["action"][0], batch["reward"][0], batch["done"][0]) == (2, 0.5, True)
    assert buffer.max_priority == 3


def test_results_belong_to_the_caller():
    buffer = filled(4)
    first = buffer.sample(4)
    kept = {key: array.copy() for key, array in first.items()}
    for number in range(4, 12):
        buffer.add(**transition(number))
    buffer.sample(4)
    for key, array in first.items():
        np.testing.assert_array_equal(array, kept[key])


def test_out_receives_the_batch():
    one, other = filled(50, seed=2), filled(50, seed=2)
    out = {key: np.empty_like(array) for key, array in filled(50).sample(16).items()}
    for _ in range(3):
        fresh = one.sample(16, 0.9)
        assert other.sample(16, 0.9, out) is out
        assert bits(out) == bits(fresh)


@pytest.mark.parametrize(
    ("key", "value", "error", "text"),
    [
        (
            "state",
            np.empty((4, DIM)),
            ValueError,
            r"\['state'\] is float64\(4, 3\): expected float32\(4, 3\)",
        ),
        ("action", np.empty(4, np.int32), ValueError, "expected int64"),
        ("weights", np.empty(5, np.float32), ValueError, r"expected float32\(4,\)"),
        ("reward", np.empty(8, np.float32)[::2], ValueError, "C-contiguous"),
        ("done", [False] * 4, TypeError, "out\\['done'\\] is a list"),
        ("indexes", None, ValueError, "out lacks 'indexes'"),
    ],
)
def test_a_bad_out_is_refused(key, value, error, text, unchanged):
    buffer = filled(4)
    out = buffer.sample(4)
    if value is None:
        del out[key]
    else:
        out[key] = value
    with unchanged(buffer), pytest.raises(error, match=text):
        buffer.sample(4, out=out)


def test_a_read_only_out_is_refused():
    out = filled(4).sample(4)
    out["reward"].flags.writeable = False
    with pytest.raises(ValueError, match=r"out\['reward'\]: expected a writable"):
        filled(4).sample(4, out=out)


BAD_FIELDS = [
    ("state", [1.0, 2.0], ValueError, r"state has shape \(2,\): expected \(3,\)"),
    ("state", np.zeros((1, DIM), np.float32), ValueError, r"state has shape \(1, 3\)"),
    ("state", [1.0, np.nan, 2.0], ValueError, r"state\[1\] = nan: expected a finite float32"),
    ("state", np.array([1, 2, np.inf], np.float32), ValueError, r"state\[2\] = inf"),
    ("state", np.array([1e39, 2, 3]), ValueError, r"state\[0\] = 1e\+39: expected a finite float32"),
    ("state", ["a", "b", "c"], TypeError, "state has dtype <U1: expected real numbers"),
    ("state", np.zeros(DIM, complex), TypeError, "state has dtype complex128"),
    ("state", b"abc", TypeError, "state has dtype"),
    ("state", None, TypeError, "state has dtype object"),
    ("next_state", [1.0] * 4, ValueError, r"next_state has shape \(4,\)"),
    ("next_state", [0.0, 0.0, -np.inf], ValueError, r"next_state\[2\] = -inf"),
    ("action", -1, ValueError, "action = -1: expected 0 to 99"),
    ("action", 100, ValueError, "action = 100: expected 0 to 99"),
    ("action", 2**80, ValueError, "expected 0 to 99"),
    ("action", 1.0, TypeError, "action = 1.0: expected an integer"),
    ("action", "1", TypeError, "action = '1': expected an integer"),
    ("reward", np.nan, ValueError, "reward = nan: expected a finite float32"),
    ("reward", 1e300, ValueError, r"reward = 1e\+300: expected a finite float32"),
    ("reward", "1", TypeError, "reward = '1': expected a real number"),
    ("reward", None, TypeError, "reward = None"),
    ("done", 2, ValueError, "done = 2: expected a boolean, 0 or 1"),
    ("done", np.nan, ValueError, "done = nan"),
    ("done", None, TypeError, "done = None"),
    ("priority", -0.5, ValueError, "priority = -0.5: expected a finite number of at least 0"),
    ("priority", np.nan, ValueError, "priority = nan"),
    ("priority", np.inf, ValueError, "priority = inf"),
    ("priority", "high", TypeError, "priority = 'high': expected a real number"),
]


@pytest.mark.parametrize(("key", "value", "error", "text"), BAD_FIELDS)
def test_a_bad_transition_changes_nothing(key, value, error, text, unchanged):
    buffer = filled(5, capacity=4, n_actions=100)
    with unchanged(buffer), pytest.raises(error, match=text):
        buffer.add(**{**transition(5), key: value})


BAD_COLUMNS = [
    ("state", np.zeros((4, 2)), ValueError, r"state has shape \(4, 2\): expected \(n, 3\)"),
    ("state", np.zeros(DIM), ValueError, r"state has shape \(3,\)"),
    ("state", np.full((4, DIM), np.nan), ValueError, r"state\[0, 0\] = nan"),
    ("next_state", np.zeros((3, DIM)), ValueError, r"next_state has shape \(3, 3\): expected \(4, 3\)"),
    ("next_state", np.array([[0, 0, 0]] * 3 + [[0, np.inf, 0]]), ValueError, r"next_state\[3, 1\] = inf"),
    ("action", [0, 1, 2, -3], ValueError, r"action\[3\] = -3: expected 0 to 99"),
    ("action", np.array([0, 1, 2, 2**63], np.uint64), ValueError, r"action\[3\]"),
    ("action", [0.0, 1.0, 2.0, 3.0], TypeError, "action has dtype float64: expected integers"),
    ("reward", [0, 0, 0, np.inf], ValueError, r"reward\[3\] = inf"),
    ("reward", [0, 0, 0], ValueError, r"reward has shape \(3,\): expected \(4,\)"),
    ("done", [0, 1, 0, 2], ValueError, r"done\[3\] = 2.0"),
    ("done", ["no"] * 4, TypeError, "done has dtype <U2: expected booleans"),
    ("priority", [1, 1, 1, -1], ValueError, r"priority\[3\] = -1.0"),
    ("priority", 1.0, ValueError, r"priority has shape \(\): expected \(4,\)"),
]


@pytest.mark.parametrize(("key", "value", "error", "text"), BAD_COLUMNS)
def test_a_bad_batch_changes_nothing(key, value, error, text, unchanged):
    buffer = filled(5, capacity=4, n_actions=100)
    columns = {**batch_of(range(5, 9)), key: value}
    with unchanged(buffer), pytest.raises(error, match=text):
        buffer.add_batch(**columns)


@pytest.mark.parametrize(
    ("indexes", "priorities", "error", "text"),
    [
        ([1, 2], [1, np.nan], ValueError, r"priorities\[1\] = nan: expected a finite number of at least 0"),
        ([1, 2], [1, np.inf], ValueError, r"priorities\[1\] = inf"),
        ([1, 2], [9, -1e-9], ValueError, r"priorities\[1\] = -1e-09"),
        ([1, 0], [9, np.nan], ValueError, r"priorities\[1\] = nan"),
        ([1, 5], [1, 1], ValueError, r"indexes\[1\] = 5: expected one handed out, 0 to 4"),
        ([-1], [1], ValueError, r"indexes\[0\] = -1"),
        ([1, 2], [1], ValueError, r"priorities has shape \(1,\): expected \(2,\)"),
        ([[1]], [[1]], ValueError, r"indexes has shape \(1, 1\)"),
        ([1.0], [1], TypeError, "indexes has dtype float64"),
        ([1], ["1"], TypeError, "priorities has dtype"),
        (["1"], [1], TypeError, "indexes has dtype"),
    ],
)
def test_a_bad_update_changes_nothing(indexes, priorities, error, text, unchanged):
    buffer = filled(5, capacity=4)
    with unchanged(buffer), pytest.raises(error, match=text):
        buffer.update_priorities(indexes, priorities)


def test_an_overflowing_priority_is_refused():
    buffer = filled(5, alpha=1.0)
    with pytest.raises(ValueError, match=r"priorities\[0\] = 1e\+308: .* and at most 1.\d+e\+307"):
        buffer.update_priorities([0], [1e308])
    buffer.update_priorities([0, 1, 2, 3, 4], [1e307] * 5)
    assert set(buffer.sample(50)["indexes"]) == {0, 1, 2, 3, 4}


def test_sampling_an_empty_buffer_is_refused():
    with pytest.raises(ValueError, match="the buffer is empty"):
        PrioritizedReplayBuffer(4).sample(1)


@pytest.mark.parametrize(
    ("args", "error", "text"),
    [
        ((0,), ValueError, "batch_size = 0: expected 1"),
        ((-3,), ValueError, "batch_size = -3"),
        ((2**70,), ValueError, "batch_size = "),
        ((1.5,), TypeError, "batch_size = 1.5: expected an integer"),
        ((1, -0.1), ValueError, "beta = -0.1"),
        ((1, np.nan), ValueError, "beta = nan"),
        ((1, np.inf), ValueError, "beta = inf"),
        ((1, "x"), TypeError, "beta = 'x'"),
    ],
)
def test_a_bad_sample_changes_nothing(args, error, text, unchanged):
    buffer = filled(4)
    with unchanged(buffer), pytest.raises(error, match=text):
        buffer.sample(*args)


@pytest.mark.parametrize(
    ("kwargs", "error", "text"),
    [
        ({"capacity": 0}, ValueError, "capacity = 0: expected at least 1"),
        ({"capacity": -1}, ValueError, "capacity = -1"),
        ({"capacity": 2.0}, TypeError, "capacity = 2.0: expected an integer"),
        ({"capacity": 10**12}, MemoryError, "capacity = 1000000000000, state_dim = 20: needs"),
        ({"capacity": 2**100}, MemoryError, "this machine has"),
        ({"state_dim": 2**62}, MemoryError, "this machine has"),
        ({"state_dim": 0}, ValueError, "state_dim = 0"),
        ({"alpha": -0.1}, ValueError, r"alpha = -0.1: expected 0 to 1"),
        ({"alpha": 1.1}, ValueError, "alpha = 1.1"),
        ({"alpha": np.nan}, ValueError, "alpha = nan"),
        ({"alpha": "x"}, TypeError, "alpha = 'x'"),
        ({"seed": -1}, ValueError, "seed = -1"),
        ({"seed": 2**64}, ValueError, "seed = "),
        ({"seed": None}, TypeError, "seed = None"),
        ({"n_actions": 0}, ValueError, "n_actions = 0"),
    ],
)
def test_bad_constructors(kwargs, error, text):
    with pytest.raises(error, match=text):
        PrioritizedReplayBuffer(**{"capacity": 4, **kwargs})


def records_of(n, dim=DIM, align=False, first=0):
    """Transitions as records, among fields that the buffer does not know."""
    fields = [
        ("task_id", "S5"),
        ("next_state", "<f4", (dim,)),
        ("done", "?"),
        ("action", "<i4"),
        ("reward", "<f4"),
        ("state", "<f4", (dim,)),
        ("propensity", "<f4"),
    ]
    records = np.zeros(n, np.dtype(fields, align=align))
    for k in range(n):
        for name, value in transition(first + k, dim).items():
            records[k][name] = value
    return records


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize(("n", "capacity"), [(0, 4), (1, 4), (7, 4), (9, 16), (100, 64)])
def test_extend_is_add_batch(n, capacity, align, tmp_path):
    records = records_of(n + 3, align=align, first=2)
    records.flags.writeable = False
    views = (records, records[::2], records[::-1], records[1:1], records.view(np.recarray))
    for priority in (None, 5.0):
        many, one = (filled(2, capacity, None if priority is None else [priority] * 2) for _ in range(2))
        for view in views:
            indexes = one.extend(view)
            columns = {name: view[name] for name in ("state", "action", "reward", "next_state", "done")}
            expected = many.add_batch(**columns)
            assert indexes.dtype == expected.dtype
            np.testing.assert_array_equal(indexes, expected)
            assert fingerprint(one, tmp_path / "one") == fingerprint(many, tmp_path / "many")
        assert bits(one.sample(32)) == bits(many.sample(32))


def test_extend_takes_the_simulators_records():
    sim = Simulator("heterogeneous", n_envs=4, tasks=20, keep_states=True)
    buffer = PrioritizedReplayBuffer(100, n_actions=15)
    stored = []
    while not sim.done.all():
        sim.step_masks(*sim.choose("round_robin"))
        stored.append(sim.experiences())
        buffer.extend(stored[-1])
    stored = np.concatenate(stored)
    batch = buffer.sample(64)
    for name in ("state", "action", "reward", "next_state", "done"):
        np.testing.assert_array_equal(batch[name], stored[name][batch["indexes"]])


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("action", -1, r"action\[2\] = -1: expected 0 to 99"),
        ("action", 100, r"action\[2\] = 100"),
        ("reward", np.nan, r"reward\[2\] = nan"),
        ("reward", np.inf, r"reward\[2\] = inf"),
        ("state", np.nan, r"state\[2\]"),
        ("next_state", -np.inf, r"next_state\[2\]"),
    ],
)
def test_extend_refuses_bad_records_whole(field, value, text, unchanged):
    buffer = filled(3, capacity=8, n_actions=100)
    records = records_of(4)
    (records[field] if records[field].ndim == 1 else records[field][:, DIM - 1])[2] = value
    with unchanged(buffer), pytest.raises(ValueError, match=text):
        buffer.extend(records)


def test_extend_refuses_booleans_that_are_none(unchanged):
    buffer = filled(3, capacity=8)
    records = records_of(4)
    records["done"].view(np.uint8)[3] = 7
    with unchanged(buffer), pytest.raises(ValueError, match=r"done\[3\] = 7"):
        buffer.extend(records)


def retyped(name, dtype):
    """Records with one field of another type, or without it."""
    records = records_of(3)
    kept = [(other, records.dtype[other]) for other in records.dtype.names if other != name]
    return np.zeros(3, kept if dtype is None else [*kept, (name, dtype)])


@pytest.mark.parametrize(
    ("records", "error", "text"),
    [
        (retyped("state", None), TypeError, "lack the field 'state'"),
        (retyped("done", None), TypeError, "lack the field 'done'"),
        (retyped("state", ("<f4", (DIM + 1,))), TypeError, r"\['state'\] is .*4.*: expected .*3"),
        (retyped("state", ("<f8", (DIM,))), TypeError, r"\['state'\] is .*f8.*: expected .*f4"),
        (retyped("next_state", "<f4"), TypeError, r"\['next_state'\] is float32"),
        (retyped("reward", "<f8"), TypeError, r"\['reward'\] is float64: expected float32"),
        (retyped("reward", ">f4"), TypeError, r"\['reward'\] is >f4: expected float32"),
        (retyped("action", "<i8"), TypeError, r"\['action'\] is int64: expected int32"),
        (retyped("done", "u1"), TypeError, r"\['done'\] is uint8: expected bool"),
        (np.zeros(3), TypeError, "lack the field 'state'"),
        ([1, 2], TypeError, "lack the field 'state'"),
        (None, TypeError, "lack the field 'state'"),
        (records_of(4).reshape(2, 2), ValueError, r"shape \(2, 2\): expected \(n,\)"),
        (records_of(4)[0], ValueError, r"shape \(\): expected \(n,\)"),
    ],
)
def test_extend_refuses_what_are_no_records(records, error, text, unchanged):
    buffer = filled(3, capacity=8)
    with unchanged(buffer), pytest.raises(error, match=text):
        buffer.extend(records)


def test_threads_see_whole_transitions():
    buffer = filled(64, capacity=64, dim=20)
    numbers = iter(range(64, 10**9))
    errors = []

    def work(role):
        try:
            for _ in range(400):
                if role % 2:
                    number = next(numbers)
                    row = np.full(20, number, np.float32)
                    buffer.add(state=row, action=number, reward=number, next_state=row, done=False)
                else:
                    batch = buffer.sample(32)
                    late = batch["action"] >= 64
                    for key in ("state", "next_state"):
                        assert (batch[key][late] == batch["action"][late, None]).all()
                    assert (batch["reward"][late] == batch["action"][late]).all()
                    buffer.update_priorities(batch["indexes"], batch["weights"])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(role,)) for role in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(buffer) == 64
    assert buffer.sample(64)["indexes"].max() < 64 + 800


@pytest.mark.parametrize("n", [0, 1, 5, 8, 30])
def test_load_restores_to_the_bit(n, tmp_path):
    rng = np.random.default_rng(n)
    saved, loaded = filled(n, capacity=8, priorities=rng.random(n)), filled(3, capacity=8, seed=99)
    if n:
        saved.update_priorities(saved.sample(5)["indexes"], [3, 0, 2, 1, 9])
    saved.save(tmp_path / "buffer")
    loaded.load(str(tmp_path / "buffer"))
    assert len(loaded) == len(saved)
    assert loaded.max_priority == saved.max_priority
    for number in range(n, n + 12):
        assert loaded.add(**transition(number)) == saved.add(**transition(number))
        assert bits(loaded.sample(6)) == bits(saved.sample(6))
    assert fingerprint(saved, tmp_path / "a") == fingerprint(loaded, tmp_path / "b")


def test_the_next_sample_after_load_has_the_same_bits(tmp_path):
    saved, loaded = filled(40, capacity=16), PrioritizedReplayBuffer(16, DIM, seed=5)
    saved.sample(7)
    saved.save(tmp_path / "buffer")
    loaded.load(tmp_path / "buffer")
    for _ in range(5):
        one, other = saved.sample(9), loaded.sample(9)
        assert bits(one) == bits(other)
        for buffer, batch in ((saved, one), (loaded, other)):
            buffer.update_priorities(batch["indexes"], batch["reward"] + 1)


def test_saving_leaves_nothing_else_and_replaces_whole(tmp_path):
    path = tmp_path / "buffer"
    filled(3).save(path)
    first = path.read_bytes()
    filled(4).save(path)
    assert path.read_bytes() != first
    assert os.listdir(tmp_path) == ["buffer"]


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "buffer"
    buffer = filled(3)
    buffer.save(path)
    before = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    buffer.add(**transition(3))
    with pytest.raises(OSError, match="No space left"):
        buffer.save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["buffer"]


def test_saving_into_a_missing_folder_fails(tmp_path):
    with pytest.raises(FileNotFoundError):
        filled(3).save(tmp_path / "none" / "buffer")


def test_loading_a_missing_file_fails(tmp_path):
    with pytest.raises(FileNotFoundError):
        filled(3).load(tmp_path / "none")


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"capacity": 5}, "saved with capacity = 4, this buffer has 5"),
        ({"state_dim": 4}, "saved with state_dim = 3, this buffer has 4"),
        ({"alpha": 0.5}, "saved with alpha = 0.6, this buffer has 0.5"),
        ({"n_actions": 2}, "values that no buffer like this one could hold"),
    ],
)
def test_a_file_of_another_buffer_is_refused(kwargs, text, tmp_path):
    filled(4).save(tmp_path / "buffer")
    with pytest.raises(ValueError, match=text):
        PrioritizedReplayBuffer(**{"capacity": 4, "state_dim": DIM, **kwargs}).load(tmp_path / "buffer")


@pytest.fixture
def damage(tmp_path):
    """Load changed bytes into a buffer: it has to refuse them and stay what it was."""
    buffer = filled(6, capacity=4)
    good = fingerprint(buffer, tmp_path / "buffer")

    def check(bad):
        (tmp_path / "bad").write_bytes(bad)
        with pytest.raises(ValueError, match="bad: "):
            buffer.load(tmp_path / "bad")

    yield good, check
    assert fingerprint(buffer, tmp_path / "buffer") == good


def test_truncated_and_padded_files_are_refused(damage):
    good, check = damage
    for length in range(len(good)):
        check(good[:length])
    check(good + b"\0")


def test_every_flipped_byte_is_noticed(damage):
    good, check = damage
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= 0x41
        check(bytes(bad))


def test_hostile_files_with_a_right_checksum_are_refused(damage):
    good, check = damage
    columns = 80
    reward = columns + 2 * 4 * DIM * 4
    forgeries = {
        16: struct.pack("<Q", 2**63),  # transitions ever added
        40: struct.pack("<d", np.nan),  # largest priority
        48: bytes(32),  # a generator that stands still
        columns: struct.pack("<f", np.nan),
        columns + 4 * DIM * 4: struct.pack("<f", np.inf),
        reward: struct.pack("<f", -np.inf),
        reward + 16: struct.pack("<i", -1),
        reward + 32: b"\2",
        reward + 36: struct.pack("<d", -1.0),
    }
    assert columns + 2 * 4 * DIM * 4 + 16 + 16 + 4 + 32 + 32 == len(good)
    for place, forged in forgeries.items():
        body = bytearray(good[:-32])
        body[place : place + len(forged)] = forged
        check(bytes(body) + hashlib.sha256(body).digest())


def test_other_files_are_refused(damage):
    _, check = damage
    for other in (b"", b"PK\x03\x04" * 50, b"\x80\x04N.", os.urandom(500)):
        check(other)
