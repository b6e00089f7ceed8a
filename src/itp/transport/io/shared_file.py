"""An open file that several threads read or write, and that one of them closes."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from types import TracebackType

from blake3 import blake3

from itp.errors import TransportError

_HASH_BYTES = 1 << 20


class FileClosed(TransportError):  # noqa: N818
    """The file was closed by another thread."""


class SharedFile:
    """Owns a file descriptor; closes it once ``close`` was called and no thread uses it any more.

    ``with file as fd`` keeps the descriptor open for the block, or raises FileClosed. Thread-safe: the
    lock guards the number of users only, no system call runs under it.

    Parameters
    ----------
    fd : int
        Belongs to this object from now on.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self._users = 0
        self._closed = False

    def __enter__(self) -> int:
        with self._lock:
            if self._closed:
                raise FileClosed("the transfer is over")
            self._users += 1
        return self._fd

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._users -= 1
            last = self._closed and self._users == 0
        if last:
            self._close_fd()

    def close(self) -> None:
        """Close the file once its last user has left; closing twice is allowed."""
        with self._lock:
            last = not self._closed and self._users == 0
            self._closed = True
        if last:
            self._close_fd()

    def _close_fd(self) -> None:
        # What was written is flushed by fsync, so an error of close has nothing to say.
        with suppress(OSError):
            os.close(self._fd)

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill `view` with the bytes from `offset` on.

        Raises
        ------
        EOFError
            The file does not reach that far.
        FileClosed, OSError
        """
        with self as fd:
            while view:
                count = os.preadv(fd, [view], offset)
                if count == 0:
                    raise EOFError
                view = view[count:]
                offset += count

    def digest(self, size_bytes: int) -> bytes:
        """The BLAKE3 hash of the first `size_bytes`; ``close`` makes it stop with FileClosed.

        Raises
        ------
        EOFError, FileClosed, OSError
            As ``read_into``.
        """
        hasher = blake3(max_threads=blake3.AUTO)
        buffer = memoryview(bytearray(min(_HASH_BYTES, size_bytes)))
        # Reads, not a map: a file that shrinks or cannot be read under a map kills the process.
        for offset in range(0, size_bytes, _HASH_BYTES):
            view = buffer[: size_bytes - offset]
            self.read_into(view, offset)
            hasher.update(view)
        return hasher.digest()
