"""The files a sender has: waiting, under way, over; and what the partitioner is told of them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from itp.errors import TransportError
from itp.partitioner import TaskPartitioner
from itp.transport.io.source import Source, SourceError
from itp.transport.protocol.frames import MAX_TEXT
from itp.transport.protocol.schedule import Schedule
from itp.transport.transfer import Transfer, TransferResult

Outcome = TransferResult | TransportError


class Outbox:
    """Takes each file from its submission to its outcome. Not thread-safe: the sender's lock guards it.

    Parameters
    ----------
    partitioner : TaskPartitioner
    schedule : Schedule
    max_in_flight : int
        Files under way at once.
    start_hashing : callable
        Called with a Transfer that is under way; ``hashed`` or ``fail`` must follow.
    """

    def __init__(
        self,
        partitioner: TaskPartitioner,
        schedule: Schedule,
        max_in_flight: int,
        start_hashing: Callable[[Transfer], object],
    ) -> None:
        self._partitioner = partitioner
        self._schedule = schedule
        self._max_in_flight = max_in_flight
        self._start_hashing = start_hashing
        self._waiting: deque[Transfer] = deque()
        self._last_file_id = 0
        self._over: list[tuple[Transfer, Outcome]] = []
        self.in_flight: dict[int, Transfer] = {}
        """By file id."""

    @property
    def empty(self) -> bool:
        """Whether every file is over."""
        return not (self._waiting or self.in_flight)

    def take_over(self) -> list[tuple[Transfer, Outcome]]:
        """The files that are over since the last call; their futures are for the caller to set."""
        over, self._over = self._over, []
        return over

    def submit(self, transfer: Transfer) -> None:
        """Take a file in; it starts when fewer than ``max_in_flight`` are under way."""
        self._waiting.append(transfer)
        self._admit()

    def _admit(self) -> None:
        while self._waiting and len(self.in_flight) < self._max_in_flight:
            transfer = self._waiting.popleft()
            try:
                self._begin(transfer)
            except Exception as error:
                # Whatever is wrong with one file, an argument or its path, is that file's failure.
                self._settle(transfer, error)

    def _begin(self, transfer: Transfer) -> None:
        transfer.started_s = time.monotonic()
        if len(transfer.raw_name) > MAX_TEXT:
            raise TransportError(f"a name of {len(transfer.raw_name)} bytes is too long")
        transfer.source = Source(transfer.path)
        transfer.size_bytes = transfer.source.size_bytes
        stream_ids: tuple[int, ...] = ()
        chunk_sizes: tuple[int, ...] = ()
        if transfer.size_bytes:
            transfer.decision = self._partitioner.partition_task(transfer.task())
            stream_ids, chunk_sizes = transfer.decision.stream_ids, transfer.decision.chunk_sizes
        self._last_file_id += 1
        transfer.file_id = self._last_file_id
        self.in_flight[transfer.file_id] = transfer
        self._schedule.add(transfer.file_id, stream_ids, chunk_sizes)
        self._start_hashing(transfer)

    # --- towards the end ---

    def hashed(self, transfer: Transfer, digest: bytes) -> None:
        """The source's hash is known."""
        transfer.digest = digest
        self.advance(transfer)

    def advance(self, transfer: Transfer) -> None:
        """Say END once the last byte is on its way and the hash is known."""
        if transfer.file_id not in self.in_flight or transfer.digest is None or transfer.end_said:
            return
        if self._schedule.files[transfer.file_id].unsent_bytes == 0 and self._is_unchanged(transfer):
            transfer.end_said = True
            self._schedule.end(transfer.file_id)

    def _is_unchanged(self, transfer: Transfer) -> bool:
        try:
            if transfer.source is not None:
                transfer.source.check_unchanged()
        except SourceError as error:
            self.give_up(transfer, error)
            return False
        return True

    # --- the end ---

    def done(self, transfer: Transfer) -> None:
        """The receiver says that the file stands."""
        self._settle(transfer, None)
        self._admit()

    def failed(self, transfer: Transfer, reason: str) -> None:
        """The receiver says why it did not take the file; a changed source explains more."""
        if self._is_unchanged(transfer):
            self._settle(transfer, TransportError(reason))
            self._admit()

    def give_up(self, transfer: Transfer, error: Exception) -> None:
        """Fail a file for a reason on this side, and let the receiver know."""
        if transfer.file_id in self.in_flight:
            self._schedule.abort(transfer.file_id)
            self._settle(transfer, error)
            self._admit()

    def refuse(self, transfer: Transfer, reason: str) -> None:
        """Fail a file that was not taken in."""
        self._settle(transfer, TransportError(reason))

    def fail_all(self, reason: str) -> None:
        """Nothing more can be sent."""
        waiting, self._waiting = self._waiting, deque()
        for transfer in (*self.in_flight.values(), *waiting):
            self._settle(transfer, TransportError(reason))

    def _settle(self, transfer: Transfer, error: Exception | None) -> None:
        """The only place where a file ends, so that its outcome is reported exactly once."""
        self.in_flight.pop(transfer.file_id, None)
        progress = self._schedule.forget(transfer.file_id)
        retransmitted_bytes = progress.retransmitted_bytes if progress else 0
        if transfer.source is not None:
            transfer.source.close()
        now_s = time.monotonic()
        latency_s = max(now_s - transfer.started_s, 1e-9)
        if transfer.decision is not None:
            self._partitioner.report_outcome(
                transfer.decision,
                throughput_mbps=0.0 if error else transfer.size_bytes * 8e-6 / latency_s,
                latency_s=latency_s,
                success=error is None,
                retransmitted_bytes=retransmitted_bytes,
            )
        if error is not None:
            self._over.append((transfer, TransportError(f"{transfer.name}: {error}")))
            return
        transfer.delivered_bytes = transfer.size_bytes
        duration_s = max(now_s - transfer.submitted_s, 1e-9)
        result = TransferResult(
            name=transfer.name,
            size_bytes=transfer.size_bytes,
            duration_s=duration_s,
            throughput_mbps=transfer.size_bytes * 8e-6 / duration_s,
            decision=transfer.decision,
            retransmitted_bytes=retransmitted_bytes,
            blake3=(transfer.digest or b"").hex(),
        )
        self._over.append((transfer, result))
