"""Single calls timed in short turns, so that what else the machine does hits all of them alike."""

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
"""Calls before each turn that do not count, as a share of its calls."""

_clock_ns = time.perf_counter_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is timed, call by call."""

    name: str
    call: Callable[[], Any]
    settle: Callable[[Any], object] = lambda _: None
    """Takes the result of each call, outside of its time."""
    times_ns: Callable[[int, int], NDArray[np.int64]] | None = None
    """Makes so many calls, until so many nanoseconds are over, and times each itself: where the interpreter
    would take longer than they do."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Wall-clock times of single calls."""

    name: str
    times_ns: NDArray[np.int64] = field(repr=False)

    @property
    def calls(self) -> int:
        """How many there were."""
        return len(self.times_ns)

    @property
    def p50_us(self) -> float:
        """Median."""
        return float(np.median(self.times_ns)) * 1e-3

    @property
    def worst_us(self) -> float:
        """The longest."""
        return float(self.times_ns.max()) * 1e-3

    def quantile_us(self, share: float) -> float | None:
        """Time within which that share of the calls was over; None where too few were made to tell."""
        # A thousandth of the calls are over p99.9: of fewer than a thousand, none.
        if self.calls * (1.0 - share) < 1.0 - 1e-9:
            return None
        return float(np.quantile(self.times_ns, share)) * 1e-3

    def as_dict(self) -> dict[str, Any]:
        """The figures by name, ready for JSON."""
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
    """Time the calls of each subject in `rounds` turns, one subject after the other in every round.

    Parameters
    ----------
    seconds : float
        For all of them together. Every turn has an equal share of what is left, so slow subjects get the time
        that fast ones do not use; one call is made in any case.
    calls : int
        At most so many of each subject.
    turn : callable
        Told whose turn it is.
    """
    rounds = min(rounds, calls)
    a_turn = calls // rounds
    times_ns: dict[str, list[NDArray[np.int64]]] = {subject.name: [] for subject in subjects}
    turns_left = rounds * len(subjects)
    end_ns = _clock_ns() + int(seconds * 1e9)
    with _no_collection():
        for _ in range(rounds):
            for subject in subjects:
                turn(subject)
                limit_ns = max(0, end_ns - _clock_ns()) // turns_left
                turns_left -= 1
                _time(subject, int(a_turn * _WARM_UP), int(limit_ns * _WARM_UP))
                times_ns[subject.name].append(_time(subject, a_turn, limit_ns))
    return [Timing(name, np.concatenate(parts)) for name, parts in times_ns.items()]


def _time(subject: Subject, calls: int, limit_ns: int) -> NDArray[np.int64]:
    """Nanoseconds of each call; at least one."""
    if subject.times_ns is not None:
        return subject.times_ns(max(1, calls), limit_ns)
    call, settle, clock = subject.call, subject.settle, _clock_ns
    taken = np.empty(max(1, calls), dtype=np.int64)
    end = clock() + limit_ns
    made = 0
    for made in range(1, len(taken) + 1):
        start = clock()
        result = call()
        stop = clock()
        taken[made - 1] = stop - start
        settle(result)
        if stop > end:
            break
    return taken[:made]


@contextmanager
def _no_collection() -> Iterator[None]:
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
