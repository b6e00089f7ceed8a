"""Frames over a connected socket: exact reads into reused buffers, whole writes, socket options."""

from __future__ import annotations

import math
import socket
import struct
import sys
import threading
import time
from contextlib import suppress

from itp.transport.protocol.frames import (
    HEADER_BYTES,
    MAX_PAYLOAD,
    MAX_TEXT,
    REPLIES,
    Frame,
    FrameError,
    Kind,
    decode_header,
    encode_header,
    is_intact,
)
from itp.transport.protocol.handshake import PREFACE_BYTES, decode_preface, encode_preface
from itp.transport.protocol.messages import encode_reason

FRAME_TIMEOUT_S = 60.0
"""A frame that has begun to arrive must be whole within this time."""
CLOSING_TIMEOUT_S = 1.0
"""How long the end of a connection waits for the other side."""
_SILENT_PEER_MS = 10_000
# The kernel also counts the time in which a live receiver does not read; the sender tells them apart itself.
_UNREAD_MS = 60_000
_UNSENT_BYTES = 128 * 1024
# Python's socket module does not name these two options of Linux.
_LINUX = sys.platform == "linux"
_SO_MAX_PACING_RATE = 47
_TCP_NOTSENT_LOWAT = 25


class Connection:
    """Frames over one TCP connection. One thread reads; any thread may send.

    Parameters
    ----------
    sock : socket.socket
        Connected; belongs to this object from now on.
    accepts : frozenset of Kind
        What the other side may send.

    Raises
    ------
    OSError
        The connection is gone already.
    """

    def __init__(self, sock: socket.socket, accepts: frozenset[Kind]) -> None:
        self.sock = sock
        self._accepts = accepts
        self._header = memoryview(bytearray(HEADER_BYTES))
        self._body = memoryview(bytearray(MAX_TEXT if accepts is REPLIES else MAX_PAYLOAD))
        self._sending = threading.Lock()
        self.due_s = math.inf
        """Monotonic time by which the frame that is arriving must be whole."""
        _tune(sock)

    # --- reading ---

    def read_preface(self) -> int:
        """Read the other side's protocol version."""
        preface = memoryview(bytearray(PREFACE_BYTES))
        self._fill(preface)
        return decode_preface(preface)

    def read(self) -> Frame | None:
        """Read the next frame; None when the other side has closed between frames.

        The frame's body is valid until the next call.

        Raises
        ------
        FrameError
            Not a frame, or one that the other side may not send.
        OSError
            The connection is lost, perhaps inside a frame.
        """
        count = self.sock.recv_into(self._header)
        if count == 0:
            return None
        self.due_s = min(self.due_s, time.monotonic() + FRAME_TIMEOUT_S)
        self._fill(self._header[count:])
        header = decode_header(self._header)
        if header.kind not in self._accepts:
            raise FrameError(f"a {header.kind.name} frame is not allowed here")
        body = self._body[: header.length]
        self._fill(body)
        self.due_s = math.inf
        intact = is_intact(header, self._header, body)
        return Frame(header.kind, header.file_id, header.offset, body, intact)

    def _fill(self, view: memoryview) -> None:
        while view:
            count = self.sock.recv_into(view, 0, socket.MSG_WAITALL)
            if count == 0:
                raise ConnectionResetError("the connection ended inside a frame")
            view = view[count:]

    # --- sending ---

    def send_preface(self) -> None:
        """Send this side's protocol version."""
        self.sock.sendall(encode_preface())

    def send(self, kind: Kind, file_id: int = 0, offset: int = 0, body: bytes | memoryview = b"") -> None:
        """Send one frame whole; OSError if the connection is lost."""
        header = encode_header(kind, file_id, offset, body)
        with self._sending:
            sent = self.sock.sendmsg((header, body))
            if sent < len(header):
                self.sock.sendall(header[sent:])
                sent = len(header)
            if sent < len(header) + len(body):
                self.sock.sendall(memoryview(body)[sent - len(header) :])

    def limit_sending(self, timeout_s: float) -> None:
        """Make a send that blocks for this long fail, so that a peer that does not read holds no thread."""
        whole_s = int(timeout_s)
        timeval = struct.pack("@ll", whole_s, int((timeout_s - whole_s) * 1e6))
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)

    # --- the end ---

    def send_error(self, reason: str, timeout_s: float = CLOSING_TIMEOUT_S) -> None:
        """Tell the other side why this connection ends, if it can be sent at once.

        `timeout_s` bounds the wait for a thread that is sending.
        """
        body = encode_reason(reason)
        if not self._sending.acquire(timeout=max(timeout_s, 0.0)):
            return
        try:
            with suppress(OSError):
                self.sock.send(encode_header(Kind.ERROR, body=body) + body, socket.MSG_DONTWAIT)
        finally:
            self._sending.release()

    def send_bye(self) -> None:
        """Send BYE and nothing after it; the other side's frames can still be read.

        A connection that cannot take BYE in time is shut down.
        """
        header = encode_header(Kind.BYE)
        if self._sending.acquire(timeout=CLOSING_TIMEOUT_S):
            try:
                self.limit_sending(CLOSING_TIMEOUT_S)
                self.sock.sendall(header)
                self.sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            else:
                return
            finally:
                self._sending.release()
        self.shutdown()

    def reject(self, reason: str) -> None:
        """Send an error and end the connection, with a moment to read it; for the reading thread."""
        due_s = time.monotonic() + CLOSING_TIMEOUT_S
        self.due_s = min(self.due_s, due_s)
        self.send_error(reason)
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)
            # Closing with bytes unread would reset the connection and lose the reason.
            while time.monotonic() < due_s and self.sock.recv_into(self._body):
                pass

    def shutdown(self) -> None:
        """End the connection in both directions; threads that wait in it return."""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket; only when no thread uses it any more."""
        self.sock.close()


def describe(error: BaseException) -> str:
    """The text of an error without local paths, for people and for the other side."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def _tune(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # A silent peer is noticed within about ten seconds, where the system can be told so.
    for name, value in (
        ("TCP_USER_TIMEOUT", _SILENT_PEER_MS),
        ("TCP_KEEPIDLE", 4),
        ("TCP_KEEPINTVL", 2),
        ("TCP_KEEPCNT", 3),
    ):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def tune_for_sending(sock: socket.socket, pace_mbps: float | None) -> None:
    """Keep what waits unsent in the kernel small, so that it can still move to another stream; cap the rate.

    Raises
    ------
    OSError
        The system cannot cap a connection's rate.
    """
    if _LINUX:
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNREAD_MS)
    if pace_mbps is not None:
        if not _LINUX:
            raise OSError("pacing needs Linux (SO_MAX_PACING_RATE)")
        rate_Bps = round(pace_mbps * 125_000)
        sock.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, rate_Bps.to_bytes(8, sys.byteorder))
