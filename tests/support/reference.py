"""Independent oracles: exact rational arithmetic and plain loops, slow and obvious."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations

import numpy as np


def water_level(size: int, rates: Sequence[float], delays: Sequence[float]) -> Fraction:
    """The T with sum r max(0, T - d) = size, by trying every number of streams in use."""
    streams = sorted((Fraction(d), Fraction(r)) for r, d in zip(rates, delays, strict=True) if r > 0)
    for used in range(1, len(streams) + 1):
        rate = sum(r for _, r in streams[:used])
        level = (size + sum(r * d for d, r in streams[:used])) / rate
        if used == len(streams) or level <= streams[used][0]:
            return level
    raise ValueError("no stream has a rate")


def water_shares(size: int, rates: Sequence[float], delays: Sequence[float]) -> list[Fraction]:
    """Exact shares of water-filling."""
    level = water_level(size, rates, delays)
    return [max(Fraction(0), Fraction(r) * (level - Fraction(d))) for r, d in zip(rates, delays, strict=True)]


def proportional_shares(size: int, weights: Sequence[float]) -> list[Fraction]:
    """Exact shares in proportion; equal if all weights are zero."""
    exact = [Fraction(w) for w in weights]
    if not any(exact):
        exact = [Fraction(1)] * len(exact)
    total = sum(exact)
    return [size * w / total for w in exact]


def best_completion(
    size: int, rates: Sequence[float], delays: Sequence[float], min_chunk: int
) -> tuple[float, tuple[int, ...]]:
    """Least completion time over all subsets in which every share is at least min_chunk."""
    best: tuple[float, tuple[int, ...]] | None = None
    for count in range(1, len(rates) + 1):
        for subset in combinations(range(len(rates)), count):
            chosen_rates = [rates[i] for i in subset]
            chosen_delays = [delays[i] for i in subset]
            if min(chosen_rates) <= 0:
                continue
            shares = water_shares(size, chosen_rates, chosen_delays)
            if count > 1 and min(shares) < min_chunk:
                continue
            time = float(water_level(size, chosen_rates, chosen_delays))
            if best is None or time < best[0] * (1 - 1e-12):
                best = (time, subset)
    if best is None:
        raise ValueError("no stream has a rate")
    return best


def log_scaled(value: float, low: float, high: float) -> float:
    """Position of value between low and high on a logarithmic scale, clipped to [0, 1]."""
    if value <= low:
        return 0.0
    return float(min(1.0, np.log(value / low) / np.log(high / low)))


class Ledger:
    """One stream's line, served byte by byte in the order the library documents."""

    def __init__(self, order: str, ageing_s: float) -> None:
        self.order = order
        self.ageing_s = ageing_s
        self.flights: list[dict[str, float]] = []

    def admit(self, number: int, size: int, chunk: int, priority: float, now_s: float) -> None:
        self.flights.append(
            {
                "number": number,
                "left": chunk,
                "elsewhere": size - chunk,
                "class": min(3, int(priority * 4)),
                "at": now_s,
            }
        )

    def _key(self, flight: dict[str, float], now_s: float) -> tuple[float, ...]:
        if self.order == "fifo":
            return (flight["number"],)
        if now_s - flight["at"] >= self.ageing_s:
            return (0, flight["number"])
        return (1, -flight["class"], flight["left"] + flight["elsewhere"], flight["number"])

    def serve(self, delivered: int, now_s: float) -> None:
        while delivered > 0:
            waiting = [f for f in self.flights if f["left"] > 0]
            if not waiting:
                return
            first = min(waiting, key=lambda f: self._key(f, now_s))
            taken = min(delivered, first["left"])
            first["left"] -= taken
            delivered -= taken

    def release(self, number: int) -> None:
        self.flights = [f for f in self.flights if f["number"] != number]

    def ahead(self, size: int, priority: float, now_s: float) -> float:
        klass = min(3, int(priority * 4))
        total = 0.0
        for f in self.flights:
            before = (
                self.order == "fifo"
                or now_s - f["at"] >= self.ageing_s
                or f["class"] > klass
                or (f["class"] == klass and f["left"] + f["elsewhere"] <= size)
            )
            total += f["left"] if before else 0
        return total
