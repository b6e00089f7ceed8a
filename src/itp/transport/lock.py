"""A lock under which nothing takes long: calls that may are deferred until its release."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType

from itp.errors import ClosedError
from itp.transport.logs import log


class DeferringLock:
    """A lock with a condition to wait for. Not reentrant.

    Under it there is bookkeeping alone. Files, logs, the partitioner and callbacks may take long or
    call back in, so ``defer`` has the thread that holds the lock call them after its release.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition(threading.Lock())
        self._deferred: list[Callable[[], object]] = []

    def __enter__(self) -> None:
        self._condition.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        deferred = self._deferred
        if deferred:
            self._deferred = []
        self._condition.release()
        for call in deferred:
            call_safely(call)

    def defer(self, call: Callable[[], object]) -> None:
        """Make a call after the release; the lock must be held."""
        self._deferred.append(call)

    def wait(self) -> None:
        """Release the lock until ``notify_all``; nothing may be deferred when this is called."""
        self._condition.wait()

    def notify_all(self) -> None:
        """Wake all threads that wait; the lock must be held."""
        self._condition.notify_all()


def call_safely(call: Callable[[], object]) -> None:
    """Make a call whose failure must not keep a byte from arriving: it is logged."""
    try:
        call()
    except ClosedError:
        # The caller has closed the partitioner before the sender: nobody is left to report to.
        pass
    except Exception:
        log.exception("a deferred call of the transport failed")
