"""When tasks arrive: the key ``arrivals`` of ``[workload]``, and the numbers drawn from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itp._core.sim.world import ARRIVAL_KINDS
from itp.sim.scenario.draws import Floats, Number, Seeds
from itp.sim.scenario.node import Node, Range

# The keys of each kind; a kind without keys may stand as a word.
_OWN: dict[str, dict[str, Range]] = {
    "poisson": {},
    "periodic": {},
    "bursty": {
        "tasks": Range("tasks", 0.0, 1e6, above=True),
        "share": Range("a fraction of the time", 0.0, 1.0, above=True, below=True),
    },
    "daily": {
        "swing": Range("a fraction of the mean rate", 0.0, 1.0),
        "peak": Range("a fraction of the day", 0.0, 1.0),
    },
    "closed": {"clients": Range("clients", 1.0, 256.0)},
}


@dataclass(frozen=True, slots=True)
class Arrivals:
    """One way of arriving.

    Attributes
    ----------
    kind : str
        Of `ARRIVAL_KINDS`.
    numbers : dict of str to Number
        ``arrivals.tasks`` and so on: its keys.
    """

    kind: str
    numbers: dict[str, Number]

    @property
    def most_clients(self) -> int:
        """The most that a world has; 0: it is not closed."""
        return round(self.numbers["arrivals.clients"].high) if self.kind == "closed" else 0

    def fill(self, out: NDArray[Any], seeds: Seeds, rate: Floats, reference_s: Floats) -> None:
        """Fill in the arrivals of worlds.

        Parameters
        ----------
        out : WORKLOAD (E,)
        seeds : uint64 (E,)
        rate : float64 (E,)
            Tasks a second, on average.
        reference_s : float64 (E,)
            Mean reference time of the tasks.
        """
        drawn = {key: number.draw(seeds, f"workload.{key}") for key, number in self.numbers.items()}
        out["arrivals"] = ARRIVAL_KINDS.index(self.kind)
        out["arrivals_per_s"] = rate
        gap_s = 1.0 / np.maximum(rate, 1e-12)
        if self.kind == "daily":
            out["swing"], out["swing_peak"] = drawn["arrivals.swing"], drawn["arrivals.peak"]
        if self.kind == "closed":
            clients = np.rint(drawn["arrivals.clients"])
            out["clients"] = clients
            # A client's round is its thinking and the task's time.
            out["think_s"] = np.maximum(clients * gap_s - reference_s, 0.0)
        if self.kind == "bursty":
            _fill_bursty(out, gap_s, drawn["arrivals.tasks"], drawn["arrivals.share"])


def _fill_bursty(out: NDArray[Any], gap_s: Floats, tasks: Floats, share: Floats) -> None:
    # In units of the mean gap, tasks of a burst come at the rate `busy`, bursts end at the rate `ending` and
    # pauses at `beginning`. The gaps are hyperexponential: Kuczura, "The interrupted Poisson process as an
    # overflow process", BSTJ 52, 1973.
    busy = 1.0 / share
    ending = busy / tasks
    beginning = ending * share / (1.0 - share)
    total = busy + ending + beginning
    root = np.sqrt(total * total - 4.0 * busy * beginning)
    fast, slow = 0.5 * (total + root), 2.0 * busy * beginning / (total + root)
    out["short_gap_s"], out["long_gap_s"] = gap_s / fast, gap_s / slow
    out["long_gap_share"] = (fast - busy) / root
    out["off_s"], out["off_share"] = gap_s / beginning, 1.0 - share


def read_arrivals(node: Node) -> Arrivals:
    """The way of arriving that a word or a table describes."""
    if not isinstance(node.value, Mapping):
        return Arrivals(node.word(tuple(kind for kind, own in _OWN.items() if not own)), {})
    if "kind" not in node.value:
        raise node.fail("a word or a table with kind, one of " + ", ".join(ARRIVAL_KINDS))
    kind = Node(node.value["kind"], node.file, f"{node.key}.kind").word(ARRIVAL_KINDS)
    own = _OWN[kind]
    keys = node.table(("kind", *own), required=own)
    return Arrivals(kind, {f"arrivals.{key}": keys[key].number(allowed) for key, allowed in own.items()})
