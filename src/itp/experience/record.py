"""The record of one experience: the same in production's log, in the simulator and in training."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from itp.errors import LogError
from itp.schema import MAX_STREAMS, SOURCES, state_dim

__all__ = [
    "SOURCES",
    "TEXT_BYTES",
    "VERSION",
    "check_records",
    "check_service_order",
    "record_dtype",
    "renumbered",
]

VERSION = 2
"""Of the record; the version of every file that holds records."""

TEXT_BYTES = 64


@cache
def record_dtype(n_streams: int, *, returns: bool = False) -> np.dtype[np.void]:
    """The NumPy type of a record: a decision joined with its outcome.

    Parameters
    ----------
    n_streams : int
        1 to 16.
    returns : bool
        Add what every action would have returned.

    Returns
    -------
    dtype
        ``number`` uint64
            Of the decision: from 1 in a partitioner, from 0 in an episode of the simulator.
        ``decided_at_s``, ``completed_at_s`` float64
            Unix time, or simulated time.
        ``reward`` float32
        ``propensity`` float32
            Probability with which the action was taken.
        ``action`` int32
            As ``itp.actions`` numbers them.
        ``source`` uint16
            Who decided: the index into `SOURCES`.
        ``explored`` bool
            The action was drawn at random.
        ``done`` bool
            No decision follows this one.
        ``task_id``, ``model_version`` S64
            UTF-8, cut to 64 bytes.
        ``state``, ``next_state`` float32[4 n_streams + 4]
            In which this decision and the next one were made; `next_state` is zeros where `done`.
        ``returns`` float32[2^n_streams - 1]
            Of every action as found by looking ahead, NaN where it was not tried. Only if asked for.

    Raises
    ------
    ValueError
        `n_streams` is out of its range.
    """
    if not 1 <= n_streams <= MAX_STREAMS:
        raise ValueError(f"n_streams = {n_streams}: expected 1 to {MAX_STREAMS}")
    state = ("<f4", (state_dim(n_streams),))
    # The compiled core writes this layout: RecordHead in _core/record.pxd, then the states.
    fields: list[tuple[str, str] | tuple[str, str, tuple[int, ...]]] = [
        ("number", "<u8"),
        ("decided_at_s", "<f8"),
        ("completed_at_s", "<f8"),
        ("reward", "<f4"),
        ("propensity", "<f4"),
        ("action", "<i4"),
        ("source", "<u2"),
        ("explored", "?"),
        ("done", "?"),
        ("task_id", f"S{TEXT_BYTES}"),
        ("model_version", f"S{TEXT_BYTES}"),
        ("state", *state),
        ("next_state", *state),
    ]
    if returns:
        fields.append(("returns", "<f4", (2**n_streams - 1,)))
    return np.dtype(fields)


def renumbered(sources: NDArray[np.integer], names: Sequence[str]) -> NDArray[np.uint16]:
    """Sources counted along `names`, counted along `SOURCES` instead; 65535 for what has no name."""
    table = np.full(1 << 16, 0xFFFF, dtype=np.uint16)
    table[: len(names)] = [SOURCES.index(name) for name in names]
    return np.take(table, sources)


def check_service_order(path: Path, found: object, expected: str | None) -> None:
    """LogError if a file says another service order than the expected one; None stands for any."""
    if None not in (found, expected) and found != expected:
        raise LogError(f"{path}: its streams were served by {found!r:.40}: expected {expected}")


def check_records(records: NDArray[np.void], first: int = 0) -> None:
    """ValueError with the number of the record, counted from `first`, that holds what none can hold."""
    n_actions = 2 ** (records.dtype["state"].shape[0] // 4 - 1) - 1
    for name, expected, limit in (
        ("source", f"0 to {len(SOURCES) - 1}", len(SOURCES)),
        ("action", f"0 to {n_actions - 1}", n_actions),
        ("explored", "0 or 1", 2),
        ("done", "0 or 1", 2),
    ):
        values = records[name].view(np.uint8) if records.dtype[name] == np.bool_ else records[name]
        wrong = (values < 0) | (values >= limit)
        if wrong.any():
            k = int(wrong.argmax())
            raise ValueError(f"record {first + k}: {name} = {values[k]}: expected {expected}")
