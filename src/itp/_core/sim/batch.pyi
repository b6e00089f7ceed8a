from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from itp._core.choose import Guard, WorkloadSupport
from itp._core.decider import Served
from itp._core.reward import RewardWeights
from itp._core.setnet import SetNet

OUTCOME: np.dtype[Any]
TIMELINE: np.dtype[Any]
SPLITS: tuple[str, ...]

@final
class Batch:
    def __new__(
        cls,
        links: NDArray[Any],
        paths: NDArray[Any],
        workloads: NDArray[Any],
        seeds: NDArray[np.uint64],
        rows: NDArray[np.float64],
        outages: NDArray[np.float64],
        tasks: NDArray[np.float64],
        sizes: NDArray[np.float64],
        *,
        n_tasks: int,
        n_clients: int,
        service_order: str,
        stealing: bool,
        min_chunk_bytes: int,
        weights: RewardWeights,
        keep_states: bool = False,
        record_timeline: bool = False,
    ) -> Self: ...
    @property
    def n_envs(self) -> int: ...
    @property
    def seeds(self) -> NDArray[np.uint64]: ...
    @property
    def states(self) -> NDArray[np.float32]: ...
    def begin(self, first: int, last: int) -> None: ...
    def replace(
        self,
        which: NDArray[np.int64],
        links: NDArray[Any],
        paths: NDArray[Any],
        workloads: NDArray[Any],
        seeds: NDArray[np.uint64],
    ) -> None: ...
    def step(
        self,
        masks: NDArray[np.uint32],
        splits: NDArray[np.int32],
        propensities: NDArray[np.float64],
        explored: NDArray[np.uint8],
        sources: NDArray[np.uint8],
        rewards: NDArray[np.float64],
        first: int,
        last: int,
    ) -> None: ...
    def choose(
        self,
        rule: str,
        hard_deadlines: bool | None,
        masks: NDArray[np.uint32],
        splits: NDArray[np.int32],
        first: int,
        last: int,
    ) -> None: ...
    def decide(
        self,
        q_values: NDArray[np.float32],
        guard: Guard | None,
        support: WorkloadSupport | None,
        hard_deadlines: bool,
        source: int,
        masks: NDArray[np.uint32],
        splits: NDArray[np.int32],
        sources: NDArray[np.uint8],
        first: int,
        last: int,
    ) -> None: ...
    def prefer(self, preferences: NDArray[np.float64]) -> None: ...
    def decide_sets(
        self,
        model: Served | SetNet,
        hard_deadlines: bool,
        masks: NDArray[np.uint32],
        splits: NDArray[np.int32],
        sources: NDArray[np.uint8],
        first: int,
        last: int,
    ) -> None: ...
    def features(
        self,
        streams: NDArray[np.float32],
        context: NDArray[np.float32],
        candidates: NDArray[np.float32],
        members: NDArray[np.uint32],
        masks: NDArray[np.uint32],
        first: int,
        last: int,
    ) -> None: ...
    def look_ahead_sets(
        self,
        model: Served | SetNet | None,
        horizons: NDArray[np.int32],
        masks: NDArray[np.uint32],
        cost: NDArray[np.float64],
        cost_s: NDArray[np.float64],
        first: int,
        last: int,
    ) -> None: ...
    def explore(
        self,
        epsilon: float,
        hard_deadlines: bool,
        by_set: bool,
        masks: NDArray[np.uint32],
        splits: NDArray[np.int32],
        propensities: NDArray[np.float64],
        explored: NDArray[np.uint8],
        first: int,
        last: int,
    ) -> None: ...
    def look_ahead(
        self,
        masks: NDArray[np.uint32],
        horizon: int,
        rule: str,
        first: int,
        last: int,
    ) -> None: ...
    def branch(self, which: NDArray[np.int64], horizon: int) -> Batch: ...
    def __deepcopy__(self, memo: dict[int, Any]) -> Batch: ...
    def effective_masks(self, masks: NDArray[np.uint32], out: NDArray[np.uint32]) -> None: ...
    def expected_times(self, masks: NDArray[np.uint32], out: NDArray[np.float64]) -> None: ...
    def now_s(self) -> NDArray[np.float64]: ...
    def over(self) -> NDArray[np.bool_]: ...
    def up(self) -> NDArray[np.uint32]: ...
    def waiting(self) -> dict[str, NDArray[Any]]: ...
    def world(self) -> dict[str, NDArray[Any]]: ...
    def counters(self) -> dict[str, NDArray[Any]]: ...
    def completed(self) -> NDArray[Any]: ...
    def experiences(self, dtype: np.dtype[Any]) -> NDArray[Any]: ...
    def service_intervals(self) -> NDArray[Any]: ...
    def memory_bytes(self) -> int: ...
