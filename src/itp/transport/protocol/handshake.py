"""How a stream begins: both sides send a preface, the sender says HELLO, the receiver answers WELCOME."""

from __future__ import annotations

import struct
from typing import NamedTuple

from itp.errors import TransportError
from itp.transport.protocol.frames import SESSION_ID_BYTES, Frame, FrameError, Kind
from itp.transport.protocol.messages import decode_reason

VERSION = 1
MAGIC = b"\x89ITP\r\n"
MAX_STREAMS = 16

_PREFACE = struct.Struct("!6sH")
_HELLO = struct.Struct(f"!{SESSION_ID_BYTES}sBB")

PREFACE_BYTES = _PREFACE.size


class Hello(NamedTuple):
    """The body of HELLO: the session of a connection, and its place among the session's streams."""

    session_id: bytes
    stream: int
    n_streams: int


# --- preface ---


def encode_preface(version: int = VERSION) -> bytes:
    """The first bytes of either side; their layout is the same in every version."""
    return _PREFACE.pack(MAGIC, version)


def decode_preface(data: bytes | bytearray | memoryview) -> int:
    """The peer's protocol version; FrameError if the peer does not speak this protocol at all."""
    magic, version = _PREFACE.unpack(data)
    if magic != MAGIC:
        raise FrameError("the other side does not speak the ITP protocol")
    return int(version)


def check_version(version: int, *, peer: str, this: str) -> None:
    """FrameError unless the `peer` ("sender", "receiver") speaks the version of `this` side."""
    if version != VERSION:
        raise FrameError(
            f"the {peer} speaks protocol version {version}, this {this} version {VERSION}: "
            "use the same version of itp on both sides"
        )


# --- HELLO and WELCOME ---


def encode_hello(hello: Hello) -> bytes:
    """The body of HELLO."""
    return _HELLO.pack(*hello)


def decode_hello(frame: Frame | None) -> Hello:
    """The HELLO that a connection has to begin with, checked; None stands for a closed connection.

    Raises
    ------
    FrameError
        Not an intact HELLO, too many streams, or a stream number beyond their count.
    """
    if frame is None or frame.kind is not Kind.HELLO or not frame.intact:
        raise FrameError("the connection did not begin with a HELLO frame")
    hello = Hello(*_HELLO.unpack(frame.body))
    if not 1 <= hello.n_streams <= MAX_STREAMS:
        raise FrameError(f"a session has 1 to {MAX_STREAMS} streams; the sender asked for {hello.n_streams}")
    if hello.stream >= hello.n_streams:
        raise FrameError(f"there is no stream {hello.stream} in a session of {hello.n_streams} streams")
    return hello


def check_welcome(frame: Frame | None) -> None:
    """Check the receiver's answer to HELLO; None stands for a closed connection.

    Raises
    ------
    FrameError
        The answer is not an intact WELCOME.
    TransportError
        The receiver refuses the connection; the text has its reason.
    """
    if frame is None:
        raise FrameError("the receiver closed the connection")
    if not frame.intact:
        raise FrameError("the receiver's answer arrived damaged")
    if frame.kind is Kind.ERROR:
        raise TransportError(f"the receiver refuses: {decode_reason(frame.body)}")
    if frame.kind is not Kind.WELCOME:
        raise FrameError(f"the receiver answered with {frame.kind.name} instead of WELCOME")
