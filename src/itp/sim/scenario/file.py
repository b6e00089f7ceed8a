"""From a scenario's tables to a checked description of its worlds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itp._core.sim.world import CONGESTION_CONTROLS
from itp.sim.scenario.draws import Floats, Number
from itp.sim.scenario.links import Level, Link, bind, lay_over, read_level, side_levels
from itp.sim.scenario.node import Node, Range, names
from itp.sim.scenario.tables import TIME, RowTable
from itp.sim.scenario.workload import WORKLOAD_KEYS, Workload, read_workload

MAX_STREAMS = 16
MAX_SHARED = 16
SIDES = ("ab", "ba")
TOP_KEYS = names(
    "name about seed mtu n_streams service_order stealing tasks shuffle total_mbit sysctl base defaults "
    "paths shared background workload families"
)
_RATE = Range("Mbit/s", 0.0, 1e6, above=True)


@dataclass(frozen=True, slots=True)
class Background:
    """One entry of a file's background traffic.

    Attributes
    ----------
    path : int
        Counted from 0.
    udp_mbit : Number or None
        Of each flow, payload; None: the flows are greedy, with congestion control `cc`.
    seconds : float
        0: to the end.
    """

    place: str
    path: int
    side: str
    udp_mbit: Number | None
    cc: str
    flows: int
    start_s: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Spec:
    """One family of worlds, checked.

    Attributes
    ----------
    paths, shared : tuple of dict
        Direction (``ab``, ``ba``) to Link, for every path and every shared link.
    member_of : tuple of int
        The shared link of each path, or -1.
    shuffle : bool
        Whether each seed puts the paths in an order of its own.
    rows, outages : float64 (R, 5), (O, 2)
        Read-only tables that links and paths point into.
    """

    file: str
    mtu: int
    sysctl: Mapping[str, Any]
    paths: tuple[dict[str, Link], ...]
    shared: tuple[dict[str, Link], ...]
    member_of: tuple[int, ...]
    background: tuple[Background, ...]
    shuffle: bool
    total_mbit: Number | None
    workload: Workload
    rows: Floats
    outages: Floats


def read_spec(whole: Node, top: dict[str, Node], base: Path, workload: Mapping[str, Node]) -> Spec:
    """The family of worlds that a file describes; what `workload` says counts more than the file's own."""
    if "base" in top:
        base = base / top["base"].text("a folder")
    mtu = top["mtu"].integer("bytes", 576, 65535) if "mtu" in top else 1500
    own = _path_nodes(whole, top)
    defaults = read_level(top["defaults"], base, mtu) if "defaults" in top else Level()
    member_of, shared_nodes = _shared_nodes(top, len(own))
    own_workload = top["workload"].table(WORKLOAD_KEYS) if "workload" in top else {}
    rows, outages = RowTable(5), RowTable(2)
    paths = []
    for i, node in enumerate(own):
        level = read_level(node, base, mtu)
        sides = {
            side: bind(
                lay_over(side_levels(defaults, level, side)), node, f"paths[{i + 1}]", mtu, rows, outages
            )
            for side in SIDES
        }
        if not sides["ab"].has_rate and member_of[i] < 0:
            raise node.refuse(
                "rate_mbit is missing (or trace, or regions), and no shared link limits this path"
            )
        paths.append(sides)
    shared = []
    for k, node in enumerate(shared_nodes):
        level = read_level(node, base, mtu, shared=True, extra=("paths",))
        place = f"shared[{k + 1}]"
        sides = {
            side: bind(
                lay_over(side_levels(Level(), level, side)), node, place, mtu, rows, outages, shared=True
            )
            for side in SIDES
        }
        for side in SIDES:
            if not sides[side].has_rate:
                raise node.refuse("rate_mbit is missing (or trace)")
        shared.append(sides)
    return Spec(
        file=whole.file,
        mtu=mtu,
        sysctl=_sysctl(top),
        paths=tuple(paths),
        shared=tuple(shared),
        member_of=member_of,
        background=_background(top, member_of),
        shuffle=top["shuffle"].flag() if "shuffle" in top else False,
        total_mbit=_total(top, paths),
        workload=read_workload({**own_workload, **workload}, whole),
        rows=rows.array(),
        outages=outages.array(),
    )


def _path_nodes(whole: Node, top: dict[str, Node]) -> list[Node]:
    n = top["n_streams"].integer("streams", 1, MAX_STREAMS) if "n_streams" in top else None
    if "paths" not in top:
        if n is None:
            raise whole.refuse("paths is missing: expected one to 16 [[paths]]")
        return [Node({}, whole.file, f"paths[{i + 1}]") for i in range(n)]
    own = top["paths"].items(f"a list of 1 to {MAX_STREAMS} paths", 1, MAX_STREAMS)
    if n is not None and n != len(own):
        raise top["n_streams"].fail(f"{len(own)}, the number of paths (it may be left out)")
    return own


def _shared_nodes(top: dict[str, Node], n: int) -> tuple[tuple[int, ...], list[Node]]:
    """The shared link of each path, and the tables of the shared links."""
    member_of = [-1] * n
    nodes = (
        top["shared"].items(f"a list of at most {MAX_SHARED} shared links", 0, MAX_SHARED)
        if "shared" in top
        else []
    )
    for k, node in enumerate(nodes):
        if not isinstance(node.value, Mapping) or "paths" not in node.value:
            raise node.fail("a table with paths, the numbers of those that share this link")
        members = Node(node.value["paths"], node.file, f"{node.key}.paths").items(
            "a list of numbers of paths", 1, n
        )
        for member in members:
            i = member.integer("the number of a path, counted from 1", 1, n) - 1
            if member_of[i] >= 0:
                raise member.refuse(f"path {i + 1} already shares link {member_of[i] + 1}; it can share one")
            member_of[i] = k
    return tuple(member_of), nodes


def _sysctl(top: dict[str, Node]) -> Mapping[str, Any]:
    if "sysctl" not in top:
        return {}
    node = top["sysctl"]
    if not isinstance(node.value, Mapping) or not all(
        isinstance(key, str) and isinstance(value, (str, int)) for key, value in node.value.items()
    ):
        raise node.fail("a table of kernel settings for the lab")
    return dict(node.value)


def _total(top: dict[str, Node], paths: list[dict[str, Link]]) -> Number | None:
    if "total_mbit" not in top:
        return None
    for i, sides in enumerate(paths, 1):
        for link in sides.values():
            if not link.has_rate or not all(math.isnan(block.mean_Bps) for block in link.blocks):
                raise top["total_mbit"].refuse(
                    f"needs a rate_mbit or regions on every path; paths[{i}] has other rates"
                )
    return top["total_mbit"].number(_RATE)


def _background(top: dict[str, Node], member_of: tuple[int, ...]) -> tuple[Background, ...]:
    if "background" not in top:
        return ()
    entries = []
    windows: dict[int, tuple[float, float]] = {}
    n = len(member_of)
    for node in top["background"].items("a list of at most 64 background flows", 0, 64):
        keys = node.table(
            ("about", "path", "dir", "udp_mbit", "cc", "flows", "start_s", "seconds"), required=("path",)
        )
        if "cc" in keys and "udp_mbit" in keys:
            raise keys["cc"].refuse("contradicts udp_mbit, which stands beside it; keep one of them")
        entry = Background(
            place=node.key,
            path=keys["path"].integer("the number of a path, counted from 1", 1, n) - 1,
            side=keys["dir"].word(SIDES) if "dir" in keys else "ab",
            udp_mbit=keys["udp_mbit"].number(_RATE) if "udp_mbit" in keys else None,
            cc=keys["cc"].word(CONGESTION_CONTROLS) if "cc" in keys else "cubic",
            flows=keys["flows"].integer("flows", 1, 1000) if "flows" in keys else 1,
            start_s=keys["start_s"].plain(TIME) if "start_s" in keys else 0.0,
            seconds=keys["seconds"].plain(TIME) if "seconds" in keys else 0.0,
        )
        entries.append(entry)
        if entry.side == "ab":
            # A link has one window of background traffic in the simulator.
            for link in (
                (entry.path, n + member_of[entry.path]) if member_of[entry.path] >= 0 else (entry.path,)
            ):
                if windows.setdefault(link, (entry.start_s, entry.seconds)) != (entry.start_s, entry.seconds):
                    raise node.refuse("flows over one link must start together and last equally long")
    return tuple(entries)
