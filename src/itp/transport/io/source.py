"""A file that is being sent: read at offsets by several threads, watched for changes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from itp.errors import TransportError
from itp.transport.io.shared_file import SharedFile


class SourceError(TransportError):
    """The file to send cannot be read, or changed during the transfer."""


class Source:
    """An open source file. Thread-safe.

    Parameters
    ----------
    path : Path

    Raises
    ------
    SourceError
        The path cannot be opened or is not a regular file.
    """

    def __init__(self, path: Path) -> None:
        try:
            # Without O_NONBLOCK, opening a FIFO would wait for a writer.
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise SourceError(f"cannot open {path}: {error.strerror}") from error
        self._file = SharedFile(fd)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise SourceError(f"{path} is not a regular file")
            if status.st_size == 0 and os.pread(fd, 1, 0):
                # The kernel makes such files, as in /proc, while they are read.
                raise SourceError(f"{path} says it is empty and is not; send a copy of it")
        except OSError as error:
            self._file.close()
            raise SourceError(f"cannot read {path}: {error.strerror}") from error
        except SourceError:
            self._file.close()
            raise
        self.size_bytes = status.st_size
        self._mtime_ns = status.st_mtime_ns

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill `view` with the bytes from `offset` on.

        Raises
        ------
        SourceError
            The file cannot be read or no longer reaches that far.
        FileClosed
        """
        with _reading():
            self._file.read_into(view, offset)

    def digest(self) -> bytes:
        """The BLAKE3 hash of the whole file; raises as ``read_into``."""
        with _reading():
            return self._file.digest(self.size_bytes)

    def check_unchanged(self) -> None:
        """SourceError if the file was written to, removed or replaced since it was opened."""
        with _reading(), self._file as fd:
            status = os.fstat(fd)
        if status.st_nlink == 0:
            raise SourceError("the source file was removed during the transfer")
        if (status.st_size, status.st_mtime_ns) != (self.size_bytes, self._mtime_ns):
            raise SourceError("the source file changed during the transfer")

    def close(self) -> None:
        """Close the file once its last reader has left; closing twice is allowed."""
        self._file.close()


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except EOFError as error:
        raise SourceError(
            "the source file ended early: it shrank during the transfer, or its size is made up"
        ) from error
    except OSError as error:
        raise SourceError(f"cannot read the source file: {error.strerror}") from error
