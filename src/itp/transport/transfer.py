"""One file on its way: what the caller waits for."""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from itp._core.decision import Decision
from itp._core.task import Task
from itp.transport.io.source import Source
from itp.transport.protocol.schedule import StreamProgress


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferResult:
    """A file that arrived complete and verified."""

    name: str
    size_bytes: int
    duration_s: float
    """From ``submit`` until the receiver has confirmed that the file has its name."""
    throughput_mbps: float
    decision: Decision | None
    """None for an empty file, which needs none."""
    retransmitted_bytes: int
    """Sent again by the transport; what TCP retransmits within a stream is not counted."""
    blake3: str


class Transfer(Future[TransferResult]):
    """The future of one file.

    ``result(timeout)`` returns the TransferResult or raises TransportError; ``exception`` returns the
    error. A transfer cannot be cancelled. Callbacks run on a thread of the sender that serves no stream;
    they may call every method of the sender.
    """

    def __init__(self, path: Path, name: str, priority: float, deadline_s: float | None) -> None:
        super().__init__()
        self.set_running_or_notify_cancel()
        self.path = path
        self.name = name
        self.size_bytes = 0
        """Known once the file is open."""
        self.delivered_bytes = 0
        self.decision: Decision | None = None
        self.priority = priority
        self.deadline_s = deadline_s
        self.submitted_s = time.monotonic()
        # The rest is the sender's own.
        self.raw_name = b""
        self.source: Source | None = None
        self.digest: bytes | None = None
        self.file_id = 0
        self.started_s = self.submitted_s
        self.latency_s = 0.0
        self.retransmitted_bytes = 0
        self.stream_progress: dict[int, StreamProgress] = {}
        self.end_claimed = False
        self.end_sent = False

    def task(self, size_bytes: int) -> Task:
        """What the partitioner decides on; only for a file that is not empty."""
        return Task(id=self.name, size_bytes=size_bytes, priority=self.priority, deadline_s=self.deadline_s)
