from collections.abc import Callable, Mapping
from typing import Any, final

import numpy as np
import numpy.typing as npt
from typing_extensions import Self, disjoint_base

from itp._core.calibration import Calibration
from itp._core.choose import Cap, Guard, Support, WorkloadSupport
from itp._core.decision import Decision
from itp._core.qnet import QNet
from itp._core.reward import RewardWeights
from itp._core.setnet import SetNet
from itp._core.state import NetworkState
from itp._core.task import Task

STATE_DIM: int
PREFERENCES: dict[str, float]

@final
class Slot:
    def __new__(
        cls, state: npt.NDArray[np.float32], q_values: npt.NDArray[np.float32], run: Callable[[], object]
    ) -> Self: ...
    def __call__(self, states: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]: ...

@final
class Served:
    def __new__(
        cls,
        version: str,
        *,
        net: QNet | None = None,
        set_net: SetNet | None = None,
        make_slot: Callable[[], Slot] | None = None,
        run_batch: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]] | None = None,
        on_failure: Callable[[Exception], object] | None = None,
        calibration: Calibration | None = None,
        guard: Guard | None = None,
        hard_deadlines: bool = False,
        cap: Cap | None = None,
        support: Support | None = None,
        workload: WorkloadSupport | None = None,
        preferences: Mapping[str, float] | None = None,
    ) -> Self: ...
    @property
    def version(self) -> str: ...
    @property
    def net(self) -> QNet | None: ...
    @property
    def set_net(self) -> SetNet | None: ...
    @property
    def calibration(self) -> Calibration | None: ...
    @property
    def guard(self) -> Guard | None: ...
    @property
    def cap(self) -> Cap | None: ...
    @property
    def support(self) -> Support | None: ...
    @property
    def workload(self) -> WorkloadSupport | None: ...
    @property
    def preferences(self) -> dict[str, float]: ...
    @property
    def schema(self) -> int: ...
    @property
    def hard_deadlines(self) -> bool: ...
    @property
    def engine(self) -> str: ...
    def q_values(self, states: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]: ...

@final
class Mark: ...

@final
class Decider:
    def __new__(
        cls,
        network: NetworkState,
        *,
        policy: str | None = None,
        epsilon: float = 0.0,
        hard_deadlines: bool | None = None,
        seed: int | None = None,
        min_chunk_bytes: int = 65536,
        weights: RewardWeights | None = None,
        prefer: str | float = "balanced",
    ) -> Self: ...
    @property
    def network(self) -> NetworkState: ...
    @property
    def weights(self) -> RewardWeights: ...
    @property
    def served(self) -> Served | None: ...
    @property
    def policy(self) -> str: ...
    @property
    def epsilon(self) -> float: ...
    @property
    def min_chunk_bytes(self) -> int: ...
    @property
    def prefer(self) -> str | float: ...
    @prefer.setter
    def prefer(self, given: str | float) -> None: ...
    @property
    def preference(self) -> float: ...
    def serve(self, served: Served) -> None: ...
    def decide(self, task: Task) -> Decision: ...
    def features(self, task: Task) -> dict[str, npt.NDArray[Any]]: ...
    def mark(self) -> Mark: ...
    def retract(self, decisions: list[Decision], before: Mark) -> None: ...
    def report(
        self,
        decision: Decision,
        throughput_mbps: float,
        latency_s: float,
        success: bool,
        retransmitted_bytes: int,
        streams: Mapping[int, tuple[int, float] | tuple[int, float, int]] | None = None,
    ) -> float: ...
    def counts(self) -> dict[str, Any]: ...
    def times(self) -> tuple[tuple[int, ...], float]: ...
    def reliability_curve(self) -> list[tuple[float, int, int]]: ...
    def expected_time_error(self) -> float: ...

@disjoint_base
class FastPath:
    def _open(self, decider: Decider) -> None: ...
    def _shut(self) -> None: ...
    @property
    def _decider(self) -> Decider: ...
    def partition_task(self, task: Task) -> Decision:
        """Decide for one task: one compiled call, which holds the GIL from start to end.

        Raises
        ------
        NoStreamError
            All streams are down, or fewer are up than the task asks copies for.
        ClosedError
        """

    def update_stream(
        self,
        stream: int,
        bandwidth_mbps: float | None = None,
        latency_ms: float | None = None,
        congestion: float | None = None,
        success_rate: float | None = None,
    ) -> None:
        """Take in fresh measurements of a stream; see ``NetworkState.update_stream``."""

    def set_stream_up(self, stream: int, up: bool) -> None:
        """Say whether a stream works; one that is down gets no chunk."""

    def report_progress(self, stream: int, delivered_bytes: int) -> None:
        """Say how many bytes a stream has delivered since its last report; optional."""
