"""Scenarios: distributions of worlds, read from a file, that the simulator and the lab both follow.

``docs/scenarios.md`` lists every key; the shipped ones lie in ``families`` and ``workloads``.
"""

from itp.sim.scenario.scenario import LINK, PATH, WORKLOAD, Scenario, load
from itp.sim.scenario.source import FAMILIES, WORKLOADS
from itp.sim.scenario.worlds import Worlds

__all__ = ["FAMILIES", "LINK", "PATH", "WORKLOAD", "WORKLOADS", "Scenario", "Worlds", "load"]
