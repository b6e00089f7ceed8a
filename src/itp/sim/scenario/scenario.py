"""Scenarios: distributions of worlds, read from a file, that the simulator and the lab both follow.

``docs/scenarios.md`` lists every key. Scenarios and worlds are immutable, so threads may share them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from itp._core.sim.world import LINK, PATH, WORKLOAD
from itp.errors import ScenarioError
from itp.schema import SERVICE_ORDERS
from itp.sim.scenario.draws import Floats, Number, Seeds, as_seeds, uniform
from itp.sim.scenario.file import TOP_KEYS, Spec, number_of_paths, read_spec, with_streams
from itp.sim.scenario.lab import lab_scenario
from itp.sim.scenario.node import Node, names
from itp.sim.scenario.sampling import draw_worlds
from itp.sim.scenario.scaling import RATE_SCALE, scaled
from itp.sim.scenario.source import FAMILIES, SHIPPED, WORKLOADS, read_source, with_file
from itp.sim.scenario.workload import LOAD, MAX_TASKS, WORKLOAD_KEYS
from itp.sim.scenario.worlds import Worlds

__all__ = ["FAMILIES", "LINK", "PATH", "WORKLOAD", "WORKLOADS", "Scenario", "Worlds", "load"]

_DEFAULT_TASKS = 200
# What a mixture of families says itself; all else is its members'.
_MIXTURE_KEYS = names("name about seed paths service_order stealing tasks workload families")


@dataclass(frozen=True, slots=True, eq=False)
class Scenario:
    """A distribution of worlds.

    Attributes
    ----------
    name, about : str
    n_streams : int
        1 to 16.
    service_order : {"fifo", "srpt"}
        How the streams serve their chunks.
    stealing : bool
        Whether an idle stream takes over from a busy one.
    n_tasks : int
        Tasks an episode.
    seed : int
        Where runs begin that are given no seed.
    """

    name: str
    about: str
    n_streams: int
    service_order: str
    stealing: bool
    n_tasks: int
    seed: int
    _specs: tuple[Spec, ...] = field(repr=False)
    _rows: Floats = field(repr=False)
    _outages: Floats = field(repr=False)
    _sizes: Floats = field(repr=False)
    _stealing_follows: bool = field(repr=False)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is legal but hardly meant."""
        files_of: dict[str, list[str]] = {}
        for spec in self._specs:
            texts = []
            most = spec.workload.numbers["load"].high
            if spec.workload.tasks is None and most > 1:
                texts.append(
                    f"workload.load up to {most:g}: more arrives than the paths carry, "
                    "and queues grow without bound"
                )
            for sides in (*spec.paths, *spec.shared):
                link = sides["ab"]
                taken = sum(link.numbers[key].high for key in ("load", "day.load") if key in link.numbers)
                if taken >= 1:
                    texts.append(
                        f"{link.place}: load and day.load up to {taken:g}: cross traffic fills the link"
                    )
            for text in texts:
                files_of.setdefault(text, []).append(spec.file)
        # What an option does to every member of a mixture is said once.
        return tuple(
            f"{self.name if len(files) == len(self._specs) > 1 else ', '.join(files)}: {text}"
            for text, files in files_of.items()
        )

    def with_options(
        self,
        *,
        service_order: str | None = None,
        stealing: bool | None = None,
        load: float | Mapping[str, Any] | None = None,
        tasks: int | None = None,
        rate_scale: float | None = None,
        n_streams: int | None = None,
    ) -> Scenario:
        """The same worlds, asked otherwise; None leaves an option as it is.

        Parameters
        ----------
        service_order : {"fifo", "srpt"}, optional
            Also turns stealing on or off, unless the scenario says that itself.
        stealing : bool, optional
        load : float or mapping, optional
            What arrives, as a fraction of the capacity: a number or a distribution.
        tasks : int, optional
            Tasks an episode.
        rate_scale : float, optional
            The rates of paths, shared links and cross traffic are that many times what they are now, from
            1e-3 to 1e3. Sizes in bytes stay, and so does the load: tasks arrive that much faster.
        n_streams : int, optional
            Number of paths, 1 to 16, of a scenario whose `paths` is a number, or of a mixture of such.

        Raises
        ------
        ScenarioError
            A value is not allowed, or contradicts an explicit list of tasks or of paths.
        """
        changed = self
        if n_streams is not None:
            node = Node(n_streams, self.name, "n_streams")
            n = number_of_paths(node)
            specs = tuple(with_streams(spec, node, n) for spec in self._specs)
            changed = replace(changed, n_streams=n, _specs=specs)
        if service_order is not None:
            order = Node(service_order, self.name, "service_order").word(SERVICE_ORDERS)
            steals = order == "srpt" if self._stealing_follows else self.stealing
            changed = replace(changed, service_order=order, stealing=steals)
        if stealing is not None:
            flag = Node(stealing, self.name, "stealing").flag()
            changed = replace(changed, stealing=flag, _stealing_follows=False)
        if tasks is not None:
            changed = replace(changed, n_tasks=_n_tasks(Node(tasks, self.name, "tasks"), self._specs))
        if load is not None:
            node = Node(load, self.name, "load")
            number = node.number(LOAD)
            if any(spec.workload.tasks is not None for spec in self._specs):
                raise node.refuse("this scenario has a list of tasks, and so no load")
            changed = replace(changed, _specs=tuple(_with_load(spec, number) for spec in changed._specs))
        if rate_scale is not None:
            node = Node(rate_scale, self.name, "rate_scale")
            factor = node.plain(RATE_SCALE)
            if factor != 1.0:
                if any(spec.workload.tasks is not None for spec in self._specs):
                    raise node.refuse("this scenario has a list of tasks, which says when they arrive")
                specs = tuple(scaled(spec, factor) for spec in changed._specs)
                changed = replace(changed, _specs=specs, _rows=_joined([spec.rows for spec in specs]))
        return changed

    def sample(self, seeds: ArrayLike) -> Worlds:
        """One world for each seed, a function of this scenario and the seed alone.

        Parameters
        ----------
        seeds : int or array_like of int
            Each from 0 to 2^64 - 1.

        Returns
        -------
        Worlds
            Read-only; the rows of traces and schedules are shared by all worlds.

        Raises
        ------
        TypeError, ValueError
            A seed is no integer, or out of range.
        ScenarioError
            The paths of a world carry nothing.
        """
        numbers = as_seeds(seeds)
        members = self._members_of(numbers)
        n_links = max(len(spec.paths) + len(spec.shared) for spec in self._specs)
        links = np.zeros((len(numbers), n_links), LINK)
        paths = np.zeros((len(numbers), self.n_streams), PATH)
        workload = np.zeros(len(numbers), WORKLOAD)
        capacity = np.zeros(len(numbers))
        # A link that a member of the mixture lacks is there, but on nobody's way.
        links["rate_Bps"] = 1.0
        first_row = first_outage = first_size = 0
        for k, spec in enumerate(self._specs):
            of_k = np.flatnonzero(members == k)
            if of_k.size:
                drawn, capacity[of_k], workload[of_k], _ = draw_worlds(spec, numbers[of_k])
                drawn.links["row_first"] += first_row
                drawn.paths["outage_first"] += first_outage
                links[of_k, : drawn.links.shape[1]] = drawn.links
                paths[of_k] = drawn.paths
                workload["size_first"][of_k] += first_size
            first_row += len(spec.rows)
            first_outage += len(spec.outages)
            first_size += len(spec.sizes)
        if not (capacity > 0).all():
            seed = numbers[np.argmin(capacity)]
            raise ScenarioError(f"{self.name}: the paths of the world of seed {seed} carry nothing")
        tasks = self._specs[0].workload.tasks
        for table in (links, paths, workload, capacity, numbers):
            table.flags.writeable = False
        return Worlds(
            seeds=numbers,
            links=links,
            paths=paths,
            workload=workload,
            capacity_Bps=capacity,
            rows=self._rows,
            outages=self._outages,
            tasks=np.empty((0, 4)) if tasks is None else tasks,
            sizes=self._sizes,
            n_tasks=self.n_tasks,
            n_clients=max(spec.workload.most_clients for spec in self._specs),
            service_order=self.service_order,
            stealing=self.stealing,
        )

    def wanlab(self, seed: int, *, horizon_s: float = 120.0) -> dict[str, Any]:
        """The world of a seed as the lab's JSON scenario: every number drawn, both directions spelled out.

        Parameters
        ----------
        seed : int
        horizon_s : float
            How far ahead noise, day and random outages, which the lab does not know, are drawn.

        Raises
        ------
        ScenarioError
            The lab cannot hold it, as with more than 64 outages on a path.
        """
        if not 0 < horizon_s <= 1e5:
            raise ValueError(f"horizon_s must be from 0 to 1e5 seconds; got {horizon_s!r}")
        numbers = as_seeds(seed)
        if len(numbers) != 1:
            raise ValueError(f"seed must be one integer; got {seed!r}")
        spec = self._specs[int(self._members_of(numbers)[0])]
        return lab_scenario(spec, numbers, self.name, self.about, horizon_s)

    def _members_of(self, seeds: Seeds) -> np.ndarray[Any, np.dtype[np.intp]]:
        """Which member of the mixture each seed's world is of."""
        if len(self._specs) == 1:
            return np.zeros(len(seeds), np.intp)
        return (uniform(seeds, "families") * len(self._specs)).astype(np.intp)


def load(
    source: str | os.PathLike[str] | Mapping[str, Any] | Scenario,
    *,
    trace: str | os.PathLike[str] | None = None,
    regions: str | os.PathLike[str] | None = None,
    n_streams: int | None = None,
) -> Scenario:
    """A scenario, checked.

    Parameters
    ----------
    source : str, path or mapping
        A name of `FAMILIES` or `WORKLOADS`, a TOML file, a JSON file of the lab's, or what either holds.
    trace : path, optional
        Stands in for every trace the scenario names: mahimahi's form, or CSV ``t,mbit`` or
        ``trace,t_s,mbit``, also as ``.gz``.
    regions : path, optional
        Stands in for every table of regions: CSV with columns ``rate_mbit`` and ``rtt_ms`` (or
        ``throughput..._mbit`` and ``rtt_avg_ms``).
    n_streams : int, optional
        Number of paths, as in `Scenario.with_options`.

    Raises
    ------
    ScenarioError
        Something in the file, or in one that it names, is wrong: the text says where.
    TypeError
        `source` is none of these.
    """
    if isinstance(source, Scenario):
        if trace is not None or regions is not None:
            raise ValueError("trace and regions go with a name, a file or a mapping, not with a Scenario")
        return source.with_options(n_streams=n_streams)
    whole, base = read_source(source)
    files = {
        key: os.path.abspath(os.fspath(path))
        for key, path in (("trace", trace), ("regions", regions))
        if path
    }
    top = whole.table(TOP_KEYS)
    replaced: set[str] = set()
    if "families" in top:
        specs = tuple(_mixture(top, base, files, replaced))
        if "paths" in top:
            if isinstance(top["paths"].value, (list, tuple)):
                raise top["paths"].refuse("a mixture of families leaves this to its members")
            n = number_of_paths(top["paths"])
            specs = tuple(with_streams(spec, top["paths"], n) for spec in specs)
        for spec in specs[1:]:
            if len(spec.paths) != len(specs[0].paths):
                raise top["families"].refuse(
                    f"{spec.file} has {len(spec.paths)} paths, {specs[0].file} {len(specs[0].paths)}"
                )
    else:
        specs = (_spec(whole, base, {}, files, replaced),)
    for key in files.keys() - replaced:
        raise whole.refuse(f"names no {key} that the option could stand in for")
    order = top["service_order"].word(SERVICE_ORDERS) if "service_order" in top else "fifo"
    scenario = Scenario(
        name=top["name"].text("a name") if "name" in top else Path(whole.file).stem,
        about=top["about"].text("a text") if "about" in top else "",
        n_streams=len(specs[0].paths),
        service_order=order,
        stealing=top["stealing"].flag() if "stealing" in top else order == "srpt",
        n_tasks=_n_tasks(top.get("tasks"), specs),
        seed=top["seed"].integer("a seed", 0, 2**64 - 1) if "seed" in top else 1,
        _specs=specs,
        _rows=_joined([spec.rows for spec in specs]),
        _outages=_joined([spec.outages for spec in specs]),
        _sizes=_joined([spec.sizes for spec in specs]),
        _stealing_follows="stealing" not in top,
    )
    scenario = scenario.with_options(n_streams=n_streams)
    scenario.sample(range(2))
    return scenario


def _spec(
    whole: Node, base: Path, workload: Mapping[str, Node], files: Mapping[str, str], replaced: set[str]
) -> Spec:
    value = whole.value
    for key, path in files.items():
        value, found = with_file(value, key, path)
        if found:
            replaced.add(key)
    whole = replace(whole, value=value)
    return read_spec(whole, whole.table(TOP_KEYS), base, workload)


def _mixture(
    top: Mapping[str, Node],
    base: Path,
    files: Mapping[str, str],
    replaced: set[str],
    outer: Mapping[str, Node] | None = None,
) -> list[Spec]:
    """The members of a mixture and of those among them; what `outer` says of the workload counts most."""
    for key, node in top.items():
        if key not in _MIXTURE_KEYS:
            raise node.refuse("a mixture of families leaves this to its members")
    workload = top["workload"].table(WORKLOAD_KEYS) if "workload" in top else {}
    workload.update(outer or {})
    specs: list[Spec] = []
    for node in top["families"].items("a list of 1 to 64 shipped names or files", 1, 64):
        name = node.text("a shipped name or a file")
        member, folder = read_source(name if name in SHIPPED else base / name)
        tables = member.table(TOP_KEYS)
        if "families" in tables:
            if outer is not None:
                raise node.refuse("is a mixture of mixtures")
            specs += _mixture(tables, folder, files, replaced, workload)
            continue
        spec = _spec(member, folder, workload, files, replaced)
        if spec.workload.tasks is not None:
            raise node.refuse("has a list of tasks, which a mixture cannot hold")
        specs.append(spec)
    return specs


def _n_tasks(node: Node | None, specs: tuple[Spec, ...]) -> int:
    explicit = specs[0].workload.tasks
    most = MAX_TASKS if explicit is None else len(explicit)
    if node is not None:
        return node.integer("tasks an episode", 1, most)
    return _DEFAULT_TASKS if explicit is None else most


def _with_load(spec: Spec, number: Number) -> Spec:
    workload = spec.workload
    return replace(spec, workload=replace(workload, numbers={**workload.numbers, "load": number}))


def _joined(tables: list[Floats]) -> Floats:
    if len(tables) == 1:
        return tables[0]
    joined = np.concatenate(tables)
    joined.flags.writeable = False
    return joined
