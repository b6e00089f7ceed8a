"""How much of a file has arrived, and when it can be finished."""

from __future__ import annotations

from itp.transport.protocol.frames import FrameError
from itp.transport.protocol.messages import FileRefused
from itp.transport.protocol.ranges import RangeSet

_MAX_GAPS = 65_536


def check_range(start: int, end: int, size_bytes: int) -> None:
    """FrameError if the bytes from `start` to before `end` are not within a file of this size."""
    if end > size_bytes:
        raise FrameError(f"data from byte {start} to {end} of a file of {size_bytes}")


class Assembly:
    """The state of a file whose bytes arrive in any order, over several streams. Not thread-safe.

    Every write is announced by ``begin`` and concluded by ``end``; several may be in progress at
    once. A file is complete when its digest is known, every byte is there and no write is in progress.

    Parameters
    ----------
    size_bytes : int
    """

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.digest: bytes | None = None
        """What the whole file must hash to; None until the sender has said so."""
        self._ranges = RangeSet()
        self._writes = 0
        self._complete = False

    def begin(self, start: int, end: int) -> bool:
        """Whether the bytes from `start` to before `end` are still wanted; if so, ``end`` must follow.

        Raises
        ------
        FrameError
            Beyond the end of the file.
        """
        check_range(start, end, self.size_bytes)
        if self._complete or self._ranges.covers(start, end):
            return False
        self._writes += 1
        return True

    def end(self, start: int, end: int, *, written: bool) -> bool:
        """Conclude a write that ``begin`` allowed; returns as ``complete``.

        Raises
        ------
        FileRefused
            The file arrived in too many separate pieces.
        """
        self._writes -= 1
        if written:
            self._ranges.add(start, end)
            if len(self._ranges) > _MAX_GAPS:
                raise FileRefused("the file arrived in too many separate pieces")
        return self.complete()

    def expect(self, digest: bytes) -> bool:
        """Set what the whole file must hash to; returns as ``complete``."""
        if not self._complete:
            self.digest = digest
        return self.complete()

    def complete(self) -> bool:
        """Whether the file has just become complete; True once only."""
        if self._complete or self._writes or self.digest is None:
            return False
        self._complete = self._ranges.covered_bytes == self.size_bytes
        return self._complete
