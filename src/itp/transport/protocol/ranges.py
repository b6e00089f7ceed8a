"""A set of byte ranges: which bytes of a file have arrived."""

from __future__ import annotations

from bisect import bisect_left, bisect_right


class RangeSet:
    """Byte ranges in order, disjoint and not adjacent. Not thread-safe."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self.covered_bytes = 0

    def __len__(self) -> int:
        """Number of separate ranges."""
        return len(self._starts)

    def covers(self, start: int, end: int) -> bool:
        """Whether the set contains every byte from `start` to before `end`."""
        i = bisect_right(self._starts, start) - 1
        return i >= 0 and self._ends[i] >= end

    def add(self, start: int, end: int) -> int:
        """Add the bytes from `start` to before `end`; returns how many of them are new."""
        # The ranges from first to before last touch or overlap the new one and merge with it.
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        merged_start, merged_end, already = start, end, 0
        if first < last:
            merged_start = min(start, self._starts[first])
            merged_end = max(end, self._ends[last - 1])
            already = sum(self._ends[i] - self._starts[i] for i in range(first, last))
        self._starts[first:last] = [merged_start]
        self._ends[first:last] = [merged_end]
        new = merged_end - merged_start - already
        self.covered_bytes += new
        return new
