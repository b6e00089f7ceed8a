from collections.abc import Sequence
from typing import final

import numpy as np
import numpy.typing as npt

SCHEMA: int
QUEUE_DEPTH_HALF: int

@final
class NetworkState:
    def __init__(self, n_streams: int = 4, service_order: str = "fifo") -> None: ...
    @property
    def n_streams(self) -> int: ...
    @property
    def service_order(self) -> str: ...
    @property
    def queue_depth(self) -> int: ...
    @property
    def streams_up(self) -> tuple[bool, ...]: ...
    def update_stream(
        self,
        stream: int,
        bandwidth_mbps: float | None = None,
        latency_ms: float | None = None,
        congestion: float | None = None,
        success_rate: float | None = None,
        *,
        now_s: float | None = None,
    ) -> None: ...
    def set_stream_up(self, stream: int, up: bool, *, now_s: float | None = None) -> None: ...
    def stream(self, stream: int) -> dict[str, float | bool | None]: ...
    def admit(
        self,
        number: int,
        size_bytes: int,
        stream_ids: Sequence[int],
        chunk_sizes: Sequence[int],
        *,
        priority: float = 0.5,
        now_s: float | None = None,
    ) -> None: ...
    def release(self, number: int, *, now_s: float | None = None) -> bool: ...
    def report_progress(self, stream: int, delivered_bytes: int, *, now_s: float | None = None) -> None: ...
    def work_ahead_bytes(
        self, size_bytes: int, priority: float = 0.5, *, now_s: float | None = None
    ) -> npt.NDArray[np.float64]: ...
    def vector(
        self,
        size_bytes: int,
        priority: float = 0.5,
        *,
        time_of_day: float | None = None,
        now_s: float | None = None,
    ) -> npt.NDArray[np.float32]: ...
