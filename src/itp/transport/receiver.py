"""Receiver: listens, lets senders in and keeps the files that arrive whole."""

from __future__ import annotations

import logging
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from itp.transport.io.addresses import format_address
from itp.transport.io.files import Directory
from itp.transport.io.sockets import Wire
from itp.transport.protocol.frames import REQUESTS, VERSION, FrameError, Hello, Kind, decode_hello
from itp.transport.session import ReceivedFile, Session, SessionSummary

log = logging.getLogger("itp.transport")

DEFAULT_PORT = 7411
HELLO_TIMEOUT_S = 5.0
_MAX_CONNECTIONS = 256
_REPLY_TIMEOUT_S = 30
_TICK_S = 0.2
_FAREWELL_S = 1.0


def _ignore(_: object) -> None:
    pass


class Receiver:
    """Receives files into a folder until it is closed.

    Parameters
    ----------
    directory : path
        Existing; files arrive here under the names their senders give.
    host : str
        Address to listen on. Whoever reaches it can write into the folder: see docs/transport.md.
    port : int
        0 lets the system choose; ``address`` tells.
    on_file, on_session : callable, optional
        Called with a ReceivedFile, a SessionSummary, from the receiver's threads.
    hello_timeout_s : float
        A connection that has not said who it is by then is closed.

    Raises
    ------
    OSError
        The folder cannot be opened, or the address not be listened on.

    Notes
    -----
    Thread safety: all methods may be called from any thread.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        host: str = "127.0.0.1",
        port: int = DEFAULT_PORT,
        *,
        on_file: Callable[[ReceivedFile], None] = _ignore,
        on_session: Callable[[SessionSummary], None] = _ignore,
        hello_timeout_s: float = HELLO_TIMEOUT_S,
    ) -> None:
        self._on_file = on_file
        self._on_session = on_session
        self._hello_timeout_s = hello_timeout_s
        self._lock = threading.Lock()
        self._sessions: dict[bytes, Session] = {}
        self._connections: dict[Wire, threading.Thread] = {}
        self._stopping = threading.Event()
        self._directory = Directory(Path(directory))
        try:
            self._listener = _listen(host, port)
        except OSError:
            self._directory.close()
            raise
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        """Host and port listened on."""
        self._acceptor = threading.Thread(target=self._accept, name="itp-accept")
        self._acceptor.start()

    # --- letting in ---

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                sock, address = self._listener.accept()
            except TimeoutError:
                pass
            except OSError as error:
                # Out of descriptors, or the client gone already: neither ends the service.
                log.warning("cannot accept a connection: %s", error)
                self._stopping.wait(_TICK_S)
            else:
                self._start(sock, format_address(*address[:2]))
            self._hang_up_overdue()

    def _start(self, sock: socket.socket, peer: str) -> None:
        try:
            sock.setblocking(True)
            # A sender that does not read its replies must not hold a thread for ever.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", _REPLY_TIMEOUT_S, 0))
            wire = Wire(sock, REQUESTS)
        except OSError as error:
            log.warning("%s: %s", peer, error)
            sock.close()
            return
        wire.due_s = time.monotonic() + self._hello_timeout_s
        thread = threading.Thread(target=self._serve, args=(wire, peer), name=f"itp-recv-{peer}")
        with self._lock:
            crowded = len(self._connections) >= _MAX_CONNECTIONS
            if not crowded:
                self._connections[wire] = thread
        if crowded:
            log.warning("%s: turned away, %d connections are open", peer, _MAX_CONNECTIONS)
            wire.close()
        else:
            thread.start()

    def _hang_up_overdue(self) -> None:
        now_s = time.monotonic()
        with self._lock:
            overdue = [wire for wire in self._connections if wire.due_s < now_s]
        for wire in overdue:
            wire.hang_up()

    # --- one connection ---

    def _serve(self, wire: Wire, peer: str) -> None:
        try:
            hello = _greet(wire)
            session = self._join(hello, wire, peer)
            try:
                wire.send(Kind.WELCOME)
                session.serve(wire)
            finally:
                if session.leave(hello.stream):
                    self._end(session)
        except FrameError as error:
            # A sender that is told to go may do so inside a frame.
            if not self._stopping.is_set():
                log.warning("%s: %s", peer, error)
                wire.refuse(str(error))
        except OSError as error:
            log.info("%s: %s", peer, error)
        finally:
            with self._lock:
                del self._connections[wire]
            wire.close()

    def _join(self, hello: Hello, wire: Wire, peer: str) -> Session:
        while True:
            with self._lock:
                session = self._sessions.get(hello.session_id)
                if session is None:
                    session = Session(self._directory, hello, peer, self._on_file)
                    self._sessions[hello.session_id] = session
            if session.join(hello, wire):
                return session
            # That one has ended and is being cleared away; its id is free in a moment.
            time.sleep(0.01)

    def _end(self, session: Session) -> None:
        shut_down = self._stopping.is_set()
        summary = session.close(
            "the receiver was shut down" if shut_down else "the connection to the sender was lost"
        )
        with self._lock:
            del self._sessions[session.id]
        self._on_session(summary)

    # --- the end ---

    def close(self) -> None:
        """Hang up, remove unfinished files and stop; closing twice is allowed."""
        with self._lock:
            if self._stopping.is_set():
                return
            self._stopping.set()
        self._acceptor.join()
        self._listener.close()
        with self._lock:
            connections = dict(self._connections)
        for wire in connections:
            wire.say_error("the receiver is shutting down")
        # The sender hangs up when it has read that; whoever does not is hung up on.
        patience_s = time.monotonic() + _FAREWELL_S
        for wire, thread in connections.items():
            thread.join(max(patience_s - time.monotonic(), 0.0))
            wire.hang_up()
        for thread in connections.values():
            thread.join()
        self._directory.close()

    def __enter__(self) -> Receiver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _greet(wire: Wire) -> Hello:
    """Exchange versions and learn which stream of which session this is."""
    version = wire.read_preface()
    wire.send_preface()
    if version != VERSION:
        raise FrameError(
            f"the sender speaks protocol version {version}, this receiver version {VERSION}: "
            "use the same version of itp on both sides"
        )
    frame = wire.read()
    if frame is None or frame.kind is not Kind.HELLO or not frame.intact:
        raise FrameError("the connection did not begin with a HELLO frame")
    return decode_hello(frame.body)


def _listen(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.create_server(address, family=family, backlog=64)
    listener.settimeout(_TICK_S)
    return listener
