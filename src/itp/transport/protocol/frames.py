"""The wire format: a preface each way, then frames of a 32-byte header and a bounded body.

Pure functions over bytes. All integers are big-endian. The checksum is XXH3-64 over the header
before it and the body, so that a flipped bit in either is found; docs/transport.md has the table.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from xxhash import xxh3_64, xxh3_64_intdigest

from itp._util.terminal import printable
from itp.errors import TransportError

VERSION = 1
MAGIC = b"\x89ITP\r\n"
MAX_PAYLOAD = 128 * 1024
"""Bytes of file a DATA frame carries at most."""
MAX_TEXT = 2048
MAX_STREAMS = 16
DIGEST_BYTES = 32
SESSION_ID_BYTES = 16
MAX_FILE_BYTES = 2**63 - 1

_PREFACE = struct.Struct("!6sH")
_FIELDS = struct.Struct("!HBxIQQ")
_CHECKSUM = struct.Struct("!Q")
_HELLO = struct.Struct(f"!{SESSION_ID_BYTES}sBB")
_FRAME_MAGIC = 0x49F7

PREFACE_BYTES = _PREFACE.size
HEADER_BYTES = _FIELDS.size + _CHECKSUM.size


class FrameError(TransportError):
    """What arrived is no frame of this protocol, or one that has no place here."""


class Kind(IntEnum):
    """What a frame says; the numbers are the protocol's."""

    HELLO = 1
    FILE = 2
    DATA = 3
    END = 4
    ABORT = 5
    BYE = 6
    WELCOME = 16
    ACK = 17
    NACK = 18
    FILE_DONE = 19
    FILE_FAILED = 20
    ERROR = 21


REQUESTS = frozenset({Kind.HELLO, Kind.FILE, Kind.DATA, Kind.END, Kind.ABORT, Kind.BYE})
REPLIES = frozenset(Kind) - REQUESTS

# Least and most bytes of each kind's body.
_BODY_BYTES: dict[int, tuple[int, int]] = {
    Kind.HELLO: (_HELLO.size, _HELLO.size),
    Kind.FILE: (0, MAX_TEXT),
    Kind.DATA: (1, MAX_PAYLOAD),
    Kind.END: (DIGEST_BYTES, DIGEST_BYTES),
    Kind.ABORT: (0, MAX_TEXT),
    Kind.BYE: (0, 0),
    Kind.WELCOME: (0, 0),
    Kind.ACK: (0, 0),
    Kind.NACK: (0, 0),
    Kind.FILE_DONE: (0, 0),
    Kind.FILE_FAILED: (0, MAX_TEXT),
    Kind.ERROR: (0, MAX_TEXT),
}


class Header(NamedTuple):
    """The fields of a frame's header; what `offset` means depends on the kind."""

    kind: Kind
    length: int
    file_id: int
    offset: int
    checksum: int


class Hello(NamedTuple):
    """The body of HELLO: which stream of which session this connection is."""

    session_id: bytes
    stream: int
    n_streams: int


def encode_preface(version: int) -> bytes:
    """What either side sends first; its layout is the same in every version."""
    return _PREFACE.pack(MAGIC, version)


def decode_preface(data: bytes | bytearray | memoryview) -> int:
    """The peer's protocol version; FrameError if the peer speaks something else."""
    magic, version = _PREFACE.unpack(data)
    if magic != MAGIC:
        raise FrameError("the other side does not speak the ITP protocol")
    return int(version)


def encode_header(
    kind: Kind, file_id: int = 0, offset: int = 0, body: bytes | bytearray | memoryview = b""
) -> bytes:
    """The header of a frame with this body."""
    fields = _FIELDS.pack(_FRAME_MAGIC, kind, len(body), file_id, offset)
    return fields + _CHECKSUM.pack(_checksum(fields, body))


def decode_header(data: bytes | bytearray | memoryview) -> Header:
    """Take a header apart and check all that can be known before the body.

    Raises
    ------
    FrameError
        No frame's header: wrong magic, unknown kind, or a length its kind does not allow.
    """
    magic, kind, length, file_id, offset = _FIELDS.unpack_from(data)
    if magic != _FRAME_MAGIC or kind not in _BODY_BYTES:
        raise FrameError("what arrived is not a frame")
    least, most = _BODY_BYTES[kind]
    if not least <= length <= most:
        raise FrameError(f"a {Kind(kind).name} frame of {length} bytes; expected {least} to {most}")
    (checksum,) = _CHECKSUM.unpack_from(data, _FIELDS.size)
    return Header(Kind(kind), length, file_id, offset, checksum)


def is_intact(
    header: Header, raw: bytes | bytearray | memoryview, body: bytes | bytearray | memoryview
) -> bool:
    """Whether header (as it came: `raw`) and body are what was sent."""
    return header.checksum == _checksum(bytes(raw[: _FIELDS.size]), body)


def _checksum(fields: bytes, body: bytes | bytearray | memoryview) -> int:
    if not body:
        return xxh3_64_intdigest(fields)
    digest = xxh3_64(fields)
    digest.update(body)
    return digest.intdigest()


def encode_hello(hello: Hello) -> bytes:
    """The body of HELLO."""
    return _HELLO.pack(*hello)


def decode_hello(body: bytes | bytearray | memoryview) -> Hello:
    """The body of HELLO, checked.

    Raises
    ------
    FrameError
        Too many streams, or a stream beyond their number.
    """
    hello = Hello(*_HELLO.unpack(body))
    if not 1 <= hello.n_streams <= MAX_STREAMS:
        raise FrameError(f"a session has 1 to {MAX_STREAMS} streams; {hello.n_streams} were asked for")
    if hello.stream >= hello.n_streams:
        raise FrameError(f"stream {hello.stream} of a session of {hello.n_streams}; they count from 0")
    return hello


def encode_text(text: str) -> bytes:
    """A reason as a body, cut to what fits."""
    return text.encode("utf-8", "replace")[:MAX_TEXT]


def decode_text(body: bytes | bytearray | memoryview) -> str:
    """A peer's reason, fit for a terminal."""
    return printable(bytes(body).decode("utf-8", "replace"))
