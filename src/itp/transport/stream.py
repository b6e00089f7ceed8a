"""The sender's end of one stream: connected, greeted, measured."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass

from itp.transport.io import tcpinfo
from itp.transport.io.sockets import Connection, tune_for_sending
from itp.transport.protocol.frames import REPLIES, Kind
from itp.transport.protocol.handshake import Hello, check_version, check_welcome, encode_hello

CONNECT_TIMEOUT_S = 10.0
SILENT_TIMEOUT_S = 10.0
"""A receiver whose system answers nothing for so long is unreachable."""
STALL_TIMEOUT_S = 30.0
"""A receiver that confirms nothing for so long, though its system answers, does not work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamStatus:
    """A stream at one moment."""

    stream: int
    up: bool
    delivered_bytes: int
    bandwidth_mbps: float | None
    latency_ms: float | None
    success_rate: float
    error: str | None
    """Why it is down."""


class Stream:
    """One stream of a sender, which guards it by its lock.

    Parameters
    ----------
    index : int
    """

    def __init__(self, index: int) -> None:
        self.index = index
        self.connection: Connection | None = None
        self.error: str | None = None
        """Why it is down."""
        self.reading_source = False
        """Whether the next frame waits for the disk: that is no fault of the stream."""
        self.metrics = tcpinfo.StreamMetrics(None, None, 1.0)
        self._meter = tcpinfo.StreamMeter()
        self._delivered: tuple[int | None, int] = (None, 0)
        self._progress_s = time.monotonic()

    def connect(
        self, host: str, port: int, session_id: bytes, n_streams: int, pace_mbps: float | None
    ) -> None:
        """Connect and shake hands with the receiver.

        Raises
        ------
        TransportError
            The receiver refuses, or does not speak this protocol or version.
        OSError
        """
        sock = socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S)
        try:
            connection = Connection(sock, REPLIES)
            tune_for_sending(sock, pace_mbps)
            connection.send_preface()
            check_version(connection.read_preface(), peer="receiver", this="sender")
            connection.send(Kind.HELLO, body=encode_hello(Hello(session_id, self.index, n_streams)))
            check_welcome(connection.read())
            sock.setblocking(True)
        except BaseException:
            sock.close()
            raise
        self.connection = connection

    @property
    def rate(self) -> float:
        """Its bandwidth in Mbit/s, > 0; a guess while unknown."""
        return max(self.metrics.bandwidth_mbps or 1.0, 1e-3)

    def sample(self, unacked_frames: int, delivered_bytes: int) -> None:
        """Update ``metrics`` from the kernel's figures.

        Parameters
        ----------
        unacked_frames, delivered_bytes : int
            As the schedule has them.

        Raises
        ------
        OSError
            The connection is lost.
        TimeoutError
            The stream has delivered nothing, or a frame has been arriving, for too long.
        """
        if self.connection is None:
            return
        info = tcpinfo.read(self.connection.sock)
        self.metrics = self._meter.update(info)
        delivered = (info.bytes_acked, delivered_bytes)
        now_s = time.monotonic()
        idle = unacked_frames == (1 if self.reading_source else 0)
        if idle or delivered != self._delivered:
            self._delivered = delivered
            self._progress_s = now_s
        stalled_s = now_s - self._progress_s
        if stalled_s > SILENT_TIMEOUT_S and info.is_unanswered:
            raise TimeoutError(f"the receiver could not be reached for {SILENT_TIMEOUT_S:g} s")
        if stalled_s > STALL_TIMEOUT_S:
            raise TimeoutError(f"nothing was delivered for {STALL_TIMEOUT_S:g} s")
        if now_s > self.connection.due_s:
            raise TimeoutError("an answer of the receiver did not arrive whole in time")

    def status(self, delivered_bytes: int) -> StreamStatus:
        """A snapshot for people."""
        return StreamStatus(
            stream=self.index,
            up=self.error is None,
            delivered_bytes=delivered_bytes,
            bandwidth_mbps=self.metrics.bandwidth_mbps,
            latency_ms=self.metrics.latency_ms,
            success_rate=self.metrics.success_rate,
            error=self.error,
        )
