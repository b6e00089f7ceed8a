"""The receiver's side of one session: the connections of one sender and the files they bring."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from itp.transport.io.files import Directory, FileRefused, IncomingFile, check_name
from itp.transport.io.sockets import Frame, Wire, describe
from itp.transport.protocol.frames import FrameError, Hello, Kind, decode_text, encode_text

log = logging.getLogger("itp.transport")

MAX_OPEN_FILES = 256
_MAX_REMEMBERED = 4096
_FINISHERS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedFile:
    """What became of one file."""

    name: str
    size_bytes: int
    duration_s: float
    """From its announcement to its final name, or to its failure."""
    peer: str
    path: Path | None = None
    blake3: str | None = None
    error: str | None = None
    """None: it arrived whole, proven, and stands at `path`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSummary:
    """What became of one session."""

    peer: str
    n_streams: int
    received_files: int
    failed_files: int
    received_bytes: int
    """Of file, duplicates included."""
    duration_s: float
    error: str | None = None
    """None: the sender took its leave with nothing unfinished."""


class Session:
    """All connections with one session id. Thread-safe.

    Parameters
    ----------
    directory : Directory
    hello : Hello
        Of the first connection.
    peer : str
        The sender's address, for people.
    on_file : callable
        Called with each ReceivedFile, from the session's threads.
    """

    def __init__(
        self, directory: Directory, hello: Hello, peer: str, on_file: Callable[[ReceivedFile], None]
    ) -> None:
        self.id = hello.session_id
        self._directory = directory
        self._n_streams = hello.n_streams
        self._peer = peer
        self._on_file = on_file
        self._lock = threading.Lock()
        self._wires: dict[int, Wire] = {}
        self._files: dict[int, IncomingFile] = {}
        self._began_s: dict[int, float] = {}
        # What the sender was told of files that are over; it may have to be told again.
        self._told: dict[int, tuple[Kind, bytes]] = {}
        self._finishers = ThreadPoolExecutor(_FINISHERS, thread_name_prefix="itp-finish")
        self._took_leave = False
        self._closed = False
        self._start_s = time.monotonic()
        self._received_files = self._failed_files = self._received_bytes = 0

    # --- connections ---

    def join(self, hello: Hello, wire: Wire) -> bool:
        """Take a connection in; False if the session has just ended.

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
            if hello.stream in self._wires:
                raise FrameError(f"stream {hello.stream} of this session is connected already")
            self._wires[hello.stream] = wire
            return True

    def leave(self, stream: int) -> bool:
        """Take a connection out; returns whether it was the last and the session is over."""
        with self._lock:
            del self._wires[stream]
            self._closed = not self._wires
            return self._closed

    def close(self, cut_off: str) -> SessionSummary:
        """Drop what is unfinished and account for the session; after ``leave`` returned True.

        `cut_off` says why, unless the sender took its leave.
        """
        with self._lock:
            unfinished = dict(self._files)
        why = "the sender gave up" if self._took_leave else cut_off
        for file_id in unfinished:
            self._fail(file_id, why)
        self._finishers.shutdown()
        error = None
        if unfinished:
            error = f"{why}; {len(unfinished)} unfinished removed"
        elif not self._took_leave:
            error = why
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

    def serve(self, wire: Wire) -> None:
        """Read one connection to its end and answer every frame.

        Raises
        ------
        FrameError, OSError
        """
        position = 0
        while (frame := wire.read()) is not None:
            position += 1
            if not frame.intact or not self._take(frame):
                log.warning("%s: frame %d arrived damaged; asking for it again", self._peer, position)
                wire.send(Kind.NACK, frame.file_id, position)
            elif frame.kind is Kind.BYE:
                return
            else:
                wire.send(Kind.ACK, frame.file_id, position)

    def _take(self, frame: Frame) -> bool:
        """Act on a frame; False if it must come again, for its file is not known yet."""
        file_id = frame.file_id
        with self._lock:
            file = self._files.get(file_id)
            told = self._told.get(file_id)
        if frame.kind is Kind.BYE:
            self._took_leave = True
        elif frame.kind is Kind.FILE:
            self._open(file_id, bytes(frame.body), frame.offset)
        elif frame.kind is Kind.ABORT:
            self._fail(file_id, f"the sender gave up: {decode_text(frame.body)}")
        elif frame.kind is Kind.HELLO:
            raise FrameError("a second HELLO")
        elif file is not None:
            self._advance(file_id, file, frame)
        elif told is None:
            return False
        elif frame.kind is Kind.END:
            self._broadcast(told[0], file_id, told[1])
        return True

    def _open(self, file_id: int, raw_name: bytes, size_bytes: int) -> None:
        with self._lock:
            if file_id in self._files or file_id in self._told:
                return
            crowded = len(self._files) >= MAX_OPEN_FILES
            self._began_s[file_id] = time.monotonic()
            try:
                if crowded:
                    raise FileRefused(f"more than {MAX_OPEN_FILES} files at once")
                name = check_name(raw_name)
                tag = f"{self.id.hex()[:12]}-{file_id}"
                self._files[file_id] = IncomingFile(self._directory, name, size_bytes, tag)
            except (FileRefused, OSError) as error:
                failure = describe(error)
            else:
                return
        self._fail(file_id, failure, name=decode_text(raw_name), size_bytes=size_bytes)

    def _advance(self, file_id: int, file: IncomingFile, frame: Frame) -> None:
        try:
            if frame.kind is Kind.END:
                ready = file.expect(bytes(frame.body))
            else:
                ready = file.write(frame.offset, frame.body)
                with self._lock:
                    self._received_bytes += len(frame.body)
        except (FileRefused, OSError) as error:
            self._fail(file_id, describe(error))
            return
        if ready:
            self._finishers.submit(self._finish, file_id, file)

    # --- files that are over ---

    def _finish(self, file_id: int, file: IncomingFile) -> None:
        try:
            digest = file.finish()
        except Exception as error:
            # In a pool nobody else would see it, and the sender would wait for ever.
            self._fail(file_id, describe(error))
            return
        began_s = self._settle(file_id, Kind.FILE_DONE, b"")
        if began_s is None:
            return
        with self._lock:
            self._received_files += 1
        self._tell(
            ReceivedFile(
                name=file.name,
                size_bytes=file.size_bytes,
                duration_s=time.monotonic() - began_s,
                peer=self._peer,
                path=self._directory.path / file.name,
                blake3=digest,
            )
        )
        self._broadcast(Kind.FILE_DONE, file_id, b"")

    def _fail(self, file_id: int, reason: str, name: str = "", size_bytes: int = 0) -> None:
        with self._lock:
            file = self._files.get(file_id)
        body = encode_text(reason)
        began_s = self._settle(file_id, Kind.FILE_FAILED, body)
        if file is not None:
            file.drop()
            name, size_bytes = file.name, file.size_bytes
        if began_s is None:
            return
        with self._lock:
            self._failed_files += 1
        log.info("%s: %s: %s", self._peer, name, reason)
        self._tell(
            ReceivedFile(
                name=name,
                size_bytes=size_bytes,
                duration_s=time.monotonic() - began_s,
                peer=self._peer,
                error=reason,
            )
        )
        self._broadcast(Kind.FILE_FAILED, file_id, body)

    def _tell(self, received: ReceivedFile) -> None:
        try:
            self._on_file(received)
        except Exception:
            # The caller's own mistake must not keep the sender waiting for its answer.
            log.exception("on_file failed for %s", received.name)

    def _settle(self, file_id: int, kind: Kind, body: bytes) -> float | None:
        """Note how a file ended; returns when it began, or None if it had ended before."""
        with self._lock:
            self._files.pop(file_id, None)
            if file_id not in self._told:
                self._told[file_id] = (kind, body)
                if len(self._told) > _MAX_REMEMBERED:
                    del self._told[next(iter(self._told))]
            return self._began_s.pop(file_id, None)

    def _broadcast(self, kind: Kind, file_id: int, body: bytes) -> None:
        # Over every stream, for one of them may be dying; hearing it twice is harmless.
        with self._lock:
            wires = list(self._wires.values())
        for wire in wires:
            # A stream that cannot be told is dying, and its own thread will notice.
            with suppress(OSError):
                wire.send(kind, file_id, body=body)
