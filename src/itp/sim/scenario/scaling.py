"""The same worlds at other rates: how far does what was learnt on some hold on faster ones?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from itp.sim.scenario.draws import Number
from itp.sim.scenario.file import Spec
from itp.sim.scenario.links import Link
from itp.sim.scenario.node import Range

RATE_SCALE = Range("a factor", 1e-3, 1e3)
_RATE_COLUMN = 1  # of the rows of schedules and traces


def scaled(spec: Spec, factor: float) -> Spec:
    """A family whose rates, cross traffic's included, are `factor` times those of `spec`.

    Queues keep their length in time where the scenario says or implies one, in bytes where it says bytes.
    """
    rows = spec.rows.copy()
    rows[:, _RATE_COLUMN] *= factor
    rows.flags.writeable = False
    return replace(
        spec,
        paths=tuple({side: _link(link, factor) for side, link in sides.items()} for sides in spec.paths),
        shared=tuple({side: _link(link, factor) for side, link in sides.items()} for sides in spec.shared),
        background=tuple(
            entry if entry.udp_mbit is None else replace(entry, udp_mbit=_number(entry.udp_mbit, factor))
            for entry in spec.background
        ),
        total_mbit=None if spec.total_mbit is None else _number(spec.total_mbit, factor),
        rows=rows,
    )


def _link(link: Link, factor: float) -> Link:
    numbers = dict(link.numbers)
    if "rate_mbit" in numbers:
        numbers["rate_mbit"] = _number(numbers["rate_mbit"], factor)
    return replace(
        link,
        numbers=numbers,
        blocks=tuple(replace(block, mean_Bps=factor * block.mean_Bps) for block in link.blocks),
        regions=None if link.regions is None else link.regions * np.array([factor, 1.0]),
    )


def _number(number: Number, factor: float) -> Number:
    return replace(number, values=tuple(factor * value for value in number.values))
