"""What the paths of a world carry together on average, and the mean size of its tasks."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from itp.sim.scenario.draws import Floats

MATHIS = 1.22  # of a periodic loss: Mathis et al., "The macroscopic behavior of TCP", CCR 27(3), 1997
MSS = 1448
# Cross traffic never takes all of a link, in the simulator either.
MAX_LOAD = 0.9

_erf = np.frompyfunc(math.erf, 1, 1)


def _normal_cdf(z: Floats) -> Floats:
    return 0.5 * (1.0 + np.asarray(_erf(z / math.sqrt(2.0)), dtype=np.float64))


def _unique(columns: tuple[Floats, ...]) -> tuple[Floats, NDArray[np.intp]]:
    """Distinct rows of some columns, and which of them each row is: most scenarios have one or two."""
    table, index = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
    return table, index.reshape(-1)


def positive_part(mean: Floats, sd: Floats) -> Floats:
    """Mean of a normal variable of which what is below 0 counts as 0."""
    table, index = _unique((mean.ravel(), sd.ravel()))
    m, s = table[:, 0], np.maximum(table[:, 1], 1e-300)
    with np.errstate(over="ignore"):
        z = np.clip(m / s, -40.0, 40.0)
    value = np.where(
        table[:, 1] > 0, m * _normal_cdf(z) + s * np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi), m
    )
    result: Floats = value[index].reshape(mean.shape)
    return result


def mean_size_bytes(kind: str, a: Floats, b: Floats, low: Floats, high: Floats) -> Floats:
    """Mean of a size of `kind` with parameters `a` and `b`, in [`low`, `high`]; see ``docs/scenarios.md``.

    Sizes outside are clipped, but pareto and log_uniform are truncated distributions.
    """
    if kind == "fixed":
        return np.clip(a, low, high)
    if kind == "exponential":
        clipped: Floats = low + a * (np.exp(-low / a) - np.exp(-high / a))
        return clipped
    if kind == "lognormal":
        table, index = _unique((a, b, low, high))
        mean: Floats = np.array([_mean_lognormal(*row) for row in table.tolist()])[index]
        return mean
    ratio = np.log(high / low)
    if kind == "log_uniform":
        return low * _growth(ratio, np.ones_like(b))
    # Over log x the density is exponential: a ratio of two integrals.
    return low * _growth(ratio, 1.0 - b) / _growth(ratio, -b)


def mean_of_clipped(values: Floats, scale: Floats, low: Floats, high: Floats) -> Floats:
    """Mean of ascending `values` times each `scale`, clipped to [`low`, `high`]."""
    table, index = _unique((scale, low, high))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    factor, least, most = table.T
    below = np.searchsorted(values, least / factor)
    above = np.maximum(np.searchsorted(values, most / factor), below)
    inside = factor * (sums[above] - sums[below])
    mean: Floats = (least * below + inside + most * (len(values) - above)) / len(values)
    return mean[index]


def _growth(ratio: Floats, power: Floats) -> Floats:
    """(e^(power ratio) - 1) / (power ratio): the mean of e^(power t), t uniform in [0, ratio]."""
    x = power * ratio
    small = np.abs(x) < 1e-9
    return np.where(small, 1.0 + 0.5 * x, np.expm1(x) / np.where(small, 1.0, x))


def _mean_lognormal(median: float, sigma: float, low: float, high: float) -> float:
    if sigma == 0:
        return min(max(median, low), high)

    def below(bytes_: float, shift: float) -> float:
        return 0.5 * math.erfc(-(math.log(bytes_ / median) / sigma - shift) / math.sqrt(2.0))

    inside = median * math.exp(0.5 * sigma * sigma) * (below(high, sigma) - below(low, sigma))
    return low * below(low, 0.0) + inside + high * (1.0 - below(high, 0.0))


def path_goodput_Bps(
    link_Bps: Floats, rtt_s: Floats, loss: Floats, burst_packets: Floats, cubic: NDArray[np.bool_]
) -> Floats:
    """What one stream gets of `link_Bps`: CUBIC no more than Mathis's formula allows."""
    with np.errstate(divide="ignore"):
        limit = MATHIS * MSS / ((rtt_s + 1e-6) * np.sqrt(loss / burst_packets))
    return np.where(cubic, np.minimum(link_Bps, limit), link_Bps) * (1.0 - loss)
