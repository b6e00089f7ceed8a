"""A file that is being sent: read at offsets by several threads, watched for changes."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

from blake3 import blake3

from itp.errors import TransportError

_READ_BYTES = 1 << 20


class SourceError(TransportError):
    """The file to send cannot be read, or is no longer what it was."""


class Source:
    """An open source file. Thread-safe.

    Raises
    ------
    SourceError
        The path cannot be opened or is no regular file.
    """

    def __init__(self, path: Path) -> None:
        try:
            # Without O_NONBLOCK opening a FIFO would wait for a writer.
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise SourceError(f"cannot open {path}: {error.strerror}") from error
        try:
            status = os.fstat(self._fd)
            if not stat.S_ISREG(status.st_mode):
                raise SourceError(f"{path} is not a regular file")
            if status.st_size == 0 and os.pread(self._fd, 1, 0):
                # As in /proc: made while it is read.
                raise SourceError(f"{path} says it is empty and is not; send a copy of it")
        except OSError as error:
            os.close(self._fd)
            raise SourceError(f"cannot read {path}: {error.strerror}") from error
        except SourceError:
            os.close(self._fd)
            raise
        self.size_bytes = status.st_size
        self._mtime_ns = status.st_mtime_ns
        self._lock = threading.Lock()
        self._users = 0
        self._closing = False

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill `view` from `offset` on; SourceError if the file no longer reaches so far."""
        self._enter()
        try:
            while view:
                count = os.preadv(self._fd, [view], offset)
                if count == 0:
                    raise SourceError("the source file shrank during the transfer")
                view = view[count:]
                offset += count
        except OSError as error:
            raise SourceError(f"cannot read the source file: {error.strerror}") from error
        finally:
            self._leave()

    def digest(self) -> bytes:
        """BLAKE3 of the whole file; SourceError if it shrinks or is closed meanwhile."""
        hasher = blake3()
        buffer = memoryview(bytearray(min(_READ_BYTES, self.size_bytes)))
        # Reads, not a map: a file that shrinks under a map kills the process.
        for offset in range(0, self.size_bytes, _READ_BYTES):
            view = buffer[: self.size_bytes - offset]
            self.read_into(view, offset)
            hasher.update(view)
        return hasher.digest()

    def check_unchanged(self) -> None:
        """SourceError if the file was written to, removed or replaced since it was opened."""
        self._enter()
        try:
            status = os.fstat(self._fd)
        finally:
            self._leave()
        if status.st_nlink == 0:
            raise SourceError("the source file was removed during the transfer")
        if (status.st_size, status.st_mtime_ns) != (self.size_bytes, self._mtime_ns):
            raise SourceError("the source file changed during the transfer")

    def close(self) -> None:
        """Close once the last reader has left."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
            idle = self._users == 0
        if idle:
            os.close(self._fd)

    def _enter(self) -> None:
        with self._lock:
            if self._closing:
                raise SourceError("the transfer is over")
            self._users += 1

    def _leave(self) -> None:
        with self._lock:
            self._users -= 1
            last = self._closing and self._users == 0
        if last:
            os.close(self._fd)
