"""Times of single calls, taken in short turns so that other load on the machine affects all subjects alike.

Imports NumPy alone: ``bench/check.py --baseline`` also loads it beside other versions of ITP.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROUNDS = 10
_WARM_UP = 0.05
"""Share of a turn's calls that are made before it and not counted."""

_clock_ns = time.perf_counter_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A call to be timed.

    Attributes
    ----------
    name : str
    call : callable
    after : callable
        Takes the result of each call; its time does not count.
    times_ns : callable, optional
        Times the calls itself, where the interpreter would take longer than they do: takes the number of
        calls and a limit in nanoseconds, and returns the nanoseconds of each call made, int64[calls].
    """

    name: str
    call: Callable[[], Any]
    after: Callable[[Any], object] = lambda _: None
    times_ns: Callable[[int, int], NDArray[np.int64]] | None = None


@dataclass(frozen=True, slots=True)
class Timing:
    """Wall-clock times of single calls, in nanoseconds."""

    name: str
    times_ns: NDArray[np.int64] = field(repr=False)

    @property
    def calls(self) -> int:
        """Number of calls."""
        return len(self.times_ns)

    @property
    def p50_us(self) -> float:
        """Median time of a call."""
        return float(np.median(self.times_ns)) * 1e-3

    @property
    def worst_us(self) -> float:
        """Time of the longest call."""
        return float(self.times_ns.max()) * 1e-3

    def quantile_us(self, share: float) -> float | None:
        """Time within which this share of the calls ended; None where fewer than one call took longer."""
        if self.calls * (1.0 - share) < 1.0 - 1e-9:
            return None
        return float(np.quantile(self.times_ns, share)) * 1e-3

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "calls": self.calls,
            "p50_us": self.p50_us,
            "p99_us": self.quantile_us(0.99),
            "p999_us": self.quantile_us(0.999),
            "worst_us": self.worst_us,
        }


def interleave(
    subjects: Sequence[Subject],
    *,
    seconds: float,
    calls: int,
    rounds: int = ROUNDS,
    turn: Callable[[Subject], object] = lambda _: None,
) -> list[Timing]:
    """Time the calls of each subject in `rounds` rounds, in which every subject has one turn.

    Parameters
    ----------
    subjects : sequence of Subject
    seconds : float
        For all subjects together. Each turn has an equal share of the time that is left, so slow subjects
        get what fast ones do not use. Every turn makes at least one call.
    calls : int
        The most calls of each subject.
    turn : callable
        Called with each subject before its turn.

    Returns
    -------
    list of Timing
        In the order of `subjects`.
    """
    rounds = min(rounds, calls)
    calls_a_turn = calls // rounds
    times_ns: dict[str, list[NDArray[np.int64]]] = {subject.name: [] for subject in subjects}
    turns_left = rounds * len(subjects)
    end_ns = _clock_ns() + int(seconds * 1e9)
    with _no_collection():
        for _ in range(rounds):
            for subject in subjects:
                turn(subject)
                limit_ns = max(0, end_ns - _clock_ns()) // turns_left
                turns_left -= 1
                _time(subject, int(calls_a_turn * _WARM_UP), int(limit_ns * _WARM_UP))
                times_ns[subject.name].append(_time(subject, calls_a_turn, limit_ns))
    return [Timing(name, np.concatenate(parts)) for name, parts in times_ns.items()]


def _time(subject: Subject, calls: int, limit_ns: int) -> NDArray[np.int64]:
    """Nanoseconds of each call; at least one is made."""
    if subject.times_ns is not None:
        return subject.times_ns(max(1, calls), limit_ns)
    call, after, clock = subject.call, subject.after, _clock_ns
    taken = np.empty(max(1, calls), dtype=np.int64)
    end = clock() + limit_ns
    made = 0
    for made in range(1, len(taken) + 1):
        start = clock()
        result = call()
        stop = clock()
        taken[made - 1] = stop - start
        after(result)
        if stop > end:
            break
    return taken[:made]


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep Python's garbage collector off."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
