"""The wire format: round trips, damage, truncation, garbage."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itp.transport.io.sockets import Connection
from itp.transport.protocol import frames
from itp.transport.protocol.frames import FrameError, Kind

ALL_KINDS = frozenset(Kind)
numbers = st.integers(0, 2**64 - 1)


@st.composite
def any_frame(draw):
    kind = draw(st.sampled_from(Kind))
    least, most = frames._BODY_BYTES[kind]
    body = draw(st.binary(min_size=least, max_size=min(most, least + 300)))
    return kind, draw(numbers), draw(numbers), body


def encoded(kind, file_id, offset, body):
    return frames.encode_header(kind, file_id, offset, body) + body


def read_all(data, accepts=ALL_KINDS):
    """What a Connection makes of these bytes followed by the end of the connection."""
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        connection = Connection.__new__(Connection)  # a socketpair takes no TCP options
        connection.sock, connection._accepts = ours, accepts
        connection._header = memoryview(bytearray(frames.HEADER_BYTES))
        connection._body = memoryview(bytearray(frames.MAX_PAYLOAD))
        connection.due_s = float("inf")
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        found = []
        while (frame := connection.read()) is not None:
            found.append((frame.kind, frame.file_id, frame.offset, bytes(frame.body), frame.intact))
        return found


@given(st.lists(any_frame(), max_size=4))
def test_frames_come_back_as_they_were_sent(sent):
    data = b"".join(encoded(*frame) for frame in sent)
    assert read_all(data) == [(*frame, True) for frame in sent]


def test_the_end_of_the_connection_inside_a_frame_is_an_error_at_every_byte():
    data = encoded(Kind.DATA, 7, 1000, b"payload")
    assert read_all(b"") == []
    for length in range(1, len(data)):
        with pytest.raises(ConnectionError, match="ended inside a frame"):
            read_all(data[:length])


def test_a_flipped_bit_anywhere_is_found():
    data = encoded(Kind.DATA, 7, 1000, b"payload of some length")
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            found = read_all(bytes(damaged))
        except (FrameError, ConnectionError):
            continue
        assert not any(intact for *_, intact in found), bit


@given(st.binary(min_size=frames.HEADER_BYTES, max_size=4096))
def test_garbage_is_refused(garbage):
    if garbage[:2] != frames.encode_header(Kind.BYE)[:2]:
        with pytest.raises(FrameError, match="not a frame"):
            read_all(garbage)


@pytest.mark.parametrize(
    ("kind", "length"),
    [
        (Kind.DATA, 0),
        (Kind.DATA, frames.MAX_PAYLOAD + 1),
        (Kind.END, 31),
        (Kind.FILE, 2**32 - 1),
        (Kind.ACK, 1),
    ],
)
def test_lengths_are_bounded_before_a_byte_of_the_body_is_read(kind, length):
    header = frames._FIELDS.pack(frames._FRAME_MAGIC, kind, length, 0, 0) + bytes(8)
    with pytest.raises(FrameError, match=f"a {kind.name} frame of {length} bytes"):
        frames.decode_header(header)


def test_a_kind_out_of_place_is_refused():
    with pytest.raises(FrameError, match="FILE_DONE frame is not allowed here"):
        read_all(encoded(Kind.FILE_DONE, 1, 0, b""), accepts=frames.REQUESTS)
