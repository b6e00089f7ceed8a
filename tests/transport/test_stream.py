"""When a stream counts as lost though its connection is open."""

from types import SimpleNamespace

import pytest

from itp.transport.io.tcpinfo import TcpInfo
from itp.transport.stream import SILENT_TIMEOUT_S, STALL_TIMEOUT_S, Stream


class Clock:
    """The time and the kernel's figures that a stream sees."""

    def __init__(self, monkeypatch):
        self.now_s = 1000.0
        self.info = TcpInfo()
        monkeypatch.setattr("itp.transport.stream.time", self)
        monkeypatch.setattr("itp.transport.io.tcpinfo.read", lambda _: self.info)

    def monotonic(self):
        return self.now_s


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


@pytest.fixture
def stream(clock):
    stream = Stream(0)
    stream.connection = SimpleNamespace(sock=None, due_s=float("inf"))
    stream.sample(unacked_frames=1, delivered_bytes=0)
    return stream


def test_a_stream_that_delivers_nothing_is_stalled(clock, stream):
    clock.now_s += 0.9 * STALL_TIMEOUT_S
    stream.sample(unacked_frames=1, delivered_bytes=0)
    clock.now_s += 0.2 * STALL_TIMEOUT_S
    with pytest.raises(TimeoutError, match="nothing was delivered for 30 s"):
        stream.sample(unacked_frames=1, delivered_bytes=0)


@pytest.mark.parametrize("progress", ["frames", "bytes"])
def test_a_stream_that_delivers_is_not(clock, stream, progress):
    for i in range(1, 5):
        clock.now_s += 0.9 * STALL_TIMEOUT_S
        clock.info = TcpInfo(bytes_acked=i if progress == "bytes" else 0)
        stream.sample(unacked_frames=1, delivered_bytes=i if progress == "frames" else 0)


def test_a_stream_with_nothing_to_send_is_not(clock, stream):
    for _ in range(5):
        clock.now_s += 0.9 * STALL_TIMEOUT_S
        stream.sample(unacked_frames=0, delivered_bytes=0)


def test_a_stream_that_waits_for_the_source_is_not(clock, stream):
    stream.reading_source = True
    for _ in range(5):
        clock.now_s += 0.9 * STALL_TIMEOUT_S
        stream.sample(unacked_frames=1, delivered_bytes=0)
    clock.now_s += 1.1 * STALL_TIMEOUT_S
    with pytest.raises(TimeoutError, match="nothing was delivered"):
        stream.sample(unacked_frames=2, delivered_bytes=0)


def test_a_receiver_that_cannot_be_reached_is_noticed_sooner(clock, stream):
    clock.info = TcpInfo(retransmits=3)
    clock.now_s += 0.9 * SILENT_TIMEOUT_S
    stream.sample(unacked_frames=1, delivered_bytes=0)
    clock.now_s += 0.2 * SILENT_TIMEOUT_S
    with pytest.raises(TimeoutError, match="could not be reached for 10 s"):
        stream.sample(unacked_frames=1, delivered_bytes=0)


def test_a_receiver_that_answers_but_does_not_read_has_more_time(clock, stream):
    clock.info = TcpInfo(retransmits=0, probes=1)
    clock.now_s += 0.9 * STALL_TIMEOUT_S
    stream.sample(unacked_frames=1, delivered_bytes=0)


def test_an_answer_that_never_ends_is_given_up(clock, stream):
    stream.connection.due_s = clock.now_s + 1
    stream.sample(unacked_frames=0, delivered_bytes=0)
    clock.now_s += 2
    with pytest.raises(TimeoutError, match="did not arrive whole"):
        stream.sample(unacked_frames=0, delivered_bytes=0)
