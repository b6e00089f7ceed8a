"""A world as a scenario of the lab: every number drawn, and what the lab does not know put into schedules."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itp.errors import ScenarioError
from itp.sim.scenario.capacity import MAX_LOAD
from itp.sim.scenario.draws import Floats, Seeds, uniform
from itp.sim.scenario.file import SIDES, Spec
from itp.sim.scenario.links import MAX_OUTAGES, Link, goodput_Bps, merged
from itp.sim.scenario.sampling import Drawn, draw, draw_worlds, in_units, value

_MAX_ROWS = 100_000


def lab_scenario(spec: Spec, seeds: Seeds, name: str, about: str, horizon_s: float) -> dict[str, Any]:
    """The JSON of the world of the one seed in `seeds`; see `Scenario.wanlab`."""
    n = len(spec.paths)
    forth, _, workload, unit_s = draw_worlds(spec, seeds)
    back = draw(spec, seeds, "ba")
    in_units(back, unit_s)
    drawn = {"ab": forth, "ba": back}
    order = forth.order[0]
    day = float(workload["day_s"][0]), float(workload["day_start"][0])
    paths: list[dict[str, Any]] = []
    for i, k in enumerate(order):
        sides = {}
        for side in SIDES:
            link = spec.paths[k][side]
            keys = _wire_keys(drawn[side].paths[0, i], link, seeds, horizon_s)
            if link.has_rate:
                keys.update(_link_keys(spec, drawn[side], i, link, seeds, day, horizon_s, noisy=side == "ab"))
            sides[side] = keys
        paths.append(sides)
    shared = [
        {
            "paths": [i + 1 for i in range(n) if drawn["ab"].paths["shared"][0, i] == n + k],
            **{
                side: _link_keys(
                    spec, drawn[side], n + k, both[side], seeds, day, horizon_s, noisy=side == "ab"
                )
                for side in SIDES
            },
        }
        for k, both in enumerate(spec.shared)
    ]
    scenario: dict[str, Any] = {
        "about": about or name,
        "seed": int(seeds[0]),
        "mtu": spec.mtu,
        "paths": paths,
    }
    if shared:
        scenario["shared"] = shared
    if spec.background:
        scenario["background"] = _background(spec, seeds, order)
    if spec.sysctl:
        scenario["sysctl"] = dict(spec.sysctl)
    return scenario


def _number(number: float) -> float:
    """Without the last digits, which conversion of units leaves."""
    return float(f"{number:.12g}")


def _wire_keys(path: Any, link: Link, seeds: Seeds, horizon_s: float) -> dict[str, Any]:
    keys: dict[str, Any] = {"delay_ms": _number(1e3 * path["delay_s"])}
    if path["jitter_s"] > 0:
        keys["jitter_ms"] = _number(1e3 * path["jitter_s"])
    single, in_bursts = (float(value(link, key, seeds)[0]) for key in ("loss_pct", "ge.loss_pct"))
    if single > 0:
        keys["loss_pct"] = single
    if in_bursts > 0:
        keys["ge"] = {
            "loss_pct": in_bursts,
            "burst_packets": float(value(link, "ge.burst_packets", seeds)[0]),
        }
    keys.update(_outages(path, link, seeds, horizon_s))
    return keys


def _outages(path: Any, link: Link, seeds: Seeds, horizon_s: float) -> dict[str, Any]:
    if path["up_s"] <= 0:
        if not len(link.outages):
            return {}
        period = {"outage_period_s": link.outage_period_s} if link.outage_period_s else {}
        return {"outages": [[_number(s), _number(e - s)] for s, e in link.outages.tolist()], **period}
    rounds = np.arange(math.ceil(horizon_s / link.outage_period_s)) if link.outage_period_s else np.zeros(1)
    if len(rounds) * len(link.outages) > _MAX_ROWS:
        rounds = rounds[:MAX_OUTAGES]
    fixed = (link.outages[None] + (rounds * link.outage_period_s)[:, None, None]).reshape(-1, 2)
    at_random = _random_outages(
        float(path["up_s"]), float(path["down_s"]), f"{link.place}.lab_outages", seeds, horizon_s
    )
    times = np.concatenate([fixed, at_random])
    times = merged(times[np.argsort(times[:, 0], kind="stable")])
    times = times[times[:, 0] < horizon_s]
    if len(times) > MAX_OUTAGES:
        raise ScenarioError(
            f"{link.place}: {len(times)} outages in {horizon_s:g} s, and the lab takes {MAX_OUTAGES}; "
            "choose a shorter horizon_s"
        )
    return {"outages": [[_number(start), _number(end - start)] for start, end in times.tolist()]}


def _random_outages(up_s: float, down_s: float, name: str, seeds: Seeds, horizon_s: float) -> Floats:
    """Alternating exponential times up and down, the first outage after a time up."""
    count = min(int(3 * horizon_s / (up_s + down_s)) + 50, _MAX_ROWS)
    up, down = (
        -mean * np.log1p(-_series(seeds, f"{name}.{what}", count))
        for what, mean in (("up", up_s), ("down", down_s))
    )
    ends = np.cumsum(up + down)
    times = np.stack([ends - down, ends], axis=1)
    kept: Floats = times[times[:, 0] < horizon_s]
    return kept


def _series(seeds: Seeds, name: str, count: int) -> Floats:
    """`count` uniform numbers of the one seed."""
    with np.errstate(over="ignore"):
        return uniform(seeds[0] * np.uint64(0x9E3779B97F4A7C15) + np.arange(count, dtype=np.uint64), name)


def _link_keys(
    spec: Spec,
    drawn: Drawn,
    j: int,
    link: Link,
    seeds: Seeds,
    day: tuple[float, float],
    horizon_s: float,
    *,
    noisy: bool,
) -> dict[str, Any]:
    """Keys of a link; `noisy`: with the simulator's own cross traffic, that comes on the way of the data."""
    at = drawn.links[0, j]
    keys: dict[str, Any] = {
        "rate_mbit": _number(drawn.rate_mbit[0, j]),
        "queue_bytes": int(drawn.queue_bytes[0, j]),
    }
    if at["load"] > 0:
        keys["load"] = _number(at["load"])
    if at["burst_on_s"] > 0:
        keys["burst_ms"] = [_number(1e3 * at["burst_on_s"]), _number(1e3 * at["burst_off_s"])]
    rows = spec.rows[at["row_first"] : at["row_first"] + at["row_count"]]
    loop_s = float(at["loop_s"])
    if noisy and (at["noise"] > 0 or at["day_load"] > 0):
        rows, loop_s = _composed(at, rows, f"{link.place}.lab_noise", seeds, day, horizon_s), 0.0
    if len(rows):
        factors = (1.0, 1.0 / goodput_Bps(spec.mtu), 1e3, 1e2, 1.0)
        cells = (rows * factors).tolist()
        keys["schedule"] = [[None if math.isnan(cell) else _number(cell) for cell in row] for row in cells]
        if loop_s:
            keys["loop_s"] = loop_s
    return keys


def _composed(
    at: Any, rows: Floats, name: str, seeds: Seeds, day: tuple[float, float], horizon_s: float
) -> NDArray[np.float64]:
    """Rows in which the load holds noise and day as well, each sampled in the middle of its step."""
    step_s = min(
        0.25 * at["noise_tau_s"] if at["noise"] > 0 else math.inf,
        day[0] / 96 if at["day_load"] > 0 else math.inf,
        1.0,
    )
    step_s = max(step_s, 0.01, horizon_s / _MAX_ROWS)
    count = math.ceil(horizon_s / step_s)
    t_s = np.arange(count) * step_s
    steady = np.full(count, float(at["load"]))
    out = np.full((count, 5), np.nan)
    if len(rows):
        # A change of the schedule falls on the next step: rows of both would be needed to be exact.
        phase = t_s % at["loop_s"] if at["loop_s"] else t_s
        which = np.searchsorted(rows[:, 0], phase, side="right") - 1
        cells = np.where(which[:, None] >= 0, rows[np.maximum(which, 0)], np.nan)
        out[:, 1:4] = cells[:, 1:4]
        steady = np.where(np.isnan(cells[:, 4]), steady, cells[:, 4])
    out[:, 0] = t_s
    more = (
        0.5
        * at["day_load"]
        * (1 + np.cos(2 * np.pi * (day[1] + (t_s + 0.5 * step_s) / day[0] - at["day_peak"])))
    )
    if at["noise"] > 0:
        # An Ornstein-Uhlenbeck process, sampled exactly.
        keep = math.exp(-step_s / at["noise_tau_s"])
        radius = np.sqrt(-2.0 * np.log1p(-_series(seeds, f"{name}.radius", count)))
        kicks = at["noise"] * radius * np.cos(2 * np.pi * _series(seeds, f"{name}.angle", count))
        x = kicks[0]
        for i in range(count):
            x = keep * x + math.sqrt(1 - keep * keep) * kicks[i] if i else x
            more[i] += x
    if at["burst_on_s"] > 0:
        # The lab makes bursts of all the load it is given, so the rest is taken from the rate.
        more = np.clip(more, 0.0, MAX_LOAD)
        out[:, 1] = np.where(np.isnan(out[:, 1]), at["rate_Bps"], out[:, 1]) * (1.0 - more)
        out[:, 4] = np.minimum(steady / (1.0 - more), MAX_LOAD)
    else:
        out[:, 4] = np.clip(steady + more, 0.0, MAX_LOAD)
    return out


def _background(spec: Spec, seeds: Seeds, order: NDArray[np.intp]) -> list[dict[str, Any]]:
    entries = []
    for entry in spec.background:
        keys: dict[str, Any] = {"path": int(np.flatnonzero(order == entry.path)[0]) + 1, "dir": entry.side}
        if entry.udp_mbit is not None:
            keys["udp_mbit"] = float(entry.udp_mbit.draw(seeds, f"{entry.place}.udp_mbit")[0])
        else:
            keys["cc"] = entry.cc
        entries.append({**keys, "flows": entry.flows, "start_s": entry.start_s, "seconds": entry.seconds})
    return entries
