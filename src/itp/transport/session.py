"""The receiver's side of one session: the connections of one sender and the files they bring."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from itp.transport.io.files import Directory, IncomingFile
from itp.transport.io.shared_file import FileClosed
from itp.transport.io.sockets import Connection, describe
from itp.transport.logs import log
from itp.transport.protocol.frames import Frame, FrameError, Kind
from itp.transport.protocol.handshake import Hello
from itp.transport.protocol.messages import FileRefused, decode_name, decode_reason, encode_reason
from itp.transport.protocol.receiving import check_range
from itp.transport.workers import Workers

MAX_OPEN_FILES = 256
_MAX_HELD_BYTES = 8 << 20
_MAX_ANSWERS = 4096
_MAX_WORKERS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedFile:
    """The outcome of one file."""

    name: str
    size_bytes: int
    duration_s: float
    """From its announcement until it has its name, or has failed."""
    peer: str
    path: Path | None = None
    blake3: str | None = None
    error: str | None = None
    """None: the file arrived complete, was verified and has its name, `path`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSummary:
    """The outcome of one session."""

    peer: str
    n_streams: int
    received_files: int
    failed_files: int
    received_bytes: int
    """Of files, duplicates included."""
    duration_s: float
    error: str | None = None
    """None: the sender ended the session with no file unfinished."""


@dataclass(slots=True, kw_only=True)
class _Arrival:
    """A file from its announcement to its outcome."""

    file_id: int
    name: str
    size_bytes: int
    began_s: float = field(default_factory=time.monotonic)
    opened: threading.Event = field(default_factory=threading.Event)
    """Set once `file` takes frames, or is known not to come."""
    file: IncomingFile | None = None
    held: list[Frame] = field(default_factory=list)
    """Frames that came before that."""


class Session:
    """All connections with one session id. Thread-safe.

    The lock guards the bookkeeping alone. Streams write files; workers open, verify and rename them.
    Frames of a file that is still being opened are held in memory; when that is full, the streams that
    bring more of them wait, and no others.

    Parameters
    ----------
    directory : Directory
    hello : Hello
        Of the first connection.
    peer : str
        The sender's address, for people.
    on_file : callable
        Called with each ReceivedFile, from the session's threads; must not raise.
    """

    def __init__(
        self, directory: Directory, hello: Hello, peer: str, on_file: Callable[[ReceivedFile], object]
    ) -> None:
        self.id = hello.session_id
        self._directory = directory
        self._n_streams = hello.n_streams
        self._peer = peer
        self._on_file = on_file
        self._lock = threading.Lock()
        self._connections: dict[int, Connection] = {}
        self._arrivals: dict[int, _Arrival] = {}
        # The outcomes of the latest files as they were sent; a late END is answered with them again.
        self._answers: dict[int, tuple[Kind, bytes]] = {}
        self._held_bytes = 0
        self._workers = Workers(_MAX_WORKERS, "itp-store")
        self._said_bye = False
        self._closed = False
        self._start_s = time.monotonic()
        self._received_files = self._failed_files = self._received_bytes = 0

    # --- connections ---

    def join(self, hello: Hello, connection: Connection) -> bool:
        """Add a connection; False if the session has just ended.

        Raises
        ------
        FrameError
            The connection contradicts the others.
        """
        with self._lock:
            if self._closed:
                return False
            if hello.n_streams != self._n_streams:
                raise FrameError(f"{hello.n_streams} streams in a session of {self._n_streams}")
            if hello.stream in self._connections:
                raise FrameError(f"stream {hello.stream} of this session is connected already")
            self._connections[hello.stream] = connection
            return True

    def leave(self, stream: int) -> bool:
        """Remove a connection; returns whether it was the last, which ends the session."""
        with self._lock:
            del self._connections[stream]
            self._closed = not self._connections
            return self._closed

    def wait_for_complete_files(self, timeout_s: float) -> None:
        """Wait until the files that are complete have their outcome, at most for so long."""
        self._workers.wait(timeout_s)

    def close(self, reason_if_lost: str) -> SessionSummary:
        """Remove what is unfinished and sum up the session, after ``leave`` has returned True.

        `reason_if_lost` is the files' error if the sender has not ended the session itself.
        """
        with self._lock:
            arrivals = tuple(self._arrivals.values())
        reason = "the sender gave up" if self._said_bye else reason_if_lost
        n_unfinished = sum(self._abort(arrival, reason) for arrival in arrivals)
        self._workers.close()
        error = None
        if n_unfinished:
            error = f"{reason}; {n_unfinished} unfinished removed"
        elif not self._said_bye:
            error = reason
        return SessionSummary(
            peer=self._peer,
            n_streams=self._n_streams,
            received_files=self._received_files,
            failed_files=self._failed_files,
            received_bytes=self._received_bytes,
            duration_s=time.monotonic() - self._start_s,
            error=error,
        )

    # --- frames ---

    def serve(self, connection: Connection) -> None:
        """Read one connection to its end and answer every frame.

        Raises
        ------
        FrameError, OSError
        """
        position = 0
        while (frame := connection.read()) is not None:
            position += 1
            if not frame.intact or not self._handle(frame):
                log.warning("%s: frame %d arrived damaged; asking for it again", self._peer, position)
                connection.send(Kind.NACK, frame.file_id, position)
            elif frame.kind is Kind.BYE:
                return
            else:
                connection.send(Kind.ACK, frame.file_id, position)

    def _handle(self, frame: Frame) -> bool:
        """Act on a frame; False if it must be sent again because its file is not known yet."""
        file_id = frame.file_id
        if frame.kind is Kind.FILE:
            self._announce(file_id, bytes(frame.body), frame.offset)
            return True
        if frame.kind is Kind.BYE:
            self._said_bye = True
            return True
        if frame.kind is Kind.HELLO:
            raise FrameError("a second HELLO")
        with self._lock:
            arrival = self._arrivals.get(file_id)
            answer = self._answers.get(file_id)
            if frame.kind is Kind.ABORT and arrival is None and answer is None:
                # Its announcement is still on the way, on another stream, and is then ignored.
                self._remember(file_id, Kind.FILE_FAILED, b"")
        if frame.kind is Kind.ABORT:
            if arrival is not None:
                reason = decode_reason(frame.body)
                self._abort(arrival, f"the sender gave up: {reason}" if reason else "the sender gave up")
        elif arrival is not None:
            self._advance(arrival, frame)
        elif answer is None:
            return False
        elif frame.kind is Kind.END:
            self._send_to_all(answer[0], file_id, answer[1])
        return True

    def _announce(self, file_id: int, raw_name: bytes, size_bytes: int) -> None:
        refusal = ""
        try:
            name = decode_name(raw_name)
        except FileRefused as error:
            name, refusal = decode_reason(raw_name), str(error)
        with self._lock:
            if file_id in self._arrivals or file_id in self._answers:
                return
            if len(self._arrivals) >= MAX_OPEN_FILES:
                refusal = f"more than {MAX_OPEN_FILES} files at once"
            arrival = _Arrival(file_id=file_id, name=name, size_bytes=size_bytes)
            self._arrivals[file_id] = arrival
        if refusal:
            self._fail(arrival, refusal)
            arrival.opened.set()
        else:
            self._workers.run(partial(self._open, arrival))

    def _open(self, arrival: _Arrival) -> None:
        tag = f"{self.id.hex()[:12]}-{arrival.file_id}"
        try:
            file = IncomingFile(self._directory, arrival.name, arrival.size_bytes, tag)
            with self._lock:
                wanted = self._arrivals.get(arrival.file_id) is arrival
                if wanted:
                    arrival.file = file
            if not wanted:
                # The sender has given it up meanwhile.
                file.drop()
            elif self._write_held(arrival, file):
                self._finish(arrival, file)
        except Exception as error:
            self._fail(arrival, describe(error))
        finally:
            with self._lock:
                self._take_held(arrival)
                arrival.opened.set()

    def _write_held(self, arrival: _Arrival, file: IncomingFile) -> bool:
        """Write what was held until there is no more; returns whether the file is complete."""
        complete = False
        while True:
            with self._lock:
                held = self._take_held(arrival)
                if not held:
                    arrival.opened.set()
                    return complete
            for frame in held:
                complete = self._write(file, frame) or complete

    def _hold(self, arrival: _Arrival, frame: Frame) -> bool:
        """Keep a frame of a file that is being opened, if there is room; returns whether it was kept."""
        with self._lock:
            if arrival.opened.is_set() or self._held_bytes + len(frame.body) > _MAX_HELD_BYTES:
                return False
            self._held_bytes += len(frame.body)
            arrival.held.append(frame._replace(body=bytes(frame.body)))
            return True

    def _take_held(self, arrival: _Arrival) -> list[Frame]:
        held, arrival.held = arrival.held, []
        self._held_bytes -= sum(len(frame.body) for frame in held)
        return held

    def _advance(self, arrival: _Arrival, frame: Frame) -> None:
        """Act on DATA or END of a file."""
        if frame.kind is Kind.DATA:
            check_range(frame.offset, frame.offset + len(frame.body), arrival.size_bytes)
        if self._hold(arrival, frame):
            return
        arrival.opened.wait()
        file = arrival.file
        if file is None:
            return
        try:
            complete = self._write(file, frame)
        except (FileRefused, OSError) as error:
            self._fail(arrival, describe(error))
            return
        if complete:
            self._workers.run(partial(self._finish, arrival, file))

    def _write(self, file: IncomingFile, frame: Frame) -> bool:
        if frame.kind is Kind.END:
            return file.expect(bytes(frame.body))
        complete = file.write(frame.offset, frame.body)
        with self._lock:
            self._received_bytes += len(frame.body)
        return complete

    # --- outcomes ---

    def _finish(self, arrival: _Arrival, file: IncomingFile) -> None:
        try:
            digest = file.finish()
        except FileClosed:
            # It was aborted, which has been reported.
            return
        except Exception as error:
            self._fail(arrival, describe(error))
            return
        if self._end(arrival, Kind.FILE_DONE, b""):
            self._report(arrival, path=self._directory.path / file.name, blake3=digest)
            self._send_to_all(Kind.FILE_DONE, arrival.file_id, b"")

    def _abort(self, arrival: _Arrival, reason: str) -> bool:
        """Fail a file unless it is too late, for it is about to get its name; returns whether it failed."""
        if arrival.file is None or arrival.file.drop():
            return self._fail(arrival, reason)
        return False

    def _fail(self, arrival: _Arrival, reason: str) -> bool:
        """End a file with an error; False if it has ended already."""
        body = encode_reason(reason)
        if not self._end(arrival, Kind.FILE_FAILED, body):
            return False
        if arrival.file is not None:
            arrival.file.drop()
        log.info("%s: %s: %s", self._peer, arrival.name, reason)
        self._report(arrival, error=reason)
        self._send_to_all(Kind.FILE_FAILED, arrival.file_id, body)
        return True

    def _end(self, arrival: _Arrival, kind: Kind, body: bytes) -> bool:
        """Enter the outcome of a file: the only place that does, so that there is exactly one."""
        with self._lock:
            if self._arrivals.get(arrival.file_id) is not arrival:
                return False
            del self._arrivals[arrival.file_id]
            self._remember(arrival.file_id, kind, body)
            if kind is Kind.FILE_DONE:
                self._received_files += 1
            else:
                self._failed_files += 1
            return True

    def _report(
        self,
        arrival: _Arrival,
        *,
        path: Path | None = None,
        blake3: str | None = None,
        error: str | None = None,
    ) -> None:
        self._on_file(
            ReceivedFile(
                name=arrival.name,
                size_bytes=arrival.size_bytes,
                duration_s=time.monotonic() - arrival.began_s,
                peer=self._peer,
                path=path,
                blake3=blake3,
                error=error,
            )
        )

    def _remember(self, file_id: int, kind: Kind, body: bytes) -> None:
        self._answers[file_id] = (kind, body)
        if len(self._answers) > _MAX_ANSWERS:
            del self._answers[next(iter(self._answers))]

    def _send_to_all(self, kind: Kind, file_id: int, body: bytes) -> None:
        # Over every stream, for one of them may be failing; a repetition is harmless.
        with self._lock:
            connections = list(self._connections.values())
        for connection in connections:
            # A stream that cannot send is failing, and its own thread notices.
            with suppress(OSError):
                connection.send(kind, file_id, body=body)
