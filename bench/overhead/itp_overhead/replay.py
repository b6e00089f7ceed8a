"""Replay buffers: ITP's beside those of other libraries, with the same transitions and calls."""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from itp._core.replay.replay import PrioritizedReplayBuffer
from itp_overhead.timing import Subject, Timing, interleave

STORED = 100_000
BATCH = 256
ALPHA, BETA = 0.6, 0.4
ADD = "add one transition"
CYCLE = f"sample {BATCH}, update {BATCH} priorities"
ITP = "itp"
CPPRB = "cpprb"

Rows = dict[str, NDArray[Any]]
"""Transitions: state, action, reward, next_state, done, priority, each [n, ...]."""


class Buffer(Protocol):
    """A full buffer of some library, made of its first transitions, and the calls that are timed."""

    def __init__(self, rows: Rows) -> None: ...

    def add(self) -> object:
        """Add one transition."""

    def cycle(self) -> object:
        """Sample a batch and update its priorities."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """Times of both calls with every library.

    Attributes
    ----------
    stored : int
        Transitions in each buffer.
    timings : dict of str to list of Timing
        By call, ADD or CYCLE; a timing has the library's name.
    absent : dict of str to str
        Why a library was not measured.
    """

    stored: int
    timings: dict[str, list[Timing]]
    absent: dict[str, str]

    def median_us(self, call: str, library: str) -> float | None:
        """Median time of a call with a library; None if that was not measured."""
        timings = {timing.name: timing for timing in self.timings[call]}
        return timings[library].p50_us if library in timings else None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        calls = {name: [timing.as_dict() for timing in timings] for name, timings in self.timings.items()}
        return {"stored": self.stored, "calls": calls, "absent": self.absent}


def measure(
    *,
    seconds: float,
    calls: int,
    stored: int | None = None,
    only: Collection[str] | None = None,
    progress: Callable[[str], object] = lambda _: None,
) -> Replay:
    """Fill a buffer of every installed library, then time both calls.

    Parameters
    ----------
    seconds : float
        For all calls together; filling the buffers comes on top.
    calls : int
        The most calls of each kind and library.
    stored : int, optional
        Transitions in each buffer; STORED without.
    only : collection of str, optional
        Which of LIBRARIES to measure; all without.
    progress : callable
        Called with the name of each step before it starts.
    """
    rows = transitions(STORED if stored is None else stored)
    buffers: dict[str, Buffer] = {}
    absent = {}
    for name, make in LIBRARIES.items():
        if only is not None and name not in only:
            continue
        progress(f"replay buffer, filling {name}")
        if importlib.util.find_spec(name) is None:
            absent[name] = "not installed"
            continue
        try:
            buffers[name] = make(rows)
        except Exception as error:  # another library, of any version: the others are measured all the same
            absent[name] = f"installed, but fails: {error}"
    timings = {}
    for call in (ADD, CYCLE):
        progress(f"replay buffer, {call}")
        subjects = [
            Subject(name=name, call=buffer.add if call == ADD else buffer.cycle)
            for name, buffer in buffers.items()
        ]
        timings[call] = interleave(subjects, seconds=seconds / 2, calls=calls)
    return Replay(stored=len(rows["action"]), timings=timings, absent=absent)


def transitions(n: int) -> Rows:
    """Random transitions, the same at each call."""
    rng = np.random.default_rng(0)
    return {
        "state": rng.random((n, 20), dtype=np.float32),
        "action": rng.integers(0, 15, n),
        "reward": rng.random(n, dtype=np.float32),
        "next_state": rng.random((n, 20), dtype=np.float32),
        "done": rng.random(n) < 0.05,
        "priority": rng.random(n) + 0.01,
    }


def _without_priority(rows: Rows) -> Rows:
    return {name: column for name, column in rows.items() if name != "priority"}


def _first(rows: Rows) -> dict[str, Any]:
    return {name: column[0] for name, column in rows.items()}


def _new_priorities() -> NDArray[np.float64]:
    return np.random.default_rng(1).random(BATCH) + 0.01


class ItpBuffer:
    """ITP's buffer."""

    def __init__(self, rows: Rows) -> None:
        self.buffer = self._filled(rows)
        self._one = _first(_without_priority(rows))
        self._batch = {name: column[:BATCH] for name, column in rows.items()}
        self._priorities = _new_priorities()

    def _filled(self, rows: Rows) -> Any:
        buffer = PrioritizedReplayBuffer(len(rows["action"]), 20, ALPHA, seed=0)
        buffer.add_batch(**rows)
        return buffer

    def add(self) -> object:
        return self.buffer.add(**self._one)

    def add_batch(self) -> object:
        """Add a batch of transitions with their priorities."""
        return self.buffer.add_batch(**self._batch)

    def sample(self) -> dict[str, NDArray[Any]]:
        """A batch."""
        batch: dict[str, NDArray[Any]] = self.buffer.sample(BATCH, BETA)
        return batch

    def update(self, indexes: NDArray[np.int64]) -> None:
        """Give these transitions new priorities."""
        self.buffer.update_priorities(indexes, self._priorities)

    def cycle(self) -> object:
        batch = self.sample()
        self.update(batch["indexes"])
        return batch


class CpprbBuffer(ItpBuffer):
    """That of cpprb, whose interface ITP's follows."""

    def _filled(self, rows: Rows) -> Any:
        cpprb = importlib.import_module("cpprb")
        fields = {
            name: {"shape": column.shape[1:] or 1, "dtype": column.dtype}
            for name, column in _without_priority(rows).items()
        }
        buffer = cpprb.PrioritizedReplayBuffer(len(rows["action"]), fields, alpha=ALPHA)
        buffer.add(**_without_priority(rows), priorities=rows["priority"])
        return buffer

    def add_batch(self) -> object:
        batch = _without_priority(self._batch)
        return self.buffer.add(**batch, priorities=self._batch["priority"])


class TorchrlBuffer:
    """That of torchrl."""

    def __init__(self, rows: Rows) -> None:
        data, tensordict = importlib.import_module("torchrl.data"), importlib.import_module("tensordict")
        torch = importlib.import_module("torch")
        # It reports every new buffer on standard output.
        logging.getLogger("torchrl").setLevel(logging.WARNING)
        stored = len(rows["action"])
        self._buffer = data.PrioritizedReplayBuffer(
            alpha=ALPHA, beta=BETA, storage=data.LazyTensorStorage(stored), batch_size=BATCH
        )
        columns = {name: torch.from_numpy(column) for name, column in _without_priority(rows).items()}
        content = tensordict.TensorDict(columns, [stored])
        self._buffer.extend(content)
        self._one, self._priorities = content[0].clone(), torch.from_numpy(_new_priorities())

    def add(self) -> object:
        return self._buffer.add(self._one)

    def cycle(self) -> object:
        batch, about = self._buffer.sample(return_info=True)
        self._buffer.update_priority(about["index"], self._priorities)
        return batch


class TianshouBuffer:
    """That of tianshou."""

    def __init__(self, rows: Rows) -> None:
        data = importlib.import_module("tianshou.data")
        columns = {
            "obs": rows["state"],
            "act": rows["action"],
            "rew": rows["reward"],
            "obs_next": rows["next_state"],
            "terminated": rows["done"],
            "truncated": np.zeros(len(rows["done"]), np.bool_),
        }
        self._buffer = data.PrioritizedReplayBuffer(len(rows["action"]), ALPHA, BETA)
        # The only way to fill it at once.
        self._buffer.update(data.ReplayBuffer.from_data(**columns, done=columns["terminated"]))
        self._one, self._priorities = data.Batch(**_first(columns), info={}), _new_priorities()

    def add(self) -> object:
        return self._buffer.add(self._one)

    def cycle(self) -> object:
        batch, indexes = self._buffer.sample(BATCH)
        self._buffer.update_weight(indexes, self._priorities)
        return batch


LIBRARIES: dict[str, Callable[[Rows], Buffer]] = {
    ITP: ItpBuffer,
    CPPRB: CpprbBuffer,
    "torchrl": TorchrlBuffer,
    "tianshou": TianshouBuffer,
}
"""By the name of the package."""
