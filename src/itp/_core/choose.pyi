from typing import final

import numpy as np
import numpy.typing as npt
from numpy.typing import ArrayLike
from typing_extensions import Self

GUARD_RULES: tuple[str, ...]

def rule_is_hard(rule: str, service_order: str, hard_deadlines: bool | None) -> bool: ...

@final
class Guard:
    def __new__(cls, rule: str, threshold: float) -> Self: ...
    @property
    def rule(self) -> str: ...
    @property
    def threshold(self) -> float: ...

@final
class Cap:
    def __new__(
        cls, *, idle_arrivals: float = 0.1, idle_factor: float = 1.25, factor: float = ...
    ) -> Self: ...
    @property
    def idle_arrivals(self) -> float: ...
    @property
    def idle_factor(self) -> float: ...
    @property
    def factor(self) -> float: ...

@final
class WorkloadSupport:
    def __new__(
        cls,
        *,
        log2_bytes: tuple[float, float] | list[float],
        load: tuple[float, float] | list[float],
        tasks: float,
    ) -> Self: ...

@final
class Support:
    def __new__(cls, streams: ArrayLike, context: ArrayLike, candidates: ArrayLike) -> Self: ...
    @property
    def accepted(self) -> dict[str, npt.NDArray[np.float32]]: ...
