"""The sum tree against cumulative sums."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference_replay as reference
from itp._core.replay.sumtree import SumTree

pytestmark = pytest.mark.core

# Small integers: every sum is exact in float64, so the oracle has to agree to the bit.
exact_values = st.lists(st.integers(0, 7).map(float), min_size=1, max_size=257)


def filled(values):
    tree = SumTree(len(values))
    tree.update(np.arange(len(values)), values)
    return tree


@pytest.mark.parametrize("capacity", range(1, 258))
def test_every_capacity_finds_what_cumulative_sums_find(capacity):
    rng = np.random.default_rng(capacity)
    values = rng.integers(0, 5, capacity).astype(float)
    values[rng.integers(capacity)] = 3.0
    tree = filled(values)
    assert tree.total == values.sum()
    masses = np.arange(0, tree.total + 0.5, 0.5)
    assert tree.find(masses).tolist() == [reference.find(values, mass) for mass in masses]


@settings(max_examples=200, deadline=None)
@given(exact_values, st.data())
def test_part_filled_and_updated_piecemeal(values, data):
    capacity = data.draw(st.integers(len(values), 257))
    tree = SumTree(capacity)
    for index, value in enumerate(values):
        tree[index] = value
    changes = data.draw(
        st.lists(st.tuples(st.integers(0, capacity - 1), st.integers(0, 7).map(float)), max_size=40)
    )
    tree.update([index for index, _ in changes], [value for _, value in changes])
    expected = np.zeros(capacity)
    expected[: len(values)] = values
    for index, value in changes:
        expected[index] = value
    assert list(tree) == expected.tolist()
    assert tree.total == expected.sum()
    if tree.total:
        masses = np.linspace(0, tree.total, 50)
        assert tree.find(masses).tolist() == [reference.find(expected, mass) for mass in masses]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.one_of(st.just(0.0), st.floats(0, 1e300, allow_subnormal=True)), min_size=1, max_size=257),
    st.lists(st.floats(0, 1), min_size=1, max_size=20),
)
def test_never_lands_on_an_empty_leaf(values, shares):
    tree = filled(values)
    if tree.total == 0:
        with pytest.raises(ValueError, match="all values are 0"):
            tree.find([0.0])
        return
    masses = [
        0.0,
        tree.total,
        np.nextafter(tree.total, 0),
        *(min(s * tree.total, tree.total) for s in shares),
    ]
    assert all(values[leaf] > 0 for leaf in tree.find(masses))


@pytest.mark.parametrize("capacity", [1, 7, 8, 9, 64, 100, 257])
def test_mass_zero_is_the_first_and_the_total_the_last_positive_leaf(capacity):
    for first, last in {(0, capacity - 1), (capacity // 3, capacity // 2)}:
        tree = SumTree(capacity)
        tree[first] = 0.1
        tree[last] = 0.3
        assert tree.find([0.0, tree.total]).tolist() == [first, last]


def test_sums_depend_on_the_leaves_alone():
    rng = np.random.default_rng(3)
    values = rng.random(1000) ** 8
    tree, churned = filled(values), SumTree(1000)
    for _ in range(20):
        churned.update(rng.permutation(1000), rng.random(1000) * 1e12)
    for index in rng.permutation(1000):
        churned[int(index)] = values[index]
    masses = rng.random(5000) * tree.total
    assert churned.total == tree.total
    assert churned.find(masses).tobytes() == tree.find(masses).tobytes()
    assert tree.total == pytest.approx(values.sum(), rel=1e-14)


def test_of_a_repeated_index_the_last_value_stays():
    tree = filled([1.0, 1.0, 1.0])
    tree.update([1, 0, 1, 1], [5.0, 2.0, 6.0, 7.0])
    assert list(tree) == [2.0, 7.0, 1.0]
    assert tree.total == 10.0


def test_empty_batches_change_nothing():
    tree = filled([1.0, 2.0])
    tree.update([], [])
    assert tree.find([]).shape == (0,)
    assert list(tree) == [1.0, 2.0]


@pytest.mark.parametrize(
    ("indexes", "values", "error", "text"),
    [
        ([0, 3], [1, 1], ValueError, r"indexes\[1\] = 3: expected 0 to 2"),
        ([-1], [1], ValueError, r"indexes\[0\] = -1"),
        ([0, 1], [1], ValueError, r"values has shape \(1,\): expected \(2,\)"),
        ([0, 1], [5, -1], ValueError, r"values\[1\] = -1"),
        ([0, 1], [5, np.nan], ValueError, r"values\[1\] = nan"),
        ([0, 1], [5, np.inf], ValueError, r"values\[1\] = inf"),
        ([0, 1], [5, 1e308], ValueError, r"values\[1\] = 1e\+308"),
        ([0.5], [1], TypeError, "indexes has dtype float64: expected integers"),
        ([0], ["1"], TypeError, "values has dtype <U1: expected real numbers"),
        ([[0]], [[1]], ValueError, r"indexes has shape \(1, 1\): expected \(n,\)"),
        ([[0], [1, 2]], [1], ValueError, "indexes: expected an array of integers"),
    ],
)
def test_a_refused_update_changes_nothing(indexes, values, error, text):
    tree = filled([1.0, 2.0, 3.0])
    with pytest.raises(error, match=text):
        tree.update(indexes, values)
    assert list(tree) == [1.0, 2.0, 3.0]
    assert tree.total == 6.0


@pytest.mark.parametrize("mass", [-0.1, 6.1, np.nan, np.inf])
def test_a_mass_outside_the_total_is_refused(mass):
    with pytest.raises(ValueError, match=r"masses\[1\]"):
        filled([1.0, 2.0, 3.0]).find([0.0, mass])


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_a_single_bad_value_is_refused(value):
    tree = filled([1.0])
    with pytest.raises(ValueError, match="value = "):
        tree[0] = value
    assert tree[0] == 1.0


def test_a_single_position_outside_is_an_index_error():
    tree = SumTree(3)
    for index in (-1, 3, 2**70):
        with pytest.raises(IndexError, match="expected 0 to 2"):
            tree[index]


@pytest.mark.parametrize(
    ("capacity", "error"),
    [(0, ValueError), (-5, ValueError), (2**50, MemoryError), (2**70, MemoryError), (1.5, TypeError)],
)
def test_bad_capacities(capacity, error):
    with pytest.raises(error, match="capacity = "):
        SumTree(capacity)


def test_threads_leave_a_sound_tree():
    tree = SumTree(1000)
    tree.update(np.arange(1000), np.ones(1000))

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(300):
            tree.update(rng.integers(0, 1000, 64), rng.integers(1, 9, 64).astype(float))
            tree.find(rng.random(64) * 900)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tree.total == sum(tree)
