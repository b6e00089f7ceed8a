"""The transfers of a sender, from submission to outcome."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from itp._core.decision import Decision
from itp.errors import TransportError
from itp.transport.io.source import Source
from itp.transport.protocol.schedule import Schedule
from itp.transport.transfer import Transfer, TransferResult

Outcome = TransferResult | TransportError


class Outbox:
    """Bookkeeping of transfers: it touches no file. Not thread-safe: the sender's lock guards it.

    A transfer waits, is prepared (opened, decided), is in flight, and ends with exactly one outcome.

    Parameters
    ----------
    schedule : Schedule
    max_in_flight : int
        Transfers that are prepared or in flight at once.
    prepare : callable
        Called with a Transfer whose turn has come; ``begin`` or ``fail`` must follow.
    conclude : callable
        Called once with every Transfer that has ended and its Outcome.
    """

    def __init__(
        self,
        schedule: Schedule,
        max_in_flight: int,
        prepare: Callable[[Transfer], object],
        conclude: Callable[[Transfer, Outcome], object],
    ) -> None:
        self._schedule = schedule
        self._max_in_flight = max_in_flight
        self._prepare = prepare
        self._conclude = conclude
        self._waiting: deque[Transfer] = deque()
        # In the order of submission; a dict, for there is no ordered set.
        self._unfinished: dict[Transfer, None] = {}
        self._last_file_id = 0
        self.in_flight: dict[int, Transfer] = {}
        """By file id."""

    @property
    def empty(self) -> bool:
        """Whether every transfer has ended."""
        return not self._unfinished

    def __contains__(self, transfer: Transfer) -> bool:
        """Whether a transfer has not ended."""
        return transfer in self._unfinished

    # --- the beginning ---

    def submit(self, transfer: Transfer) -> None:
        """Take a transfer in; it is prepared when fewer than ``max_in_flight`` are under way."""
        self._unfinished[transfer] = None
        self._waiting.append(transfer)
        self._admit()

    def _admit(self) -> None:
        while self._waiting and len(self._unfinished) - len(self._waiting) < self._max_in_flight:
            self._prepare(self._waiting.popleft())

    def begin(self, transfer: Transfer, source: Source, decision: Decision | None) -> bool:
        """Enter a transfer whose file is open and decided; False if it has ended already."""
        if transfer not in self._unfinished:
            return False
        self._last_file_id += 1
        transfer.file_id = self._last_file_id
        transfer.source = source
        transfer.size_bytes = source.size_bytes
        transfer.decision = decision
        self.in_flight[transfer.file_id] = transfer
        self._schedule.add(
            transfer.file_id,
            decision.stream_ids if decision else (),
            decision.chunk_sizes if decision else (),
        )
        return True

    # --- END ---

    def claim_end(self, transfer: Transfer) -> bool:
        """Whether END is due: the last byte is on its way and the hash is known. True once only.

        ``end`` or ``fail`` must follow.
        """
        if transfer.end_claimed or transfer.digest is None or transfer.file_id not in self.in_flight:
            return False
        transfer.end_claimed = self._schedule.files[transfer.file_id].unsent_bytes == 0
        return transfer.end_claimed

    def end(self, transfer: Transfer) -> None:
        """Send END."""
        if transfer.file_id in self.in_flight:
            transfer.end_sent = True
            self._schedule.end(transfer.file_id)

    # --- the outcome ---

    def done(self, transfer: Transfer) -> None:
        """The receiver has confirmed the complete file."""
        self._settle(transfer, None)

    def withdraw(self, transfer: Transfer) -> None:
        """Take a transfer out of flight: nothing more of it is sent. ``fail`` follows."""
        if self.in_flight.pop(transfer.file_id, None) is not None:
            progress = self._schedule.forget(transfer.file_id)
            if progress is not None:
                transfer.retransmitted_bytes = progress.retransmitted_bytes
                transfer.stream_progress = dict(progress.streams)

    def fail(self, transfer: Transfer, error: Exception) -> None:
        """End a transfer with an error, unless it has ended; if it is in flight, the receiver is told."""
        if transfer.file_id in self.in_flight:
            self.withdraw(transfer)
            self._schedule.abort(transfer.file_id)
        self._settle(transfer, error)

    def fail_all(self, reason: str) -> None:
        """End every transfer with an error: nothing more can be sent."""
        self._waiting.clear()
        for transfer in tuple(self._unfinished):
            self._settle(transfer, TransportError(reason))

    def _settle(self, transfer: Transfer, error: Exception | None) -> None:
        """End a transfer: the only place that does, so that there is exactly one outcome."""
        if transfer not in self._unfinished:
            return
        self.withdraw(transfer)
        del self._unfinished[transfer]
        now_s = time.monotonic()
        transfer.latency_s = max(now_s - transfer.started_s, 1e-9)
        if error is not None:
            self._conclude(transfer, TransportError(f"{transfer.name}: {error}"))
        else:
            transfer.delivered_bytes = transfer.size_bytes
            duration_s = max(now_s - transfer.submitted_s, 1e-9)
            result = TransferResult(
                name=transfer.name,
                size_bytes=transfer.size_bytes,
                duration_s=duration_s,
                throughput_mbps=transfer.size_bytes * 8e-6 / duration_s,
                decision=transfer.decision,
                retransmitted_bytes=transfer.retransmitted_bytes,
                blake3=(transfer.digest or b"").hex(),
            )
            self._conclude(transfer, result)
        self._admit()
