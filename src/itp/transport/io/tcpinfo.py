"""The kernel's figures of a TCP connection, and the stream metrics computed from them."""

from __future__ import annotations

import math
import socket
import struct
from dataclasses import dataclass

_READ_BYTES = 512
_MIN_BUSY_S = 0.05
_TIME_CONSTANT_S = 0.5
_UNKNOWN_RTT = 0xFFFFFFFF
_UNLIMITED = 0xFFFFFFFFFFFFFFFF
_BYTES_PER_MEGABIT = 125_000.0

# The offset and format of each field in linux/tcp.h; an older kernel's struct is a prefix of this one.
_FIELDS: dict[str, tuple[int, str]] = {
    "retransmits": (2, "=B"),
    "probes": (3, "=B"),
    "rtt_us": (68, "=I"),
    "pacing_rate_Bps": (104, "=Q"),
    "max_pacing_rate_Bps": (112, "=Q"),
    "bytes_acked": (120, "=Q"),
    "min_rtt_us": (148, "=I"),
    "delivery_rate_Bps": (160, "=Q"),
    "busy_time_us": (168, "=Q"),
    "bytes_sent": (200, "=Q"),
    "bytes_retrans": (208, "=Q"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpInfo:
    """The fields used here of struct tcp_info; None: this kernel does not have it."""

    retransmits: int | None = None
    """How often the oldest segment was sent again."""
    probes: int | None = None
    """Probes of a closed window that were not answered."""
    rtt_us: int | None = None
    pacing_rate_Bps: int | None = None
    max_pacing_rate_Bps: int | None = None
    bytes_acked: int | None = None
    min_rtt_us: int | None = None
    delivery_rate_Bps: int | None = None
    busy_time_us: int | None = None
    bytes_sent: int | None = None
    bytes_retrans: int | None = None
    app_limited: bool | None = None
    """Whether the delivery rate is below what the path carries, for lack of data."""

    @property
    def is_unanswered(self) -> bool:
        """Whether the peer's system has not answered repeated attempts; False where this is not known.

        The system of a peer that does not read, and so closes its window, still answers.
        """
        return max(self.retransmits or 0, self.probes or 0) >= 2


def parse(data: bytes) -> TcpInfo:
    """Decode struct tcp_info, of whatever length, as getsockopt returned it."""
    fields = {
        name: struct.unpack_from(form, data, at)[0]
        for name, (at, form) in _FIELDS.items()
        if at + struct.calcsize(form) <= len(data)
    }
    # Of the bit fields after the first six bytes, delivery_rate_app_limited is the lowest bit.
    return TcpInfo(**fields, app_limited=bool(data[7] & 1) if len(data) > 7 else None)


def read(sock: socket.socket) -> TcpInfo:
    """The kernel's figures of a connection; empty where the system has no TCP_INFO."""
    option = getattr(socket, "TCP_INFO", None)
    if option is None:
        return TcpInfo()
    return parse(sock.getsockopt(socket.IPPROTO_TCP, option, _READ_BYTES))


@dataclass(frozen=True, slots=True)
class StreamMetrics:
    """The arguments of ``TaskPartitioner.update_stream``; None: not known yet."""

    bandwidth_mbps: float | None
    latency_ms: float | None
    success_rate: float


class StreamMeter:
    """Computes a stream's metrics from successive readings. Not thread-safe.

    Bandwidth is bytes acknowledged per second of busy time, in which there was something to send. It is
    averaged with a time constant of half a second of busy time, and never exceeds the socket's cap.
    Until there is such a figure, it is the kernel's pacing rate. Loss is averaged the same way.
    """

    def __init__(self) -> None:
        self._last: TcpInfo | None = None
        self._bandwidth_Bps: float | None = None
        self._success_rate = 1.0

    def update(self, info: TcpInfo) -> StreamMetrics:
        """Add a reading; returns the metrics after it."""
        if info.bytes_acked is not None and info.busy_time_us is not None:
            if self._last is None:
                self._last = info
            else:
                self._measure(self._last, info, info.bytes_acked, info.busy_time_us)
        rtt_us = info.min_rtt_us if info.min_rtt_us not in (None, 0, _UNKNOWN_RTT) else info.rtt_us
        return StreamMetrics(
            bandwidth_mbps=self._bandwidth_mbps(info),
            latency_ms=rtt_us / 1e3 if rtt_us else None,
            success_rate=self._success_rate,
        )

    def _measure(self, last: TcpInfo, info: TcpInfo, bytes_acked: int, busy_time_us: int) -> None:
        busy_s = (busy_time_us - (last.busy_time_us or 0)) / 1e6
        if busy_s < _MIN_BUSY_S:
            return
        weight = 1.0 - math.exp(-busy_s / _TIME_CONSTANT_S)
        rate = max(bytes_acked - (last.bytes_acked or 0), 0) / busy_s
        old = self._bandwidth_Bps
        self._bandwidth_Bps = rate if old is None else old + weight * (rate - old)
        sent = (info.bytes_sent or 0) - (last.bytes_sent or 0)
        if sent > 0:
            again = (info.bytes_retrans or 0) - (last.bytes_retrans or 0)
            intact = min(max(1.0 - again / sent, 0.0), 1.0)
            self._success_rate += weight * (intact - self._success_rate)
        self._last = info

    def _bandwidth_mbps(self, info: TcpInfo) -> float | None:
        rates = (info.max_pacing_rate_Bps, self._bandwidth_Bps or info.pacing_rate_Bps)
        known = [rate for rate in rates if rate and rate != _UNLIMITED]
        return min(known) / _BYTES_PER_MEGABIT if known else None
