"""Sender: several files in flight over parallel TCP streams, split as a TaskPartitioner decides."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType

from itp.errors import ClosedError, TransportError
from itp.partitioner import TaskPartitioner
from itp.transport.io.addresses import format_address
from itp.transport.io.sockets import Connection, describe
from itp.transport.jobs import TransferJobs
from itp.transport.lock import DeferringLock
from itp.transport.logs import log
from itp.transport.protocol.frames import MAX_PAYLOAD, SESSION_ID_BYTES, Frame, FrameError, Kind
from itp.transport.protocol.handshake import MAX_STREAMS
from itp.transport.protocol.messages import decode_reason
from itp.transport.protocol.schedule import Item, Schedule
from itp.transport.stream import Stream, StreamStatus
from itp.transport.transfer import Transfer

_SAMPLE_S = 0.05
_CLOSING_TIMEOUT_S = 5.0


class Sender:
    """Sends files to a Receiver over parallel streams.

    Parameters
    ----------
    host : str
    port : int
    partitioner : TaskPartitioner
        Decides which streams carry a file; gets every stream's metrics, every delivery and every
        outcome. The caller closes it, after the sender.
    n_streams : int
        1 to 16, as many as the partitioner has.
    pace_mbps : sequence of float or None, optional
        A cap for each stream (Linux); None: no cap.
    max_in_flight : int
        Files that are opened, decided and under way at once; more wait their turn.

    Raises
    ------
    TransportError
        No stream reaches a receiver of this protocol version.
    ValueError

    Notes
    -----
    Thread safety: all methods may be called from any thread, and from a transfer's callbacks. Leaving
    the block waits for the submitted files; leaving it by an exception fails the unfinished ones.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        partitioner: TaskPartitioner,
        n_streams: int = 4,
        pace_mbps: Sequence[float | None] | None = None,
        max_in_flight: int = 16,
    ) -> None:
        if not 1 <= port <= 65_535:
            raise ValueError(f"port must be from 1 to 65535; got {port}")
        if not 1 <= n_streams <= MAX_STREAMS or n_streams != partitioner.n_streams:
            raise ValueError(
                f"n_streams must be from 1 to {MAX_STREAMS} and the partitioner's {partitioner.n_streams}; "
                f"got {n_streams}"
            )
        paces = [None] * n_streams if pace_mbps is None else list(pace_mbps)
        if len(paces) != n_streams or not all(pace is None or 0.001 <= pace <= 1e6 for pace in paces):
            raise ValueError(
                f"pace_mbps must be {n_streams} rates from 0.001 to 1e6 Mbit/s; got {pace_mbps!r}"
            )
        if not isinstance(max_in_flight, int) or max_in_flight < 1:
            raise ValueError(f"max_in_flight must be an int >= 1; got {max_in_flight!r}")
        self._partitioner = partitioner
        # One lock for schedule, outbox and streams; the sending threads wait on it for work.
        self._lock = DeferringLock()
        self._schedule = Schedule(n_streams, self._lock.notify_all)
        self._jobs = TransferJobs(self._lock, self._schedule, partitioner, max_in_flight)
        self._outbox = self._jobs.outbox
        self._closing = False
        self._stop_sampling = threading.Event()
        self._streams = [Stream(i) for i in range(n_streams)]
        self._threads: list[threading.Thread] = []
        try:
            self._connect(host, port, paces)
            for stream in self._streams:
                if stream.connection is not None:
                    self._start(f"itp-send-{stream.index}", self._send_loop, stream, stream.connection)
                    self._start(f"itp-reply-{stream.index}", self._reply_loop, stream, stream.connection)
            self._start("itp-sample", self._sample_loop)
        except BaseException:
            self.close()
            raise

    def _start(self, name: str, loop: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=loop, args=args, name=name)
        thread.start()
        self._threads.append(thread)

    # --- the callers' side ---

    def submit(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        priority: float = 0.5,
        deadline_s: float | None = None,
    ) -> Transfer:
        """Send a file; returns at once.

        Parameters
        ----------
        path : path
            Opened when its turn comes; must not change until it has arrived.
        name : str, optional
            The file's name at the receiver; None: the path's last component.
        priority, deadline_s
            For the decision; see ``Task``.

        Raises
        ------
        ClosedError, TypeError
        """
        if not isinstance(name, str | None):
            raise TypeError(f"name must be a str or None; got {name!r}")
        transfer = Transfer(Path(path), Path(path).name if name is None else name, priority, deadline_s)
        with self._lock:
            if self._closing:
                raise ClosedError("the sender is closed")
            self._jobs.defer_submit(transfer)
            if not self._schedule.live:
                self._outbox.fail(transfer, self._all_lost())
        return transfer

    def streams(self) -> list[StreamStatus]:
        """The present state of every stream."""
        with self._lock:
            return [s.status(self._schedule.delivered_bytes(s.index)) for s in self._streams]

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until every file submitted so far has arrived or failed; returns whether that is so."""
        return self._jobs.wait(timeout_s)

    def close(self) -> None:
        """End the session; unfinished files fail. Closing twice is allowed.

        It waits for file operations and callbacks that are running, except for the one it is called from.
        """
        with self._lock:
            first = not self._closing
            self._closing = True
            finished = self._outbox.empty
            self._outbox.fail_all("the sender was closed")
            self._lock.notify_all()
        self._stop_sampling.set()
        connections = [s.connection for s in self._streams if s.connection is not None]
        if first:
            for stream in self._streams:
                if stream.connection is not None:
                    if finished and stream.error is None:
                        stream.connection.send_bye()
                    else:
                        stream.connection.shutdown()
        # The receiver closes the connections when it has read BYE.
        due_s = time.monotonic() + _CLOSING_TIMEOUT_S
        for thread in self._threads:
            thread.join(max(due_s - time.monotonic(), 0.0))
        for connection in connections:
            connection.shutdown()
        for thread in self._threads:
            thread.join()
        self._jobs.close()
        for connection in connections:
            connection.close()

    def __enter__(self) -> Sender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._jobs.wait_for_callbacks()
        finally:
            self.close()

    # --- streams ---

    def _connect(self, host: str, port: int, paces: Sequence[float | None]) -> None:
        session_id = secrets.token_bytes(SESSION_ID_BYTES)

        def connect(stream: Stream) -> str | None:
            try:
                stream.connect(host, port, session_id, len(self._streams), paces[stream.index])
            except (TransportError, OSError, UnicodeError) as error:
                return describe(error)
            return None

        with ThreadPoolExecutor(len(self._streams)) as pool:
            errors = list(pool.map(connect, self._streams))
        if None not in errors:
            raise TransportError(f"cannot send to {format_address(host, port)}: {errors[0]}")
        with self._lock:
            for stream, error in zip(self._streams, errors, strict=True):
                if error is None:
                    # An earlier sender with the same partitioner may have lost it.
                    self._lock.defer(partial(self._partitioner.set_stream_up, stream.index, True))
                    self._sample(stream)
                else:
                    self._lose(stream, error)

    def _sample_loop(self) -> None:
        while not self._stop_sampling.wait(_SAMPLE_S):
            with self._lock:
                for stream in self._streams:
                    if stream.error is None:
                        self._sample(stream)

    def _sample(self, stream: Stream) -> None:
        index, last_mbps = stream.index, stream.metrics.bandwidth_mbps
        try:
            stream.sample(self._schedule.unacked_frames(index), self._schedule.delivered_bytes(index))
        except OSError as error:
            self._lose(stream, describe(error))
            return
        bandwidth_mbps = stream.metrics.bandwidth_mbps
        self._lock.defer(
            partial(
                self._partitioner.update_stream,
                index,
                # An idle stream has no new measurement: its old one grows stale.
                bandwidth_mbps=bandwidth_mbps if bandwidth_mbps != last_mbps else None,
                latency_ms=stream.metrics.latency_ms,
                success_rate=stream.metrics.success_rate,
            )
        )

    def _lose(self, stream: Stream, reason: str) -> None:
        """Take a stream out: its work goes to the others; without any, every file fails."""
        if stream.error is not None or self._closing:
            return
        stream.error = reason
        if stream.connection is not None:
            stream.connection.shutdown()
        self._schedule.stream_down(stream.index, [s.rate for s in self._streams])
        live = self._schedule.live
        self._lock.defer(partial(self._partitioner.set_stream_up, stream.index, False))
        self._lock.defer(
            partial(log.warning, "stream %d is lost (%s); %d left", stream.index, reason, len(live))
        )
        if not live:
            self._outbox.fail_all(str(self._all_lost()))
        self._lock.notify_all()

    def _all_lost(self) -> TransportError:
        reasons = dict.fromkeys(s.error for s in self._streams if s.error)
        return TransportError(f"all streams are lost: {'; '.join(reasons)}")

    # --- a stream's thread that sends ---

    def _send_loop(self, stream: Stream, connection: Connection) -> None:
        buffer = memoryview(bytearray(MAX_PAYLOAD))
        try:
            while (work := self._next(stream)) is not None:
                self._send(stream, connection, *work, buffer)
        except Exception as error:
            # Whatever ends this thread, what it was to send goes to the other streams.
            with self._lock:
                self._lose(stream, describe(error))

    def _next(self, stream: Stream) -> tuple[Item, Transfer | None] | None:
        """Wait for something to send on a stream; None when the stream is over."""
        with self._lock:
            while not self._closing and stream.error is None:
                item = self._schedule.next(stream.index)
                if item is not None:
                    return item, self._outbox.in_flight.get(item.file_id)
                self._lock.wait()
        return None

    def _send(
        self,
        stream: Stream,
        connection: Connection,
        item: Item,
        transfer: Transfer | None,
        buffer: memoryview,
    ) -> None:
        if transfer is None or transfer.source is None:
            connection.send(Kind.ABORT, item.file_id)
        elif item.kind is Kind.FILE:
            connection.send(Kind.FILE, item.file_id, transfer.size_bytes, transfer.raw_name)
        elif item.kind is Kind.END:
            connection.send(Kind.END, item.file_id, body=transfer.digest or b"")
        else:
            view = buffer[: item.length]
            stream.reading_source = True
            try:
                transfer.source.read_into(view, item.offset)
            except TransportError as error:
                self._jobs.fail(transfer, error)
                # Frames are acknowledged by number, so something must stand in this one's place.
                connection.send(Kind.ABORT, item.file_id)
                return
            finally:
                stream.reading_source = False
            connection.send(Kind.DATA, item.file_id, item.offset, view)
            self._jobs.end_if_due(transfer)

    # --- a stream's thread that reads the receiver's replies ---

    def _reply_loop(self, stream: Stream, connection: Connection) -> None:
        reason = "the receiver closed the connection"
        try:
            while (frame := connection.read()) is not None:
                with self._lock:
                    self._handle(stream, frame)
        except Exception as error:
            # As in _send_loop.
            reason = describe(error)
        with self._lock:
            self._lose(stream, reason)

    def _handle(self, stream: Stream, frame: Frame) -> None:
        """Act on a reply; FrameError if it makes no sense."""
        if not frame.intact:
            raise FrameError("the receiver's answer arrived damaged")
        if frame.kind is Kind.ERROR:
            raise FrameError(f"the receiver says: {decode_reason(frame.body)}")
        transfer = self._outbox.in_flight.get(frame.file_id)
        if frame.kind is Kind.ACK:
            self._credit(stream, transfer, self._schedule.ack(stream.index, frame.offset, time.monotonic()))
        elif frame.kind is Kind.NACK:
            self._credit(stream, transfer, self._schedule.nack(stream.index, frame.offset, time.monotonic()))
        elif frame.kind is Kind.FILE_FAILED and transfer is not None:
            self._jobs.defer_refused(transfer, decode_reason(frame.body))
        elif frame.kind is Kind.FILE_DONE and transfer is not None:
            if not transfer.end_sent:
                raise FrameError("the receiver confirmed a file before its end")
            self._outbox.done(transfer)
        elif frame.kind is Kind.WELCOME:
            raise FrameError("a second WELCOME")

    def _credit(self, stream: Stream, transfer: Transfer | None, delivered_bytes: int) -> None:
        if delivered_bytes:
            self._lock.defer(partial(self._partitioner.report_progress, stream.index, delivered_bytes))
        if transfer is not None:
            transfer.delivered_bytes = self._schedule.files[transfer.file_id].delivered_bytes
