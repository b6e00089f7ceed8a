"""Frames over a connected socket: exact reads into reused buffers, whole writes, socket options."""

from __future__ import annotations

import math
import socket
import sys
import threading
import time
from contextlib import suppress
from typing import NamedTuple

from itp.transport.protocol.frames import (
    HEADER_BYTES,
    MAX_PAYLOAD,
    MAX_TEXT,
    PREFACE_BYTES,
    REPLIES,
    VERSION,
    FrameError,
    Kind,
    decode_header,
    decode_preface,
    encode_header,
    encode_preface,
    encode_text,
    is_intact,
)

FRAME_TIMEOUT_S = 60.0
"""A frame that has begun to arrive must be whole within this time."""
_DEAD_PEER_MS = 10_000
_UNSENT_BYTES = 128 * 1024
_FAREWELL_S = 1.0
# Python's socket module does not name these two of Linux.
_LINUX = sys.platform == "linux"
_SO_MAX_PACING_RATE = 47
_TCP_NOTSENT_LOWAT = 25


class Frame(NamedTuple):
    """A frame as it came; `body` is valid until the next ``Wire.read``."""

    kind: Kind
    file_id: int
    offset: int
    body: memoryview
    intact: bool


class Wire:
    """One connection. One thread reads; any thread may send.

    Parameters
    ----------
    sock : socket.socket
        Connected; belongs to the wire from now on.
    accepts : frozenset of Kind
        What the other side may say.
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
        """The other side's protocol version."""
        preface = memoryview(bytearray(PREFACE_BYTES))
        self._fill(preface)
        return decode_preface(preface)

    def read(self) -> Frame | None:
        """The next frame; None when the other side has closed between frames.

        Raises
        ------
        FrameError
            No frame, or one that has no place here.
        OSError
            The connection is lost, maybe inside a frame.
        """
        count = self.sock.recv_into(self._header)
        if count == 0:
            return None
        self.due_s = min(self.due_s, time.monotonic() + FRAME_TIMEOUT_S)
        self._fill(self._header[count:])
        header = decode_header(self._header)
        if header.kind not in self._accepts:
            raise FrameError(f"a {header.kind.name} frame has no place here")
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
        """Say which version this side speaks."""
        self.sock.sendall(encode_preface(VERSION))

    def send(self, kind: Kind, file_id: int = 0, offset: int = 0, body: bytes | memoryview = b"") -> None:
        """Send one frame whole; OSError if the connection is gone."""
        header = encode_header(kind, file_id, offset, body)
        with self._sending:
            sent = self.sock.sendmsg((header, body))
            if sent < len(header):
                self.sock.sendall(header[sent:])
                sent = len(header)
            if sent < len(header) + len(body):
                self.sock.sendall(memoryview(body)[sent - len(header) :])

    # --- the end ---

    def say_error(self, reason: str) -> None:
        """Tell the other side why this connection ends; at once or not at all."""
        body = encode_text(reason)
        if not self._sending.acquire(timeout=_FAREWELL_S):
            return
        try:
            with suppress(OSError):
                self.sock.send(encode_header(Kind.ERROR, body=body) + body, socket.MSG_DONTWAIT)
        finally:
            self._sending.release()

    def refuse(self, reason: str) -> None:
        """Say why and hang up, giving the other side a moment to read it; for the reading thread."""
        due_s = time.monotonic() + _FAREWELL_S
        self.due_s = min(self.due_s, due_s)
        self.say_error(reason)
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)
            # Closing with bytes unread would reset the connection and lose the reason.
            while time.monotonic() < due_s and self.sock.recv_into(self._body):
                pass

    def take_leave(self) -> None:
        """Say BYE and send nothing more; what the other side still says can be read."""
        try:
            self.send(Kind.BYE)
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.hang_up()

    def hang_up(self) -> None:
        """End the connection; threads that wait in it come back."""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the socket; only when no thread uses it any more."""
        self.sock.close()


def describe(error: Exception) -> str:
    """An error for people and for the other side: the system's words without local paths."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _tune(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # A silent peer is noticed within about ten seconds, where the system lets one say so.
    for name, value in (
        ("TCP_USER_TIMEOUT", _DEAD_PEER_MS),
        ("TCP_KEEPIDLE", 4),
        ("TCP_KEEPINTVL", 2),
        ("TCP_KEEPCNT", 3),
    ):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def tune_for_sending(sock: socket.socket, pace_mbps: float | None) -> None:
    """Keep what waits unsent in the kernel small, so that it can still go elsewhere; cap the rate.

    Raises
    ------
    OSError
        The system cannot cap a connection's rate.
    """
    if _LINUX:
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
    if pace_mbps is not None:
        if not _LINUX:
            raise OSError("pacing needs Linux (SO_MAX_PACING_RATE)")
        rate_Bps = round(pace_mbps * 125_000)
        sock.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, rate_Bps.to_bytes(8, sys.byteorder))
