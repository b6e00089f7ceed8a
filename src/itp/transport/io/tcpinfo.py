"""What the kernel knows of a TCP connection, and the stream metrics drawn from it."""

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

# Where linux/tcp.h puts each field of struct tcp_info; an older kernel's is a prefix of it.
_FIELDS: dict[str, tuple[int, str]] = {
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
    """The fields used here of struct tcp_info; None: this kernel does not tell."""

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
    """The delivery rate is less than the path carries, for want of data."""


def parse(data: bytes) -> TcpInfo:
    """Struct tcp_info as getsockopt gave it, of whatever length."""
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
    """What ``TaskPartitioner.update_stream`` takes; None: not known yet."""

    bandwidth_mbps: float | None
    latency_ms: float | None
    success_rate: float


class StreamMeter:
    """Draws a stream's metrics from successive readings. Not thread-safe.

    Bandwidth is bytes acknowledged per second in which there was something to send, averaged with
    a time constant of half a second of such time, and never above the cap set on the socket. Before
    the first such figure it is what the kernel would pace at. Loss is averaged the same way.
    """

    def __init__(self) -> None:
        self._last: TcpInfo | None = None
        self._bandwidth_Bps: float | None = None
        self._success_rate = 1.0

    def update(self, info: TcpInfo) -> StreamMetrics:
        """Take in a reading; returns the metrics after it."""
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
