"""Numbers drawn by seed: each a pure function of (seed, name), so that no draw depends on another.

The generator is counter-based: SplitMix64's finaliser (Steele, Lea and Flood, "Fast splittable
pseudorandom number generators", OOPSLA 2014) over the seed and a hash of the name.
"""

from __future__ import annotations

import hashlib
import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Seeds: TypeAlias = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def as_seeds(seeds: Any) -> Seeds:
    """Seeds as a vector; ValueError unless each is a whole number from 0 to 2^64 - 1."""
    if isinstance(seeds, np.ndarray):
        if seeds.dtype.kind not in "iu" or seeds.ndim > 1:
            raise ValueError(f"seeds must be a vector of integers; got {seeds.dtype} of shape {seeds.shape}")
        if seeds.size and seeds.min() < 0:
            raise ValueError(f"seeds must not be negative; got {seeds.min()}")
        return np.atleast_1d(seeds).astype(np.uint64)
    try:
        values = [operator.index(seed) for seed in (seeds if isinstance(seeds, Iterable) else [seeds])]
    except TypeError:
        raise TypeError(f"seeds must be an integer or integers; got {seeds!r}") from None
    for value in values:
        if not 0 <= value < 2**64:
            raise ValueError(f"seeds must be from 0 to 2^64 - 1; got {value}")
    return np.array(values, dtype=np.uint64)


def _finalise(z: Seeds) -> Seeds:
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    mixed: Seeds = z ^ (z >> np.uint64(31))
    return mixed


def uniform(seeds: Seeds, name: str) -> Floats:
    """Uniform in [0, 1), one for each seed."""
    key = np.uint64(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little"))
    with np.errstate(over="ignore"):
        bits = _finalise(_finalise(seeds + _GOLDEN) ^ key)
    u: Floats = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return u


@dataclass(frozen=True, slots=True)
class Number:
    """A number, or the distribution it is drawn from.

    Attributes
    ----------
    kind : {"fixed", "uniform", "log_uniform", "choice"}
    values : tuple of float
        The number, the ends, or the choices.
    scope : str
        Distinguishes draws of one name, as of a path's two directions.
    """

    kind: str
    values: tuple[float, ...]
    scope: str = ""

    @property
    def low(self) -> float:
        """The least it can be."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The most it can be."""
        return max(self.values)

    def draw(self, seeds: Seeds, name: str) -> Floats:
        """Its value for each seed."""
        first, last = self.values[0], self.values[-1]
        if self.low == self.high:
            return np.full(len(seeds), first)
        u = uniform(seeds, self.scope + name)
        if self.kind == "uniform":
            return np.clip(first + (last - first) * u, first, last)
        if self.kind == "log_uniform":
            return np.clip(first * np.exp(u * (math.log(last) - math.log(first))), first, last)
        return np.array(self.values)[(u * len(self.values)).astype(np.intp)]
