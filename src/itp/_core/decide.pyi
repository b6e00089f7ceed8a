from typing import Any, final

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from itp._core.calibration import Calibration
from itp._core.decision import Decision
from itp._core.reward import RewardWeights
from itp._core.state import NetworkState
from itp._core.task import Task

GUARD_RULES: tuple[str, ...]

@final
class Guard:
    def __new__(cls, rule: str, threshold: float) -> Self: ...
    @property
    def rule(self) -> str: ...
    @property
    def threshold(self) -> float: ...

@final
class Decider:
    def __init__(
        self,
        network: NetworkState,
        *,
        policy: str = "least_completion_time",
        epsilon: float = 0.0,
        seed: int | None = None,
        min_chunk_bytes: int = 65536,
        weights: RewardWeights | None = None,
    ) -> None: ...
    @property
    def network(self) -> NetworkState: ...
    @property
    def weights(self) -> RewardWeights: ...
    @property
    def epsilon(self) -> float: ...
    @property
    def min_chunk_bytes(self) -> int: ...
    def decide(self, task: Task) -> Decision: ...
    def observe(self, task: Task) -> Decision: ...
    def settle(
        self,
        decision: Decision,
        q_values: npt.NDArray[np.float32],
        model_version: str,
        source: str,
        calibration: Calibration | None = None,
        guard: Guard | None = None,
    ) -> Decision: ...
    def settle_by_rule(self, decision: Decision) -> Decision: ...
    def retract(self, decision: Decision) -> None: ...
    def report(
        self,
        decision: Decision,
        throughput_mbps: float,
        latency_s: float,
        success: bool,
        retransmitted_bytes: int,
    ) -> float: ...
    def counts(self) -> dict[str, Any]: ...
    def reliability_curve(self) -> list[tuple[float, int, int]]: ...
    def expected_time_error(self) -> float: ...
