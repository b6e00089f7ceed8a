"""The steps of a sender's transfers that may take long: they run on workers, never under the lock."""

from __future__ import annotations

import concurrent.futures
import time
from functools import partial

from itp._core.decision import Decision
from itp.errors import TransportError
from itp.partitioner import StreamOutcome, TaskPartitioner
from itp.transport.io.source import Source
from itp.transport.lock import DeferringLock, call_safely
from itp.transport.outbox import Outbox, Outcome
from itp.transport.protocol.messages import encode_name
from itp.transport.protocol.schedule import Schedule
from itp.transport.transfer import Transfer, TransferResult
from itp.transport.workers import Workers

_MAX_WORKERS = 32


class TransferJobs:
    """Opens, hashes, checks and closes the files of a sender; asks the partitioner, and reports to it.

    Thread-safe. The methods called ``defer_...`` are for a thread that holds the lock, all others
    for one that does not.

    Parameters
    ----------
    lock : DeferringLock
    schedule : Schedule
    partitioner : TaskPartitioner
    max_in_flight : int
    """

    def __init__(
        self, lock: DeferringLock, schedule: Schedule, partitioner: TaskPartitioner, max_in_flight: int
    ) -> None:
        self._lock = lock
        self._partitioner = partitioner
        self._workers = Workers(min(max_in_flight, _MAX_WORKERS), "itp-file")
        # Transfers whose future is not set, or whose callbacks are running.
        self._pending: set[Transfer] = set()
        self.outbox = Outbox(schedule, max_in_flight, self._defer_prepare, self._defer_conclude)
        """Guarded by the lock."""

    # --- for the callers ---

    def defer_submit(self, transfer: Transfer) -> None:
        """Take a transfer in."""
        self._pending.add(transfer)
        self.outbox.submit(transfer)

    def wait(self, timeout_s: float | None) -> bool:
        """Wait for the outcomes of all transfers so far; returns whether they are there."""
        with self._lock:
            pending = tuple(self._pending)
        return not concurrent.futures.wait(pending, timeout_s).not_done

    def wait_for_callbacks(self) -> None:
        """Wait for all transfers and their callbacks, and for the transfers that these submit."""
        with self._lock:
            while self._pending:
                self._lock.wait()

    def close(self) -> None:
        """Wait for all jobs, once every transfer has ended."""
        self._workers.close()
        # Some are left only if an interrupt, as by Ctrl-C, has kept this thread from a deferred call.
        for transfer in tuple(self._pending):
            if not transfer.done():
                self._resolve(transfer, TransportError(f"{transfer.name}: the sender was closed"))

    # --- the beginning ---

    def _defer_prepare(self, transfer: Transfer) -> None:
        self._lock.defer(partial(self._workers.run, partial(self._prepare, transfer)))

    def _prepare(self, transfer: Transfer) -> None:
        """Open a file and have it decided, which starts it; then hash it, while it is sent."""
        if transfer not in self.outbox:
            return
        try:
            transfer.raw_name = encode_name(transfer.name)
            source = Source(transfer.path)
            if not self._begin(transfer, source):
                return
            transfer.digest = source.digest()
        except Exception as error:
            # An argument, the file or the disk: whatever is wrong, this file alone fails.
            self.fail(transfer, error)
        else:
            self.end_if_due(transfer)

    def _begin(self, transfer: Transfer, source: Source) -> bool:
        decision = None
        begun = False
        transfer.started_s = time.monotonic()
        try:
            if source.size_bytes:
                decision = self._partitioner.partition_task(transfer.task(source.size_bytes))
            with self._lock:
                begun = self.outbox.begin(transfer, source, decision)
        finally:
            if not begun:
                source.close()
        if not begun and decision is not None:
            call_safely(partial(self._report, transfer, decision, None))
        return begun

    # --- the end ---

    def end_if_due(self, transfer: Transfer) -> None:
        """Send END if the last byte is on its way, the hash is known and the source is unchanged."""
        with self._lock:
            due = self.outbox.claim_end(transfer)
        if not due:
            return
        try:
            _check_source(transfer)
        except TransportError as error:
            self.fail(transfer, error)
        else:
            with self._lock:
                self.outbox.end(transfer)

    def fail(self, transfer: Transfer, error: Exception) -> None:
        """End a transfer for a reason on this side, unless it has ended."""
        with self._lock:
            self.outbox.fail(transfer, error)

    def defer_refused(self, transfer: Transfer, reason: str) -> None:
        """End a transfer that the receiver has failed."""
        self.outbox.withdraw(transfer)
        self._lock.defer(partial(self._workers.run, partial(self._fail_refused, transfer, reason)))

    def _fail_refused(self, transfer: Transfer, reason: str) -> None:
        error: Exception = TransportError(reason)
        try:
            _check_source(transfer)
        except TransportError as change:
            # A source that changed explains more than a hash that differs.
            error = change
        self.fail(transfer, error)

    # --- the outcome ---

    def _defer_conclude(self, transfer: Transfer, outcome: Outcome) -> None:
        if transfer.decision is not None:
            result = outcome if isinstance(outcome, TransferResult) else None
            self._lock.defer(partial(self._report, transfer, transfer.decision, result))
        self._lock.defer(partial(self._workers.run, partial(self._resolve, transfer, outcome)))

    def _report(self, transfer: Transfer, decision: Decision, result: TransferResult | None) -> None:
        latency_s = max(transfer.latency_s, 1e-9)
        self._partitioner.report_outcome(
            decision,
            throughput_mbps=result.size_bytes * 8e-6 / latency_s if result else 0.0,
            latency_s=latency_s,
            success=result is not None,
            retransmitted_bytes=transfer.retransmitted_bytes,
            streams=_stream_outcomes(transfer, decision),
        )

    def _resolve(self, transfer: Transfer, outcome: Outcome) -> None:
        """Close the source and set the future, which runs the callbacks."""
        try:
            if transfer.source is not None:
                transfer.source.close()
            if isinstance(outcome, TransferResult):
                transfer.set_result(outcome)
            else:
                transfer.set_exception(outcome)
        finally:
            with self._lock:
                self._pending.discard(transfer)
                self._lock.notify_all()


def _stream_outcomes(transfer: Transfer, decision: Decision) -> dict[int, StreamOutcome]:
    """What the decision's own streams did. Others may have taken over the chunk of one that was lost."""
    return {
        stream: StreamOutcome(
            done.delivered_bytes, max(done.delivered_s - transfer.started_s, 0.0), done.retransmitted_bytes
        )
        for stream, done in transfer.stream_progress.items()
        if stream in decision.stream_ids
    }


def _check_source(transfer: Transfer) -> None:
    if transfer.source is not None:
        transfer.source.check_unchanged()
