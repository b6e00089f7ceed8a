"""The sender's end of one stream: connected, greeted, measured."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass

from itp.errors import TransportError
from itp.partitioner import TaskPartitioner
from itp.transport.io import tcpinfo
from itp.transport.io.sockets import Wire, tune_for_sending
from itp.transport.protocol.frames import (
    REPLIES,
    VERSION,
    FrameError,
    Hello,
    Kind,
    decode_text,
    encode_hello,
)
from itp.transport.protocol.schedule import Schedule

CONNECT_TIMEOUT_S = 10.0
STALL_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamStatus:
    """A stream as it is now."""

    stream: int
    up: bool
    delivered_bytes: int
    bandwidth_mbps: float | None
    latency_ms: float | None
    success_rate: float
    error: str | None
    """Why it is down."""


class Stream:
    """One stream of a sender; its fields are the sender's, under the sender's lock.

    Parameters
    ----------
    index : int
    """

    def __init__(self, index: int) -> None:
        self.index = index
        self.wire: Wire | None = None
        self.error: str | None = None
        self.refused_in_a_row = 0
        self.metrics = tcpinfo.StreamMetrics(None, None, 1.0)
        self._meter = tcpinfo.StreamMeter()
        self._delivered: tuple[int | None, int] = (None, 0)
        self._progress_s = time.monotonic()

    def connect(
        self, host: str, port: int, session_id: bytes, n_streams: int, pace_mbps: float | None
    ) -> None:
        """Connect and greet the receiver.

        Raises
        ------
        TransportError
            The receiver refuses, or does not speak this protocol or version.
        OSError
        """
        sock = socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S)
        try:
            wire = Wire(sock, REPLIES)
            tune_for_sending(sock, pace_mbps)
            wire.send_preface()
            version = wire.read_preface()
            if version != VERSION:
                raise TransportError(
                    f"the receiver speaks protocol version {version}, this sender version {VERSION}: "
                    "use the same version of itp on both sides"
                )
            wire.send(Kind.HELLO, body=encode_hello(Hello(session_id, self.index, n_streams)))
            frame = wire.read()
            if frame is None:
                raise FrameError("the receiver hung up")
            if not frame.intact:
                raise FrameError("the receiver's answer arrived damaged")
            if frame.kind is Kind.ERROR:
                raise TransportError(f"the receiver refuses: {decode_text(frame.body)}")
            if frame.kind is not Kind.WELCOME:
                raise FrameError(f"the receiver answered with {frame.kind.name} instead of WELCOME")
            sock.setblocking(True)
        except BaseException:
            sock.close()
            raise
        self.wire = wire

    @property
    def rate(self) -> float:
        """Its bandwidth in Mbit/s, > 0; a guess while unknown."""
        return max(self.metrics.bandwidth_mbps or 1.0, 1e-3)

    def sample(self, schedule: Schedule, partitioner: TaskPartitioner) -> bool:
        """Read the kernel's figures and pass them on; returns whether the stream has stalled.

        Raises
        ------
        OSError
            The connection is gone.
        """
        if self.wire is None:
            return False
        info = tcpinfo.read(self.wire.sock)
        self.metrics = self._meter.update(info)
        partitioner.update_stream(
            self.index,
            bandwidth_mbps=self.metrics.bandwidth_mbps,
            latency_ms=self.metrics.latency_ms,
            success_rate=self.metrics.success_rate,
        )
        delivered = (info.bytes_acked, schedule.delivered_bytes(self.index))
        now_s = time.monotonic()
        if delivered != self._delivered or not schedule.unacked_frames(self.index):
            self._delivered = delivered
            self._progress_s = now_s
        return now_s - self._progress_s > STALL_TIMEOUT_S

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
