"""Everything that ``itp bench`` measures, in one process and one run."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from itp.models.load import Model, load_model
from itp_overhead import batches, decisions, machine, memory, replay, simulation, startup

SHARES = {
    "decisions": 0.6,
    "batches": 0.08,
    "memory": 0.18,
    "startup": 0.0,
    "replay": 0.08,
    "simulator": 0.06,
}
"""Share of the measuring time of each section; start-up takes as long as its seven processes."""

SECTIONS = tuple(SHARES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Results of one run; sections that were not asked for are None."""

    model: Model
    seconds: float
    calls: int
    machine: dict[str, Any]
    versions: dict[str, str | None]
    decisions: decisions.Decisions | None
    batches: batches.Batches | None
    memory: memory.Memory | None
    startup: startup.Startup | None
    replay: replay.Replay | None
    simulator: simulation.Simulation | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON; sections that were not asked for are left out."""
        sections = {name: getattr(self, name) for name in SECTIONS}
        return {
            "machine": self.machine,
            "versions": self.versions,
            "model": {
                "path": str(self.model.path),
                "version": self.model.version,
                "sha256": self.model.sha256,
                "native": self.model.net is not None,
            },
            "seconds": self.seconds,
            "calls": self.calls,
            **{name: section.as_dict() for name, section in sections.items() if section is not None},
        }


def measure(
    model: str | os.PathLike[str],
    *,
    seconds: float,
    calls: int,
    only: Collection[str] = SECTIONS,
    progress: Callable[[str], object] = lambda _: None,
) -> Measured:
    """Measure the sections in `only`, which share the time.

    Parameters
    ----------
    model : str or path
        A shipped model's name, or an ONNX file.
    seconds : float
        Measuring time; starting processes and filling buffers comes on top.
    calls : int
        The most calls of each subject under each condition.
    progress : callable
        Called with the name of each measurement before it starts.
    """
    loaded = load_model(model)
    described, versions = machine.describe(), machine.versions()
    asked = sum(SHARES[name] for name in only) or 1.0
    share_s = {name: seconds * SHARES[name] / asked for name in only}

    def section(name: str, take: Callable[[float], Any]) -> Any:
        return take(share_s[name]) if name in only else None

    return Measured(
        model=loaded,
        seconds=seconds,
        calls=calls,
        machine=described,
        versions=versions,
        # Processes first, while this one is idle.
        startup=section("startup", lambda _: startup.measure(progress)),
        memory=section("memory", lambda s: memory.measure(loaded, seconds=s, progress=progress)),
        decisions=section(
            "decisions",
            lambda s: decisions.measure(loaded, seconds=s, calls=calls, progress=progress),
        ),
        batches=section("batches", lambda s: batches.measure(loaded, seconds=s, progress=progress)),
        replay=section("replay", lambda s: replay.measure(seconds=s, calls=calls, progress=progress)),
        simulator=section("simulator", lambda s: simulation.measure(seconds=s, progress=progress)),
    )
