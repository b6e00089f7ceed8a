"""What a process that decides takes in memory, and whether it grows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from itp.models.load import Model
from itp_overhead.child import run_python

EXPERIENCES = 10_000
DECISIONS = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Resident set of a fresh process, and its growth over decisions with their outcomes.

    Attributes
    ----------
    python_mb : float
        With NumPy, before anything of ITP.
    itp_mb, partitioner_mb, replay_mb : float
        What ``import itp`` adds, then a partitioner with the model and its first decisions, then a full
        replay buffer of 10,000 experiences. A megabyte is 10^6 bytes.
    added_mb : float
        The three together.
    engine : str
        Of the partitioner.
    decisions : int
        Ten million, or as many as there was time for.
    grown_blocks : int
        Blocks of memory that Python holds afterwards and did not before.
    grown_mb : float
        The same of the resident set.
    """

    python_mb: float
    itp_mb: float
    partitioner_mb: float
    replay_mb: float
    added_mb: float
    engine: str
    decisions: int
    grown_blocks: int
    grown_mb: float

    def as_dict(self) -> dict[str, Any]:
        """The figures by name, ready for JSON."""
        return asdict(self)


def measure(model: Model, *, seconds: float, progress: Callable[[str], object] = lambda _: None) -> Memory:
    """Measure in a fresh process; `seconds` limits the decisions made there."""
    progress("memory, and its growth")
    code = Path(__file__).with_name("resident.py").read_text("utf-8")
    out = run_python(code, str(model.path), str(EXPERIENCES), str(DECISIONS), str(seconds))
    found = json.loads(out)
    at_mb = [n_bytes * 1e-6 for n_bytes in found["resident_bytes"]]
    growth = found["growth"]
    return Memory(
        python_mb=at_mb[0],
        itp_mb=at_mb[1] - at_mb[0],
        partitioner_mb=at_mb[2] - at_mb[1],
        replay_mb=at_mb[3] - at_mb[2],
        added_mb=at_mb[3] - at_mb[0],
        engine=found["engine"],
        decisions=growth["decisions"],
        grown_blocks=growth["blocks"],
        grown_mb=growth["resident_bytes"] * 1e-6,
    )
