"""The workload of the demonstration: files and their arrival times, both drawn from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from blake3 import blake3

from itp._util.command import UsageError

# Bounded Pareto: many small files, and most bytes in a few large ones.
_SHAPE = 1.2
_SMALLEST_BYTES = 200_000
_LARGEST_BYTES = 32_000_000


@dataclass(frozen=True, slots=True)
class Arrival:
    """A file to send, and when."""

    at_s: float
    path: Path
    size_bytes: int
    blake3: str


@dataclass(frozen=True, slots=True)
class Workload:
    """Files in the order of their arrival."""

    arrivals: tuple[Arrival, ...]
    left_out: int
    """Number of the user's files that did not fit into the time."""

    @property
    def total_bytes(self) -> int:
        """Bytes of all files."""
        return sum(arrival.size_bytes for arrival in self.arrivals)


def make_files(folder: Path, total_bytes: int, seed: int) -> list[Path]:
    """Write files of random content and heavy-tailed sizes, `total_bytes` in all, into a folder."""
    rng = np.random.default_rng(seed)
    paths: list[Path] = []
    left = total_bytes
    ratio = (_SMALLEST_BYTES / _LARGEST_BYTES) ** _SHAPE
    while left > 0:
        size = int(_SMALLEST_BYTES * (1.0 - rng.random() * (1.0 - ratio)) ** (-1.0 / _SHAPE))
        size = min(size, left)
        path = folder / f"file-{len(paths):03d}.bin"
        path.write_bytes(rng.bytes(size))
        paths.append(path)
        left -= size
    return paths


def own_files(folder: Path) -> list[Path]:
    """The regular files of a user's folder; they are read, never copied."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise UsageError(f"--files: cannot read {folder}: {error.strerror}") from None
    if not paths:
        raise UsageError(f"--files: there are no files in {folder}")
    return paths


def schedule(paths: Sequence[Path], budget_bytes: int, load_Bps: float, seed: int) -> Workload:
    """Draw Poisson arrivals, at a mean load in bytes a second, of as many files as fit the budget.

    Raises
    ------
    UsageError
        No file fits.
    """
    rng = np.random.default_rng([seed, 1])
    chosen: list[Path] = []
    total = 0
    for i in rng.permutation(len(paths)):
        size = paths[i].stat().st_size
        if total + size <= budget_bytes:
            chosen.append(paths[i])
            total += size
    if not chosen:
        raise UsageError(
            f"--files: no file is small enough ({budget_bytes / 1e6:.0f} MB) to be sent with every policy in "
            "time; raise --seconds or --rates"
        )
    # Given their number, Poisson arrivals are independent and uniform over the time.
    times = np.sort(rng.uniform(0.0, total / load_Bps, len(chosen)))
    arrivals = tuple(
        Arrival(float(at_s), path, path.stat().st_size, file_hash(path))
        for at_s, path in zip(times - times[0], chosen, strict=True)
    )
    return Workload(arrivals, len(paths) - len(chosen))


def file_hash(path: Path) -> str:
    """BLAKE3 of a file as it is on disk, in hex."""
    return blake3().update_mmap(path).hexdigest()
