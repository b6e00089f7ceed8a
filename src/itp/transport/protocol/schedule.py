"""What each stream sends next, and what is sent again after damage or after the loss of a stream.

Streams serve their ranges first in, first out. The frames of a stream are numbered from 1 in the
order they are sent, and the receiver acknowledges them by number.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from itp.transport.protocol.frames import MAX_PAYLOAD, FrameError, Kind

# The ranges of a lost stream are redistributed in at most about this many pieces, none below a frame.
_PIECES = 64
_MAX_CONSECUTIVE_NACKS = 32


class Item(NamedTuple):
    """One frame to send, or an unsent range (DATA) of any length that is still to be cut into frames."""

    kind: Kind
    file_id: int
    offset: int = 0
    length: int = 0


@dataclass(slots=True)
class StreamProgress:
    """What one stream did for one file."""

    delivered_bytes: int = 0
    retransmitted_bytes: int = 0
    delivered_s: float = 0.0
    """When the last of them were acknowledged."""


@dataclass(slots=True)
class FileProgress:
    """How much of one file was sent and delivered, in bytes."""

    unsent_bytes: int
    delivered_bytes: int = 0
    retransmitted_bytes: int = 0
    streams: defaultdict[int, StreamProgress] = field(default_factory=lambda: defaultdict(StreamProgress))
    """By stream."""


@dataclass(slots=True)
class _Stream:
    up: bool = True
    control: deque[Item] = field(default_factory=deque)
    ranges: deque[Item] = field(default_factory=deque)
    unacked: deque[Item] = field(default_factory=deque)
    acked_frames: int = 0
    consecutive_nacks: int = 0
    delivered_bytes: int = 0
    announced: set[int] = field(default_factory=set)

    def backlog_bytes(self) -> int:
        return sum(item.length for item in self.ranges) + sum(item.length for item in self.unacked)


class Schedule:
    """The queues of n streams. Not thread-safe: the caller holds a lock.

    Parameters
    ----------
    n_streams : int
    on_work : callable
        Called whenever a stream may have something new to send.
    """

    def __init__(self, n_streams: int, on_work: Callable[[], object]) -> None:
        self._on_work = on_work
        self._streams = [_Stream() for _ in range(n_streams)]
        self.files: dict[int, FileProgress] = {}
        """The files that are under way, by file id."""

    @property
    def live(self) -> list[int]:
        """The streams that are up."""
        return [i for i, stream in enumerate(self._streams) if stream.up]

    def unacked_frames(self, stream: int) -> int:
        """Frames that were sent on a stream and not acknowledged."""
        return len(self._streams[stream].unacked)

    def delivered_bytes(self, stream: int) -> int:
        """File bytes acknowledged on a stream so far."""
        return self._streams[stream].delivered_bytes

    # --- files ---

    def add(self, file_id: int, stream_ids: Sequence[int], chunk_sizes: Sequence[int]) -> None:
        """Enter a file: each stream gets its chunk, in the order of the file's bytes.

        The chunk of a stream that is down goes to the live ones.
        """
        self.files[file_id] = FileProgress(sum(chunk_sizes))
        self._on_work()
        offset = 0
        for stream, length in zip(stream_ids, chunk_sizes, strict=True):
            item = Item(Kind.DATA, file_id, offset, length)
            if self._streams[stream].up:
                self._streams[stream].ranges.append(item)
            else:
                self._redistribute([item], [1.0] * len(self._streams))
            offset += length

    def end(self, file_id: int) -> None:
        """Send END of a file on some live stream."""
        self._send_control(Item(Kind.END, file_id))

    def abort(self, file_id: int) -> None:
        """Send ABORT of a file on some live stream, and nothing more of it."""
        self.forget(file_id)
        self._send_control(Item(Kind.ABORT, file_id))

    def forget(self, file_id: int) -> FileProgress | None:
        """Drop a file, if it is under way; its items that are still queued are skipped."""
        for stream in self._streams:
            stream.announced.discard(file_id)
        return self.files.pop(file_id, None)

    def _send_control(self, item: Item) -> None:
        live = [stream for stream in self._streams if stream.up]
        if live:
            # A stream that has announced the file need not do so again.
            best = min(live, key=lambda s: (item.file_id not in s.announced, len(s.unacked)))
            best.control.append(item)
            self._on_work()

    # --- sending ---

    def next(self, stream: int) -> Item | None:
        """The next frame of a stream, which counts as unacknowledged from now on; None if there is none.

        A file is announced (FILE) on every stream before the stream's first frame of it.
        """
        s = self._streams[stream]
        queue = s.control if self._drop_forgotten(s.control) else s.ranges
        if not s.up or not self._drop_forgotten(queue):
            return None
        item = queue[0]
        if item.kind is not Kind.ABORT and item.file_id not in s.announced:
            s.announced.add(item.file_id)
            item = Item(Kind.FILE, item.file_id)
        elif item.length > MAX_PAYLOAD:
            queue[0] = item._replace(offset=item.offset + MAX_PAYLOAD, length=item.length - MAX_PAYLOAD)
            item = item._replace(length=MAX_PAYLOAD)
        else:
            queue.popleft()
        if item.kind is Kind.DATA:
            self.files[item.file_id].unsent_bytes -= item.length
        s.unacked.append(item)
        return item

    def _drop_forgotten(self, queue: deque[Item]) -> bool:
        """Skip the items of forgotten files; returns whether anything is left."""
        while queue and queue[0].kind is not Kind.ABORT and queue[0].file_id not in self.files:
            queue.popleft()
        return bool(queue)

    # --- acknowledgements ---

    def ack(self, stream: int, position: int, now_s: float = 0.0) -> int:
        """All frames up to number `position` arrived; returns the delivered bytes of files under way.

        Raises
        ------
        FrameError
            No such frame was sent, or it was acknowledged before.
        """
        s = self._streams[stream]
        count = position - s.acked_frames
        if not 0 < count <= len(s.unacked):
            raise FrameError(f"the receiver confirmed frame {position}, which was never sent or is settled")
        delivered = 0
        for _ in range(count):
            item = s.unacked.popleft()
            if item.kind is Kind.DATA:
                s.delivered_bytes += item.length
                progress = self.files.get(item.file_id)
                if progress is not None:
                    progress.delivered_bytes += item.length
                    progress.streams[stream].delivered_bytes += item.length
                    progress.streams[stream].delivered_s = now_s
                    delivered += item.length
        s.acked_frames = position
        s.consecutive_nacks = 0
        return delivered

    def nack(self, stream: int, position: int, now_s: float = 0.0) -> int:
        """Frame number `position` arrived damaged and is sent again; otherwise as ``ack``.

        Raises
        ------
        FrameError
            As for ``ack``, or too many frames in a row arrived damaged.
        """
        s = self._streams[stream]
        delivered = self.ack(stream, position - 1, now_s) if position - 1 > s.acked_frames else 0
        if position != s.acked_frames + 1 or not s.unacked:
            raise FrameError(f"the receiver refused frame {position}, which was never sent or is settled")
        s.consecutive_nacks += 1
        if s.consecutive_nacks > _MAX_CONSECUTIVE_NACKS:
            raise FrameError(f"{s.consecutive_nacks} frames in a row arrived damaged")
        item = s.unacked.popleft()
        s.acked_frames = position
        self._on_work()
        if item.kind is Kind.FILE:
            s.announced.discard(item.file_id)
        elif item.kind is Kind.DATA:
            self._mark_unsent(stream, item)
            s.ranges.appendleft(item)
        else:
            s.control.appendleft(item)
        return delivered

    # --- lost streams ---

    def stream_down(self, stream: int, rates: Sequence[float]) -> None:
        """Take a stream out: everything it has not delivered goes to the live ones, earliest-free first.

        Parameters
        ----------
        stream : int
        rates : sequence of float
            Of every stream, in any common unit; > 0.
        """
        s = self._streams[stream]
        s.up = False
        for item in s.unacked:
            if item.kind is Kind.DATA:
                self._mark_unsent(stream, item)
        lost = [item for item in (*s.unacked, *s.control, *s.ranges) if item.kind is not Kind.FILE]
        for queue in (s.unacked, s.control, s.ranges):
            queue.clear()
        for item in lost:
            if item.kind is not Kind.DATA:
                self._send_control(item)
        self._redistribute(
            [item for item in lost if item.kind is Kind.DATA and item.file_id in self.files], rates
        )

    def _mark_unsent(self, stream: int, item: Item) -> None:
        progress = self.files.get(item.file_id)
        if progress is not None:
            progress.unsent_bytes += item.length
            progress.retransmitted_bytes += item.length
            progress.streams[stream].retransmitted_bytes += item.length

    def _redistribute(self, items: Sequence[Item], rates: Sequence[float]) -> None:
        live = self.live
        if not live:
            return
        self._on_work()
        backlog = {i: float(self._streams[i].backlog_bytes()) for i in live}
        piece = max(MAX_PAYLOAD, -(-sum(item.length for item in items) // _PIECES))
        for item in items:
            for start in range(item.offset, item.offset + item.length, piece):
                length = min(piece, item.offset + item.length - start)
                earliest = min(live, key=lambda i: (backlog[i] + length) / rates[i])
                backlog[earliest] += length
                self._streams[earliest].ranges.append(Item(Kind.DATA, item.file_id, start, length))
