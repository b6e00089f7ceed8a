"""Memory of a process that decides, and its growth."""

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
        Python with NumPy, before ITP is imported. A megabyte is 10^6 bytes.
    itp_mb, partitioner_mb, replay_mb : float
        Added by ``import itp``, then by a partitioner with the model and its first 1,000 decisions, then by
        a full replay buffer of 10,000 experiences.
    added_mb : float
        Sum of these three.
    engine : str
        The partitioner's engine.
    decisions : int
        Decisions over which growth was measured: ten million, or as many as there was time for.
    grown_blocks : int
        Growth of the number of memory blocks that Python holds.
    grown_mb : float
        Growth of the resident set.
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
        """For JSON."""
        return asdict(self)


def measure(model: Model, *, seconds: float, progress: Callable[[str], object] = lambda _: None) -> Memory:
    """Measure in a fresh process; `seconds` limits the decisions over which growth is measured."""
    progress("memory and its growth")
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
