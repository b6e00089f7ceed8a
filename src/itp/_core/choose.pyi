from typing import final

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
