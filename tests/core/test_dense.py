"""Products of matrices, by every kernel of this CPU, against NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itp._core.dense import KERNELS, product

pytestmark = pytest.mark.core

kernels = pytest.mark.parametrize("kernel", range(len(KERNELS)), ids=KERNELS)


def matrix(rng, rows, columns, layout):
    """One of a given layout, between others' values that must not count."""
    wide = rng.normal(size=(2 * rows + 1, 2 * columns + 1)).astype(np.float32)
    if layout == "transposed":
        return np.ascontiguousarray(wide[:rows, :columns].T).T
    if layout == "spread":
        return wide[1 : 2 * rows + 1 : 2, 1 : 2 * columns + 1 : 2]
    if layout == "backward":
        return np.ascontiguousarray(wide[:rows, :columns])[::-1, ::-1]
    return np.ascontiguousarray(wide[:rows, :columns])


layouts = st.sampled_from(["plain", "transposed", "spread", "backward"])
# Around the sizes of blocks and panels, and beyond a panel's depth.
sizes = st.sampled_from([1, 2, 5, 6, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 257])


@kernels
@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=sizes,
    depth=sizes,
    columns=sizes,
    of_a=layouts,
    of_b=layouts,
    end=st.sampled_from(["", "relu", "gate"]),
    room=st.integers(0, 3),
)
def test_a_product_is_numpys(kernel, seed, rows, depth, columns, of_a, of_b, end, room):
    rng = np.random.default_rng(seed)
    a, b = matrix(rng, rows, depth, of_a), matrix(rng, depth, columns, of_b)
    gate = rng.integers(-1, 2, (rows, columns + room)).astype(np.float32) if end == "gate" else None
    within = np.full((rows + 1, columns + room), 7.0, np.float32)
    out = within[:rows, :columns]
    open_ = None if gate is None else gate[:, :columns]
    product(a, b, out, relu=end == "relu", gate=open_, kernel=kernel)
    wanted = a.astype(float) @ b.astype(float)
    if end == "relu":
        wanted = np.maximum(wanted, 0.0)
    if open_ is not None:
        assert (out[open_ <= 0.0] == 0.0).all()
        wanted = np.where(open_ > 0.0, wanted, 0.0)
    size = np.abs(a.astype(float)) @ np.abs(b.astype(float))
    assert (np.abs(out - wanted) <= 1e-6 * size).all()
    # Nothing is written beside it.
    assert (within[rows:] == 7.0).all()
    assert (within[:, columns:] == 7.0).all()


@kernels
def test_the_same_product_has_the_same_bits(kernel):
    rng = np.random.default_rng(3)
    a, b = matrix(rng, 40, 300, "plain"), matrix(rng, 300, 70, "plain")
    outs = [np.empty((40, 70), np.float32) for _ in range(3)]
    product(a, b, outs[0], kernel=kernel)
    product(np.asfortranarray(a), np.asfortranarray(b), outs[1], kernel=kernel)
    # A row's values do not depend on its company.
    for row in range(40):
        product(a[row : row + 1], b, outs[2][row : row + 1], kernel=kernel)
    assert (outs[0] == outs[1]).all()
    assert (outs[0] == outs[2]).all()


@kernels
def test_what_is_no_number_stays_so(kernel):
    a, b = np.ones((3, 4), np.float32), np.ones((4, 5), np.float32)
    a[1, 2] = np.nan
    out = np.zeros((3, 5), np.float32)
    product(a, b, out, relu=True, kernel=kernel)
    assert np.isnan(out[1]).all()
    assert (out[[0, 2]] == 4.0).all()


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_nothing_has_no_product(shape):
    out = np.empty(shape, np.float32)
    product(np.ones((shape[0], 2), np.float32), np.ones((2, shape[1]), np.float32), out)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"b": np.ones((3, 4), np.float32)}, r"got \[2, 5\] and \[3, 4\]"),
        ({"a": np.ones((2, 0), np.float32), "b": np.ones((0, 4), np.float32)}, "depth at least 1"),
        ({"out": np.ones((2, 5), np.float32)}, r"out: expected shape \[2, 4\]"),
        ({"gate": np.ones((3, 4), np.float32)}, r"gate: expected shape \[2, 4\]"),
        ({"kernel": len(KERNELS)}, f"kernel = {len(KERNELS)}: expected 0 to {len(KERNELS) - 1}"),
        ({"kernel": -1}, "kernel = -1"),
        ({"a": np.ones((2, 5))}, "Buffer dtype mismatch"),
        ({"out": np.ones((4, 2), np.float32).T}, "out: expected the entries of a row side by side"),
        ({"gate": np.ones((4, 2), np.float32).T}, "gate: expected the entries of a row side by side"),
        (
            {"a": np.zeros((2, 5), np.dtype([("x", "f4"), ("y", "u1")]))["x"]},
            "whole floats apart; got 25 bytes",
        ),
    ],
)
def test_what_does_not_fit_is_refused(changes, said):
    fitting = {
        "a": np.ones((2, 5), np.float32),
        "b": np.ones((5, 4), np.float32),
        "out": np.zeros((2, 4), np.float32),
    }
    with pytest.raises(ValueError, match=said):
        product(**{**fitting, **changes})
    assert not fitting["out"].any()
