"""The experience log: a folder to which a process appends every joined decision.

Threads that report outcomes put records into memory; a thread of the log's own writes them. So a report never
waits for the disk, however slow it is.
"""

from __future__ import annotations

import atexit
import errno
import logging
import os
import sys
import tempfile
import threading
import time
import weakref
from collections import deque
from contextlib import suppress
from itertools import islice
from numbers import Real
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType

from itp._core.decision import Decision
from itp._core.record import RecordQueue, seal
from itp.errors import LogError
from itp.experience.segment import Segment

log = logging.getLogger("itp")

SEGMENT_BYTES = 64 * 2**20
PENDING_BYTES = 64 * 2**20
CHUNK_BYTES = 256 * 2**10
# So that no fsync takes as long as it takes to fill what may wait.
SYNC_BYTES = 4 * 2**20
EXIT_S = 5.0
"""How long the end of the interpreter waits for logs that were not closed."""

_AT_ONCE = 256  # chunks to a write
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class ExperienceLog:
    """Appends joined decisions to a segment in a folder.

    What was reported longer ago than `interval_s` is on the disk, made durable by fsync: neither a kill nor
    a power loss takes it. A disk that is slow or full disturbs no report. Up to 64 MiB of records wait for
    it. What does not fit is lost, counted, and said in the log and by `close`.

    A log that is not closed writes what it has when it is collected, and for up to 5 s when the interpreter
    ends. After a fork the child writes a segment of its own.

    Parameters
    ----------
    folder : path
        Made if need be.
    n_streams : int
        Of the decisions.
    interval_s : float
        More than 0.
    service_order : str, optional
        How the streams serve their chunks; segments say it.

    Raises
    ------
    LogError
        The folder cannot be made or written.
    ValueError, TypeError

    Notes
    -----
    Thread safety: all methods may be called from several threads. The writing thread starts with the first
    record.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        n_streams: int,
        *,
        interval_s: float = 1.0,
        service_order: str | None = None,
    ) -> None:
        if not os.fspath(folder):
            raise ValueError("experience_log = '': expected a folder")
        if isinstance(interval_s, bool) or not isinstance(interval_s, Real):
            raise TypeError(f"interval_s = {interval_s!r}: expected a number of seconds")
        if not 0.0 < interval_s <= 86_400.0:
            raise ValueError(f"interval_s = {interval_s!r}: expected more than 0 and at most 86400")
        self.folder = Path(folder)
        self.n_streams = n_streams
        self.interval_s = float(interval_s)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise LogError(f"{self.folder}: no log can be kept here: {error.strerror or error}") from error
        self._writer: _Writer = _Writer(self.folder, n_streams, self.interval_s, service_order)
        # Collected without close(): the thread ends by itself. At exit _finish_all waits for it.
        weakref.finalize(self, self._writer.abandon).atexit = False

    @property
    def lost_records(self) -> int:
        """Records that did not fit what may wait, or that could not be written to the end."""
        return self._writer.lost_records

    def add(self, decision: Decision) -> None:
        """Keep a reported decision.

        Raises
        ------
        LogError
            The log is closed.
        ValueError
            The decision's outcome was not reported, or it is about another number of streams.
        """
        writer = self._writer
        if writer.queue.add(decision):
            writer.wake()

    def flush(self) -> None:
        """Wait until all that was added is on the disk.

        Raises
        ------
        LogError
            It cannot be written. It goes on waiting.
        """
        self._writer.flush()

    def close(self) -> None:
        """Write all, make it durable, close; closing twice is allowed.

        Raises
        ------
        LogError
            Records were lost. The log is closed all the same.
        """
        self._writer.close()

    def __enter__(self) -> ExperienceLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Request:
    """Somebody who waits until everything is written."""

    def __init__(self, *, stop: bool) -> None:
        self.stop = stop
        self.done = threading.Event()
        self.error: Exception | None = None


class _Writer:
    """What the log's thread works on; it refers to no log, so that a log can be collected."""

    def __init__(self, folder: Path, n_streams: int, interval_s: float, service_order: str | None) -> None:
        self.folder = folder
        self.n_streams = n_streams
        self.service_order = service_order
        # Twice an interval, so that nothing is written in its last moment.
        self.tick_s = interval_s / 2
        self.closed = False
        self.begin()
        _writers.add(self)

    def begin(self) -> None:
        """Have nothing gathered, no segment and no thread; so in a child after a fork, too."""
        self.queue = self._new_queue()
        self.signals: SimpleQueue[_Request | None] = SimpleQueue()
        self.lock = threading.RLock()  # of flush and close
        self.starting = threading.Lock()  # held from the thread's start on
        self.thread: threading.Thread | None = None
        self.segment: Segment | None = None
        self.unwritten: deque[memoryview] = deque()  # whole frames ...
        self.offset = 0  # ... and how many bytes of the first ones are out
        self.provisional = 0
        self.failing = False
        self.given_up = 0
        self.loss_is_logged = False

    def _new_queue(self) -> RecordQueue:
        queue = RecordQueue(self.n_streams, PENDING_BYTES, CHUNK_BYTES)
        if self.closed:
            queue.close()
        return queue

    @property
    def lost_records(self) -> int:
        return self.queue.lost + self.given_up

    # --- called by any thread ---

    def wake(self) -> None:
        """Have the thread look at the queue."""
        if self.thread is None and self.starting.acquire(blocking=False) and not self._launch():
            self.starting.release()
        self.signals.put(None)

    def flush(self) -> None:
        with self.lock:
            if not self.closed and (error := self._wait(self.submit(stop=False))):
                raise LogError(self._failure(error)) from error

    def close(self) -> None:
        with self.lock:
            if self.closed:
                return
            self.closed = True
            self.queue.close()
            error = self._wait(self.submit(stop=True))
            if self.thread is not None and not sys.is_finalizing():
                self.thread.join()
            self.given_up += self.queue.lost + self.queue.waiting
            self.queue = self._new_queue()
            self.unwritten.clear()
            if error is not None:
                lost = f"; {self.given_up} records are lost" if self.given_up else ""
                raise LogError(self._failure(error) + lost) from error
            if self.given_up:
                raise LogError(f"{self.folder}: {self.given_up} records were lost: the disk did not keep up")

    def abandon(self) -> None:
        """Write what there is and end, while nobody waits for it."""
        self.closed = True
        self.queue.close()
        self.submit(stop=True)

    def submit(self, *, stop: bool) -> _Request:
        """Have everything written by the thread; where there can be none, it is written here."""
        request = _Request(stop=stop)
        if self.thread is None and not self.queue.waiting:
            request.done.set()
        elif self.thread is None and self.starting.acquire(blocking=False) and not self._launch():
            try:
                self._serve(request)
            finally:
                self.starting.release()
        else:
            self.signals.put(request)
        return request

    def _wait(self, request: _Request) -> Exception | None:
        """Wait until it is served; returns what went wrong."""
        while not request.done.wait(1.0):
            if sys.is_finalizing():  # the thread does not run any more
                self._serve(request)
        return request.error

    def _launch(self) -> bool:
        """Start the thread; False if there can be none."""
        if sys.is_finalizing():  # a new thread would not run, and its start would wait for it
            return False
        thread = threading.Thread(target=self._run, name="itp-experience-log", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # too many, or from Python 3.12 on: the interpreter ends
            log.warning("%s: records wait for flush() or close(): %s", self.folder, error)
            return False
        self.thread = thread
        return True

    def _failure(self, error: Exception) -> str:
        return f"{self.folder}: cannot be written: {getattr(error, 'strerror', None) or error}"

    # --- called by the thread ---

    def _run(self) -> None:
        due_s: float | None = None  # when what is gathered is to be written
        while True:
            try:
                request = self.signals.get(
                    timeout=None if due_s is None else max(due_s - time.monotonic(), 0.0)
                )
            except Empty:
                request = None
            now_s = time.monotonic()
            if request is not None:
                self._serve(request)
                if request.stop:
                    return
            elif due_s is not None and now_s >= due_s:
                self._write(everything=True)
            else:
                due_s = now_s + self.tick_s if due_s is None else due_s
                if self.queue.gathered_bytes >= self.queue.chunk_bytes:
                    self._write(everything=False)
                continue
            at_rest = not self.unwritten and self.queue.rest()
            due_s = None if at_rest else time.monotonic() + self.tick_s

    def _serve(self, request: _Request) -> None:
        request.error = self._write(everything=True)
        if request.stop and self.segment is not None:
            try:
                self.segment.close()
            except OSError as error:
                request.error = request.error or error
        request.done.set()

    def _write(self, *, everything: bool) -> Exception | None:
        """Write what is gathered; with `everything`, the newest decisions too, and make it durable.

        Whatever fails stays for the next attempt.
        """
        try:
            if everything and self.segment is not None and self.segment.is_gone():
                log.warning("%s was removed or cut: the log goes on in a new segment", self.segment.path)
                self._leave_segment()
            self._drain(newest=False)
            if everything:
                self._rotate()
                self._drain(newest=True)
            if self.segment is not None and (everything or self.segment.unsynced_bytes >= SYNC_BYTES):
                self._sync()
        except Exception as error:
            no_space = isinstance(error, OSError) and error.errno in _NO_SPACE
            if self.segment is not None and not no_space:
                self._leave_segment()
            if not self.failing:
                log.warning("%s; records wait", self._failure(error))
            self.failing = True
            return error
        lost = self.lost_records
        if self.failing:
            log.warning("%s: can be written again; %d records were lost", self.folder, lost)
        elif lost and not self.loss_is_logged:
            log.warning("%s: the disk does not keep up: %d records were lost so far", self.folder, lost)
        self.failing = False
        self.loss_is_logged = lost > 0
        return None

    def _drain(self, *, newest: bool) -> None:
        """Write what an earlier attempt left, then what is gathered now."""
        self._write_frames()
        chunks, last_bytes, self.provisional = self.queue.take(newest)
        for chunk in chunks:
            frames = memoryview(chunk)[: last_bytes if chunk is chunks[-1] else None]
            seal(frames, self.queue.frame_bytes)
            self.unwritten.append(frames)
        self._write_frames()

    def _rotate(self) -> None:
        # A decision's later record stands in the segment of its earlier one.
        if self.segment is None or self.segment.size_bytes < SEGMENT_BYTES or self.provisional:
            return
        self._sync()
        self._leave_segment()

    def _sync(self) -> None:
        """Make what was written durable; after a failure, whether it is nobody knows."""
        segment = self.segment
        if segment is None:
            return
        try:
            segment.sync()
        except OSError:
            # The system may have dropped the pages, and would report success the next time.
            self.given_up += segment.unsynced_bytes // self.queue.frame_bytes
            self._leave_segment()
            raise

    def _write_frames(self) -> None:
        while self.unwritten:
            if self.segment is None:
                self.segment = Segment(self.folder, self.n_streams, self.service_order)
                # A frame of which a part is in another segment is written again.
                self.offset -= self.offset % self.queue.frame_bytes
            first, *others = islice(self.unwritten, _AT_ONCE)
            self.offset += self.segment.write([first[self.offset :], *others])
            while self.unwritten and self.offset >= len(self.unwritten[0]):
                size = len(self.unwritten.popleft())
                self.offset -= size
                self.queue.written(size)

    def _leave_segment(self) -> None:
        """Close the segment; the next record begins another one."""
        segment, self.segment = self.segment, None
        if segment is not None:
            with suppress(OSError):
                segment.close()
                if segment.is_empty:
                    segment.path.unlink()


_writers: weakref.WeakSet[_Writer] = weakref.WeakSet()


def _begin_anew() -> None:
    # The parent's threads and their locks do not exist here, and its records are its own.
    for writer in list(_writers):
        if writer.segment is not None:
            with suppress(OSError):
                writer.segment.close()
        writer.begin()


def _finish_all() -> None:
    """Write what logs have that were not closed; a disk that hangs does not keep the interpreter."""
    deadline_s = time.monotonic() + EXIT_S
    writers = list(_writers)
    requests = [None if writer.closed else writer.submit(stop=False) for writer in writers]
    for writer, request in zip(writers, requests, strict=True):
        left_s = max(deadline_s - time.monotonic(), 0.0)
        if request is not None:
            request.done.wait(left_s)
        elif writer.thread is not None:
            writer.thread.join(left_s)
        if waiting := writer.queue.waiting:
            log.warning("%s: %d records are lost: they could not be written", writer.folder, waiting)


atexit.register(_finish_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
