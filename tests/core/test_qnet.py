"""The compiled forward pass: every kernel against NumPy, and what it refuses."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itp._core.qnet import KERNELS, MAX_LAYERS, MAX_WIDTH, QNet

pytestmark = pytest.mark.core


def random_layers(widths, rng, density=1.0):
    layers = []
    for inputs, outputs in pairwise(widths):
        weights = rng.standard_normal((outputs, inputs)) * np.sqrt(2 / inputs)
        weights *= rng.random(weights.shape) < density
        layers.append((weights.astype(np.float32), rng.standard_normal(outputs).astype(np.float32)))
    return layers


def oracle(layers, states):
    """In float64; the layers' float32 weights are exact there."""
    x = states.astype(np.float64)
    for k, (weights, bias) in enumerate(layers):
        x = x @ weights.astype(np.float64).T + bias
        if k < len(layers) - 1:
            x = np.maximum(x, 0.0)
    return x


def assert_close(found, expected):
    scale = np.maximum(np.abs(expected).max(axis=1, keepdims=True), 1.0)
    assert (np.abs(found - expected) <= 1e-5 * scale).all()


@pytest.mark.parametrize("kernel", KERNELS)
@settings(deadline=None, max_examples=60)
@given(
    widths=st.lists(st.integers(1, 200), min_size=2, max_size=6),
    seed=st.integers(0, 2**32 - 1),
    density=st.sampled_from([0.0, 0.1, 1.0]),
)
def test_any_chain_agrees_with_numpy(kernel, widths, seed, density):
    rng = np.random.default_rng(seed)
    layers = random_layers(widths, rng, density)
    states = rng.standard_normal((5, widths[0])).astype(np.float32)
    states[rng.random(states.shape) < 0.3] = 0.0
    net = QNet(layers, kernel=kernel)
    found = net(states)
    assert found.dtype == np.float32
    assert net.widths == tuple(widths)
    assert_close(found, oracle(layers, states))


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_widest_and_deepest(kernel):
    rng = np.random.default_rng(0)
    for widths in ([MAX_WIDTH, MAX_WIDTH, MAX_WIDTH], [1] * (MAX_LAYERS + 1), [7] * (MAX_LAYERS + 1)):
        layers = random_layers(widths, rng)
        states = rng.random((3, widths[0]), dtype=np.float32)
        assert_close(QNet(layers, kernel=kernel)(states), oracle(layers, states))


@pytest.mark.parametrize("kernel", KERNELS)
def test_values_that_are_zero_tiny_huge_or_negative(kernel):
    weights = np.array([[1.0, 2.0, -3.0], [0.5, -1.0, 4.0]], np.float32)
    net = QNet([(weights, np.array([0.25, -0.25], np.float32))], kernel=kernel)
    for state in (
        [0.0, 0.0, 0.0],
        [-0.0, 0.0, -0.0],
        [1e-40, -1e-40, 0.0],
        [1e30, -1e30, 1e30],
        [-1.0, 2.0, 0.0],
    ):
        x = np.array([state], np.float32)
        np.testing.assert_allclose(
            net(x), x.astype(float) @ weights.T.astype(float) + [0.25, -0.25], rtol=1e-5
        )
    # Beyond float32 it overflows as IEEE 754 says; nothing is hidden.
    assert not np.isfinite(net(np.array([[3e38, 3e38, 0.0]], np.float32))).all()


@pytest.mark.parametrize("kernel", KERNELS)
def test_what_overflows_within_shows_at_the_end(kernel):
    huge = np.full((2, 1), 3e38, np.float32)
    apart = np.array([[1.0, -1.0]], np.float32)  # of two infinities: not a number, which no ReLU may hide
    layers = [(huge, np.zeros(2)), (apart, np.zeros(1)), (np.ones((3, 1)), np.zeros(3))]
    assert np.isnan(QNet(layers, kernel=kernel)(np.array([[2.0]], np.float32))).all()


@pytest.mark.parametrize("kernel", KERNELS)
def test_negative_inputs_of_the_first_layer_are_not_cut_off(kernel):
    net = QNet(
        [(np.eye(2, dtype=np.float32), np.zeros(2)), (np.eye(2, dtype=np.float32), np.zeros(2))],
        kernel=kernel,
    )
    assert net(np.array([[-1.0, 1.0]], np.float32)).tolist() == [[0.0, 1.0]]
    one = QNet([(np.eye(2, dtype=np.float32), np.zeros(2))], kernel=kernel)
    assert one(np.array([[-1.0, 1.0]], np.float32)).tolist() == [[-1.0, 1.0]]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("n", [2, 15, 16, 17, 63, 64, 100])
def test_a_state_has_the_same_values_in_any_company(kernel, n):
    rng = np.random.default_rng(n)
    for widths in ((20, 128, 128, 64, 15), (7, 300, 33, 1), (3, 16, 80, 17)):
        net = QNet(random_layers(widths, rng), kernel=kernel)
        states = rng.standard_normal((n, widths[0])).astype(np.float32)
        together = net(states)
        one_by_one = np.concatenate([net(states[k : k + 1]) for k in range(n)])
        assert together.tobytes() == one_by_one.tobytes()


def test_it_times_itself():
    net = QNet([(np.ones((2, 3)), np.zeros(2))])
    taken_ns = net.time_ns(np.ones((2, 3)), 100, 10**12)
    assert taken_ns.shape == (100,)
    assert taken_ns.dtype == np.int64
    assert (taken_ns >= 0).all()
    assert net.time_ns(np.ones((2, 3)), 0, 10**12).shape == (0,)
    assert net.time_ns(np.ones((2, 3)), 100, -1).shape == (1,)
    assert 1 <= len(net.time_ns(np.ones((2, 3)), 10**6, 1000)) < 10**6
    for wrong in (np.ones((0, 3)), np.ones((1, 4))):
        with pytest.raises(ValueError, match="states"):
            net.time_ns(wrong, 1, 10**12)


def test_what_it_is_given_is_copied():
    weights, bias = np.eye(3, dtype=np.float32), np.zeros(3, np.float32)
    net = QNet([(weights, bias)])
    weights[:] = 7.0
    assert net(np.ones((1, 3), np.float32)).tolist() == [[1.0, 1.0, 1.0]]


def test_empty_batches_and_other_types():
    net = QNet([(np.ones((2, 3)), np.zeros(2))])
    assert net(np.empty((0, 3))).shape == (0, 2)
    assert net([[1, 2, 3]]).tolist() == [[6.0, 6.0]]
    assert net(np.asfortranarray(np.ones((4, 3)))).tolist() == [[3.0, 3.0]] * 4
    for wrong in (np.ones(3), np.ones((1, 4)), np.ones((1, 1, 3))):
        with pytest.raises(ValueError, match="shape"):
            net(wrong)
    with pytest.raises(TypeError):
        net([["a", "b", "c"]])


@pytest.mark.parametrize(
    ("layers", "text"),
    [
        ([], "0 layers"),
        ([(np.ones((1, 1)), np.ones(1))] * (MAX_LAYERS + 1), f"{MAX_LAYERS + 1} layers"),
        ([(np.ones((2, 3)), np.ones(3))], "bias of layer 0"),
        ([(np.ones((2, 3)), np.ones(2)), (np.ones((2, 3)), np.ones(2))], "weights of layer 1"),
        ([(np.ones((MAX_WIDTH + 1, 1)), np.ones(MAX_WIDTH + 1))], "expected 1 to"),
        ([(np.ones((0, 1)), np.ones(0))], "expected 1 to"),
        ([(np.full((1, 1), np.nan), np.ones(1))], "not finite"),
        ([(np.ones((1, 1)), np.full(1, np.inf))], "not finite"),
        ([(np.ones(1), np.ones(1))], "shape"),
    ],
)
def test_refuses(layers, text):
    with pytest.raises(ValueError, match=text):
        QNet(layers)


def test_refuses_a_kernel_the_cpu_lacks():
    with pytest.raises(ValueError, match="kernel = 'abacus'"):
        QNet([(np.ones((1, 1)), np.ones(1))], kernel="abacus")
    with pytest.raises(TypeError, match="pickled"):
        QNet([(np.ones((1, 1)), np.ones(1))]).__reduce__()
