"""States a second of a model's forward pass, in batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from itp.models.load import Model
from itp.partitioner import TaskPartitioner
from itp_overhead.calls import bare_run, random_states
from itp_overhead.decisions import BARE, TORCH
from itp_overhead.networks import layers_of, one_torch_thread, torch_forward, why_no_torch
from itp_overhead.timing import Subject, Timing, interleave

SIZES = (1, 16, 256, 1024, 4096)
Q_VALUES = "q_values"
"""The subject ``TaskPartitioner.q_values``."""
_CALLS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Times of all subjects on the same states."""

    states: int
    timings: list[Timing]

    def states_per_s(self, timing: Timing) -> float:
        """By the median call of a subject."""
        return self.states / (timing.p50_us * 1e-6)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        rates = {timing.name: self.states_per_s(timing) for timing in self.timings}
        return {"states": self.states, "states_per_s": rates}


@dataclass(frozen=True, slots=True, kw_only=True)
class Batches:
    """All batches; `absent` says why a subject is in none of them."""

    batches: list[Batch]
    absent: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"batches": [batch.as_dict() for batch in self.batches], "absent": self.absent}


def measure(
    model: Model,
    *,
    seconds: float,
    sizes: Sequence[int] = SIZES,
    progress: Callable[[str], object] = lambda _: None,
) -> Batches:
    """Time batches of each size; a model that takes one state at a time is timed with one."""
    if not model.takes_batches:
        sizes = (1,)
    no_torch = why_no_torch()
    absent = {} if no_torch is None else {TORCH: no_torch}
    measured = []
    with one_torch_thread(), TaskPartitioner(model=model.path) as partitioner:
        for n in sizes:
            progress(f"batches of {n} states")
            states = random_states(n)
            subjects = [
                Subject(name=Q_VALUES, call=partial(partitioner.q_values, states)),
                Subject(name=BARE, call=bare_run(model.path, n)),
            ]
            if no_torch is None:
                subjects.append(Subject(name=TORCH, call=torch_forward(layers_of(model), states)))
            timings = interleave(subjects, seconds=seconds / len(sizes), calls=_CALLS)
            measured.append(Batch(states=n, timings=timings))
    return Batches(batches=measured, absent=absent)
