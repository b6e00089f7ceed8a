"""The keys of paths and shared links: read, laid over each other, and checked together."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from itp._core.sim.world import CONGESTION_CONTROLS
from itp.sim.scenario.draws import Floats, Number
from itp.sim.scenario.node import Node, Range, names
from itp.sim.scenario.tables import (
    COLUMNS,
    MAX_TOTAL_ROWS,
    TIME,
    Block,
    RowTable,
    Trace,
    find_file,
    read_regions,
    read_schedule,
    read_traces,
)

HEADER_BYTES = 52  # of every packet: IPv4 20, TCP 20, its timestamps 12
MAX_STARTS = 64
MAX_OUTAGES = 64  # the lab takes no more

_RATE = Range("Mbit/s", 0.0, 1e6, above=True)
_DELAY = Range("ms", 0.0, 1e5)
_LOSS = Range("percent", 0.0, 100.0, below=True)
_LOAD = Range("a fraction of the rate", 0.0, 1.0, below=True)
_SPAN = Range("seconds", 1e-3, 1e7)
_BURST = Range("ms", 0.0, 1e7, above=True)
_NUMBERS = {
    "rate_mbit": _RATE,
    "rtt_ms": _DELAY,
    "delay_ms": _DELAY,
    "jitter_ms": Range("ms", 0.0, 1e4),
    "loss_pct": _LOSS,
    "queue_ms": Range("ms", 0.0, 1e5, above=True),
    "queue_bytes": Range("bytes", 1.0, 1e12),
    "load": _LOAD,
    "rate_share": Range("of the rates of its paths together", 0.0, 1e3, above=True),
}
_TABLES = {
    "ge": {"loss_pct": _LOSS, "burst_packets": Range("packets", 1.0, 1e6)},
    "noise": {"sd": Range("a fraction of the rate", 0.0, 1.0), "tau_s": _SPAN},
    "day": {"load": _LOAD, "peak": Range("a fraction of the day", 0.0, 1.0)},
    "random_outages": {"up_s": _SPAN, "down_s": _SPAN},
}
_PLAIN = {"loop_s": _SPAN, "outage_period_s": _SPAN, "trace_mean_mbit": _RATE}
_FILES = ("trace", "schedule", "regions")
_ONLY_PATHS = names("rtt_ms delay_ms jitter_ms loss_pct ge outages outage_period_s random_outages cc regions")
_ONLY_SHARED = names("rate_share")
LEVEL_KEYS = frozenset(
    [*_NUMBERS, *_TABLES, *_PLAIN, *_FILES, "about", "burst_ms", "outages", "trace_starts", "cc"]
)

# The first of a pair gives way to the second, if that stands nearer to the path.
_PAIRS = (
    ("rtt_ms", "delay_ms"),
    ("rate_mbit", "trace"),
    ("rate_mbit", "rate_share"),
    ("rate_share", "trace"),
    ("queue_ms", "queue_bytes"),
    ("schedule", "trace"),
    ("loop_s", "trace"),
    ("rate_mbit", "regions"),
    ("rtt_ms", "regions"),
    ("delay_ms", "regions"),
    ("trace", "regions"),
)


@dataclass(frozen=True, slots=True)
class Level:
    """What one table says: of the defaults, of a path, or of one of its directions.

    Attributes
    ----------
    values : dict
        `Number` under flat names (``rate_mbit``, ``noise.sd``); schedules, traces and such under their key.
    nodes : dict of str to Node
        Where each key stands.
    sides : dict of str to Level
        The overrides of a direction, ``ab`` or ``ba``.
    """

    values: dict[str, Any] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    sides: dict[str, Level] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Link:
    """One direction of a path with its own link, or of a shared link.

    Attributes
    ----------
    place : str
        ``paths[1]``: the name under which its numbers are drawn.
    numbers : dict of str to Number
    blocks : tuple of Block
        Rows that can drive it, one of which is drawn; none: it has no schedule or trace.
    regions : float64 (k, 2) or None
        Rate in Mbit/s and RTT in ms of the pairs of regions one is drawn of.
    outages : float64 (k, 2)
        ``start_s, end_s``, in order, none overlapping; `outage_first` is the first one's index in the table.
    outage_period_s : float
        0: they come once.
    """

    place: str
    numbers: dict[str, Number]
    blocks: tuple[Block, ...]
    regions: Floats | None
    outages: Floats
    outage_first: int
    outage_period_s: float

    @property
    def has_rate(self) -> bool:
        """Whether it is a bottleneck of its own."""
        return (
            bool({"rate_mbit", "rate_share"} & self.numbers.keys())
            or self.regions is not None
            or bool(self.blocks)
        )


def read_level(
    node: Node, base: Path, mtu: int, *, shared: bool = False, scope: str = "", extra: tuple[str, ...] = ()
) -> Level:
    """The keys of a table of a path, of the defaults, or (`shared`) of a shared link."""
    allowed = LEVEL_KEYS - (_ONLY_PATHS if shared else _ONLY_SHARED)
    nodes = node.table([*allowed, *extra] if scope else [*allowed, *extra, "ab", "ba"])
    for weak, strong in _PAIRS:
        if weak in nodes and strong in nodes:
            raise nodes[strong].refuse(f"contradicts {weak}, which stands beside it; keep one of them")
    level = Level(nodes=nodes)
    values = level.values
    for key, at in nodes.items():
        if key in _NUMBERS:
            values[key] = at.number(_NUMBERS[key], scope)
        elif key in _TABLES:
            parts = at.table(_TABLES[key], required=_TABLES[key])
            values.update(
                {f"{key}.{name}": part.number(_TABLES[key][name], scope) for name, part in parts.items()}
            )
        elif key in _PLAIN:
            values[key] = at.plain(_PLAIN[key])
        elif key == "burst_ms":
            on, off = at.items("[mean on, mean off] in ms", 2, 2)
            values["burst_ms.on"], values["burst_ms.off"] = (
                on.number(_BURST, scope),
                off.number(_BURST, scope),
            )
        elif key == "cc":
            values[key] = at.words(CONGESTION_CONTROLS, scope)
        elif key == "trace_starts":
            values[key] = at.integer("places to begin at", 1, MAX_STARTS)
        elif key == "outages":
            values[key] = _outages(at)
        elif key == "schedule":
            values[key], loop_s = read_schedule(at, base)
            if loop_s:
                if "loop_s" in nodes:
                    raise nodes["loop_s"].refuse("the schedule's file says its loop itself")
                values["loop_s"] = loop_s
        elif key == "trace":
            values[key] = read_traces(find_file(at, base), mtu)
        elif key == "regions":
            values[key] = read_regions(find_file(at, base))
        elif key in ("ab", "ba"):
            level.sides[key] = read_level(at, base, mtu, shared=shared, scope=f"{key}.")
    return level


def _outages(node: Node) -> Floats:
    rows = []
    for item in node.items(f"at most {MAX_OUTAGES} outages [start_s, seconds]", 0, MAX_OUTAGES):
        start, length = item.items("[start_s, seconds]", 2, 2)
        start_s = start.plain(TIME)
        rows.append((start_s, start_s + length.plain(_SPAN)))
    return merged(np.array(sorted(rows)).reshape(-1, 2))


def merged(outages: Floats) -> Floats:
    """Outages in order of their start, with those that touch made one."""
    rows: list[list[float]] = []
    for start, end in outages.tolist():
        if rows and start <= rows[-1][1]:
            rows[-1][1] = max(rows[-1][1], end)
        else:
            rows.append([start, end])
    return np.array(rows).reshape(-1, 2)


def lay_over(levels: list[Level]) -> dict[str, Any]:
    """The values of all levels, of which the last counts most."""
    values: dict[str, Any] = {}
    for level in levels:
        for weak, strong in _PAIRS:
            if weak in level.values and strong in values:
                # The lab would take the stronger one all the same.
                raise level.nodes.get(weak, next(iter(level.nodes.values()))).refuse(
                    f"contradicts {strong}, which stands further out; say {strong} here as well, or not there"
                )
            if strong in level.values:
                values.pop(weak, None)
        values.update(level.values)
    return values


def side_levels(defaults: Level, own: Level, side: str) -> list[Level]:
    """The levels that speak for one direction; a path's override replaces that of the defaults."""
    override = own.sides.get(side) or defaults.sides.get(side)
    return [defaults, own, *([override] if override else [])]


def bind(
    values: dict[str, Any],
    node: Node,
    place: str,
    mtu: int,
    rows: RowTable,
    outages: RowTable,
    *,
    shared: bool = False,
) -> Link:
    """Check what belongs together, and put the rows into the tables."""
    numbers = {key: value for key, value in values.items() if isinstance(value, Number)}
    blocks: tuple[Block, ...] = ()
    if "trace" in values:
        blocks = _trace_blocks(values, node, mtu, rows)
    else:
        for key in ("trace_mean_mbit", "trace_starts"):
            if key in values:
                raise node.refuse(f"{key} needs a trace")
    regions: Floats | None = values.get("regions")
    if "schedule" in values:
        if "rate_mbit" not in numbers and regions is None:
            raise node.refuse(
                "a schedule needs rate_mbit as well: it sizes the queue, and holds where no row says a rate"
            )
        blocks = (_schedule_block(values, numbers, node, mtu, rows, shared=shared),)
    elif "loop_s" in values:
        raise node.refuse("loop_s needs a schedule")
    times: Floats = values.get("outages", np.empty((0, 2)))
    if len(times) and "random_outages.up_s" in numbers:
        raise node.refuse("has both outages and random_outages: leave one of them out")
    period_s = float(values.get("outage_period_s", 0.0))
    if period_s:
        if not len(times):
            raise node.refuse("outage_period_s needs outages")
        if times[-1, 1] > period_s or (times[:, 1] - times[:, 0]).sum() >= period_s:
            raise node.refuse(f"outages must end within outage_period_s = {period_s:g} and leave some of it")
    return Link(place, numbers, blocks, regions, times, outages.add(times) if len(times) else 0, period_s)


def _trace_blocks(values: dict[str, Any], node: Node, mtu: int, rows: RowTable) -> tuple[Block, ...]:
    blocks = []
    for trace in values["trace"]:
        if "trace_mean_mbit" in values:
            trace = trace.scaled(values["trace_mean_mbit"])
        starts = np.unique(
            np.arange(values.get("trace_starts", 1)) * len(trace.t_s) // values.get("trace_starts", 1)
        )
        if rows.count + len(starts) * len(trace.t_s) > MAX_TOTAL_ROWS:
            raise node.refuse(f"the traces come to more than {MAX_TOTAL_ROWS} rows; lower trace_starts")
        blocks += [_trace_block(trace.begun_at(int(k)), mtu, rows) for k in starts]
    return tuple(blocks)


def _trace_block(trace: Trace, mtu: int, rows: RowTable) -> Block:
    table = np.full((len(trace.t_s), 5), np.nan)
    table[:, 0] = trace.t_s
    table[:, 1] = trace.mbit * goodput_Bps(mtu)
    return Block(rows.add(table), len(table), trace.loop_s, mean_Bps=trace.mean_mbit * goodput_Bps(mtu))


def goodput_Bps(mtu: int) -> float:
    """Payload in bytes per second of 1 Mbit/s of full packets."""
    return 125000.0 * (mtu - HEADER_BYTES) / mtu


def _schedule_block(
    values: dict[str, Any], numbers: dict[str, Number], node: Node, mtu: int, rows: RowTable, *, shared: bool
) -> Block:
    table: Floats = values["schedule"].copy()
    loop_s = float(values.get("loop_s", 0.0))
    if loop_s and (table[0, 0] or loop_s <= table[-1, 0]):
        raise node.refuse(
            f"a schedule with a loop begins at 0 and ends before loop_s = {loop_s:g}; "
            f"this one goes from {table[0, 0]:g} to {table[-1, 0]:g} s"
        )
    if shared:
        table[:, 2:4] = np.nan
    # Only the first round may find a value unsaid: from the second on, "keeps its value" means the
    # base value at the start of each round, as in the lab.
    bases = [
        numbers.get("rate_mbit"),
        *_delay_and_loss(numbers),
        numbers.get("load", Number("fixed", (0.0,))),
    ]
    for column, base in enumerate(bases, 1):
        cells = table[:, column]
        said = np.flatnonzero(~np.isnan(cells))
        if not said.size:
            continue
        if loop_s and said[0]:
            if base is None or base.low != base.high:
                name = COLUMNS[column - 1]
                raise node.refuse(
                    f"the first row of a looped schedule must say {name}, as later rows do and it is drawn"
                )
            cells[: said[0]] = base.low
        # Each cell takes the last value said at or before it.
        last = np.maximum.accumulate(np.where(np.isnan(cells), -1, np.arange(len(cells))))
        cells[:] = np.where(last >= 0, cells[last], np.nan)
    if not np.isnan(table[:, 1]).any() and not table[:, 1].any():
        raise node.refuse("a schedule whose rates are all 0 carries nothing")
    if "ge.loss_pct" in numbers and not np.isnan(table[:, 3]).all():
        if numbers["ge.loss_pct"].low != numbers["ge.loss_pct"].high:
            raise node.refuse("ge.loss_pct cannot be drawn where a schedule says the loss")
        table[:, 3] = 100.0 - (100.0 - table[:, 3]) * (1.0 - numbers["ge.loss_pct"].low / 100.0)
    table *= (1.0, goodput_Bps(mtu), 1e-3, 1e-2, 1.0)
    gaps = np.diff(table[:, 0])
    weights = np.append(gaps, loop_s - table[-1, 0] if loop_s else (gaps.mean() if gaps.size else 1.0))
    mean_Bps = _mean(table[:, 1], weights)
    by_rate = weights if np.isnan(mean_Bps) else weights * np.nan_to_num(table[:, 1])
    mean_load, mean_loss = _mean(table[:, 4], by_rate), _mean(table[:, 3], weights)
    return Block(rows.add(table), len(table), loop_s, mean_Bps, mean_load, mean_loss)


def _delay_and_loss(numbers: dict[str, Number]) -> tuple[Number, Number]:
    if "delay_ms" in numbers:
        delay = numbers["delay_ms"]
    else:
        rtt = numbers.get("rtt_ms", Number("fixed", (0.0,)))
        delay = Number(rtt.kind, tuple(value / 2 for value in rtt.values), rtt.scope)
    return delay, numbers.get("loss_pct", Number("fixed", (0.0,)))


def _mean(cells: Floats, weights: Floats) -> float:
    said = ~np.isnan(cells)
    total = float(weights[said].sum())
    return float(cells[said] @ weights[said]) / total if total > 0 else float("nan")
