"""TCP_INFO: parsing structs of any length, and the metrics drawn from readings."""

import socket
import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itp.transport.io.tcpinfo import StreamMeter, TcpInfo, parse, read


@given(st.binary(max_size=300))
def test_any_length_parses_and_what_is_not_there_is_none(data):
    info = parse(data)
    assert (info.rtt_us is None) == (len(data) < 72)
    assert (info.bytes_retrans is None) == (len(data) < 216)


def test_fields_stand_where_the_kernel_puts_them():
    data = bytearray(280)
    data[2:4] = (5, 6)
    data[7] = 1
    struct.pack_into("=I", data, 68, 1500)
    struct.pack_into("=QQQ", data, 104, 11, 22, 33)
    struct.pack_into("=QQ", data, 200, 44, 55)
    info = parse(bytes(data))
    assert (info.retransmits, info.probes) == (5, 6)
    assert (info.rtt_us, info.pacing_rate_Bps, info.max_pacing_rate_Bps) == (1500, 11, 22)
    assert (info.bytes_acked, info.bytes_sent, info.bytes_retrans, info.app_limited) == (33, 44, 55, True)


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (TcpInfo(), False),
        (TcpInfo(retransmits=1, probes=1), False),
        (TcpInfo(retransmits=2), True),
        (TcpInfo(probes=2), True),
    ],
)
def test_one_attempt_may_still_be_answered(info, expected):
    assert info.is_unanswered == expected


def reading(busy_s=0.0, acked=0, sent=0, again=0, pacing=10**9, cap=2**64 - 1, min_rtt_us=0xFFFFFFFF):
    return TcpInfo(
        rtt_us=900,
        min_rtt_us=min_rtt_us,
        pacing_rate_Bps=pacing,
        max_pacing_rate_Bps=cap,
        bytes_acked=acked,
        busy_time_us=int(busy_s * 1e6),
        bytes_sent=sent,
        bytes_retrans=again,
    )


def test_before_any_traffic_the_bandwidth_is_what_the_kernel_would_pace_at():
    assert StreamMeter().update(reading(pacing=125_000_000)).bandwidth_mbps == pytest.approx(1000.0)
    assert StreamMeter().update(reading(pacing=125_000_000, cap=2_500_000)).bandwidth_mbps == pytest.approx(
        20.0
    )


def test_bandwidth_is_bytes_over_busy_time_and_loss_what_was_sent_again():
    meter = StreamMeter()
    meter.update(reading())
    metrics = meter.update(reading(busy_s=100.0, acked=125_000_000, sent=125_000_000, again=12_500_000))
    assert metrics.bandwidth_mbps == pytest.approx(10.0)
    assert metrics.success_rate == pytest.approx(0.9)


def test_short_windows_wait_and_later_ones_average():
    meter = StreamMeter()
    meter.update(reading(pacing=125_000))
    assert meter.update(reading(busy_s=0.01, acked=10**6, pacing=125_000)).bandwidth_mbps == pytest.approx(
        1.0
    )
    first = meter.update(reading(busy_s=1.0, acked=125_000)).bandwidth_mbps
    assert first == pytest.approx(1.0)
    second = meter.update(reading(busy_s=1.1, acked=125_000 + 125_000)).bandwidth_mbps
    assert 1.0 < second < 10.0


def test_latency_is_the_least_round_trip_or_the_smoothed_one():
    assert StreamMeter().update(reading()).latency_ms == pytest.approx(0.9)
    assert StreamMeter().update(reading(min_rtt_us=500)).latency_ms == pytest.approx(0.5)


def test_nothing_is_claimed_without_tcp_info():
    metrics = StreamMeter().update(TcpInfo())
    assert (metrics.bandwidth_mbps, metrics.latency_ms, metrics.success_rate) == (None, None, 1.0)


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_INFO is Linux's")
def test_a_real_connection_can_be_read():
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        info = read(client)
    assert info.rtt_us is not None
    assert info.pacing_rate_Bps is None or info.pacing_rate_Bps > 0
