"""One task on an idle host: how long a model plans for it, beside the rule that plans the least time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from itp._core.heuristic import POLICIES
from itp._core.state import ManualClock
from itp._core.task import Task
from itp.partitioner import TaskPartitioner
from itp.schema import SERVICE_ORDERS

RATES_MBIT = (1.0, 100_000.0)
LATENCIES_MS = (0.1, 1_000.0)
SIZES_BYTES = (1e3, 1e11)
_APART_S = 86_400.0
"""Time between tasks: whatever came before is long over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """An idle host, and the task that comes to it; rates and latencies of its paths, drawn log-uniformly."""

    rates_mbit: tuple[float, ...]
    latencies_ms: tuple[float, ...]
    size_bytes: int
    priority: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Longest:
    """The host on which a model plans the longest time in units of the least that a rule plans.

    Attributes
    ----------
    ratio : float
    host : Host
    service_order : str
    over : int
        Hosts on which the ratio is over a bound.
    hosts : int
        Hosts in all, each under both service orders.
    """

    ratio: float
    host: Host
    service_order: str
    over: int
    hosts: int


def hosts(count: int, n_streams: int, seed: int = 0) -> Iterator[Host]:
    """So many random hosts."""
    rng = np.random.default_rng([seed, n_streams])

    def drawn(ends: tuple[float, float], size: int) -> tuple[float, ...]:
        low, high = np.log(ends)
        return tuple(np.exp(rng.uniform(low, high, size)).tolist())

    for _ in range(count):
        yield Host(
            rates_mbit=drawn(RATES_MBIT, n_streams),
            latencies_ms=drawn(LATENCIES_MS, n_streams),
            size_bytes=round(drawn(SIZES_BYTES, 1)[0]),
            priority=float(rng.uniform()),
        )


def longest(model: str, by_streams: dict[int, int], bound: float, **options: Any) -> Longest:
    """Plan a task on every host with the model and with every rule.

    Parameters
    ----------
    model : str
    by_streams : dict of int to int
        Hosts by number of streams.
    bound : float
        Ratios over it are counted.
    **options
        Of ``TaskPartitioner``, for the model.
    """
    found: Longest | None = None
    over = 0
    for n, count in by_streams.items():
        for order in SERVICE_ORDERS:
            with ExitStack() as stack:
                clock = ManualClock()
                common: dict[str, Any] = {"n_streams": n, "service_order": order, "clock": clock}
                by_model = stack.enter_context(TaskPartitioner(model, **options, **common))
                by_rule = [stack.enter_context(TaskPartitioner(heuristic=r, **common)) for r in POLICIES]
                for k, host in enumerate(hosts(count, n)):
                    clock.set((k + 1) * _APART_S)
                    ratio = _planned_s(by_model, host) / min(_planned_s(rule, host) for rule in by_rule)
                    over += ratio > bound
                    if found is None or ratio > found.ratio:
                        found = Longest(ratio=ratio, host=host, service_order=order, over=0, hosts=0)
    assert found is not None
    return Longest(
        ratio=found.ratio,
        host=found.host,
        service_order=found.service_order,
        over=over,
        hosts=2 * sum(by_streams.values()),
    )


def _planned_s(partitioner: TaskPartitioner, host: Host) -> float:
    """The planned time of the host's task; its outcome is as planned."""
    for stream, (rate, latency) in enumerate(zip(host.rates_mbit, host.latencies_ms, strict=True)):
        partitioner.update_stream(stream, bandwidth_mbps=rate, latency_ms=latency, success_rate=1.0)
    decision = partitioner.partition_task(Task("idle", host.size_bytes, host.priority))
    planned_s = decision.expected_time_s
    partitioner.report_outcome(decision, 8e-6 * host.size_bytes / planned_s, planned_s, True)
    return planned_s
