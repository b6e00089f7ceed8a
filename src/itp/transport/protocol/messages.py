"""The texts in the bodies of frames: names of files, and reasons of failures."""

from __future__ import annotations

import unicodedata

from itp._util.terminal import printable
from itp.errors import TransportError
from itp.transport.protocol.frames import MAX_TEXT

TEMPORARY_PREFIX = ".itp-"
TEMPORARY_SUFFIX = ".part"
_MAX_NAME_BYTES = 255


class FileRefused(TransportError):  # noqa: N818
    """The receiver does not accept this file, or its content is not what the sender announced."""


def encode_name(name: str) -> bytes:
    """The body of FILE; TransportError if the name does not fit into a frame.

    Lone surrogates are sent as they are: the receiver refuses them with a reason.
    """
    raw = name.encode("utf-8", "surrogatepass")
    if len(raw) > MAX_TEXT:
        raise TransportError(f"a name of {len(raw)} bytes is too long")
    return raw


def decode_name(raw: bytes) -> str:
    """The name of a received file, checked to be one plain component of a path.

    Raises
    ------
    FileRefused
    """
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise FileRefused("the file's name is not UTF-8") from None
    if name in ("", ".", ".."):
        raise FileRefused(f"{name!r} is no file name")
    if len(raw) > _MAX_NAME_BYTES:
        raise FileRefused(f"the file's name has {len(raw)} bytes; the limit is {_MAX_NAME_BYTES}")
    if "/" in name or "\\" in name:
        raise FileRefused(f"the file's name {name!r} names another directory")
    if any(unicodedata.category(c) == "Cc" for c in name):
        raise FileRefused(f"the file's name {name!r} contains control characters")
    if name.startswith(TEMPORARY_PREFIX) and name.endswith(TEMPORARY_SUFFIX):
        raise FileRefused(f"the file's name {name!r} is reserved for unfinished files")
    return name


def encode_reason(text: str) -> bytes:
    """A reason as a body, cut to what fits."""
    return text.encode("utf-8", "replace")[:MAX_TEXT]


def decode_reason(body: bytes | bytearray | memoryview) -> str:
    """A peer's reason, fit for a terminal."""
    return printable(bytes(body).decode("utf-8", "replace"))
