"""The file of a saved replay buffer.

Little-endian: the header below, the columns in the order of `allocate`, and the SHA-256 of all
before it. Every size follows from the header, so nothing is read on a file's word alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MAGIC = b"ITPREPLY"
VERSION = 1
_HEADER = struct.Struct("<8sIIQQdd4Q")
_DIGEST_SIZE = hashlib.sha256().digest_size


class Header(NamedTuple):
    """What a file holds beside its columns; `added` counts all transitions ever added."""

    state_dim: int
    capacity: int
    added: int
    alpha: float
    max_priority: float
    rng: tuple[int, ...]


def allocate(n: int, state_dim: int) -> dict[str, NDArray[Any]]:
    """Columns for `n` transitions in slot order; `mass` is priority ** alpha."""
    return {
        "state": np.empty((n, state_dim), "<f4"),
        "next_state": np.empty((n, state_dim), "<f4"),
        "reward": np.empty(n, "<f4"),
        "action": np.empty(n, "<i4"),
        "done": np.empty(n, "<u1"),
        "mass": np.empty(n, "<f8"),
    }


def write(path: str | os.PathLike[str], header: Header, columns: dict[str, NDArray[Any]]) -> None:
    """Write a file that appears under `path` complete and on disk, or not at all."""
    target = Path(path)
    part = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
    *fields, rng = header
    pieces: list[bytes | memoryview] = [_HEADER.pack(MAGIC, VERSION, *fields, *rng)]
    pieces += [column.data.cast("B") for column in columns.values() if column.size]
    digest = hashlib.sha256()
    try:
        with open(part, "xb") as file:
            for piece in pieces:
                file.write(piece)
                digest.update(piece)
            file.write(digest.digest())
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
        raise
    # The rename itself is durable only once its folder is.
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read(
    path: str | os.PathLike[str], capacity: int, state_dim: int, alpha: float
) -> tuple[Header, dict[str, NDArray[Any]]]:
    """Read a file made for a buffer of this `capacity`, `state_dim` and `alpha`.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        It is no such file, is damaged, or was made for another buffer.
    """
    with open(path, "rb") as file:
        head = file.read(_HEADER.size)
        if len(head) < _HEADER.size or not head.startswith(MAGIC):
            raise ValueError(f"{path}: not a saved replay buffer")
        _, version, *fields, rng_0, rng_1, rng_2, rng_3 = _HEADER.unpack(head)
        if version != VERSION:
            raise ValueError(f"{path}: version {version} of the format, expected {VERSION}")
        header = Header._make([*fields, (rng_0, rng_1, rng_2, rng_3)])
        for name, expected in (("capacity", capacity), ("state_dim", state_dim), ("alpha", alpha)):
            found = getattr(header, name)
            if found != expected:
                raise ValueError(f"{path}: saved with {name} = {found}, this buffer has {expected}")
        columns = allocate(min(header.added, capacity), state_dim)
        size = _HEADER.size + sum(column.nbytes for column in columns.values()) + _DIGEST_SIZE
        if os.fstat(file.fileno()).st_size != size:
            raise ValueError(f"{path}: damaged: {os.fstat(file.fileno()).st_size} bytes, expected {size}")
        digest = hashlib.sha256(head)
        for column in columns.values():
            if column.size:
                items = column.data.cast("B")
                if file.readinto(items) != len(items):
                    raise ValueError(f"{path}: damaged: it ended while being read")
                digest.update(items)
        if file.read(_DIGEST_SIZE) != digest.digest():
            raise ValueError(f"{path}: damaged: its checksum does not match its content")
    return header, columns
