"""Receiver: listens, accepts senders and keeps the files that arrive complete."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from itp.transport.io.addresses import format_address
from itp.transport.io.files import Directory
from itp.transport.io.sockets import CLOSING_TIMEOUT_S, Connection
from itp.transport.logs import log
from itp.transport.protocol.frames import REQUESTS, FrameError, Kind
from itp.transport.protocol.handshake import Hello, check_version, decode_hello
from itp.transport.session import ReceivedFile, Session, SessionSummary

DEFAULT_PORT = 7411
HELLO_TIMEOUT_S = 5.0
_MAX_CONNECTIONS = 256
_REPLY_TIMEOUT_S = 30.0
_TICK_S = 0.2

_Event = TypeVar("_Event", ReceivedFile, SessionSummary)


def _ignore(_: object) -> None:
    pass


class Receiver:
    """Receives files into a folder until it is closed.

    Parameters
    ----------
    directory : path
        Existing; files arrive here under the names that their senders give.
    host : str
        Address to listen on. Whoever reaches it can write into the folder: see docs/transport.md.
    port : int
        0 lets the system choose; ``address`` has the result.
    on_file, on_session : callable, optional
        Called with a ReceivedFile, a SessionSummary, on a thread of the receiver. The sender gets its
        answer when ``on_file`` has returned; an exception is logged and changes nothing else.
    hello_timeout_s : float
        A connection that has not completed its handshake by then is closed.

    Raises
    ------
    OSError
        The folder cannot be opened, or the receiver cannot listen on the address.
    ValueError

    Notes
    -----
    Thread safety: all methods may be called from any thread, and from the callbacks.
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
        if not 0 <= port <= 65_535:
            raise ValueError(f"port must be from 0 to 65535; got {port}")
        self._on_file = on_file
        self._on_session = on_session
        self._hello_timeout_s = hello_timeout_s
        self._lock = threading.Lock()
        self._sessions: dict[bytes, Session] = {}
        self._connections: dict[Connection, threading.Thread] = {}
        self._stopping = threading.Event()
        # Held by the thread that closes, so that another one returns when everything is closed.
        self._closing = threading.Lock()
        # `active` is set on a thread that is running a callback.
        self._callback = threading.local()
        self._directory = Directory(Path(directory))
        try:
            self._listener = _listen(host, port)
        except BaseException:
            self._directory.close()
            raise
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        """Host and port that the receiver listens on."""
        self._acceptor = threading.Thread(target=self._accept_loop, name="itp-accept")
        self._acceptor.start()

    # --- accepting ---

    def _accept_loop(self) -> None:
        while not self._stopping.is_set():
            try:
                sock, address = self._listener.accept()
            except TimeoutError:
                pass
            except OSError as error:
                # Out of descriptors, or the client is gone already: neither ends the service.
                log.warning("cannot accept a connection: %s", error)
                self._stopping.wait(_TICK_S)
            else:
                peer = format_address(*address[:2])
                try:
                    self._accept(sock, peer)
                except (OSError, RuntimeError) as error:
                    # RuntimeError: the system has no thread left.
                    log.warning("%s: %s", peer, error)
                    sock.close()
            self._shut_down_overdue()

    def _accept(self, sock: socket.socket, peer: str) -> None:
        sock.setblocking(True)
        connection = Connection(sock, REQUESTS)
        connection.limit_sending(_REPLY_TIMEOUT_S)
        connection.due_s = time.monotonic() + self._hello_timeout_s
        thread = threading.Thread(target=self._serve, args=(connection, peer), name=f"itp-recv-{peer}")
        with self._lock:
            crowded = len(self._connections) >= _MAX_CONNECTIONS
            if not crowded:
                self._connections[connection] = thread
        if crowded:
            log.warning("%s: turned away, %d connections are open", peer, _MAX_CONNECTIONS)
            connection.close()
            return
        try:
            thread.start()
        except BaseException:
            with self._lock:
                del self._connections[connection]
            raise

    def _shut_down_overdue(self) -> None:
        now_s = time.monotonic()
        with self._lock:
            overdue = [connection for connection in self._connections if connection.due_s < now_s]
        for connection in overdue:
            connection.shutdown()

    # --- one connection ---

    def _serve(self, connection: Connection, peer: str) -> None:
        try:
            hello = _shake_hands(connection)
            session = self._join(hello, connection, peer)
            try:
                connection.send(Kind.WELCOME)
                session.serve(connection)
            finally:
                if session.leave(hello.stream):
                    self._end(session)
        except FrameError as error:
            # A sender that is asked to stop may do so inside a frame.
            if not self._stopping.is_set():
                log.warning("%s: %s", peer, error)
                connection.reject(str(error))
        except OSError as error:
            log.info("%s: %s", peer, error)
        finally:
            with self._lock:
                del self._connections[connection]
            connection.close()

    def _join(self, hello: Hello, connection: Connection, peer: str) -> Session:
        while True:
            with self._lock:
                session = self._sessions.get(hello.session_id)
                if session is None:
                    session = Session(self._directory, hello, peer, self._call_on_file)
                    self._sessions[hello.session_id] = session
            if session.join(hello, connection):
                return session
            # It has ended and is about to be removed, which frees its id.
            time.sleep(0.01)

    def _end(self, session: Session) -> None:
        stopping = self._stopping.is_set()
        summary = session.close(
            "the receiver was shut down" if stopping else "the connection to the sender was lost"
        )
        with self._lock:
            del self._sessions[session.id]
        self._call_back(self._on_session, summary)

    # --- callbacks ---

    def _call_on_file(self, file: ReceivedFile) -> None:
        self._call_back(self._on_file, file)

    def _call_back(self, callback: Callable[[_Event], None], event: _Event) -> None:
        self._callback.active = True
        try:
            callback(event)
        except BaseException:
            # Even SystemExit: the caller's mistake must not keep the sender waiting for its answer.
            log.exception("a callback of the receiver failed: %s", event)
        finally:
            self._callback.active = False

    # --- the end ---

    def close(self) -> None:
        """Stop listening, end the sessions and remove unfinished files; closing twice is allowed.

        From a callback it returns at once, and the receiver closes when the callback has returned.
        """
        if getattr(self._callback, "active", False):
            threading.Thread(target=self._close, name="itp-close").start()
        else:
            self._close()

    def _close(self) -> None:
        with self._closing:
            self._stop()
        self._directory.close()

    def _stop(self) -> None:
        self._stopping.set()
        self._acceptor.join()
        self._listener.close()
        with self._lock:
            sessions = tuple(self._sessions.values())
            connections = dict(self._connections)
        # A file that is complete should not fail at its sender.
        due_s = time.monotonic() + CLOSING_TIMEOUT_S
        for session in sessions:
            session.wait_for_complete_files(due_s - time.monotonic())
        due_s = time.monotonic() + CLOSING_TIMEOUT_S
        for connection in connections:
            connection.send_error("the receiver is shutting down", due_s - time.monotonic())
        # The sender closes the connection when it has read that.
        for thread in connections.values():
            thread.join(max(due_s - time.monotonic(), 0.0))
        for connection in connections:
            connection.shutdown()
        for thread in connections.values():
            thread.join()

    def __enter__(self) -> Receiver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _shake_hands(connection: Connection) -> Hello:
    """Exchange versions and read which stream of which session this is."""
    version = connection.read_preface()
    connection.send_preface()
    check_version(version, peer="sender", this="receiver")
    return decode_hello(connection.read())


def _listen(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.create_server(address, family=family, backlog=64)
    listener.settimeout(_TICK_S)
    return listener
