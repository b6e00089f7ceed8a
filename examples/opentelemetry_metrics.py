"""A partitioner's figures through OpenTelemetry: observable instruments, read when the exporter asks.

    pip install opentelemetry-sdk
    python examples/opentelemetry_metrics.py

It prints to the console; with an OTLP exporter in its place the figures go to a collector.
"""

from collections.abc import Callable, Iterable

from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader

import itp


def instrument(meter: Meter, partitioner: itp.TaskPartitioner, name: str = "default") -> None:
    """Create instruments that read the partitioner; the decision path knows nothing of them."""
    shared = {"partitioner": name}

    def figure(
        read: Callable[[], Iterable[Observation]],
    ) -> list[Callable[[CallbackOptions], Iterable[Observation]]]:
        return [lambda _: read()]

    def decisions() -> Iterable[Observation]:
        m = partitioner.metrics()
        by_model = m.model_decisions - m.guarded_decisions
        for source, count in (
            ("model", by_model),
            ("guard", m.guarded_decisions),
            ("heuristic", m.heuristic_decisions),
        ):
            yield Observation(count, {**shared, "source": source})

    def outcomes() -> Iterable[Observation]:
        m = partitioner.metrics()
        yield Observation(m.total_successes, {**shared, "success": True})
        yield Observation(m.total_outcomes - m.total_successes, {**shared, "success": False})

    def seconds() -> Iterable[Observation]:
        yield Observation(partitioner.metrics().decision_seconds_sum, shared)

    def streams() -> Iterable[Observation]:
        for i in range(partitioner.n_streams):
            bandwidth_mbps = partitioner.network.stream(i)["bandwidth_mbps"]
            yield Observation(bandwidth_mbps * 125_000, {**shared, "stream": i})

    counter, gauge = meter.create_observable_counter, meter.create_observable_gauge
    counter("itp.decisions", figure(decisions), description="Decisions made, by who decided")
    counter("itp.decisions.time", figure(seconds), unit="s", description="Time spent deciding")
    counter("itp.outcomes", figure(outcomes), description="Outcomes reported, by success")
    gauge("itp.stream.bandwidth", figure(streams), unit="By/s", description="As last reported")
    gauge(
        "itp.tasks.in_flight",
        figure(lambda: [Observation(partitioner.metrics().in_flight, shared)]),
        description="Decided and not yet reported",
    )


def main() -> None:
    provider = MeterProvider([PeriodicExportingMetricReader(ConsoleMetricExporter())])
    with itp.TaskPartitioner("dqn_v1") as partitioner:
        instrument(provider.get_meter("itp"), partitioner)
        for k in range(1000):
            decision = partitioner.partition_task(itp.Task(f"task-{k}", 1_000_000))
            partitioner.report_outcome(decision, 100.0, decision.expected_time_s, True)
        provider.shutdown()  # exports what is due


if __name__ == "__main__":
    main()
