"""The handshake: prefaces, HELLO and WELCOME, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itp.errors import TransportError
from itp.transport.protocol import handshake
from itp.transport.protocol.frames import Frame, FrameError, Kind
from itp.transport.protocol.handshake import Hello


def frame(kind, body=b"", *, intact=True):
    return Frame(kind, 0, 0, body, intact)


def hello_frame(*fields):
    return frame(Kind.HELLO, handshake.encode_hello(Hello(*fields)))


def test_the_preface_carries_the_version():
    assert handshake.decode_preface(handshake.encode_preface(7)) == 7
    with pytest.raises(FrameError, match="does not speak"):
        handshake.decode_preface(b"GET / HT")


def test_versions_must_be_the_same():
    handshake.check_version(handshake.VERSION, peer="sender", this="receiver")
    with pytest.raises(FrameError, match=f"version 9, this receiver version {handshake.VERSION}"):
        handshake.check_version(9, peer="sender", this="receiver")


@given(st.binary(min_size=16, max_size=16), st.integers(1, 16), st.data())
def test_hello_round_trip(session_id, n_streams, data):
    hello = Hello(session_id, data.draw(st.integers(0, n_streams - 1)), n_streams)
    assert handshake.decode_hello(hello_frame(*hello)) == hello


@pytest.mark.parametrize(("stream", "n_streams"), [(0, 0), (0, 17), (0, 255), (4, 4), (200, 4)])
def test_the_numbers_in_hello_are_bounded(stream, n_streams):
    with pytest.raises(FrameError, match="stream"):
        handshake.decode_hello(hello_frame(bytes(16), stream, n_streams))


@pytest.mark.parametrize(
    "first",
    [None, frame(Kind.BYE), frame(Kind.HELLO, handshake.encode_hello(Hello(bytes(16), 0, 1)), intact=False)],
    ids=["closed", "another kind", "damaged"],
)
def test_a_connection_begins_with_an_intact_hello(first):
    with pytest.raises(FrameError, match="did not begin with a HELLO"):
        handshake.decode_hello(first)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "closed the connection"),
        (frame(Kind.WELCOME, intact=False), "arrived damaged"),
        (frame(Kind.ERROR, b"full\x1b"), r"the receiver refuses: full\?"),
        (frame(Kind.ACK), "answered with ACK instead of WELCOME"),
    ],
)
def test_any_other_answer_than_welcome_is_an_error(answer, reason):
    handshake.check_welcome(frame(Kind.WELCOME))
    with pytest.raises(TransportError, match=reason):
        handshake.check_welcome(answer)
