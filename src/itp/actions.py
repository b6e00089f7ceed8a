"""The actions: every non-empty set of streams, fewest streams first, then by stream numbers.

For four streams that is the fifteen of schema 1: 0-3 one stream, 4-9 pairs, 10-13 triples, 14 all.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from itertools import chain, combinations

from itp._core.decision import action_number


@cache
def stream_sets(n_streams: int = 4) -> tuple[tuple[int, ...], ...]:
    """All non-empty sets of n streams (1 to 16), indexed by action."""
    if not 1 <= n_streams <= 16:
        raise ValueError(f"n_streams must be from 1 to 16; got {n_streams!r}")
    streams = range(n_streams)
    return tuple(chain.from_iterable(combinations(streams, size) for size in range(1, n_streams + 1)))


ACTIONS = stream_sets(4)
N_ACTIONS = len(ACTIONS)


def action_of(streams: Iterable[int], n_streams: int = 4) -> int:
    """The action that uses exactly these streams; ValueError for an empty or impossible set."""
    return action_number(tuple(streams), n_streams)


def name(action: int, n_streams: int = 4) -> str:
    """The action as people write it, streams counted from 1: ``"1+3"``."""
    sets = stream_sets(n_streams)
    if not 0 <= action < len(sets):
        raise ValueError(f"action must be from 0 to {len(sets) - 1}; got {action!r}")
    return "+".join(str(stream + 1) for stream in sets[action])
