"""The replay buffer beside those of other libraries, where they are installed: the same calls of each."""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from itp._core.replay.replay import PrioritizedReplayBuffer
from itp_overhead.timing import Subject, Timing, interleave

STORED = 100_000
BATCH = 256
ALPHA, BETA = 0.6, 0.4
ADD = "add one transition"
CYCLE = f"sample {BATCH}, update {BATCH} priorities"
OURS = "itp"

Rows = dict[str, Any]
Calls = tuple[Callable[[], object], Callable[[], object]]
"""One that adds a transition, and one that samples a batch and updates its priorities."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """The two calls by every library, and why some libraries are not there."""

    timings: dict[str, list[Timing]]
    """By the call's name; a timing has the library's."""
    absent: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """The figures by name, ready for JSON."""
        calls = {name: [timing.as_dict() for timing in timings] for name, timings in self.timings.items()}
        return {"stored": STORED, "calls": calls, "absent": self.absent}


def measure(*, seconds: float, calls: int, progress: Callable[[str], object] = lambda _: None) -> Replay:
    """Fill a buffer of every library that is installed, then time the two calls."""
    rows = _transitions(STORED)
    libraries, absent = {}, {}
    for name, begin in _LIBRARIES.items():
        progress(f"replay buffer, filling {name}")
        if importlib.util.find_spec(name) is None:
            absent[name] = "not installed"
            continue
        try:
            libraries[name] = begin(rows)
        except Exception as error:  # another's library, of whatever version: the others are measured
            absent[name] = f"installed, but fails: {error}"
    timings = {}
    for k, call in enumerate((ADD, CYCLE)):
        progress(f"replay buffer, {call}")
        subjects = [Subject(name=name, call=both[k]) for name, both in libraries.items()]
        timings[call] = interleave(subjects, seconds=seconds / 2, calls=calls)
    return Replay(timings=timings, absent=absent)


def _transitions(n: int) -> Rows:
    rng = np.random.default_rng(0)
    return {
        "state": rng.random((n, 20), dtype=np.float32),
        "action": rng.integers(0, 15, n),
        "reward": rng.random(n, dtype=np.float32),
        "next_state": rng.random((n, 20), dtype=np.float32),
        "done": rng.random(n) < 0.05,
    }


def _first(rows: Rows) -> Rows:
    return {name: column[0] for name, column in rows.items()}


def _priorities() -> Any:
    return np.random.default_rng(1).random(BATCH) + 0.01


def _itp(rows: Rows) -> Calls:
    buffer = PrioritizedReplayBuffer(STORED, 20, ALPHA, seed=0)
    buffer.add_batch(**rows)
    one, priorities = _first(rows), _priorities()

    def cycle() -> None:
        batch = buffer.sample(BATCH, BETA)
        buffer.update_priorities(batch["indexes"], priorities)

    return lambda: buffer.add(**one), cycle


def _cpprb(rows: Rows) -> Calls:
    cpprb = importlib.import_module("cpprb")
    fields = {name: {"shape": column.shape[1:] or 1, "dtype": column.dtype} for name, column in rows.items()}
    buffer = cpprb.PrioritizedReplayBuffer(STORED, fields, alpha=ALPHA)
    buffer.add(**rows)
    one, priorities = _first(rows), _priorities()

    def cycle() -> None:
        batch = buffer.sample(BATCH, BETA)
        buffer.update_priorities(batch["indexes"], priorities)

    return lambda: buffer.add(**one), cycle


def _torchrl(rows: Rows) -> Calls:
    data, tensordict = importlib.import_module("torchrl.data"), importlib.import_module("tensordict")
    torch = importlib.import_module("torch")
    # It tells of every buffer, on standard output.
    logging.getLogger("torchrl").setLevel(logging.WARNING)
    buffer = data.PrioritizedReplayBuffer(
        alpha=ALPHA, beta=BETA, storage=data.LazyTensorStorage(STORED), batch_size=BATCH
    )
    stored = tensordict.TensorDict({k: torch.from_numpy(v) for k, v in rows.items()}, [STORED])
    buffer.extend(stored)
    one, priorities = stored[0].clone(), torch.from_numpy(_priorities())

    def cycle() -> None:
        _, about = buffer.sample(return_info=True)
        buffer.update_priority(about["index"], priorities)

    return lambda: buffer.add(one), cycle


def _tianshou(rows: Rows) -> Calls:
    data = importlib.import_module("tianshou.data")
    names = {"state": "obs", "action": "act", "reward": "rew", "next_state": "obs_next", "done": "terminated"}
    columns = {names[name]: column for name, column in rows.items()}
    columns["truncated"] = np.zeros(STORED, np.bool_)
    buffer = data.PrioritizedReplayBuffer(STORED, ALPHA, BETA)
    # There is no other way to fill it at once.
    buffer.update(data.ReplayBuffer.from_data(**columns, done=columns["terminated"]))
    one, priorities = data.Batch(**_first(columns), info={}), _priorities()

    def cycle() -> None:
        _, indexes = buffer.sample(BATCH)
        buffer.update_weight(indexes, priorities)

    return lambda: buffer.add(one), cycle


_LIBRARIES: dict[str, Callable[[Rows], Calls]] = {
    OURS: _itp,
    "cpprb": _cpprb,
    "torchrl": _torchrl,
    "tianshou": _tianshou,
}
