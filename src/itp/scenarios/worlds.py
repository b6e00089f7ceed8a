"""Worlds: what a simulator reads, and the layout of their records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itp.scenarios.draws import Floats, Seeds


def _record(fields: str, integers: str) -> np.dtype[Any]:
    return np.dtype([(name, "<i8" if name in integers.split() else "<f8") for name in fields.split()])


LINK = _record(
    "rate_Bps load burst_on_s burst_off_s noise noise_tau_s day_load day_peak row_first row_count loop_s "
    "udp_Bps flows background_start_s background_end_s",
    integers="row_first row_count",
)
PATH = _record(
    "delay_s ack_delay_s jitter_s loss burst_packets queue_s cc shared outage_first outage_count "
    "outage_period_s up_s down_s",
    integers="cc shared outage_first outage_count",
)
WORKLOAD = _record(
    "arrivals_per_s periodic size_kind size_a size_b size_min size_max priority_low priority_high "
    "deadline_share deadline_low deadline_high day_s day_start estimate_noise stall_timeout_s warm "
    "task_first task_count",
    integers="periodic size_kind warm task_first task_count",
)


@dataclass(frozen=True, slots=True, eq=False)
class Worlds:
    """Worlds of E environments, n streams and m shared links, as plain arrays; read-only.

    Attributes
    ----------
    seeds : uint64 (E,)
    links : LINK (E, n + m)
        The paths' own links, then the shared ones.
    paths : PATH (E, n)
    workload : WORKLOAD (E,)
    capacity_Bps : float64 (E,)
        What all streams carry together on average.
    rows : float64 (R, 5)
        ``t_s, rate_Bps, delay_s, loss, load``; NaN keeps the value.
    outages : float64 (O, 2)
        ``start_s, end_s``.
    tasks : float64 (T, 4)
        ``t_s, size_bytes, priority, deadline_s`` (infinite: none).
    n_tasks : int
        Tasks an episode.
    service_order : {"fifo", "srpt"}
    stealing : bool
    """

    seeds: Seeds
    links: NDArray[Any]
    paths: NDArray[Any]
    workload: NDArray[Any]
    capacity_Bps: Floats
    rows: Floats
    outages: Floats
    tasks: Floats
    n_tasks: int
    service_order: str
    stealing: bool

    @property
    def n_streams(self) -> int:
        """Streams of every world."""
        return int(self.paths.shape[1])
