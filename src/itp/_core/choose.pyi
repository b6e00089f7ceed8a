from typing import final

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
    def __new__(cls, *, idle_arrivals: float = 0.1, idle_factor: float = 1.25, factor: float = ...) -> Self: ...
    @property
    def idle_arrivals(self) -> float: ...
    @property
    def idle_factor(self) -> float: ...
    @property
    def factor(self) -> float: ...

@final
class Support:
    def __new__(cls, streams: ArrayLike, context: ArrayLike, candidates: ArrayLike) -> Self: ...
