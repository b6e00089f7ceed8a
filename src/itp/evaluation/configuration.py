"""What an evaluation covers: scenarios, service orders, policies, seeds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What was evaluated.

    Attributes
    ----------
    scenarios, about, tasks : tuple
        Names, descriptions, and tasks an episode.
    service_orders, policies : tuple of str
    replicas : tuple of str
        Those policies that are training seeds of one configuration.
    seeds : tuple of int
        One world each in every scenario.
    load : float, optional
        In place of the scenarios' own.
    rate_scale : float
        Every rate is that many times the scenario's.
    reference : str, optional
        What policies are compared with in place of the best classical rule.
    version : str
        Of ITP.
    command : str
        The command line that repeats the evaluation.
    duration_s : float
        How long it took.
    """

    scenarios: tuple[str, ...]
    about: tuple[str, ...]
    tasks: tuple[int, ...]
    service_orders: tuple[str, ...]
    policies: tuple[str, ...]
    replicas: tuple[str, ...]
    seeds: tuple[int, ...]
    load: float | None
    rate_scale: float
    reference: str | None
    version: str
    command: str
    duration_s: float

    @property
    def shape(self) -> tuple[int, int, int]:
        """Scenarios, service orders, policies."""
        return len(self.scenarios), len(self.service_orders), len(self.policies)
