"""Threads for what may take long: file operations and callbacks."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import suppress

from itp.transport.logs import log


class Workers:
    """Runs jobs on threads, which start when every other one is busy. Thread-safe.

    Unlike a ThreadPoolExecutor it never refuses a job, a job may close it, and a failure is logged.

    Parameters
    ----------
    limit : int
        Most threads.
    name : str
        Prefix of the threads' names.
    """

    def __init__(self, limit: int, name: str) -> None:
        self._limit = limit
        self._name = name
        self._changed = threading.Condition(threading.Lock())
        self._jobs: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._unfinished = 0
        self._closed = False

    def run(self, job: Callable[[], object]) -> None:
        """Run a job on a thread; on the calling one if there is no other, or after ``close``."""
        with self._changed:
            if not self._closed and len(self._threads) <= self._unfinished:
                self._start_thread()
            queued = bool(self._threads) and not self._closed
            if queued:
                self._unfinished += 1
                self._jobs.put(job)
        if not queued:
            _run(job)

    def _start_thread(self) -> None:
        if len(self._threads) == self._limit:
            return
        thread = threading.Thread(target=self._work, name=f"{self._name}-{len(self._threads)}")
        # Where the system has no more threads, those there are do the work.
        with suppress(RuntimeError):
            thread.start()
            self._threads.append(thread)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            _run(job)
            with self._changed:
                self._unfinished -= 1
                self._changed.notify_all()

    def wait(self, timeout_s: float) -> bool:
        """Wait, at most for so long, until no job is left; returns whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: self._unfinished == 0, max(timeout_s, 0.0))

    def close(self) -> None:
        """Wait until all jobs are done, except one that calls this; closing twice is allowed."""
        with self._changed:
            if not self._closed:
                self._closed = True
                for _ in self._threads:
                    self._jobs.put(None)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()


def _run(job: Callable[[], object]) -> None:
    try:
        job()
    except BaseException:
        # Even SystemExit: on a thread of the library it ends nothing but the job.
        log.exception("a job of the transport failed")
