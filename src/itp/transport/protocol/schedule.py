"""What each stream sends next, and what is sent again when a stream dies.

Pure: no sockets, no threads, no clock. Streams serve their ranges first in, first out. Frames of
a stream are numbered from 1 in the order they are sent, and the receiver confirms them by number.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from itp.transport.protocol.frames import MAX_PAYLOAD, FrameError, Kind

# A dead stream's ranges are dealt out in pieces no smaller than a frame, this many at most.
_PIECES = 64


class Item(NamedTuple):
    """One frame to send, or (DATA, unsent) a range of any length still to be cut into frames."""

    kind: Kind
    file_id: int
    offset: int = 0
    length: int = 0


@dataclass(slots=True)
class FileProgress:
    """How far one file is; bytes."""

    unsent_bytes: int
    delivered_bytes: int = 0
    retransmitted_bytes: int = 0


@dataclass(slots=True)
class _Stream:
    up: bool = True
    control: deque[Item] = field(default_factory=deque)
    ranges: deque[Item] = field(default_factory=deque)
    unacked: deque[Item] = field(default_factory=deque)
    acked_frames: int = 0
    delivered_bytes: int = 0
    announced: set[int] = field(default_factory=set)

    def waiting_bytes(self) -> int:
        return sum(item.length for item in self.ranges) + sum(item.length for item in self.unacked)


class Schedule:
    """The queues of n streams. Not thread-safe: the caller holds a lock."""

    def __init__(self, n_streams: int) -> None:
        self._streams = [_Stream() for _ in range(n_streams)]
        self.files: dict[int, FileProgress] = {}
        self.has_news = False
        """Set whenever there is something new to send; whoever wakes the streams clears it."""

    @property
    def live(self) -> list[int]:
        """The streams that are up."""
        return [i for i, stream in enumerate(self._streams) if stream.up]

    def unacked_frames(self, stream: int) -> int:
        """Frames sent on a stream and not confirmed."""
        return len(self._streams[stream].unacked)

    def delivered_bytes(self, stream: int) -> int:
        """File bytes confirmed on a stream so far."""
        return self._streams[stream].delivered_bytes

    # --- files ---

    def add(self, file_id: int, stream_ids: Sequence[int], chunk_sizes: Sequence[int]) -> None:
        """Enter a file: its bytes go to the streams in order, so many to each.

        A chunk of a stream that is down goes to the live ones.
        """
        self.files[file_id] = FileProgress(sum(chunk_sizes))
        self.has_news = True
        offset = 0
        for stream, length in zip(stream_ids, chunk_sizes, strict=True):
            item = Item(Kind.DATA, file_id, offset, length)
            if self._streams[stream].up:
                self._streams[stream].ranges.append(item)
            else:
                self._deal_out([item], [1.0] * len(self._streams))
            offset += length

    def end(self, file_id: int) -> None:
        """Let some live stream say that the file is whole."""
        self._say(Item(Kind.END, file_id))

    def abort(self, file_id: int) -> None:
        """Let some live stream say that the file will not come; nothing more of it is sent."""
        self.forget(file_id)
        self._say(Item(Kind.ABORT, file_id))

    def forget(self, file_id: int) -> FileProgress | None:
        """Drop a file, if it is there; what of it still stands in queues is skipped."""
        for stream in self._streams:
            stream.announced.discard(file_id)
        return self.files.pop(file_id, None)

    def _say(self, item: Item) -> None:
        live = [stream for stream in self._streams if stream.up]
        if live:
            # A stream that has announced the file need not do so again.
            best = min(live, key=lambda s: (item.file_id not in s.announced, len(s.unacked)))
            best.control.append(item)
            self.has_news = True

    # --- what is sent ---

    def next(self, stream: int) -> Item | None:
        """The next frame of a stream, from now on unacknowledged; None: nothing to send.

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
        while queue and queue[0].kind is not Kind.ABORT and queue[0].file_id not in self.files:
            queue.popleft()
        return bool(queue)

    # --- what is confirmed ---

    def ack(self, stream: int, position: int) -> int:
        """Frames up to number `position` arrived; returns the bytes delivered of files not over yet.

        Raises
        ------
        FrameError
            No such frame was sent, or it was confirmed before.
        """
        s = self._streams[stream]
        count = position - s.acked_frames
        if not 0 < count <= len(s.unacked):
            raise FrameError(f"frame {position} was confirmed but never sent, or twice")
        delivered = 0
        for _ in range(count):
            item = s.unacked.popleft()
            if item.kind is Kind.DATA:
                s.delivered_bytes += item.length
                progress = self.files.get(item.file_id)
                if progress is not None:
                    progress.delivered_bytes += item.length
                    delivered += item.length
        s.acked_frames = position
        return delivered

    def nack(self, stream: int, position: int) -> int:
        """Frame number `position` did not arrive intact: it goes again. Returns as ``ack``."""
        s = self._streams[stream]
        delivered = self.ack(stream, position - 1) if position - 1 > s.acked_frames else 0
        if position != s.acked_frames + 1 or not s.unacked:
            raise FrameError(f"frame {position} was refused but never sent, or was settled before")
        item = s.unacked.popleft()
        s.acked_frames = position
        self.has_news = True
        if item.kind is Kind.FILE:
            s.announced.discard(item.file_id)
        elif item.kind is Kind.DATA:
            self._count_again(item)
            s.ranges.appendleft(item)
        else:
            s.control.appendleft(item)
        return delivered

    # --- streams that die ---

    def stream_down(self, stream: int, rates: Sequence[float]) -> None:
        """A stream is dead: all it has not delivered goes to the live ones, those soonest free first.

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
                self._count_again(item)
        lost = [item for item in (*s.unacked, *s.control, *s.ranges) if item.kind is not Kind.FILE]
        for queue in (s.unacked, s.control, s.ranges):
            queue.clear()
        for item in lost:
            if item.kind is not Kind.DATA:
                self._say(item)
        self._deal_out(
            [item for item in lost if item.kind is Kind.DATA and item.file_id in self.files], rates
        )

    def _count_again(self, item: Item) -> None:
        progress = self.files.get(item.file_id)
        if progress is not None:
            progress.unsent_bytes += item.length
            progress.retransmitted_bytes += item.length

    def _deal_out(self, items: Sequence[Item], rates: Sequence[float]) -> None:
        live = self.live
        if not live:
            return
        self.has_news = True
        waiting = {i: float(self._streams[i].waiting_bytes()) for i in live}
        piece = max(MAX_PAYLOAD, -(-sum(item.length for item in items) // _PIECES))
        for item in items:
            for start in range(item.offset, item.offset + item.length, piece):
                length = min(piece, item.offset + item.length - start)
                soonest = min(live, key=lambda i: (waiting[i] + length) / rates[i])
                waiting[soonest] += length
                self._streams[soonest].ranges.append(Item(Kind.DATA, item.file_id, start, length))
