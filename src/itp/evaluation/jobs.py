"""The simulations of an evaluation, divided among worker processes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection

import numpy as np
from numpy.typing import NDArray

from itp._util.signals import held_back
from itp.errors import EvaluationError
from itp.evaluation.metrics import rollout_metrics
from itp.policies.base import Policy
from itp.policies.episodes import rollout
from itp.sim.outcomes import completion_times, slowdowns
from itp.sim.scenario import Scenario
from itp.sim.simulator import Simulator

_AWAKE_S = 0.2
_BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Job:
    """One policy in one scenario, on some of the seeds: their indices in the lists of the setting."""

    policy: int
    scenario: int
    first: int
    last: int
    cost_s: float


@dataclass(frozen=True, slots=True)
class Part:
    """The result of a job: figures of every seed, completion times and slowdowns of every task."""

    job: Job
    figures: dict[str, NDArray[np.float64]]
    completion_s: NDArray[np.float64]
    slowdown: NDArray[np.float64]
    timeline: NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Setting:
    """What all jobs share; every worker receives it once."""

    policies: Sequence[Policy]
    scenarios: Sequence[Scenario]
    seeds: NDArray[np.uint64]

    def title(self, job: Job) -> str:
        """The job in words."""
        scenario = self.scenarios[job.scenario]
        return f"{scenario.name}, {scenario.service_order}, {self.policies[job.policy].name}"

    def run(self, job: Job) -> Part:
        """Simulate."""
        try:
            return self._run(job)
        except Exception as error:
            raise EvaluationError(f"{self.title(job)}: {type(error).__name__}: {error}") from error

    def _run(self, job: Job) -> Part:
        policy = self.policies[job.policy]
        seeds = self.seeds[job.first : job.last]
        sim = Simulator(self.scenarios[job.scenario], seeds=seeds, record_timeline=True)
        policy.begin(sim)
        played = rollout(sim, policy)
        return Part(
            job=job,
            figures=rollout_metrics(played, sim.n_tasks),
            completion_s=completion_times(played.outcomes),
            slowdown=slowdowns(played.outcomes),
            timeline=sim.timeline(),
        )


def run_jobs(
    jobs: Sequence[Job],
    policies: Sequence[Policy],
    scenarios: Sequence[Scenario],
    seeds: NDArray[np.uint64],
    processes: int,
    progress: Callable[[float, str], None] | None = None,
) -> list[Part]:
    """The parts of all jobs, in no particular order.

    Raises
    ------
    EvaluationError
        A job failed, or its process was killed.
    """
    setting = Setting(policies, scenarios, seeds)
    total_s = sum(job.cost_s for job in jobs)
    done_s = 0.0
    parts = []
    for part in _each(setting, jobs, min(processes, len(jobs))):
        parts.append(part)
        done_s += part.job.cost_s
        if progress is not None:
            progress(min(1.0, done_s / total_s), setting.title(part.job))
    return parts


def _each(setting: Setting, jobs: Sequence[Job], processes: int) -> Iterator[Part]:
    if processes == 1:
        yield from map(setting.run, jobs)
        return
    with _pool(setting, processes) as pool:
        with _quiet_start():
            futures: dict[Future[Part], Job] = {pool.submit(_run, job): job for job in jobs}
        try:
            left = set(futures)
            while left:
                # With a timeout: a signal that another thread has received does not wake this one.
                done, left = wait(left, timeout=_AWAKE_S, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        except BrokenProcessPool:
            lost = [setting.title(job) for future, job in futures.items() if not _succeeded(future)]
            raise EvaluationError(
                f"a worker process died, perhaps for lack of memory; running or waiting were "
                f"{'; '.join(lost[:processes])}{' and others' if len(lost) > processes else ''}"
            ) from None


def _succeeded(future: Future[Part]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


# --- processes ---


@contextmanager
def _pool(setting: Setting, processes: int) -> Iterator[ProcessPoolExecutor]:
    """Workers that exit at once when this block is left early or this process ends."""
    context = get_context("spawn")
    alive, stop = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(processes, context, initializer=_start, initargs=(setting, alive))
    try:
        yield pool
    except BaseException:
        stop.close()
        pool.shutdown(cancel_futures=True)
        raise
    else:
        pool.shutdown()
    finally:
        stop.close()
        alive.close()


@contextmanager
def _quiet_start() -> Iterator[None]:
    """Start workers that ignore Ctrl-C, which this process handles, and have one BLAS thread each."""
    before = {name: os.environ.get(name) for name in _BLAS_THREADS}
    os.environ.update(dict.fromkeys(_BLAS_THREADS, "1"))
    # Workers inherit what is blocked. Another thread of this process may still receive the signal, and a
    # worker that is starting would print a traceback: the handler waits, too.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with held_back():
            yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        # Last: a signal that waited arrives now.
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


_setting: Setting | None = None


def _start(setting: Setting, alive: Connection) -> None:
    global _setting
    _setting = setting
    threading.Thread(target=_exit_with, args=(alive,), daemon=True).start()


def _exit_with(alive: Connection) -> None:
    """End this process when the other end of the pipe is closed, for whatever reason."""
    alive.poll(None)
    os._exit(1)


def _run(job: Job) -> Part:
    if _setting is None:
        raise RuntimeError("this process was not started as a worker")
    return _setting.run(job)
