"""The experience log: a folder of segments of fixed-size records, safe to cut off anywhere.

A segment starts with one line of JSON (format, version, streams, dtype) and goes on with records
of ``record_dtype(n_streams)``, each closed by the CRC-32 of its other bytes. A process writes a
segment of its own; a record cut off by a crash is left out when reading.
"""

from __future__ import annotations

import json
import logging
import os
import struct
import threading
import time
import weakref
import zlib
from collections import deque
from io import FileIO
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from itp._core.decision import Decision
from itp._core.state import SCHEMA
from itp.errors import LogError

log = logging.getLogger("itp")

FORMAT = "itp-experience"
VERSION = 1
SEGMENT_BYTES = 64 * 2**20
FLUSH_BYTES = 64 * 2**10
FLUSH_S = 1.0
PENDING_BYTES = 16 * 2**20
TASK_ID_BYTES = 64
VERSION_BYTES = 64
SOURCES = ("heuristic", "onnxruntime", "guard", "native")

_TAIL = struct.Struct(f"<Qiff??xxdd{TASK_ID_BYTES}sB{VERSION_BYTES}s")


def record_dtype(n_streams: int) -> np.dtype[np.void]:
    """The record of one experience; strings are UTF-8, cut at 64 bytes, padded with zeros."""
    length = 4 * n_streams + 4
    return np.dtype(
        [
            ("state", "<f4", (length,)),
            ("next_state", "<f4", (length,)),
            ("number", "<u8"),
            ("action", "<i4"),
            ("reward", "<f4"),
            ("propensity", "<f4"),
            ("explored", "?"),
            ("done", "?"),
            ("pad", "V2"),
            ("decided_at_s", "<f8"),
            ("completed_at_s", "<f8"),
            ("task_id", f"S{TASK_ID_BYTES}"),
            ("source", "u1"),
            ("model_version", f"S{VERSION_BYTES}"),
            ("crc32", "<u4"),
        ]
    )


def experience_dtype(n_streams: int) -> np.dtype[np.void]:
    """The fields of a record without its framing."""
    record = record_dtype(n_streams)
    names = [name for name in record.names or () if name not in ("pad", "crc32")]
    return np.dtype([(name, record[name]) for name in names])


_logs: weakref.WeakSet[ExperienceLog] = weakref.WeakSet()


def _after_fork() -> None:
    # Locks of threads that the child does not have would never be released.
    for experience_log in list(_logs):
        experience_log._start()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class ExperienceLog:
    """Appends joined experiences to a segment in a folder, each when its next state is known.

    Records are gathered and written every 64 KiB or second, and on ``flush`` and ``close``. A folder
    that cannot be written for a while (a full disk) does not disturb whoever reports outcomes: up to
    16 MiB of records wait, the log says so, and ``close`` raises if some are lost in the end. After a
    fork the child writes a segment of its own.

    Thread safety: all methods may be called from several threads.

    Raises
    ------
    LogError
        The folder cannot be made or written.
    """

    def __init__(self, folder: str | os.PathLike[str], n_streams: int) -> None:
        if not os.fspath(folder):
            raise ValueError("experience_log = '': expected a folder")
        self.folder = Path(folder)
        self.n_streams = n_streams
        self._closed = False
        self._start()
        _logs.add(self)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._open_segment()
        except OSError as error:
            raise LogError(f"{self.folder}: no log can be kept here: {error.strerror or error}") from error

    def _start(self) -> None:
        """Nothing gathered and no segment; so in a child after a fork, for what there was is the parent's."""
        self.lost_records = 0
        """Records that did not fit what may wait."""
        self._lock = threading.Lock()
        self._incomplete: deque[Decision] = deque()
        self._buffer = bytearray()
        self._segment_bytes = 0
        self._file: FileIO | None = None
        self._timer: threading.Timer | None = None
        self._failing = False

    def _open_segment(self) -> None:
        # Time first, so that names sort by age; the process and a counter make them unique.
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        for attempt in range(1000):
            path = self.folder / f"experience-{stamp}-{os.getpid()}-{attempt:03d}.itplog"
            try:
                file = open(path, "xb", buffering=0)  # noqa: SIM115 (closed by close())
                break
            except FileExistsError:
                continue
        else:
            raise OSError(f"no free segment name for {stamp}")
        header = {
            "format": FORMAT,
            "version": VERSION,
            "schema": SCHEMA,
            "n_streams": self.n_streams,
            "record_bytes": record_dtype(self.n_streams).itemsize,
        }
        try:
            file.write((json.dumps(header) + "\n").encode())
        except BaseException:
            file.close()
            path.unlink()
            raise
        self._file = file
        self._segment_bytes = 0

    def add(self, decision: Decision) -> None:
        """Keep a reported decision, to be written as soon as the next one's state is known, or on ``close``.

        Raises
        ------
        LogError
            The log is closed.
        """
        with self._lock:
            if self._closed:
                raise LogError(f"{self.folder}: the log is closed")
            self._incomplete.append(decision)
            self._gather_complete()

    def _gather_complete(self) -> None:
        for _ in range(len(self._incomplete)):
            decision = self._incomplete.popleft()
            if decision.next_state is None:
                self._incomplete.append(decision)
            else:
                self._gather(decision, done=False)

    def _gather(self, decision: Decision, *, done: bool) -> None:
        """Add a decision to what is written next; `done` marks the last one, whose next state is its own."""
        state = decision.state.tobytes()
        following = decision.next_state
        body = (
            state
            + (state if following is None else following.tobytes())
            + _TAIL.pack(
                decision.number,
                decision.action,
                decision.reward,
                decision.propensity,
                decision.explored,
                done,
                decision.decided_at_s,
                decision.completed_at_s,
                decision.task.id.encode("utf-8", "replace"),
                SOURCES.index(decision.source),
                (decision.model_version or "").encode("utf-8", "replace"),
            )
        )
        if len(self._buffer) + len(body) > PENDING_BYTES:
            self.lost_records += 1
            return
        self._buffer += body + zlib.crc32(body).to_bytes(4, "little")
        if len(self._buffer) >= FLUSH_BYTES and not self._failing:
            self._try_write()
        elif self._timer is None and not self._closed:
            self._timer = threading.Timer(FLUSH_S, self._on_timer)
            self._timer.daemon = True
            self._timer.start()

    def _on_timer(self) -> None:
        with self._lock:
            self._timer = None
            if not self._closed:
                self._try_write()

    def _try_write(self) -> OSError | None:
        """Write what has been gathered; on failure it stays for the next attempt."""
        try:
            if self._file is None and self._buffer:
                self._open_segment()
            self._write(self._file)
        except OSError as error:
            if not self._failing:
                log.warning("%s: records wait, for it cannot be written: %s", self.folder, error)
            self._failing = True
            return error
        if self._failing:
            log.warning("%s: can be written again; %d records were lost", self.folder, self.lost_records)
        self._failing = False
        return None

    def _write(self, file: FileIO | None) -> None:
        if file is None:
            return
        while self._buffer:
            written = file.write(self._buffer)
            self._segment_bytes += written
            del self._buffer[:written]
        if self._segment_bytes >= SEGMENT_BYTES:
            self._file = None
            file.close()

    def flush(self) -> None:
        """Write what has been gathered and make it durable; LogError if that fails."""
        with self._lock:
            self._flush()

    def _flush(self) -> None:
        error = self._try_write()
        if error is None and self._file is not None:
            try:
                os.fsync(self._file.fileno())
            except OSError as failed:
                error = failed
        if error is not None:
            raise LogError(f"{self.folder}: cannot be written: {error.strerror or error}") from error

    def close(self) -> None:
        """Write all, also what has no next state, make durable, close; closing twice is allowed.

        Raises
        ------
        LogError
            Records were lost. The log is closed all the same.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
            self._gather_complete()
            for decision in self._incomplete:
                self._gather(decision, done=True)
            try:
                self._flush()
            except LogError as error:
                waiting = len(self._buffer) // record_dtype(self.n_streams).itemsize
                self.lost_records += waiting
                raise LogError(f"{error}; {self.lost_records} records are lost") from error
            finally:
                if self._file is not None:
                    self._file.close()
                    self._file = None
            if self.lost_records:
                raise LogError(f"{self.folder}: {self.lost_records} records were lost while it was full")

    def __enter__(self) -> ExperienceLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_log(folder: str | os.PathLike[str]) -> npt.NDArray[np.void]:
    """All whole records of a folder's segments, oldest segment first.

    A record cut off at a segment's end is left out; one whose checksum fails raises.

    Raises
    ------
    LogError
        No such folder, a file that is no segment, segments of different numbers of streams, or a
        damaged record.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise LogError(f"{folder}: no such folder")
    read = (_read_segment(path) for path in sorted(folder.glob("experience-*.itplog")))
    segments = [segment for segment in read if segment is not None]
    if not segments:
        return np.empty(0, dtype=record_dtype(4))
    if len({segment.dtype.itemsize for segment in segments}) > 1:
        raise LogError(f"{folder}: its segments are of different numbers of streams")
    return np.concatenate(segments)


def _read_segment(path: Path) -> npt.NDArray[np.void] | None:
    """A segment's whole records; None if it was cut off inside its header."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise LogError(f"{path}: cannot be read: {error.strerror or error}") from error
    line, newline, records = content.partition(b"\n")
    if not newline:
        if len(content) < 256:  # nothing was recorded yet
            return None
        raise LogError(f"{path}: not an experience log")
    try:
        header = json.loads(line)
        known = header["format"] == FORMAT and header["version"] == VERSION and header["schema"] == SCHEMA
        dtype = record_dtype(header["n_streams"]) if known and 1 <= header["n_streams"] <= 16 else None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise LogError(f"{path}: not an experience log") from error
    if dtype is None or header.get("record_bytes") != dtype.itemsize:
        raise LogError(
            f"{path}: format {line[:200]!r}; this version reads {FORMAT} {VERSION}, schema {SCHEMA}"
        )
    size = dtype.itemsize
    whole = len(records) // size
    for k in range(whole):
        record = records[k * size : (k + 1) * size]
        if zlib.crc32(record[:-4]) != int.from_bytes(record[-4:], "little"):
            raise LogError(f"{path}: record {k} is damaged (checksum)")
    array: npt.NDArray[np.void] = np.frombuffer(records, dtype=dtype, count=whole).copy()
    return array
