"""Times of decisions beside bare forward passes of the same network, idle and under load."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from itp.models.load import Model
from itp.partitioner import TaskPartitioner
from itp_overhead import load
from itp_overhead.calls import bare_run, decide_only, four_streams, random_states, report
from itp_overhead.load import NotMeasured, Pace
from itp_overhead.networks import layers_of, one_torch_thread, torch_forward, why_no_torch
from itp_overhead.timing import Subject, Timing, interleave

HEURISTIC = "decision, heuristic"
NATIVE = "decision, native"
ONNXRUNTIME = "decision, onnxruntime"
FORWARD = "forward pass, native"
BARE = "bare InferenceSession.run"
TORCH = "bare PyTorch forward"
NOTHING = "an empty call"

IDLE = "idle"
ONE_BUSY = "1 busy thread"
TWO_BUSY = "2 busy threads"
FOUR_BUSY = "4 busy threads"
UPDATES = "metric updates"
SWAPS = "model swaps"
LEARNER = "a learner beside"
CONDITIONS = (IDLE, ONE_BUSY, TWO_BUSY, FOUR_BUSY, UPDATES, SWAPS, LEARNER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """Times of all subjects under one load.

    Attributes
    ----------
    name : str
        One of CONDITIONS.
    timings : list of Timing
    load_per_s : float or None
        Rate of metric updates or model swaps; None under other loads.
    not_measured : str or None
        Why there are no timings.
    """

    name: str
    timings: list[Timing]
    load_per_s: float | None = None
    not_measured: str | None = None

    def of(self, subject: str) -> Timing | None:
        """The times of a subject; None if it was not measured."""
        return next((timing for timing in self.timings if timing.name == subject), None)

    def ratio(self, timing: Timing) -> float | None:
        """The bare run's median over that of `timing`; None without a bare run."""
        bare = self.of(BARE)
        return None if bare is None else bare.p50_us / timing.p50_us

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "not_measured": self.not_measured,
            "load_per_s": self.load_per_s,
            "timings": [
                {**timing.as_dict(), "bare_run_ratio": self.ratio(timing)} for timing in self.timings
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Decisions:
    """All conditions; `absent` says why a subject is in none of them."""

    conditions: list[Condition]
    absent: dict[str, str]

    def condition(self, name: str) -> Condition:
        """The condition of this name."""
        return next(condition for condition in self.conditions if condition.name == name)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        conditions = [condition.as_dict() for condition in self.conditions]
        return {"conditions": conditions, "absent": self.absent}


class _Subjects:
    """What is timed, and which partitioners updates and swaps go to: the one whose turn it is, if any."""

    def __init__(self, model: Model, partitioners: dict[str, TaskPartitioner]) -> None:
        self._partitioners = partitioners
        self._fallback = self.updated = self.swapped = partitioners[ONNXRUNTIME]
        self.all = [
            Subject(name=name, call=decide_only(partitioner), after=report(partitioner))
            for name, partitioner in partitioners.items()
        ]
        if model.net is not None:
            net, state = model.net, random_states(1)
            times_ns = partial(net.time_ns, random_states(256))
            self.all.append(Subject(name=FORWARD, call=lambda: net(state), times_ns=times_ns))
        self.all.append(Subject(name=BARE, call=bare_run(model.path)))
        if why_no_torch() is None:
            forward = torch_forward(layers_of(model), random_states(1))
            self.all.append(Subject(name=TORCH, call=forward))
        self.all.append(Subject(name=NOTHING, call=lambda: None))

    def turn(self, subject: Subject) -> None:
        """Direct the load at this subject, whose calls come next."""
        self.updated = self._partitioners.get(subject.name, self._fallback)
        self.swapped = self._fallback if subject.name == HEURISTIC else self.updated


def measure(
    model: Model,
    *,
    seconds: float,
    calls: int,
    conditions: Collection[str] = CONDITIONS,
    progress: Callable[[str], object] = lambda _: None,
) -> Decisions:
    """Time decisions by every engine beside bare forward passes of the same network.

    Parameters
    ----------
    seconds : float
        For all conditions together; starting a learner comes on top.
    calls : int
        The most calls of each subject in each condition.
    conditions : collection of str
        Which of CONDITIONS to measure.
    progress : callable
        Called with the name of each condition before it is measured.
    """
    absent = {}
    if model.net is None:
        absent[NATIVE] = model.why_not_native or "the model has none"
    if (no_torch := why_no_torch()) is not None:
        absent[TORCH] = no_torch
    measured = []
    with ExitStack() as stack:
        stack.enter_context(one_torch_thread())
        subjects = _Subjects(model, _partitioners(model, stack))
        loads = _loads(subjects, stack.enter_context(_copies(model)))
        chosen = [name for name in CONDITIONS if name in conditions]
        for k, name in enumerate(chosen):
            progress(f"decisions, {name}")
            try:
                with loads[name]() as pace:
                    begin_s = time.monotonic()
                    share_s = seconds / (len(chosen) - k)
                    timings = interleave(subjects.all, seconds=share_s, calls=calls, turn=subjects.turn)
                    per_s = None if pace is None else pace.per_s()
                    seconds = max(0.0, seconds - (time.monotonic() - begin_s))
            except NotMeasured as error:
                measured.append(Condition(name=name, timings=[], not_measured=str(error)))
                continue
            measured.append(Condition(name=name, timings=timings, load_per_s=per_s))
    return Decisions(conditions=measured, absent=absent)


def _partitioners(model: Model, stack: ExitStack) -> dict[str, TaskPartitioner]:
    """A partitioner for every engine that can serve the model."""
    made = {HEURISTIC: TaskPartitioner(model=None)}
    if model.net is not None:
        made[NATIVE] = TaskPartitioner(model=model.path, engine="native")
    made[ONNXRUNTIME] = TaskPartitioner(model=model.path, engine="onnxruntime")
    for partitioner in made.values():
        four_streams(stack.enter_context(partitioner))
    return made


def _loads(
    subjects: _Subjects, models: list[Path]
) -> dict[str, Callable[[], AbstractContextManager[Pace | None]]]:
    """The load of every condition."""
    return {
        IDLE: nullcontext,
        ONE_BUSY: partial(load.busy_threads, 1),
        TWO_BUSY: partial(load.busy_threads, 2),
        FOUR_BUSY: partial(load.busy_threads, 4),
        UPDATES: partial(load.metric_updates, lambda: subjects.updated),
        SWAPS: partial(load.model_swaps, lambda: subjects.swapped, models),
        LEARNER: load.learner,
    }


@contextmanager
def _copies(model: Model) -> Iterator[list[Path]]:
    """Two copies of a model's files, for model swaps."""
    with tempfile.TemporaryDirectory(prefix="itp-bench-") as name:
        copies = [Path(name) / f"{k}.onnx" for k in range(2)]
        for copy in copies:
            shutil.copyfile(model.path, copy)
            beside = model.path.with_suffix(".json")
            if beside.is_file():
                shutil.copyfile(beside, copy.with_suffix(".json"))
        yield copies
