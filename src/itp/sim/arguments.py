"""What callers of the simulator hand in, checked; and whether so many environments fit into memory."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Of one environment, and of each of its streams, tasks in flight and scratch included; it is refused before
# memory runs out, not after.
_ENV_BYTES = 10_000
_STREAM_BYTES = 2_500


def integer(name: str, value: int) -> int:
    """The value as an int; TypeError for anything but an integer."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} = {value!r}: expected an integer")
    return int(value)


def count(name: str, value: int) -> int:
    """The value, at least 1."""
    if integer(name, value) < 1:
        raise ValueError(f"{name} = {value!r}: expected at least 1")
    return int(value)


def first_seed(seed: int, n_envs: int) -> int:
    """The seed of the first environment; those of two episodes of all must fit 64 bits."""
    if not 0 <= integer("seed", seed) <= 2**64 - 2 * n_envs:
        raise ValueError(f"seed = {seed!r}: expected 0 to 2**64 - {2 * n_envs}")
    return int(seed)


def seed_array(seeds: ArrayLike) -> NDArray[np.uint64]:
    """The seeds as uint64; ValueError unless they are integers >= 0, at least one."""
    given = np.asarray(seeds)
    if given.ndim != 1 or len(given) == 0 or given.dtype.kind not in "iu":
        raise ValueError("seeds: expected at least one integer, in one dimension")
    if given.dtype.kind == "i" and given.min() < 0:
        raise ValueError(f"seeds: expected integers >= 0; got {given.min()}")
    return given.astype(np.uint64)


def check_memory(n_envs: int, n_streams: int) -> None:
    """Refuse what would not fit, before the system starts to swap or to kill."""
    needed, free = n_envs * (_ENV_BYTES + n_streams * _STREAM_BYTES), _available_bytes()
    if free is not None and needed > free:
        raise MemoryError(
            f"n_envs = {n_envs}: about {needed / 2**30:.1f} GiB needed, {free / 2**30:.1f} GiB available; "
            "simulate fewer environments at a time"
        )


def _available_bytes() -> int | None:
    """Memory that can be had without swapping; None where the system does not tell."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None
