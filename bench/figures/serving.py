"""Times of whole decisions with a model of any number of streams, idle and beside a busy thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass

from itp._core.task import Task
from itp.partitioner import TaskPartitioner
from itp_overhead import load
from itp_overhead.calls import report
from itp_overhead.timing import Subject, Timing, interleave

_TASKS = tuple(Task("bench", round(2e4 * 3.0**k), 0.5) for k in range(8))


@dataclass(frozen=True, slots=True)
class Times:
    """Times of decisions over a number of streams."""

    idle: Timing
    busy: Timing

    def quantiles_us(self) -> tuple[float, float | None, float | None]:
        """Median and 99th percentile, idle, and 99th percentile beside a busy thread."""
        return self.idle.p50_us, self.idle.quantile_us(0.99), self.busy.quantile_us(0.99)


def decision_times(
    model: str, numbers_of_streams: Sequence[int], *, seconds: float, calls: int
) -> dict[int, Times]:
    """Time decisions about tasks of several sizes over unequal streams, each reported before the next one."""
    with ExitStack() as stack:
        subjects = []
        for n in numbers_of_streams:
            partitioner = stack.enter_context(TaskPartitioner(model, engine="native", n_streams=n))
            for k in range(n):
                partitioner.update_stream(k, 400.0 / (k + 1), 10.0 + 9.0 * k, success_rate=0.99)
            subjects.append(Subject(name=str(n), call=_decide(partitioner), after=report(partitioner)))
        idle, busy = (_times(subjects, threads, seconds=0.5 * seconds, calls=calls) for threads in (0, 1))
    return {n: Times(*both) for n, *both in zip(numbers_of_streams, idle, busy, strict=True)}


def _times(subjects: Sequence[Subject], threads: int, *, seconds: float, calls: int) -> list[Timing]:
    with load.busy_threads(threads) if threads else nullcontext():
        return interleave(subjects, seconds=seconds, calls=calls)


def _decide(partitioner: TaskPartitioner) -> Callable[[], object]:
    decide, k = partitioner.partition_task, 0

    def call() -> object:
        nonlocal k
        k = (k + 1) & 7
        return decide(_TASKS[k])

    return call
