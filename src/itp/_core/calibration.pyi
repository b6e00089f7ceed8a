from collections.abc import Sequence
from typing import final

from typing_extensions import Self

TOLERANCE: float
PRIOR_OBSERVATIONS: float

@final
class Calibration:
    def __new__(
        cls,
        *,
        time_edges_log2_s: Sequence[float],
        waiting_edges: Sequence[float],
        time_ratio: Sequence[Sequence[float]],
        confidence: Sequence[float],
    ) -> Self: ...
    def look_up(self, planned_s: float, waiting: float) -> tuple[float, float, float, float]: ...
