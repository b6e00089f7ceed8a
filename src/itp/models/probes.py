"""What the verification of models of both schemas shares: probe inputs and the comparison of engines."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 1e-5
"""Largest difference of the compiled forward pass from onnxruntime, relative to a state's largest value.

Where that one is small, because terms cancel, both engines' roundings stand out: it counts as no less than
the median of all probes' largest.
"""

_TIE = 1e-6


def uniform(count: int, *, seed: int = 0) -> NDArray[np.float64]:
    """Numbers of [0, 1), the same ones always.

    SplitMix64, as in the compiled core: NumPy's generators would take 3 MB of every process.
    """
    first = seed * (1 << 32) + 1
    z = np.arange(first, first + count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray((z >> np.uint64(40)) * 2.0**-24)


def apart(answers: NDArray[np.float32], found: NDArray[np.float32]) -> str | None:
    """How the compiled forward pass differs from onnxruntime; None where it does not.

    Parameters
    ----------
    answers, found : ndarray
        float32[n, k]: values of the choices on n probes, by onnxruntime and compiled.
    """
    largest = np.abs(answers).max(axis=1, keepdims=True)
    scale: NDArray[Any] = np.maximum(largest, np.median(largest))
    differs = np.abs(found - answers) > TOLERANCE * scale
    if not np.isfinite(found).all() or differs.any():
        n_apart = int(differs.any(axis=1).sum())
        return f"the compiled forward pass differs from onnxruntime on {n_apart} of {len(answers)} probes"
    # Where the two best are as good as equal, the last bits decide, and either may come first.
    best = np.take_along_axis(answers, found.argmax(axis=1)[:, None], axis=1)
    if (answers.max(axis=1, keepdims=True) - best > _TIE * scale).any():
        return "the compiled forward pass makes other choices than onnxruntime"
    return None
