"""Losses of a batch and their slopes, against NumPy and finite differences."""

from __future__ import annotations

import numpy as np
import pytest

from itp._core.loss import bootstrap_loss, look_ahead_loss, take_columns

pytestmark = pytest.mark.core

N, M = 9, 15


def batch(seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(N, M)).astype(np.float32)
    returns = rng.normal(scale=2.0, size=(N, M)).astype(np.float32)
    returns[rng.random((N, M)) < 0.4] = np.nan
    returns[3] = np.nan
    order = np.array([rng.permutation(M) for _ in range(N)])
    weights = rng.random(N, dtype=np.float32)
    return values, returns, order, weights


def look_ahead(values, returns, order, weights, delta):
    total = 0.0
    for row in range(N):
        error = values[row] - returns[row, order[row]].astype(float)
        error = error[~np.isnan(error)]
        if len(error):
            error = error - error.mean()
            size = np.abs(error)
            huber = np.where(size <= delta, 0.5 * error**2, delta * (size - 0.5 * delta))
            total += weights[row] * huber.mean()
    return total / N


@pytest.mark.parametrize("delta", [0.3, 1.0, 50.0])
def test_look_ahead_loss_and_slope(delta):
    values, returns, order, weights = batch(1)
    slope, error = np.full((N, M), 2.0, np.float32), np.ones(N)
    found = look_ahead_loss(values, returns, order, weights, delta, slope, error)
    assert found == pytest.approx(look_ahead(values.astype(float), returns, order, weights, delta), rel=1e-6)
    for row, column in np.ndindex(N, M):
        step = np.zeros((N, M))
        step[row, column] = 1e-5
        wide = values.astype(float)
        wanted = (
            look_ahead(wide + step, returns, order, weights, delta)
            - look_ahead(wide - step, returns, order, weights, delta)
        ) / 2e-5
        assert slope[row, column] - 2.0 == pytest.approx(wanted, abs=2e-6)
    deviation = values - np.take_along_axis(returns, order, 1)
    deviation -= np.nanmean(
        np.where(np.isnan(returns).all(1)[:, None], 0.0, deviation), axis=1, keepdims=True
    )
    known = ~np.isnan(returns).all(axis=1)
    np.testing.assert_allclose(error[known], 1.0 + np.nanmean(np.abs(deviation[known]), axis=1), rtol=1e-5)
    assert (error[~known] == 1.0).all()


def test_bootstrap_loss_and_slope():
    values, _, order, weights = batch(2)
    rng = np.random.default_rng(0)
    action, wanted = rng.integers(0, M, N), rng.normal(scale=3.0, size=N).astype(np.float32)
    slope, error = np.zeros((N, M), np.float32), np.zeros(N)
    found = bootstrap_loss(values, action, order, wanted, weights, 0.7, 0.5, slope, error)
    place = np.array([list(order[row]).index(action[row]) for row in range(N)])
    difference = values[np.arange(N), place].astype(float) - wanted
    size = np.abs(difference)
    huber = np.where(size <= 0.7, 0.5 * size**2, 0.7 * (size - 0.35))
    assert found == pytest.approx(0.5 * (weights * huber).mean(), rel=1e-6)
    np.testing.assert_allclose(error, size, rtol=1e-6)
    wanted_slope = np.zeros((N, M))
    wanted_slope[np.arange(N), place] = 0.5 * weights * np.clip(difference, -0.7, 0.7) / N
    np.testing.assert_allclose(slope, wanted_slope, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_shows(bad):
    values, returns, order, weights = batch(1)
    values[0, 0] = bad
    returns[0] = 0.0
    assert not np.isfinite(
        look_ahead_loss(values, returns, order, weights, 1.0, np.zeros((N, M), np.float32), np.zeros(N))
    )


def test_take_columns():
    values, _, order, _ = batch(4)
    out = np.empty_like(values)
    take_columns(values, order, out)
    np.testing.assert_array_equal(out, np.take_along_axis(values, order, axis=1))


def test_what_does_not_fit_is_refused():
    values, returns, order, weights = batch(1)
    slope, error = np.zeros((N, M), np.float32), np.zeros(N)
    with pytest.raises(ValueError, match="returns: expected shape"):
        look_ahead_loss(values, returns[:-1].copy(), order, weights, 1.0, slope, error)
    with pytest.raises(ValueError, match="weights: expected shape"):
        look_ahead_loss(values, returns, order, weights[:-1], 1.0, slope, error)
    with pytest.raises(ValueError, match="from 0 to 14"):
        look_ahead_loss(values, returns, order + 1, weights, 1.0, slope, error)
    with pytest.raises(ValueError, match="from 0 to 14"):
        take_columns(values, order - 1, np.empty_like(values))
    with pytest.raises(ValueError, match="action: expected shape"):
        bootstrap_loss(values, np.zeros(3, np.int64), order, weights, weights, 1.0, 1.0, slope, error)
