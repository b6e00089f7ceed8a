"""The checks by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from figures import core, policy
from figures.figure import Figure, Progress


class Check(Protocol):
    """Measures the figures of a check."""

    def __call__(self, *, quick: bool, progress: Progress) -> list[Figure]:
        """All of them, each measured or with a note that says why it was not."""


CORE, POLICY = "core", "policy"
CHECKS: Mapping[str, Check] = {CORE: core.measure, POLICY: policy.measure}
