"""What every trainer tells of its run: rounds, moments between them, and the request to stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from itp_training.settings import Settings


class RoundLike(Protocol):
    """The figures of a round that is over: a frozen dataclass of plain values."""

    @property
    def step(self) -> int:
        """Its place on a chart."""

    @property
    def unit(self) -> str:
        """What steps count, singular."""

    def as_dict(self) -> dict[str, Any]:
        """All figures, ready for JSON."""

    def scalars(self) -> dict[str, float]:
        """The figures that curves are drawn of."""

    def figures(self) -> dict[str, str]:
        """What is shown of them; nothing stands for what the round has not."""

    def rates(self, before: Any) -> dict[str, str]:
        """Decisions and updates a second, given the round before, if there was one."""


@dataclass(frozen=True, slots=True)
class Moment:
    """How far a run has come, for its display."""

    phase: str
    """"collecting" or "learning"."""
    share: float
    """Of the whole run, 0 to 1."""
    decisions: int
    updates: int


class Interrupted(Exception):  # noqa: N818 (it is no error)
    """The run was asked to stop; it is saved."""


class Run(Protocol):
    """A trainer at work."""

    stop: bool

    @property
    def config(self) -> Settings:
        """Everything the run's result depends on."""

    @property
    def rounds(self) -> Sequence[RoundLike]:
        """Those that are over."""

    @property
    def n_rounds(self) -> int:
        """Of the whole run."""

    def run(
        self,
        tick: Callable[[Moment], None],
        finished: Callable[[Any], None],
        not_saved: Callable[[OSError], None],
    ) -> None:
        """Train to the end; raises `Interrupted`, TrainingError or OSError."""


def fail(error: OSError) -> None:
    """Of a checkpoint that cannot be written: end the run."""
    raise error


def rate(count: int, seconds: float) -> str:
    """So many a second."""
    return f"{count / max(seconds, 1e-9):,.0f}"
