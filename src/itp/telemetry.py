"""Prometheus metrics of partitioners, read when they are scraped, so that decisions pay nothing for them.

``docs/telemetry.md`` lists the metrics. Needs the extra ``itp[metrics]`` (prometheus-client).
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from itp._util.extras import extra
from itp.errors import ClosedError
from itp.partitioner import Metrics, TaskPartitioner

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Metric
    from typing_extensions import Self

__all__ = ["Collector", "Server", "registry"]

_log = logging.getLogger("itp")
_BYTES_PER_MEGABIT = 125_000.0
# Every fourth edge of the decision times: an octave apart, which is enough for a scrape.
_EDGES = slice(0, None, 4)
_LARGEST_TASK_BYTES = 2**63 - 1


class _Reader:
    """Reads partitioners as a custom collector of prometheus-client."""

    def __init__(self, partitioners: TaskPartitioner | Mapping[str, TaskPartitioner]) -> None:
        _prometheus()
        if isinstance(partitioners, TaskPartitioner):
            partitioners = {"default": partitioners}
        if not isinstance(partitioners, Mapping) or not all(
            isinstance(name, str) and isinstance(p, TaskPartitioner) for name, p in partitioners.items()
        ):
            raise TypeError(
                f"partitioners must be a TaskPartitioner, or a mapping of names to them; got {partitioners!r}"
            )
        self._partitioners = dict(partitioners)

    def describe(self) -> Iterator[Metric]:
        """The families without samples: a registry refuses another collector of the same names."""
        yield from _families().values()

    def collect(self) -> Iterator[Metric]:
        """Every metric family, with a sample per partitioner that is open."""
        families = _families()
        for name, partitioner in self._partitioners.items():
            # All is read before anything is added: one that closes meanwhile is left out whole.
            try:
                metrics, engine, streams = partitioner.metrics(), partitioner.engine, _streams(partitioner)
            except ClosedError:
                continue
            _add_counters(families, name, metrics)
            families["itp_model_info"].add_metric([name, engine, metrics.model_version or "none"], 1)
            for i, figures in enumerate(streams):
                for family, value in figures.items():
                    families[family].add_metric([name, str(i)], value)
        yield from families.values()


class Collector(_Reader):
    """A custom collector over partitioners, each under a name of its own (label ``partitioner``).

    Parameters
    ----------
    partitioners : TaskPartitioner or mapping of str to TaskPartitioner
        One alone is named "default". A closed one is left out.

    Raises
    ------
    MissingExtraError
        prometheus-client is not installed.
    TypeError

    Notes
    -----
    Thread safety: ``collect`` may be called while other threads decide. Decisions made during a scrape may be
    in some of its figures and not yet in others.

    A collector exports the partitioners of its own process. The multiprocess mode of prometheus-client leaves
    custom collectors out; a warning is logged where it is on.
    """

    def __init__(self, partitioners: TaskPartitioner | Mapping[str, TaskPartitioner]) -> None:
        super().__init__(partitioners)
        if not {"PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"}.isdisjoint(os.environ):
            _log.warning(
                "PROMETHEUS_MULTIPROC_DIR is set: the multiprocess mode of prometheus-client exports no itp_ "
                "metrics; start an itp.telemetry.Server in each process, and scrape each"
            )


def registry(partitioners: TaskPartitioner | Mapping[str, TaskPartitioner]) -> CollectorRegistry:
    """Return a new registry that holds a ``Collector`` over these partitioners and nothing else.

    Parameters, errors and thread safety are those of `Collector`.
    """
    return _registry(Collector(partitioners))


def _registry(reader: _Reader) -> CollectorRegistry:
    own: CollectorRegistry = _prometheus().CollectorRegistry()
    own.register(reader)
    return own


class Server:
    """An HTTP server that answers scrapes of these partitioners until it is closed or its block is left.

    Parameters
    ----------
    partitioners : TaskPartitioner or mapping of str to TaskPartitioner
        As for `Collector`.
    port : int
        0 takes any free port; the attribute `port` has its number.
    host : str
        The address to listen on. There is no authentication: listen on a local address, or behind a proxy
        that has one.

    Raises
    ------
    MissingExtraError, TypeError, ValueError, OSError
    """

    def __init__(
        self,
        partitioners: TaskPartitioner | Mapping[str, TaskPartitioner],
        port: int = 9464,
        host: str = "127.0.0.1",
    ) -> None:
        if not 0 <= port <= 65535:
            raise ValueError(f"port = {port!r}: expected 0 to 65535")
        # Scraped process by process, so that the multiprocess mode does not matter here.
        own = _registry(_Reader(partitioners))
        self._server, self._thread = _prometheus().start_http_server(port, addr=host, registry=own)
        self.port: int = self._server.server_port

    def close(self) -> None:
        """Stop answering; closing twice is allowed."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _prometheus() -> Any:
    with extra("telemetry needs", "metrics"):
        import prometheus_client
    return prometheus_client


_COUNTERS = {
    "itp_decisions": ("Decisions made, by who decided: model, guard or heuristic.", ["source"]),
    "itp_decisions_explored": ("Decisions drawn at random.", []),
    "itp_decisions_infeasible": ("Decisions that no action was estimated to make in time or bandwidth.", []),
    "itp_decisions_unsupported": ("Decisions by the rule for cases the model was not trained on.", []),
    "itp_decided_bytes": ("Bytes of the tasks decided.", []),
    "itp_outcomes": ("Outcomes reported, by success.", ["success"]),
    "itp_retransmitted_bytes": ("Bytes reported as sent again.", []),
    "itp_records_lost": ("Records of the experience log for which the disk was too slow or full.", []),
    "itp_confidence_outcomes": ("Outcomes by the bin of the raw confidence.", ["bin"]),
    "itp_confidence_hits": ("Of these, successes within 1.25 times the expected time.", ["bin"]),
}
_GAUGES = {
    "itp_tasks_in_flight": ("Tasks decided and not yet reported.", []),
    "itp_reward_mean": ("Mean reward of all outcomes.", []),
    "itp_expected_time_log_error_mean": ("Mean |ln(actual / expected time)| of all successes.", []),
    "itp_model_info": ("1; the labels tell what decides.", ["engine", "version"]),
    "itp_stream_bandwidth_bytes_per_second": ("As last reported.", ["stream"]),
    "itp_stream_latency_seconds": ("As last reported.", ["stream"]),
    "itp_stream_success_ratio": ("Bytes delivered at the first try, as last reported.", ["stream"]),
    "itp_stream_up": ("1 if the stream works.", ["stream"]),
    "itp_stream_queued_bytes": ("Decided for the stream and not yet known to be through.", ["stream"]),
}


def _families() -> dict[str, Any]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    label = ["partitioner"]
    return {
        **{
            name: CounterMetricFamily(name, text, labels=label + more)
            for name, (text, more) in _COUNTERS.items()
        },
        **{
            name: GaugeMetricFamily(name, text, labels=label + more) for name, (text, more) in _GAUGES.items()
        },
        "itp_decision_seconds": HistogramMetricFamily(
            "itp_decision_seconds", "How long decisions took.", labels=label
        ),
    }


def _add_counters(families: dict[str, Any], name: str, m: Metrics) -> None:
    def add(family: str, value: float, *labels: str) -> None:
        families[family].add_metric([name, *labels], value)

    add("itp_decisions", m.model_decisions - m.guarded_decisions, "model")
    add("itp_decisions", m.guarded_decisions, "guard")
    add("itp_decisions", m.heuristic_decisions, "heuristic")
    add("itp_decisions_explored", m.explored_decisions)
    add("itp_decisions_infeasible", m.infeasible_decisions)
    add("itp_decisions_unsupported", m.unsupported_decisions)
    add("itp_decided_bytes", m.total_bytes)
    add("itp_outcomes", m.total_successes, "true")
    add("itp_outcomes", m.total_outcomes - m.total_successes, "false")
    add("itp_retransmitted_bytes", m.retransmitted_bytes)
    add("itp_records_lost", m.lost_records)
    for low, outcomes, hits in m.reliability:
        label = f"{low:.1f}-{low + 0.1:.1f}"
        add("itp_confidence_outcomes", outcomes, label)
        add("itp_confidence_hits", hits, label)
    add("itp_tasks_in_flight", m.in_flight)
    # Before the first outcome there is no mean, and no sample.
    if not math.isnan(m.avg_reward):
        add("itp_reward_mean", m.avg_reward)
    if not math.isnan(m.expected_time_error):
        add("itp_expected_time_log_error_mean", m.expected_time_error)
    finite = m.decision_seconds_buckets[:-1][_EDGES]
    buckets = [(f"{edge:.9g}", count) for edge, count in finite]
    buckets.append(("+Inf", m.decision_seconds_buckets[-1][1]))
    families["itp_decision_seconds"].add_metric([name], buckets, sum_value=m.decision_seconds_sum)


def _streams(partitioner: TaskPartitioner) -> list[dict[str, float]]:
    """The figures of every stream, by the family they belong to."""
    network = partitioner.network
    # What stands ahead of the last in line.
    queued_bytes = network.work_ahead_bytes(_LARGEST_TASK_BYTES, 0.0)
    figures = []
    for i in range(network.n_streams):
        stream = network.stream(i)
        bandwidth, latency = float(stream["bandwidth_mbps"] or 0.0), float(stream["latency_ms"] or 0.0)
        figures.append(
            {
                "itp_stream_bandwidth_bytes_per_second": bandwidth * _BYTES_PER_MEGABIT,
                "itp_stream_latency_seconds": latency * 1e-3,
                "itp_stream_success_ratio": float(stream["success_rate"] or 0.0),
                "itp_stream_up": float(bool(stream["up"])),
                "itp_stream_queued_bytes": float(queued_bytes[i]),
            }
        )
    return figures
