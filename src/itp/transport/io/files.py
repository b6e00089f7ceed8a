"""The files a receiver writes: each under a temporary name until it is complete and verified."""

from __future__ import annotations

import errno
import os
import stat
import threading
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path

from itp.transport.io.shared_file import FileClosed, SharedFile
from itp.transport.logs import log
from itp.transport.protocol.frames import MAX_FILE_BYTES
from itp.transport.protocol.messages import TEMPORARY_PREFIX, TEMPORARY_SUFFIX, FileRefused
from itp.transport.protocol.receiving import Assembly

# What a system answers that has no such operation for this kind of file.
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


class Directory:
    """The folder that files arrive in, held open so that nothing can be put in its place.

    Raises
    ------
    OSError
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._file = SharedFile(self.fd)

    def close(self) -> None:
        """Close the folder, once no file is arriving any more; closing twice is allowed."""
        self._file.close()


class _State(Enum):
    UNFINISHED = auto()
    NAMED = auto()
    DROPPED = auto()


class IncomingFile:
    """A file that is arriving. Thread-safe; no system call runs under its lock.

    Parameters
    ----------
    directory : Directory
    name : str
        Already checked. The file gets it when it is complete, atomically replacing what had it.
    size_bytes : int
    tag : str
        Makes the temporary name unique.

    Raises
    ------
    OSError
        The folder cannot be written to, has no room for so many bytes, or contains a folder of that name.
    """

    def __init__(self, directory: Directory, name: str, size_bytes: int, tag: str) -> None:
        if size_bytes > MAX_FILE_BYTES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        with suppress(FileNotFoundError):
            # Better known before the first byte is sent than when the last has come.
            if stat.S_ISDIR(os.stat(name, dir_fd=directory.fd, follow_symlinks=False).st_mode):
                raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        self.name = name
        self.size_bytes = size_bytes
        self._directory = directory
        self._temporary = f"{TEMPORARY_PREFIX}{tag}{TEMPORARY_SUFFIX}"
        self._lock = threading.Lock()
        self._assembly = Assembly(size_bytes)
        self._state = _State.UNFINISHED
        fd = os.open(
            self._temporary,
            os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
            0o666,
            dir_fd=directory.fd,
        )
        self._file = SharedFile(fd)
        try:
            if size_bytes:
                _allocate(fd, size_bytes)
        except BaseException:
            self.drop()
            raise

    # --- arriving ---

    def write(self, offset: int, data: bytes | memoryview) -> bool:
        """Write data to its place, unless it is there already; returns whether to call ``finish``.

        Raises
        ------
        FrameError
            Beyond the end of the file.
        FileRefused
            The file arrived in too many separate pieces.
        OSError
        """
        end = offset + len(data)
        try:
            with self._file as fd:
                with self._lock:
                    if not self._assembly.begin(offset, end):
                        return False
                written = False
                try:
                    _write_all(fd, memoryview(data), offset)
                    written = True
                finally:
                    with self._lock:
                        complete = self._assembly.end(offset, end, written=written)
        except FileClosed:
            # Dropped; whoever did so has reported it.
            return False
        return complete

    def expect(self, digest: bytes) -> bool:
        """Set what the whole file must hash to; returns whether to call ``finish``."""
        with self._lock:
            return self._assembly.expect(digest)

    # --- the end ---

    def finish(self) -> str:
        """Verify the complete file, flush it and give it its name; returns its BLAKE3 in hex.

        After an error the file is still to be dropped.

        Raises
        ------
        FileRefused
            The content is not what the sender announced.
        FileClosed
            The file was dropped meanwhile.
        OSError
        """
        try:
            digest = self._file.digest(self.size_bytes)
        except EOFError:
            raise FileRefused("the unfinished file was truncated by another program") from None
        if digest != self._assembly.digest:
            raise FileRefused("what arrived differs from what was sent (BLAKE3)")
        with self._file as fd:
            os.fsync(fd)
        with self._lock:
            if self._state is not _State.UNFINISHED:
                raise FileClosed("the transfer is over")
            # From here on the file cannot be dropped: it is about to get its name.
            self._state = _State.NAMED
        try:
            os.rename(
                self._temporary, self.name, src_dir_fd=self._directory.fd, dst_dir_fd=self._directory.fd
            )
        except BaseException:
            with self._lock:
                self._state = _State.UNFINISHED
            raise
        self._file.close()
        _flush_directory(self._directory.fd)
        return digest.hex()

    def drop(self) -> bool:
        """Remove the unfinished file; returns False if it has its name, or was dropped, already."""
        with self._lock:
            if self._state is not _State.UNFINISHED:
                return False
            self._state = _State.DROPPED
        self._file.close()
        try:
            os.unlink(self._temporary, dir_fd=self._directory.fd)
        except FileNotFoundError:
            pass
        except OSError as error:
            log.warning("cannot remove %s: %s", self._directory.path / self._temporary, error.strerror)
        return True


def _write_all(fd: int, data: memoryview, offset: int) -> None:
    while data:
        count = os.pwrite(fd, data, offset)
        data = data[count:]
        offset += count


def _allocate(fd: int, size_bytes: int) -> None:
    """Claim the room at once, so that a full disk is known before the first byte is sent."""
    try:
        os.posix_fallocate(fd, 0, size_bytes)
    except AttributeError:
        os.ftruncate(fd, size_bytes)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        os.ftruncate(fd, size_bytes)


def _flush_directory(fd: int) -> None:
    """Make a new name durable, where the file system can."""
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
