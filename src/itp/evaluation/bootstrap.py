"""Percentile bootstrap over seeds (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

N_RESAMPLES = 10_000
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its confidence interval; NaN where there is none."""

    value: float
    low: float
    high: float


class Bootstrap:
    """Resamples of the seeds; the same ones serve every figure, so all figures are paired.

    Parameters
    ----------
    n_seeds : int
    resamples : int
    seed : int
        Of the resampling.
    """

    def __init__(self, n_seeds: int, *, resamples: int = N_RESAMPLES, seed: int = 0) -> None:
        if n_seeds < 1:
            raise ValueError(f"n_seeds = {n_seeds}: expected at least 1")
        # The number of times each seed is drawn is all that matters, and makes a mean a product.
        generator = np.random.default_rng(seed)
        self._weights = generator.multinomial(
            n_seeds, np.full(n_seeds, 1.0 / n_seeds), size=resamples
        ).astype(np.float64)

    def means(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The mean of every resample; NaN values are left out.

        Parameters
        ----------
        values : ndarray
            float64[n_seeds, k].

        Returns
        -------
        ndarray
            float64[resamples, k].
        """
        known = np.isfinite(values)
        with np.errstate(invalid="ignore", divide="ignore"):
            means: NDArray[np.float64] = (self._weights @ np.where(known, values, 0.0)) / (
                self._weights @ known.astype(np.float64)
            )
        return means


def estimates(
    values: NDArray[np.float64], resampled: NDArray[np.float64], *, confidence: float = CONFIDENCE
) -> list[Estimate]:
    """Figures with the percentile intervals of their resamples; those that are NaN are left out.

    Parameters
    ----------
    values : ndarray
        float64[k].
    resampled : ndarray
        float64[resamples, k].
    confidence : float
    """
    tail = 50.0 * (1.0 - confidence)
    ends = (tail, 100.0 - tail)
    if np.isfinite(resampled).all():
        low, high = np.percentile(resampled, ends, axis=0)
    else:
        low, high = np.array([_percentiles(column, ends) for column in resampled.T]).T
    bounds = np.where(np.isfinite(values), (values, low, high), np.nan)
    return [Estimate(*map(float, column)) for column in bounds.T]


def _percentiles(values: NDArray[np.float64], ends: tuple[float, float]) -> NDArray[np.float64]:
    known = values[np.isfinite(values)]
    return np.percentile(known, ends) if len(known) else np.full(2, np.nan)


def mean(values: NDArray[np.float64]) -> float:
    """The mean of what is not NaN; NaN if nothing is left."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
