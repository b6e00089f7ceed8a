"""From a scenario's tables to a checked description of its worlds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
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
    "name about seed mtu n_streams service_order stealing tasks shuffle total_mbit rate_spread clock "
    "sysctl base defaults paths shared background workload families"
)
_RATE = Range("Mbit/s", 0.0, 1e6, above=True)
_TOTAL = Range("Mbit/s", 0.0, MAX_STREAMS * 1e6, above=True)
_SPREAD = Range("times the slowest rate", 1.0, 1e6)


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
    rate_spread : Number or None
        The paths' own rates are multiplied by numbers from 1 to this, log-uniform and each path's own.
    clock : {"seconds", "tasks"}
        What times of cross traffic, random outages and day are in: tasks are the mean one's size over what
        all paths carry together.
    shared_counts : tuple of int or None
        How many paths each shared link takes; None: neither paths nor links may be other ones.
    rows, outages, sizes : float64 (R, 5), (O, 2), (S,)
        Read-only tables that links, paths and workload point into.
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
    rate_spread: Number | None
    clock: str
    shared_counts: tuple[int, ...] | None
    workload: Workload
    rows: Floats
    outages: Floats
    sizes: Floats


def read_spec(whole: Node, top: dict[str, Node], base: Path, workload: Mapping[str, Node]) -> Spec:
    """The family of worlds that a file describes; what `workload` says counts more than the file's own."""
    workload_base = Path(workload["size"].file).parent if "size" in workload else None
    if "base" in top:
        base = base / top["base"].text("a folder")
    mtu = top["mtu"].integer("bytes", 576, 65535) if "mtu" in top else 1500
    own, alike = _path_nodes(whole, top)
    defaults = read_level(top["defaults"], base, mtu) if "defaults" in top else Level()
    member_of, shared_nodes, shared_counts = _shared_nodes(top, len(own))
    own_workload = top["workload"].table(WORKLOAD_KEYS) if "workload" in top else {}
    rows, outages, sizes = RowTable(5), RowTable(2), RowTable(1)
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
                raise node.refuse("rate_mbit is missing (or rate_share, or trace)")
            for i in (i for i, member in enumerate(member_of) if member == k):
                if "rate_share" in sides[side].numbers and not paths[i][side].has_rate:
                    raise node.refuse(
                        f"rate_share needs a rate of its own on every path; paths[{i + 1}] has none"
                    )
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
        total_mbit=_of_own_rates(top, "total_mbit", _TOTAL, paths),
        rate_spread=_of_own_rates(top, "rate_spread", _SPREAD, paths),
        clock=top["clock"].word(("seconds", "tasks")) if "clock" in top else "seconds",
        shared_counts=shared_counts if alike and "background" not in top else None,
        workload=read_workload({**own_workload, **workload}, whole, workload_base or base, sizes),
        rows=rows.array(),
        outages=outages.array(),
        sizes=sizes.array().reshape(-1),
    )


def with_streams(spec: Spec, node: Node, n: int) -> Spec:
    """The same family with `n` paths, which `node` asks for."""
    if n == len(spec.paths):
        return spec
    if spec.shared_counts is None:
        raise node.fail(
            f"{len(spec.paths)}, the number of paths in {spec.file}: only a scenario whose paths are a "
            "number, and that speaks of no single path, may have any other"
        )
    sides_of = spec.paths[0]
    paths = tuple(
        {side: replace(link, place=f"paths[{i + 1}]") for side, link in sides_of.items()} for i in range(n)
    )
    return replace(spec, paths=paths, member_of=_consecutive(spec.shared_counts, n))


def _consecutive(counts: tuple[int, ...], n: int) -> tuple[int, ...]:
    """The shared link of each of `n` paths, when each link takes so many of those that are left."""
    member_of = [k for k, count in enumerate(counts) for _ in range(count)]
    return tuple([*member_of, *[-1] * n][:n])


def _path_nodes(whole: Node, top: dict[str, Node]) -> tuple[list[Node], bool]:
    """The tables of the paths, and whether they are empty: the defaults say it all."""
    n = top["n_streams"].integer("streams", 1, MAX_STREAMS) if "n_streams" in top else None
    paths = top.get("paths")
    if paths is None and n is None:
        raise whole.refuse("paths is missing: expected one to 16 [[paths]], or their number")
    if paths is not None and isinstance(paths.value, (list, tuple)):
        own = paths.items(f"a list of 1 to {MAX_STREAMS} paths", 1, MAX_STREAMS)
        empty = False
    else:
        count = n if paths is None else number_of_paths(paths)
        own = [Node({}, whole.file, f"paths[{i + 1}]") for i in range(count or 0)]
        empty = True
    if n is not None and n != len(own):
        raise top["n_streams"].fail(f"{len(own)}, the number of paths (it may be left out)")
    return own, empty


def number_of_paths(node: Node) -> int:
    """From 1 to 16."""
    return node.integer("a list of paths, or their number", 1, MAX_STREAMS)


def _shared_nodes(top: dict[str, Node], n: int) -> tuple[tuple[int, ...], list[Node], tuple[int, ...] | None]:
    """The shared link of each path, the tables of the shared links, and how many paths each link takes.

    The last is None if one of them lists its paths.
    """
    member_of = [-1] * n
    nodes = (
        top["shared"].items(f"a list of at most {MAX_SHARED} shared links", 0, MAX_SHARED)
        if "shared" in top
        else []
    )
    counts = []
    for k, node in enumerate(nodes):
        if not isinstance(node.value, Mapping) or "paths" not in node.value:
            raise node.fail("a table with paths, the numbers of those that share this link")
        listed = Node(node.value["paths"], node.file, f"{node.key}.paths")
        expected = "a list of numbers of paths, or how many share this link"
        if not isinstance(listed.value, (list, tuple)):
            counts.append(listed.integer(expected, 1, MAX_STREAMS))
            for i in [i for i in range(n) if member_of[i] < 0][: counts[-1]]:
                member_of[i] = k
            continue
        for member in listed.items(expected, 1, n):
            i = member.integer("the number of a path, counted from 1", 1, n) - 1
            if member_of[i] >= 0:
                raise member.refuse(f"path {i + 1} already shares link {member_of[i] + 1}; it can share one")
            member_of[i] = k
    return tuple(member_of), nodes, tuple(counts) if len(counts) == len(nodes) else None


def _sysctl(top: dict[str, Node]) -> Mapping[str, Any]:
    if "sysctl" not in top:
        return {}
    node = top["sysctl"]
    if not isinstance(node.value, Mapping) or not all(
        isinstance(key, str) and isinstance(value, (str, int)) for key, value in node.value.items()
    ):
        raise node.fail("a table of kernel settings for the lab")
    return dict(node.value)


def _of_own_rates(
    top: dict[str, Node], key: str, allowed: Range, paths: list[dict[str, Link]]
) -> Number | None:
    """A number that changes the rates of all paths, which must have rates to change."""
    if key not in top:
        return None
    for i, sides in enumerate(paths, 1):
        for link in sides.values():
            if not link.has_rate or not all(math.isnan(block.mean_Bps) for block in link.blocks):
                raise top[key].refuse(
                    f"needs a rate_mbit or regions on every path; paths[{i}] has other rates"
                )
    return top[key].number(allowed)


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
