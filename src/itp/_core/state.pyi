from collections.abc import Sequence
from typing import Any, final

import numpy as np
import numpy.typing as npt

MAX_STREAMS: int
SCHEMA: int
QUEUE_DEPTH_HALF: int

@final
class ManualClock:
    def __init__(self, monotonic_s: float = 0.0, unix_s: float = 0.0) -> None: ...
    @property
    def monotonic_s(self) -> float: ...
    @property
    def unix_s(self) -> float: ...
    def set(self, monotonic_s: float, unix_s: float | None = None) -> None: ...

@final
class NetworkState:
    def __init__(
        self, n_streams: int = 4, service_order: str = "fifo", clock: ManualClock | None = None
    ) -> None: ...
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
    def stream(self, stream: int, *, now_s: float | None = None) -> dict[str, Any]: ...
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
    def workload(self, size_bytes: int, *, now_s: float | None = None) -> dict[str, float]: ...
    def vector(
        self,
        size_bytes: int,
        priority: float = 0.5,
        *,
        time_of_day: float | None = None,
        now_s: float | None = None,
    ) -> npt.NDArray[np.float32]: ...
