"""Sender: several files in flight over parallel TCP streams, split as a TaskPartitioner decides."""

from __future__ import annotations

import logging
import os
import secrets
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from itp.errors import ClosedError, TransportError
from itp.partitioner import TaskPartitioner
from itp.transport.io.addresses import format_address
from itp.transport.io.sockets import Frame, Wire, describe
from itp.transport.io.source import SourceError
from itp.transport.outbox import Outbox
from itp.transport.protocol.frames import (
    MAX_PAYLOAD,
    MAX_STREAMS,
    SESSION_ID_BYTES,
    FrameError,
    Kind,
    decode_text,
)
from itp.transport.protocol.schedule import Item, Schedule
from itp.transport.stream import Stream, StreamStatus
from itp.transport.transfer import Transfer, TransferResult

log = logging.getLogger("itp.transport")

_SAMPLE_S = 0.05
_MAX_REFUSED_IN_A_ROW = 32
_HASHERS = 2


class Sender:
    """Sends files to a Receiver over parallel streams.

    Parameters
    ----------
    host : str
    port : int
    partitioner : TaskPartitioner
        Decides which streams carry a file; is told every stream's metrics, every delivery and
        every outcome. It stays the caller's, and must outlive the sender.
    n_streams : int
        1 to 16, as many as the partitioner has.
    pace_mbps : sequence of float or None, optional
        A cap for each stream (Linux); None: no cap.
    max_in_flight : int
        Files decided and under way at once; more wait their turn.

    Raises
    ------
    TransportError
        No stream reaches a receiver of this protocol version.
    ValueError

    Notes
    -----
    Thread safety: all methods may be called from any thread. Leaving the block waits for what was
    submitted; leaving it by an exception gives the rest up.
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
        if max_in_flight < 1:
            raise ValueError(f"max_in_flight must be at least 1; got {max_in_flight}")
        self._partitioner = partitioner
        # One lock for schedule, outbox and streams; the writing threads wait on it for work.
        self._wake = threading.Condition(threading.Lock())
        self._schedule = Schedule(n_streams)
        self._hashers = ThreadPoolExecutor(_HASHERS, thread_name_prefix="itp-hash")
        self._outbox = Outbox(partitioner, self._schedule, max_in_flight, self._start_hashing)
        self._closing = False
        self._closed = threading.Event()
        self._streams = [Stream(i) for i in range(n_streams)]
        self._threads: list[threading.Thread] = []
        try:
            self._connect(host, port, paces)
        except BaseException:
            self.close()
            raise
        for stream in self._streams:
            if stream.wire is not None:
                for loop in (self._write, self._hear):
                    self._threads.append(threading.Thread(target=loop, args=(stream, stream.wire)))
        self._threads.append(threading.Thread(target=self._sample))
        for thread in self._threads:
            thread.start()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock; futures are set after its release, for their callbacks may call back in."""
        over = []
        try:
            with self._wake:
                try:
                    yield
                finally:
                    over = self._outbox.take_over()
                    if over or self._schedule.has_news:
                        self._schedule.has_news = False
                        self._wake.notify_all()
        finally:
            for transfer, outcome in over:
                if isinstance(outcome, TransferResult):
                    transfer.set_result(outcome)
                else:
                    transfer.set_exception(outcome)

    # --- what callers do ---

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
            What the receiver calls it; None: the path's last component.
        priority, deadline_s
            For the decision; see ``Task``.

        Raises
        ------
        ClosedError
        """
        transfer = Transfer(Path(path), Path(path).name if name is None else name, priority, deadline_s)
        with self._locked():
            if self._closing:
                raise ClosedError("the sender is closed")
            if self._schedule.live:
                self._outbox.submit(transfer)
            else:
                self._outbox.refuse(transfer, self._why_lost())
        return transfer

    def streams(self) -> list[StreamStatus]:
        """Every stream as it is now."""
        with self._wake:
            return [s.status(self._schedule.delivered_bytes(s.index)) for s in self._streams]

    def wait(self, timeout_s: float | None = None) -> bool:
        """Until every file submitted so far is over, well or not; returns whether that is so."""
        with self._wake:
            return self._wake.wait_for(lambda: self._outbox.empty, timeout_s)

    def close(self) -> None:
        """Take leave of the receiver; what is not over by now fails. Closing twice is allowed."""
        with self._locked():
            if self._closing:
                return
            self._closing = True
            unfinished = not self._outbox.empty
            self._outbox.fail_all("the sender was closed")
            self._wake.notify_all()
        self._closed.set()
        for stream in self._streams:
            if stream.wire is not None:
                if unfinished or stream.error is not None:
                    stream.wire.hang_up()
                else:
                    stream.wire.take_leave()
        for thread in self._threads:
            thread.join()
        self._hashers.shutdown()
        for stream in self._streams:
            if stream.wire is not None:
                stream.wire.close()

    def __enter__(self) -> Sender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.wait()
        finally:
            self.close()

    # --- streams ---

    def _connect(self, host: str, port: int, paces: Sequence[float | None]) -> None:
        session_id = secrets.token_bytes(SESSION_ID_BYTES)

        def connect(stream: Stream) -> str | None:
            try:
                stream.connect(host, port, session_id, len(self._streams), paces[stream.index])
            except (TransportError, OSError) as error:
                return describe(error)
            return None

        with ThreadPoolExecutor(len(self._streams)) as pool:
            errors = list(pool.map(connect, self._streams))
        if None not in errors:
            raise TransportError(f"cannot send to {format_address(host, port)}: {errors[0]}")
        with self._locked():
            for stream, error in zip(self._streams, errors, strict=True):
                if error is None:
                    # An earlier sender with the same partitioner may have lost it.
                    self._partitioner.set_stream_up(stream.index, True)
                    self._measure(stream)
                else:
                    self._lose(stream, error)

    def _sample(self) -> None:
        while not self._closed.wait(_SAMPLE_S):
            with self._locked():
                for stream in self._streams:
                    if stream.error is None:
                        self._measure(stream)

    def _measure(self, stream: Stream) -> None:
        try:
            stalled = stream.sample(self._schedule, self._partitioner)
        except OSError as error:
            self._lose(stream, describe(error))
        else:
            if stalled:
                self._lose(stream, "nothing was delivered for too long")

    def _lose(self, stream: Stream, reason: str) -> None:
        """A stream is gone: its work goes to the others; without any, everything fails."""
        if stream.error is not None or self._closing:
            return
        stream.error = reason
        self._wake.notify_all()
        if stream.wire is not None:
            stream.wire.hang_up()
        self._partitioner.set_stream_up(stream.index, False)
        self._schedule.stream_down(stream.index, [s.rate for s in self._streams])
        log.warning("stream %d is lost (%s); %d left", stream.index, reason, len(self._schedule.live))
        if not self._schedule.live:
            self._outbox.fail_all(self._why_lost())

    def _why_lost(self) -> str:
        return f"all streams are lost: {'; '.join(dict.fromkeys(s.error for s in self._streams if s.error))}"

    # --- threads ---

    def _start_hashing(self, transfer: Transfer) -> None:
        self._hashers.submit(self._hash, transfer)

    def _hash(self, transfer: Transfer) -> None:
        if transfer.source is None:
            return
        try:
            digest = transfer.source.digest()
        except SourceError as error:
            with self._locked():
                self._outbox.give_up(transfer, error)
        else:
            with self._locked():
                self._outbox.hashed(transfer, digest)

    def _write(self, stream: Stream, wire: Wire) -> None:
        buffer = memoryview(bytearray(MAX_PAYLOAD))
        try:
            while (work := self._next(stream)) is not None:
                self._send(wire, *work, buffer)
        except Exception as error:
            # Whatever ends this thread, nobody may be left waiting for what it was to send.
            with self._locked():
                self._lose(stream, describe(error))

    def _next(self, stream: Stream) -> tuple[Item, Transfer | None] | None:
        """Wait for something to send on a stream; None when it is over."""
        with self._wake:
            while not self._closing and stream.error is None:
                item = self._schedule.next(stream.index)
                if item is not None:
                    return item, self._outbox.in_flight.get(item.file_id)
                self._wake.wait()
        return None

    def _send(self, wire: Wire, item: Item, transfer: Transfer | None, buffer: memoryview) -> None:
        if transfer is None or transfer.source is None:
            wire.send(Kind.ABORT, item.file_id)
        elif item.kind is Kind.FILE:
            wire.send(Kind.FILE, item.file_id, transfer.size_bytes, transfer.raw_name)
        elif item.kind is Kind.END:
            wire.send(Kind.END, item.file_id, body=transfer.digest or b"")
        else:
            view = buffer[: item.length]
            try:
                transfer.source.read_into(view, item.offset)
            except SourceError as error:
                with self._locked():
                    self._outbox.give_up(transfer, error)
                # Frames are confirmed by number, so something must stand in this one's place.
                wire.send(Kind.ABORT, item.file_id)
                return
            wire.send(Kind.DATA, item.file_id, item.offset, view)
            with self._locked():
                self._outbox.advance(transfer)

    def _hear(self, stream: Stream, wire: Wire) -> None:
        reason = "the receiver hung up"
        try:
            while (frame := wire.read()) is not None:
                with self._locked():
                    self._take(stream, frame)
        except Exception as error:
            # As in _write.
            reason = describe(error)
        with self._locked():
            self._lose(stream, reason)

    def _take(self, stream: Stream, frame: Frame) -> None:
        """Act on what the receiver says; FrameError if it makes no sense."""
        if not frame.intact:
            raise FrameError("the receiver's answer arrived damaged")
        if frame.kind is Kind.ERROR:
            raise FrameError(f"the receiver says: {decode_text(frame.body)}")
        transfer = self._outbox.in_flight.get(frame.file_id)
        if frame.kind is Kind.ACK:
            self._credit(stream, transfer, self._schedule.ack(stream.index, frame.offset))
            stream.refused_in_a_row = 0
        elif frame.kind is Kind.NACK:
            self._credit(stream, transfer, self._schedule.nack(stream.index, frame.offset))
            stream.refused_in_a_row += 1
            if stream.refused_in_a_row > _MAX_REFUSED_IN_A_ROW:
                raise FrameError("every frame arrives damaged")
        elif frame.kind is Kind.FILE_FAILED and transfer is not None:
            self._outbox.failed(transfer, decode_text(frame.body))
        elif frame.kind is Kind.FILE_DONE and transfer is not None:
            if not transfer.end_said:
                raise FrameError("the receiver confirmed a file before its end")
            self._outbox.done(transfer)
        elif frame.kind is Kind.WELCOME:
            raise FrameError("a second WELCOME")

    def _credit(self, stream: Stream, transfer: Transfer | None, delivered_bytes: int) -> None:
        if delivered_bytes:
            self._partitioner.report_progress(stream.index, delivered_bytes)
        if transfer is not None:
            transfer.delivered_bytes = self._schedule.files[transfer.file_id].delivered_bytes
