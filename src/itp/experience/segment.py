"""A segment of the experience log: a file of fixed-size frames that is whole wherever it is cut off.

A segment starts with one line of JSON. Frames follow, each a record and the CRC-32 of its bytes. A process
appends to a segment of its own and changes nothing that it has written.

Where the next decision was not made yet when its record was due, the record says ``done``. Once the next one
is made, the record is appended again with its next state: a later record of the same decision replaces an
earlier one.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from io import FileIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from itp._core.record import first_damaged
from itp.errors import LogError
from itp.experience.record import VERSION, check_service_order, record_dtype, renumbered
from itp.schema import MAX_STREAMS, SCHEMA

__all__ = ["SUFFIX", "Segment", "frame_dtype", "read_segment", "segments"]

FORMAT = "itp-experience"
SUFFIX = ".itplog"
_HEADER_BYTES = 4096
_COPY_BYTES = 1 << 20
# The names by which version 1 counted its sources.
_SOURCES_1 = ("heuristic", "onnxruntime", "guard", "native")


def frame_dtype(n_streams: int, version: int = VERSION) -> np.dtype[np.void]:
    """The NumPy type of a frame; in version 1 record and checksum are one."""
    if version == VERSION:
        return np.dtype([("record", record_dtype(n_streams)), ("crc32", "<u4")])
    state = ("<f4", (4 * n_streams + 4,))
    return np.dtype(
        [
            ("state", *state),
            ("next_state", *state),
            ("number", "<u8"),
            ("action", "<i4"),
            ("reward", "<f4"),
            ("propensity", "<f4"),
            ("explored", "?"),
            ("done", "?"),
            ("pad", "V2"),
            ("decided_at_s", "<f8"),
            ("completed_at_s", "<f8"),
            ("task_id", "S64"),
            ("source", "u1"),
            ("model_version", "S64"),
            ("crc32", "<u4"),
        ]
    )


def segments(folder: Path) -> list[Path]:
    """The segments of a folder, oldest first."""
    return sorted(folder.glob(f"*{SUFFIX}"))


class Segment:
    """A segment that is being written; one thread at a time.

    Attributes
    ----------
    path : Path
    size_bytes : int
        Written so far.

    Raises
    ------
    OSError
        From every method: the folder or the file cannot be written.
    """

    def __init__(self, folder: Path, n_streams: int, service_order: str | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self._fd = _create(folder)
        header = {
            "format": FORMAT,
            "version": VERSION,
            "schema": SCHEMA,
            "n_streams": n_streams,
            "record_bytes": frame_dtype(n_streams).itemsize,
            "service_order": service_order,
        }
        self.size_bytes = self._synced_bytes = 0
        line = memoryview((json.dumps(header) + "\n").encode())
        try:
            while line:
                line = line[self.write([line]) :]
            self._header_bytes = self.size_bytes
            # The file's name is durable only once its folder is.
            fd = os.open(folder, os.O_RDONLY)
            try:
                _sync(fd)
            finally:
                os.close(fd)
        except BaseException:
            self.close()
            with suppress(OSError):
                self.path.unlink()
            raise

    def write(self, parts: Sequence[memoryview]) -> int:
        """Append bytes; returns how many there was room for."""
        written = os.writev(self._fd, parts)
        self.size_bytes += written
        return written

    def sync(self) -> None:
        """Make what was written durable."""
        if self.unsynced_bytes:
            _sync(self._fd)
            self._synced_bytes = self.size_bytes

    @property
    def unsynced_bytes(self) -> int:
        """Written, and not yet made durable."""
        return self.size_bytes - self._synced_bytes

    @property
    def is_empty(self) -> bool:
        """Whether nothing follows the header."""
        return self.size_bytes == self._header_bytes

    def is_gone(self) -> bool:
        """Whether the file was removed or cut: nobody will read what is written to it."""
        found = os.fstat(self._fd)
        return found.st_nlink == 0 or found.st_size < self.size_bytes

    def close(self) -> None:
        """Close the file; closing twice is allowed."""
        # Forgotten first: a child forked meanwhile must not close a number that is another file's by then.
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _create(folder: Path) -> tuple[Path, int]:
    # Time first, so that names sort by age; the process and a counter make them unique.
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
    for attempt in range(1000):
        path = folder / f"experience-{stamp}-{os.getpid()}-{attempt:03d}{SUFFIX}"
        with suppress(FileExistsError):
            return path, os.open(path, flags, 0o666)
    raise OSError(errno.EEXIST, f"no free segment name for {stamp}")


def _sync(fd: int) -> None:
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # the file system has no such thing
            raise


def read_segment(path: Path, batch: int, service_order: str | None = None) -> Iterator[NDArray[np.void]]:
    """The whole records of a segment, in arrays of at most `batch`.

    Raises
    ------
    LogError
        The file cannot be read, is no segment of a version that is known, holds a damaged record, or says
        another service order than the one given.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            yield from _records(path, file, batch, service_order)
    except OSError as error:
        raise LogError(f"{path}: cannot be read: {error.strerror or error}") from error


def _records(path: Path, file: FileIO, batch: int, service_order: str | None) -> Iterator[NDArray[np.void]]:
    head = _read(file, _HEADER_BYTES)
    line, newline, rest = head.partition(b"\n")
    if not newline and _is_cut_off(line):
        return
    version, n_streams, found = _parsed(path, line)
    check_service_order(path, found, service_order)
    frame = frame_dtype(n_streams, version)
    first = 0
    while True:
        block = rest + _read(file, max(batch * frame.itemsize - len(rest), 0))
        count = min(len(block) // frame.itemsize, batch)
        if not count:
            return
        whole = block[: count * frame.itemsize]
        rest = block[count * frame.itemsize :]
        damaged = first_damaged(whole, frame.itemsize)
        if damaged >= 0:
            end = (damaged + 1) * frame.itemsize
            if not _is_torn(file, block[end - 4 : end], block[end:]):
                raise LogError(f"{path}: record {first + damaged} is damaged: its checksum is wrong")
            count = damaged
        if count:
            yield _as_records(np.frombuffer(whole, dtype=frame, count=count), n_streams, version)
        if damaged >= 0:
            return
        first += count


def _read(file: FileIO, size: int) -> bytes:
    """`size` bytes, fewer only at the file's end."""
    parts = []
    while size and (part := file.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _is_torn(file: FileIO, checksum: bytes, rest: bytes) -> bool:
    """Whether a damaged frame is the last one and was cut off by a power loss: zeros are behind it."""
    zeros_follow = False
    while rest:
        if rest.strip(b"\0"):
            return False
        zeros_follow = True
        rest = file.read(_COPY_BYTES)
    return zeros_follow or not checksum.strip(b"\0")


def _is_cut_off(line: bytes) -> bool:
    """Whether this is a header that was not written to its end: nothing was recorded yet."""
    start = f'{{"format": "{FORMAT}"'.encode()
    written = line.rstrip(b"\0")
    return len(written) < _HEADER_BYTES and (written.startswith(start) or start.startswith(written))


def _parsed(path: Path, line: bytes) -> tuple[int, int, object]:
    """Version, number of streams, and service order if the header says one."""
    try:
        header = json.loads(line)
        if header["format"] != FORMAT:
            raise ValueError(header["format"])
        version, schema, n_streams = header["version"], header["schema"], header["n_streams"]
        n_bytes = header["record_bytes"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise LogError(f"{path}: not an experience log") from error
    if version not in (1, VERSION) or schema != SCHEMA:
        raise LogError(
            f"{path}: version {version!r:.40} of the format, state schema {schema!r:.40}; this release reads "
            f"versions 1 and {VERSION}, schema {SCHEMA}"
        )
    if type(n_streams) is not int or not 1 <= n_streams <= MAX_STREAMS:
        raise LogError(f"{path}: the header says n_streams = {n_streams!r:.40}: expected 1 to 16")
    if n_bytes != frame_dtype(n_streams, version).itemsize:
        raise LogError(
            f"{path}: the header says {n_bytes!r:.40} bytes a record: expected "
            f"{frame_dtype(n_streams, version).itemsize}"
        )
    return int(version), n_streams, header.get("service_order")


def _as_records(frames: NDArray[np.void], n_streams: int, version: int) -> NDArray[np.void]:
    """Records of the present version, in memory of their own."""
    if version == VERSION:
        return np.array(frames["record"])
    records = np.empty(len(frames), dtype=record_dtype(n_streams))
    for name in record_dtype(n_streams).names or ():
        records[name] = frames[name]
    records["source"] = renumbered(frames["source"], _SOURCES_1)
    records["next_state"][records["done"]] = 0.0
    return records
