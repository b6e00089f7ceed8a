"""Drawing worlds: every number a pure function of (scenario, seed), all seeds at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from itp._core.sim.world import LINK, PATH, WORKLOAD
from itp.sim.scenario.capacity import MAX_LOAD, path_goodput_Bps, positive_part
from itp.sim.scenario.draws import Floats, Seeds, uniform
from itp.sim.scenario.file import Spec
from itp.sim.scenario.links import Link, goodput_Bps
from itp.sim.scenario.tables import TIME

# What iperf3 puts on the wire for 1400 bytes of payload.
UDP_WIRE = 1428 / 1400

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """One direction of E worlds with n paths and L links.

    Attributes
    ----------
    links, paths : LINK (E, L), PATH (E, n)
    rate_mbit, queue_bytes : float64 (E, L)
        Of each link, as the lab wants them.
    mean_Bps : float64 (E, L)
        What each link carries for us on average.
    loss : float64 (E, n)
        Of each path, on average.
    order : int64 (E, n)
        Which of the file's paths each path is.
    """

    links: NDArray[Any]
    paths: NDArray[Any]
    rate_mbit: Floats
    queue_bytes: Floats
    mean_Bps: Floats
    loss: Floats
    order: NDArray[np.intp]


def value(link: Link, key: str, seeds: Seeds, default: float = 0.0) -> Floats:
    """One of a link's numbers for each seed."""
    number = link.numbers.get(key)
    return np.full(len(seeds), default) if number is None else number.draw(seeds, f"{link.place}.{key}")


def _picks(link: Link, what: str, count: int, seeds: Seeds) -> NDArray[np.intp]:
    return (uniform(seeds, f"{link.place}.{what}") * count).astype(np.intp)


def _of_block(link: Link, name: str, seeds: Seeds) -> NDArray[Any]:
    """An attribute of the block of rows that each seed takes."""
    return np.array([getattr(block, name) for block in link.blocks])[
        _picks(link, "trace", len(link.blocks), seeds)
    ]


def delay_ms(link: Link, seeds: Seeds) -> Floats:
    """One-way propagation delay."""
    if link.regions is not None:
        ms: Floats = 0.5 * link.regions[_picks(link, "regions", len(link.regions), seeds), 1]
        return ms
    if "delay_ms" in link.numbers:
        return value(link, "delay_ms", seeds)
    return 0.5 * value(link, "rtt_ms", seeds)


def _rate_mbit(link: Link, seeds: Seeds, mtu: int) -> Floats:
    if link.regions is not None:
        mbit: Floats = link.regions[_picks(link, "regions", len(link.regions), seeds), 0]
        return mbit
    if "rate_mbit" in link.numbers:
        return value(link, "rate_mbit", seeds)
    if link.blocks:
        return np.asarray(_of_block(link, "mean_Bps", seeds) / goodput_Bps(mtu), np.float64)
    return np.full(len(seeds), np.inf)


def draw(spec: Spec, seeds: Seeds, side: str = "ab") -> Drawn:
    """The links and paths of one direction, a world for each seed."""
    n, count = len(spec.paths), len(seeds)
    own = [sides[side] for sides in (*spec.paths, *spec.shared)]
    rate = np.stack([_rate_mbit(link, seeds, spec.mtu) for link in own], axis=1)
    if spec.rate_spread is not None:
        powers = np.stack([uniform(seeds, f"paths[{i + 1}].spread") for i in range(n)], axis=1)
        rate[:, :n] *= spec.rate_spread.draw(seeds, "rate_spread")[:, None] ** powers
    if spec.total_mbit is not None:
        rate[:, :n] *= (spec.total_mbit.draw(seeds, "total_mbit") / rate[:, :n].sum(axis=1))[:, None]
    for k in range(len(spec.shared)):
        members = [i for i in range(n) if spec.member_of[i] == k]
        if "rate_share" in own[n + k].numbers:
            together = rate[:, members].sum(axis=1) if members else 1.0
            rate[:, n + k] = together * value(own[n + k], "rate_share", seeds)
        for i in members:
            if not own[i].has_rate:
                rate[:, i] = rate[:, n + k]
    links, paths = np.zeros((count, len(own)), LINK), np.zeros((count, n), PATH)
    queue, mean, loss = np.empty_like(rate), np.empty_like(rate), np.empty((count, n))
    udp, flows = _background(links, spec, seeds, side)
    for j, link in enumerate(own):
        _fill_link(links[:, j], link, seeds, rate[:, j] * goodput_Bps(spec.mtu))
        mean[:, j] = _mean_Bps(links[:, j], link, seeds, udp[:, j], flows[:, j])
        queue[:, j] = _queue_bytes(link, seeds, rate[:, j], spec.mtu)
    for i, k in enumerate(spec.member_of):
        # The queue that fills is that of the tighter of the links on the way.
        tight = (rate[:, n + k] < rate[:, i]) if k >= 0 else np.zeros(count, bool)
        queue_bytes, rate_mbit = (np.where(tight, table[:, n + k], table[:, i]) for table in (queue, rate))
        paths["queue_s"][:, i] = queue_bytes / (rate_mbit * 125000.0)
        paths["shared"][:, i] = n + k if k >= 0 else -1
        loss[:, i] = _fill_path(paths[:, i], own[i], spec.paths[i]["ba" if side == "ab" else "ab"], seeds)
    order = np.tile(np.arange(n), (count, 1))
    if spec.shuffle:
        keys = np.stack([uniform(seeds, f"shuffle[{i + 1}]") for i in range(n)], axis=1)
        order = np.argsort(keys, axis=1, kind="stable")
        for table in (links, rate, queue, mean, paths, loss):
            table[:, :n] = np.take_along_axis(table[:, :n], order, axis=1)
    return Drawn(links, paths, rate, queue, mean, loss, order)


def _fill_link(to: NDArray[Any], link: Link, seeds: Seeds, rate_Bps: Floats) -> None:
    to["rate_Bps"] = rate_Bps
    to["load"] = value(link, "load", seeds)
    to["burst_on_s"] = 1e-3 * value(link, "burst_ms.on", seeds)
    to["burst_off_s"] = 1e-3 * value(link, "burst_ms.off", seeds)
    to["noise"] = value(link, "noise.sd", seeds)
    to["noise_tau_s"] = value(link, "noise.tau_s", seeds)
    to["day_load"] = value(link, "day.load", seeds)
    to["day_peak"] = value(link, "day.peak", seeds)
    if link.blocks:
        to["row_first"] = _of_block(link, "first", seeds)
        to["row_count"] = _of_block(link, "count", seeds)
        to["loop_s"] = _of_block(link, "loop_s", seeds)


def _mean_Bps(drawn: NDArray[Any], link: Link, seeds: Seeds, udp_Bps: Floats, flows: Floats) -> Floats:
    rate: Floats = drawn["rate_Bps"].copy()
    load: Floats = drawn["load"].copy()
    if link.blocks:
        for values, name in ((rate, "mean_Bps"), (load, "mean_load")):
            said = _of_block(link, name, seeds)
            np.copyto(values, said, where=~np.isnan(said))
    on, off = drawn["burst_on_s"], drawn["burst_off_s"]
    share = np.where(on > 0, on / np.maximum(on + off, 1e-12), 1.0)
    load = share * np.minimum(load / share, MAX_LOAD) + 0.5 * drawn["day_load"]
    load = np.minimum(positive_part(load, drawn["noise"]), MAX_LOAD)
    free: Floats = np.maximum(rate * (1.0 - load) - udp_Bps, (1.0 - MAX_LOAD) * rate)
    return free / (1.0 + flows)


def _queue_bytes(link: Link, seeds: Seeds, rate_mbit: Floats, mtu: int) -> Floats:
    """Drop-tail queue: one round trip by default, at least 20 ms; as in the lab."""
    if "queue_bytes" in link.numbers:
        return np.maximum(value(link, "queue_bytes", seeds), mtu)
    if "queue_ms" in link.numbers:
        queue_ms = value(link, "queue_ms", seeds)
    else:
        queue_ms = np.maximum(20.0, 2.0 * delay_ms(link, seeds))
    return np.maximum(10.0 * mtu, rate_mbit * 125.0 * queue_ms)


def _fill_path(to: NDArray[Any], link: Link, back: Link, seeds: Seeds) -> Floats:
    """Fill everything but queue and shared link; return the mean loss."""
    to["delay_s"] = 1e-3 * delay_ms(link, seeds)
    to["ack_delay_s"] = 1e-3 * delay_ms(back, seeds)
    to["jitter_s"] = 1e-3 * value(link, "jitter_ms", seeds)
    single, in_bursts = (0.01 * value(link, key, seeds) for key in ("loss_pct", "ge.loss_pct"))
    mean_burst = value(link, "ge.burst_packets", seeds, 1.0)
    to["loss"] = 1.0 - (1.0 - single) * (1.0 - in_bursts)
    events = single + in_bursts / mean_burst
    to["burst_packets"] = np.where(events > 0, (single + in_bursts) / np.where(events > 0, events, 1.0), 1.0)
    to["cc"] = value(link, "cc", seeds, 1.0)
    to["outage_first"], to["outage_count"] = link.outage_first, len(link.outages)
    to["outage_period_s"] = link.outage_period_s
    to["up_s"] = value(link, "random_outages.up_s", seeds)
    to["down_s"] = value(link, "random_outages.down_s", seeds)
    loss: Floats = to["loss"].copy()
    if link.blocks:
        said = _of_block(link, "mean_loss", seeds)
        np.copyto(loss, said, where=~np.isnan(said))
    return loss


def _background(links: NDArray[Any], spec: Spec, seeds: Seeds, side: str) -> tuple[Floats, Floats]:
    """Fill in background traffic, on a path's own link and the shared one; return what of it lasts."""
    n = len(spec.paths)
    udp, flows = np.zeros(links.shape), np.zeros(links.shape)
    for entry in spec.background:
        if entry.side != side:
            continue
        k = spec.member_of[entry.path]
        for j in (entry.path, n + k) if k >= 0 else (entry.path,):
            if entry.udp_mbit is not None:
                mbit = entry.udp_mbit.draw(seeds, f"{entry.place}.udp_mbit") * entry.flows * UDP_WIRE
                links["udp_Bps"][:, j] += mbit * goodput_Bps(spec.mtu)
            else:
                links["flows"][:, j] += entry.flows
            links["background_start_s"][:, j] = entry.start_s
            links["background_end_s"][:, j] = entry.start_s + entry.seconds if entry.seconds else np.inf
            if not entry.seconds:
                udp[:, j], flows[:, j] = links["udp_Bps"][:, j], links["flows"][:, j]
    return udp, flows


def capacity_Bps(drawn: Drawn, spec: Spec) -> Floats:
    """What all streams of each world carry together on average."""
    n = len(spec.paths)
    paths = drawn.paths
    up_s, down_s = paths["up_s"], paths["down_s"]
    fixed = [_outage_share(sides["ab"]) for sides in spec.paths]
    alive = (1.0 - np.array(fixed)[drawn.order]) * np.where(
        up_s > 0, up_s / np.maximum(up_s + down_s, 1e-12), 1.0
    )
    rtt_s = paths["delay_s"] + paths["ack_delay_s"]
    each = (
        path_goodput_Bps(drawn.mean_Bps[:, :n], rtt_s, drawn.loss, paths["burst_packets"], paths["cc"] == 0)
        * alive
    )
    total: Floats = np.where(paths["shared"] < 0, each, 0.0).sum(axis=1)
    for j in range(n, drawn.links.shape[1]):
        total += np.minimum(np.where(paths["shared"] == j, each, 0.0).sum(axis=1), drawn.mean_Bps[:, j])
    return total


def _nominal_Bps(drawn: Drawn) -> Floats:
    """What all streams of each world carry together when nothing else is there."""
    shared, n = drawn.paths["shared"], drawn.paths.shape[1]
    rate = drawn.links["rate_Bps"]
    total: Floats = np.where(shared < 0, rate[:, :n], 0.0).sum(axis=1)
    for j in range(n, rate.shape[1]):
        total += np.minimum(np.where(shared == j, rate[:, :n], 0.0).sum(axis=1), rate[:, j])
    return total


def _outage_share(link: Link) -> float:
    if not link.outage_period_s:
        return 0.0
    return float((link.outages[:, 1] - link.outages[:, 0]).sum()) / link.outage_period_s


def draw_worlds(spec: Spec, seeds: Seeds) -> tuple[Drawn, Floats, NDArray[Any], Floats]:
    """Links and paths of the data's direction, capacity in bytes/s, workload, and the unit of time in s."""
    drawn = draw(spec, seeds)
    capacity = capacity_Bps(drawn, spec)
    # Worlds that carry nothing are refused by whoever asked for them.
    carried = np.where(capacity > 0, capacity, 1.0)
    workload, mean_bytes = _draw_workload(spec, seeds, carried, drawn)
    unit_s = np.ones(len(seeds))
    if spec.clock == "tasks":
        unit_s = np.minimum(mean_bytes / carried, TIME.high)
        workload["day_s"] *= unit_s
        in_units(drawn, unit_s)
    return drawn, capacity, workload, unit_s


def in_units(drawn: Drawn, unit_s: Floats) -> None:
    """Let the times of cross traffic and random outages be in units of so many seconds."""
    for table, fields in (
        (drawn.links, ("noise_tau_s", "burst_on_s", "burst_off_s")),
        (drawn.paths, ("up_s", "down_s")),
    ):
        for field in fields:
            table[field] *= unit_s[:, None]


def _draw_workload(spec: Spec, seeds: Seeds, capacity: Floats, links: Drawn) -> tuple[NDArray[Any], Floats]:
    """What is asked of each world that can carry `capacity`, and the mean sizes of its tasks."""
    asked = spec.workload
    out = np.zeros(len(seeds), WORKLOAD)
    drawn = {key: number.draw(seeds, f"workload.{key}") for key, number in asked.numbers.items()}
    for key, values in drawn.items():
        name = key.replace(".", "_")
        if name in WORKLOAD.fields:  # type: ignore[operator]
            out[name] = values
    out["warm"] = asked.warm
    if asked.tasks is not None:
        out["task_count"] = len(asked.tasks)
        return out, np.full(len(seeds), asked.tasks[:, 1].mean())
    mean_bytes = np.empty(len(seeds))
    for size, of_size in _drawn_of(asked.sizes, "workload.size", seeds):
        part = out[of_size]
        mean_bytes[of_size] = size.fill(part, seeds[of_size], capacity[of_size])
        out[of_size] = part
    rate = drawn["load"] * capacity / mean_bytes
    reference_s = links.paths["delay_s"].min(axis=1) + mean_bytes / _nominal_Bps(links)
    for arrivals, of_arrivals in _drawn_of(asked.arrivals, "workload.arrivals", seeds):
        part = out[of_arrivals]
        arrivals.fill(part, seeds[of_arrivals], rate[of_arrivals], reference_s[of_arrivals])
        out[of_arrivals] = part
    return out, mean_bytes


def _drawn_of(alternatives: tuple[_T, ...], name: str, seeds: Seeds) -> Iterator[tuple[_T, NDArray[np.intp]]]:
    """Each alternative that some seeds draw, and which ones these are."""
    if len(alternatives) == 1:
        yield alternatives[0], np.arange(len(seeds))
        return
    drawn = (uniform(seeds, name) * len(alternatives)).astype(np.intp)
    for k, alternative in enumerate(alternatives):
        yield alternative, np.flatnonzero(drawn == k)
