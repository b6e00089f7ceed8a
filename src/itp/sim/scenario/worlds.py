"""Worlds: what a simulator reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from itp.sim.scenario.draws import Floats, Seeds


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
    sizes : float64 (S,)
        Recorded sizes in bytes.
    n_tasks : int
        Tasks an episode.
    n_clients : int
        The most that any world of the scenario has; 0: none is closed.
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
    sizes: Floats
    n_tasks: int
    n_clients: int
    service_order: str
    stealing: bool

    @property
    def n_streams(self) -> int:
        """Streams of every world."""
        return int(self.paths.shape[1])
