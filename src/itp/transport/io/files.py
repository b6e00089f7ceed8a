"""What the receiver writes: a file under a temporary name until it is whole and proven so."""

from __future__ import annotations

import errno
import mmap
import os
import stat
import threading
import unicodedata
from contextlib import suppress
from pathlib import Path

from blake3 import blake3

from itp.errors import TransportError
from itp.transport.protocol.frames import MAX_FILE_BYTES, FrameError
from itp.transport.protocol.ranges import RangeSet

_MAX_NAME_BYTES = 255
_MAX_GAPS = 65_536
_HASH_BYTES = 64 << 20
_TEMPORARY_PREFIX = ".itp-"
_TEMPORARY_SUFFIX = ".part"


class FileRefused(TransportError):  # noqa: N818
    """The receiver will not take this file, or what came is not what was sent."""


def check_name(raw: bytes) -> str:
    """The name of a received file, if it is one plain component of a path.

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
        raise FileRefused(f"the file's name has {len(raw)} bytes; at most {_MAX_NAME_BYTES} are taken")
    if "/" in name or "\\" in name:
        raise FileRefused(f"the file's name {name!r} names another directory")
    if any(unicodedata.category(c) == "Cc" for c in name):
        raise FileRefused(f"the file's name {name!r} holds control characters")
    if name.startswith(_TEMPORARY_PREFIX) and name.endswith(_TEMPORARY_SUFFIX):
        raise FileRefused(f"the file's name {name!r} is kept for unfinished files")
    return name


class Directory:
    """The folder files arrive in, held open so that nothing can be put in its place."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """Let go of the folder."""
        os.close(self.fd)


class IncomingFile:
    """A file that is arriving. Thread-safe.

    Parameters
    ----------
    directory : Directory
    name : str
        Already checked; the file gets it when it is whole, atomically replacing what had it.
    size_bytes : int
    tag : str
        Makes the temporary name unique.

    Raises
    ------
    OSError
        The directory cannot be written to, has no room for so many bytes, or has a directory of that name.
    """

    def __init__(self, directory: Directory, name: str, size_bytes: int, tag: str) -> None:
        if size_bytes > MAX_FILE_BYTES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        with suppress(FileNotFoundError):
            # Known before the first byte is sent, not when the last has come.
            if stat.S_ISDIR(os.stat(name, dir_fd=directory.fd, follow_symlinks=False).st_mode):
                raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        self.name = name
        self.size_bytes = size_bytes
        self._directory = directory
        self._temporary = f"{_TEMPORARY_PREFIX}{tag}{_TEMPORARY_SUFFIX}"
        self._lock = threading.Lock()
        self._ranges = RangeSet()
        self._digest: bytes | None = None
        self._writers = 0
        self._finishing = False
        self._dropped = False
        self._fd = os.open(
            self._temporary,
            os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
            0o666,
            dir_fd=directory.fd,
        )
        try:
            if size_bytes:
                _allocate(self._fd, size_bytes)
        except OSError:
            self.drop()
            raise

    # --- arriving ---

    def write(self, offset: int, data: memoryview) -> bool:
        """Put data in its place; what is there already stays. Returns whether the file can be finished.

        Raises
        ------
        FrameError
            Beyond the file's end.
        FileRefused
            The file came in too many separate pieces.
        OSError
        """
        end = offset + len(data)
        if end > self.size_bytes:
            raise FrameError(f"data up to byte {end} of a file of {self.size_bytes}")
        with self._lock:
            if self._dropped or self._finishing or self._ranges.covers(offset, end):
                return False
            self._writers += 1
        written = False
        try:
            at = offset
            while data:
                count = os.pwrite(self._fd, data, at)
                data = data[count:]
                at += count
            written = True
        finally:
            with self._lock:
                self._writers -= 1
                if written:
                    self._ranges.add(offset, end)
                gaps = len(self._ranges)
                ready = self._claim_finish()
                if self._dropped and self._writers == 0:
                    os.close(self._fd)
        if gaps > _MAX_GAPS:
            raise FileRefused("the file came in too many separate pieces")
        return ready

    def expect(self, digest: bytes) -> bool:
        """Take in what the whole must hash to; returns whether the file can be finished."""
        with self._lock:
            self._digest = digest
            return self._claim_finish()

    def _claim_finish(self) -> bool:
        # One caller alone gets True, and only when nobody writes any more.
        ready = (
            not (self._finishing or self._dropped or self._writers)
            and self._digest is not None
            and self._ranges.covered_bytes == self.size_bytes
        )
        self._finishing = self._finishing or ready
        return ready

    # --- the end ---

    def finish(self) -> str:
        """Prove the whole, make it durable and give it its name; returns its BLAKE3 in hex.

        Raises
        ------
        FileRefused
            It is not what was sent, or it was dropped meanwhile.
        OSError
        """
        try:
            digest = self._hash()
            if digest != self._digest:
                raise FileRefused("what arrived differs from what was sent (BLAKE3)")
            os.fsync(self._fd)
            with self._lock:
                if self._dropped:
                    raise FileRefused("given up")
                os.rename(
                    self._temporary, self.name, src_dir_fd=self._directory.fd, dst_dir_fd=self._directory.fd
                )
                # From here on the temporary name is gone and must not be removed.
                self._dropped = True
            os.fsync(self._directory.fd)
        except BaseException:
            self.drop()
            raise
        finally:
            os.close(self._fd)
        return digest.hex()

    def _hash(self) -> bytes:
        hasher = blake3(max_threads=blake3.AUTO)
        if self.size_bytes == 0:
            return hasher.digest()
        content = mmap.mmap(self._fd, self.size_bytes, access=mmap.ACCESS_READ)
        with content, memoryview(content) as view:
            for start in range(0, self.size_bytes, _HASH_BYTES):
                if self._dropped:
                    raise FileRefused("given up")
                with view[start : start + _HASH_BYTES] as part:
                    hasher.update(part)
        return hasher.digest()

    def drop(self) -> None:
        """Remove the unfinished file; harmless when it is finished or dropped already."""
        with self._lock:
            if self._dropped:
                return
            self._dropped = True
            with suppress(FileNotFoundError):
                os.unlink(self._temporary, dir_fd=self._directory.fd)
            # Whoever still writes or finishes closes it.
            if not (self._writers or self._finishing):
                os.close(self._fd)


def _allocate(fd: int, size_bytes: int) -> None:
    """Claim the room at once, so that a full disk is known before the first byte is sent."""
    try:
        os.posix_fallocate(fd, 0, size_bytes)
    except AttributeError:
        os.ftruncate(fd, size_bytes)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
        os.ftruncate(fd, size_bytes)
