"""How long a decision takes, beside the bare forward pass of the same network, idle and under load."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
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
from itp_overhead.networks import has_torch, layers_of, one_torch_thread, torch_forward
from itp_overhead.timing import Subject, Timing, interleave

HEURISTIC = "decision, heuristic"
NATIVE = "decision, native"
ONNXRUNTIME = "decision, onnxruntime"
FORWARD = "forward pass, native"
BARE = "bare InferenceSession.run"
TORCH = "bare PyTorch forward"
NOTHING = "a call that does nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """The times of all subjects while one thing goes on."""

    name: str
    timings: list[Timing]
    load_per_s: float | None = None
    """How often what went on was done; None where it is nothing to be counted."""
    not_measured: str | None = None
    """Why there are no timings."""

    def ratio(self, timing: Timing) -> float | None:
        """How many times as long a bare run takes here, by medians; None without a bare run."""
        bare = next((other for other in self.timings if other.name == BARE), None)
        return None if bare is None else bare.p50_us / timing.p50_us

    def as_dict(self) -> dict[str, Any]:
        """The figures by name, ready for JSON."""
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
    """All conditions, and why some subjects are in none of them."""

    conditions: list[Condition]
    absent: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """The figures by name, ready for JSON."""
        conditions = [condition.as_dict() for condition in self.conditions]
        return {"conditions": conditions, "absent": self.absent}


class _Stage:
    """The subjects, and which partitioner the load disturbs: always that whose turn it is, if it is one's."""

    def __init__(self, model: Model, partitioners: dict[str, TaskPartitioner]) -> None:
        self._partitioners = partitioners
        self._other = self.updated = self.swapped = partitioners[ONNXRUNTIME]
        self.subjects = [
            Subject(name=name, call=decide_only(partitioner), settle=report(partitioner))
            for name, partitioner in partitioners.items()
        ]
        if model.net is not None:
            net, state = model.net, random_states(1)
            times_ns = partial(net.time_ns, random_states(256))
            self.subjects.append(Subject(name=FORWARD, call=lambda: net(state), times_ns=times_ns))
        self.subjects.append(Subject(name=BARE, call=bare_run(model.path)))
        if has_torch():
            forward = torch_forward(layers_of(model), random_states(1))
            self.subjects.append(Subject(name=TORCH, call=forward))
        self.subjects.append(Subject(name=NOTHING, call=lambda: None))

    def turn(self, subject: Subject) -> None:
        """The next calls are this one's."""
        self.updated = self._partitioners.get(subject.name, self._other)
        self.swapped = self._other if subject.name == HEURISTIC else self.updated


def measure(
    model: Model, *, seconds: float, calls: int, progress: Callable[[str], object] = lambda _: None
) -> Decisions:
    """Time decisions by every engine beside bare forward passes of the same network.

    Parameters
    ----------
    seconds : float
        For all conditions together, without the time until a learner trains.
    calls : int
        At most so many of each subject in each condition.
    progress : callable
        Told each condition as it begins.
    """
    absent = {}
    if model.net is None:
        absent[NATIVE] = model.why_not_native or "the model has none"
    if not has_torch():
        absent[TORCH] = "torch is not installed"
    conditions = []
    with ExitStack() as stack:
        stack.enter_context(one_torch_thread())
        stage = _Stage(model, _partitioners(model, stack))
        loads = _loads(stage, stack.enter_context(_copies(model)))
        for k, (name, put_on) in enumerate(loads.items()):
            progress(f"decisions, {name}")
            try:
                with put_on() as pace:
                    begin_s = time.monotonic()
                    share_s = seconds / (len(loads) - k)
                    timings = interleave(stage.subjects, seconds=share_s, calls=calls, turn=stage.turn)
                    per_s = None if pace is None else pace.per_s()
                    seconds = max(0.0, seconds - (time.monotonic() - begin_s))
            except NotMeasured as error:
                conditions.append(Condition(name=name, timings=[], not_measured=str(error)))
                continue
            conditions.append(Condition(name=name, timings=timings, load_per_s=per_s))
    return Decisions(conditions=conditions, absent=absent)


def _partitioners(model: Model, stack: ExitStack) -> dict[str, TaskPartitioner]:
    made = {HEURISTIC: TaskPartitioner(model=None)}
    if model.net is not None:
        made[NATIVE] = TaskPartitioner(model=model.path, engine="native")
    made[ONNXRUNTIME] = TaskPartitioner(model=model.path, engine="onnxruntime")
    for partitioner in made.values():
        four_streams(stack.enter_context(partitioner))
    return made


def _loads(stage: _Stage, models: list[Path]) -> dict[str, Callable[[], AbstractContextManager[Pace | None]]]:
    """What can go on beside decisions, by name."""
    return {
        "idle": nullcontext,
        "1 busy thread": partial(load.busy_threads, 1),
        "2 busy threads": partial(load.busy_threads, 2),
        "4 busy threads": partial(load.busy_threads, 4),
        "metric updates": partial(load.metric_updates, lambda: stage.updated),
        "model swaps": partial(load.model_swaps, lambda: stage.swapped, models),
        "a learner beside": load.learner,
    }


@contextmanager
def _copies(model: Model) -> Iterator[list[Path]]:
    """Two copies of a model's files, to swap between."""
    with tempfile.TemporaryDirectory(prefix="itp-bench-") as name:
        copies = [Path(name) / f"{k}.onnx" for k in range(2)]
        for copy in copies:
            shutil.copyfile(model.path, copy)
            beside = model.path.with_suffix(".json")
            if beside.is_file():
                shutil.copyfile(beside, copy.with_suffix(".json"))
        yield copies
