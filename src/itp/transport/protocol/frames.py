"""The frames of the wire format: a 32-byte header and a bounded body.

Pure functions over bytes. All integers are big-endian. The checksum is XXH3-64 over the header's
other fields and the body, so that it detects a flipped bit in either. docs/transport.md has the table.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from xxhash import xxh3_64, xxh3_64_intdigest

from itp.errors import TransportError

MAX_PAYLOAD = 128 * 1024
"""Most bytes of a file in one DATA frame."""
MAX_TEXT = 2048
"""Most bytes of a name or a reason."""
DIGEST_BYTES = 32
SESSION_ID_BYTES = 16
HELLO_BYTES = SESSION_ID_BYTES + 2
MAX_FILE_BYTES = 2**63 - 1

_FIELDS = struct.Struct("!HBxIQQ")
_CHECKSUM = struct.Struct("!Q")
_FRAME_MAGIC = 0x49F7

HEADER_BYTES = _FIELDS.size + _CHECKSUM.size


class FrameError(TransportError):
    """The received bytes are not a frame of this protocol, or the frame is not allowed at this point."""


class Kind(IntEnum):
    """The kinds of frames, with their numbers on the wire."""

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
"""The frames a sender sends."""
REPLIES = frozenset(Kind) - REQUESTS
"""The frames a receiver sends."""

# Least and most bytes of each kind's body.
_BODY_BYTES: dict[int, tuple[int, int]] = {
    Kind.HELLO: (HELLO_BYTES, HELLO_BYTES),
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
    """The fields of a frame's header; the meaning of `offset` depends on the kind."""

    kind: Kind
    length: int
    file_id: int
    offset: int
    checksum: int


class Frame(NamedTuple):
    """A received frame; `body` may be a view of a buffer that the next frame overwrites."""

    kind: Kind
    file_id: int
    offset: int
    body: bytes | memoryview
    intact: bool
    """Whether the checksum is right; if not, no other field can be relied on."""


def encode_header(
    kind: Kind, file_id: int = 0, offset: int = 0, body: bytes | bytearray | memoryview = b""
) -> bytes:
    """The header of a frame with this body."""
    fields = _FIELDS.pack(_FRAME_MAGIC, kind, len(body), file_id, offset)
    return fields + _CHECKSUM.pack(_checksum(fields, body))


def decode_header(data: bytes | bytearray | memoryview) -> Header:
    """Decode a header and check everything that can be checked before the body is read.

    Raises
    ------
    FrameError
        Wrong magic, unknown kind, or a length that the kind does not allow.
    """
    magic, kind, length, file_id, offset = _FIELDS.unpack_from(data)
    if magic != _FRAME_MAGIC or kind not in _BODY_BYTES:
        raise FrameError("the received bytes are not a frame")
    least, most = _BODY_BYTES[kind]
    if not least <= length <= most:
        raise FrameError(f"a {Kind(kind).name} frame of {length} bytes; expected {least} to {most}")
    (checksum,) = _CHECKSUM.unpack_from(data, _FIELDS.size)
    return Header(Kind(kind), length, file_id, offset, checksum)


def is_intact(
    header: Header, raw: bytes | bytearray | memoryview, body: bytes | bytearray | memoryview
) -> bool:
    """Whether the checksum matches the header as it was received (`raw`) and the body."""
    return header.checksum == _checksum(bytes(raw[: _FIELDS.size]), body)


def _checksum(fields: bytes, body: bytes | bytearray | memoryview) -> int:
    if not body:
        return xxh3_64_intdigest(fields)
    digest = xxh3_64(fields)
    digest.update(body)
    return digest.intdigest()
