"""Load while decisions are timed: threads of this process, and a process that trains."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from itp._util.signals import held_back
from itp.errors import ItpError
from itp.partitioner import TaskPartitioner
from itp_overhead.child import child, last_line

UPDATES_PER_S = 10_000
_LEARNER_STARTS_S = 120.0
_LEARNER = (
    *("--episodes", "10000", "--save-freq", "10000", "--device", "cpu", "--json"),
    *("--set", "updates=160000", "--set", "envs=10", "--set", "tasks=50", "--set", "teacher_episodes=0"),
)
"""The default training in short rounds; it would go on for much longer than any measurement."""


class NotMeasured(ItpError):  # noqa: N818 (a state of affairs, no error)
    """A condition cannot be measured on this machine; the text says why."""


@dataclass(slots=True)
class Pace:
    """How often a load acts.

    Attributes
    ----------
    done : int
        Actions so far.
    since_s : float
        When it began, by ``time.perf_counter``.
    """

    done: int = 0
    since_s: float = field(default_factory=time.perf_counter)

    def per_s(self) -> float:
        """Mean rate so far."""
        return self.done / (time.perf_counter() - self.since_s)


@contextmanager
def in_background(step: Callable[[], object], threads: int = 1) -> Iterator[None]:
    """Call `step` repeatedly on this many threads; the first exception it raises is raised at the end."""
    stop = threading.Event()
    failures: list[Exception] = []

    def work() -> None:
        try:
            while not stop.is_set():
                step()
        except Exception as error:
            failures.append(error)

    started: list[threading.Thread] = []
    try:
        with held_back():
            for _ in range(threads):
                thread = threading.Thread(target=work, name="itp-bench-load", daemon=True)
                thread.start()
                started.append(thread)
        yield
    finally:
        with held_back():
            stop.set()
            for thread in started:
                thread.join()
    if failures:
        raise failures[0]


@contextmanager
def busy_threads(n: int) -> Iterator[None]:
    """This many threads that compute in pure Python and always want the GIL."""
    with in_background(lambda: sum(k * k for k in range(1000)), threads=n):
        yield


@contextmanager
def metric_updates(partitioner: Callable[[], TaskPartitioner]) -> Iterator[Pace]:
    """A thread that updates the streams of the current partitioner 10,000 times a second.

    A thread that had to wait for the GIL catches up as soon as it gets it.
    """
    pace = Pace()

    def step() -> None:
        now_s = time.perf_counter()
        due = int((now_s - pace.since_s) * UPDATES_PER_S) - pace.done
        for _ in range(due):
            k = pace.done = pace.done + 1
            partitioner().update_stream(k % 4, 50.0 + k % 100, 10.0 + k % 7, None, 0.99)
        time.sleep(1.0 / UPDATES_PER_S)

    with in_background(step):
        yield pace


@contextmanager
def model_swaps(partitioner: Callable[[], TaskPartitioner], models: Sequence[Path]) -> Iterator[Pace]:
    """A thread that swaps the current partitioner's model without pause, from one of `models` to the next."""
    pace = Pace()

    def step() -> None:
        partitioner().swap_model(models[pace.done % len(models)])
        pace.done += 1

    with in_background(step):
        yield pace


@contextmanager
def learner() -> Iterator[None]:
    """A process that trains; the block begins after its first round. Its files are removed at the end.

    Raises
    ------
    NotMeasured
        The trainer is not installed, failed, or ended too early.
    """
    missing = [name for name in ("torch", "itp_training") if importlib.util.find_spec(name) is None]
    if missing:
        raise NotMeasured(f"{missing[0]} is not installed (extra itp[train])")
    with tempfile.TemporaryDirectory(prefix="itp-bench-") as name:
        folder = Path(name)
        rounds, complaints = folder / "rounds", folder / "complaints"
        command: list[str | Path] = [sys.executable, "-m", "itp_training", *_LEARNER, "--out", folder / "run"]
        with (
            rounds.open("w") as out,
            complaints.open("w") as err,
            child(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err) as process,
        ):
            end_s = time.monotonic() + _LEARNER_STARTS_S
            while rounds.stat().st_size == 0:
                if process.poll() is not None:
                    raise NotMeasured(f"the trainer failed: {last_line(complaints.read_text())}")
                if time.monotonic() > end_s:
                    raise NotMeasured(f"no round of training in {_LEARNER_STARTS_S:g} s")
                time.sleep(0.05)
            yield
            if process.poll() is not None:
                raise NotMeasured("the trainer ended before the measurement did")
