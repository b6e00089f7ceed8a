"""What is promised of the models' slowdowns and completion times, and the figures that judge it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from figures.comparison import (
    MEAN_TIME,
    MEASURES,
    MODEL,
    OLD_MODEL,
    SLOWDOWN,
    UNTUNED_RULES,
    Cell,
    gap_closed,
    name_of,
    ratio,
    too_slow,
    under,
)
from figures.families import NUMBERS_OF_PATHS, PATHS, SETS, SWEEP, WORKLOAD
from figures.figure import Bound, Figure, at_least, at_most, number
from itp.evaluation.bootstrap import Estimate
from itp.evaluation.text import label, listed
from itp.policies import CLASSICAL

_SIMPLE = ("single_best", "least_completion_time")
"""The rules that ``balanced`` is compared with, in both measures at once."""
_NOT_SHIPPED = f"{MODEL} is not shipped with this version"


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What a policy is held to in one measure under one service order.

    Attributes
    ----------
    name : str
        Its figures' names begin so.
    policy, order, measure : str
    average : float or None
        The most that its figure may be over the best rule's, on average over a set of families; None:
        nothing is asked.
    worst : float
        The same in any family.
    gap : float or None
        Percent of the oracle's lead over the best rule, at least.
    """

    name: str
    policy: str
    order: str
    measure: str
    average: float | None
    worst: float
    gap: float | None = None

    def __str__(self) -> str:
        policy = self.policy.replace(":", ", ")
        return f"{self.order}: {MEASURES[self.measure]} of {policy} / the best rule's"


PROMISES = (
    Promise(
        name="typical_fifo",
        policy=name_of("typical"),
        order="fifo",
        measure=SLOWDOWN,
        average=0.75,
        worst=1.02,
        gap=75,
    ),
    Promise(
        name="typical_srpt",
        policy=name_of("typical"),
        order="srpt",
        measure=SLOWDOWN,
        average=0.93,
        worst=1.01,
        gap=55,
    ),
    Promise(
        name="bulk_fifo",
        policy=name_of("bulk"),
        order="fifo",
        measure=MEAN_TIME,
        average=0.95,
        worst=1.02,
    ),
    Promise(
        name="bulk_srpt",
        policy=name_of("bulk"),
        order="srpt",
        measure=MEAN_TIME,
        average=0.98,
        worst=1.02,
    ),
)
BALANCED = (
    Promise(
        name="balanced_fifo_slowdown",
        policy=name_of("balanced"),
        order="fifo",
        measure=SLOWDOWN,
        average=0.8,
        worst=1.02,
    ),
    Promise(
        name="balanced_fifo_mean_time",
        policy=name_of("balanced"),
        order="fifo",
        measure=MEAN_TIME,
        average=0.85,
        worst=1.02,
    ),
)
"""On average each holds by itself; in a family it is enough that one of the two does."""
OLD_MODEL_WORST = 1.05


def figures_of(cells: Sequence[Cell]) -> list[Figure]:
    """All figures of an evaluation."""
    return [
        *(figure for promise in PROMISES for figure in _of_promise(promise, cells)),
        *_of_balanced(cells),
        *(figure for order in ("fifo", "srpt") for figure in _of_old_model(order, cells)),
    ]


def _of_promise(promise: Promise, cells: Sequence[Cell]) -> Iterator[Figure]:
    here = under(cells, promise.order, promise.policy)
    bound = at_most(promise.worst)
    usual = [cell for cell in here if cell.family.set != SWEEP]
    yield _worst(f"{promise.name}_worst", f"{promise}, where it is greatest", usual, promise, bound)
    for name, title in SETS.items():
        of_set = [cell for cell in usual if cell.family.set == name]
        yield from _averages(promise, of_set, name, title)
    for n in NUMBERS_OF_PATHS:
        of_n = _swept(here, n)
        title = f"workloads over {n} paths"
        yield _worst(
            f"{promise.name}_worst_n{n}", f"{promise}, {title}, where it is greatest", of_n, promise, bound
        )
        # With one path there is nothing to choose.
        if n > 1:
            yield from _averages(promise, of_n, f"n{n}", title, too_slow(n))
    for cell in usual:
        yield _in_family(cell, promise, bound)


def _averages(
    promise: Promise, cells: Sequence[Cell], name: str, title: str, left_out: Sequence[str] = ()
) -> Iterator[Figure]:
    measure, policy = promise.measure, promise.policy
    about = f"{promise}, {title}, on average"
    yield _ratio(
        f"{promise.name}_{name}",
        about,
        ratio(cells, policy, measure, CLASSICAL) if cells else None,
        _asked(promise),
        f"without {listed([label(rival) for rival in left_out])}, too slow there" if left_out else "",
    )
    yield _ratio(
        f"{promise.name}_{name}_untuned_rules",
        f"{about}; rules that are not tuned to the scenario alone",
        ratio(cells, policy, measure, UNTUNED_RULES) if cells else None,
        None,
    )
    if promise.gap is not None:
        yield _percent(
            f"{promise.name}_gap_{name}",
            f"{promise.order}: share of the oracle's lead that {policy.replace(':', ', ')} has, {title}",
            gap_closed(cells, policy) if cells else None,
            at_least(promise.gap),
        )


def _of_balanced(cells: Sequence[Cell]) -> Iterator[Figure]:
    policy = BALANCED[0].policy
    here = under(cells, "fifo", policy)
    usual = [cell for cell in here if cell.family.set != SWEEP]
    sets = [(name, title, [c for c in usual if c.family.set == name]) for name, title in SETS.items()]
    for n in NUMBERS_OF_PATHS:
        of_n = _swept(here, n)
        sets.append((f"n{n}", f"workloads over {n} paths", of_n))
    for name, title, of_set in sets:
        for promise in BALANCED if name != "n1" else ():
            value = ratio(of_set, policy, promise.measure, _SIMPLE) if of_set else None
            about = f"{promise}, {title}, on average; of single best and least completion time alone"
            yield _ratio(f"{promise.name}_{name}", about, value, _asked(promise))
        yield _lesser(f"balanced_fifo_worst_{name}", f"{title}, where it is greatest", of_set)
    for cell in usual:
        yield _lesser(f"balanced_fifo:{cell.family.name}", cell.family.name, [cell])


def _lesser(name: str, where: str, cells: Sequence[Cell]) -> Figure:
    """The lesser of the two ratios of ``balanced``, in the cell where that is greatest."""
    about = f"fifo: the lesser of the ratios of {BALANCED[0].policy.replace(':', ', ')}, {where}"
    bound = at_most(BALANCED[0].worst)
    if not cells:
        return _ratio(name, about, None, bound)
    both = [[ratio([cell], p.policy, p.measure, _SIMPLE) for p in BALANCED] for cell in cells]
    lesser = [min(pair, key=lambda estimate: estimate.value) for pair in both]
    worst = max(range(len(cells)), key=lambda k: lesser[k].value)
    slowdown, mean_time = (number(estimate.value) for estimate in both[worst])
    note = f"{cells[worst].family.name}: slowdown {slowdown} x, mean completion time {mean_time} x"
    return _ratio(name, about, lesser[worst], bound, note)


def _of_old_model(order: str, cells: Sequence[Cell]) -> Iterator[Figure]:
    promise = Promise(
        name=f"{OLD_MODEL}_{order}",
        policy=OLD_MODEL,
        order=order,
        measure=SLOWDOWN,
        average=None,
        worst=OLD_MODEL_WORST,
    )
    here = under(cells, order, OLD_MODEL)
    bound = at_most(OLD_MODEL_WORST)
    yield _worst(f"{promise.name}_worst", f"{promise}, where it is greatest", here, promise, bound)
    at_home = [cell for cell in here if cell.family.set == PATHS]
    yield from _averages(promise, at_home, PATHS, SETS[PATHS])
    yield _percent(
        f"{promise.name}_gap_{PATHS}",
        f"{order}: share of the oracle's lead that {OLD_MODEL} has, {SETS[PATHS]}",
        gap_closed(at_home, OLD_MODEL) if at_home else None,
        None,
    )
    for cell in here:
        yield _in_family(cell, promise, bound)


def _swept(cells: Sequence[Cell], n_streams: int) -> list[Cell]:
    """The workloads over so many paths."""
    return [c for c in cells if c.family.set in (WORKLOAD, SWEEP) and c.family.n_streams == n_streams]


def _in_family(cell: Cell, promise: Promise, bound: Bound) -> Figure:
    return _ratio(
        f"{promise.name}:{cell.family.name}",
        f"{promise}, {cell.family.name}",
        ratio([cell], promise.policy, promise.measure, CLASSICAL),
        bound,
        _rival(cell, promise),
    )


def _worst(name: str, about: str, cells: Sequence[Cell], promise: Promise, bound: Bound) -> Figure:
    if not cells:
        return _ratio(name, about, None, bound)
    ratios = [ratio([cell], promise.policy, promise.measure, CLASSICAL) for cell in cells]
    worst = max(range(len(cells)), key=lambda k: ratios[k].value)
    worse = sum(estimate.value > promise.worst for estimate in ratios)
    note = f"{cells[worst].family.name}; {worse} of {len(cells)} families over it"
    return _ratio(name, about, ratios[worst], bound, note)


def _asked(promise: Promise) -> Bound | None:
    """What is asked of averages."""
    return None if promise.average is None else at_most(promise.average)


def _rival(cell: Cell, promise: Promise) -> str:
    """The best rule, and the ratio to the best rule in the other measure."""
    other = MEAN_TIME if promise.measure == SLOWDOWN else SLOWDOWN
    rival = label(cell.best(promise.measure, CLASSICAL))
    value = ratio([cell], promise.policy, other, CLASSICAL).value
    return f"{rival}; {MEASURES[other]} {number(value)} x that of the rule best at it"


def _ratio(name: str, about: str, value: Estimate | None, asked: Bound | None, note: str = "") -> Figure:
    return _figure(name, about, value, "x", asked, note, 1.0)


def _percent(name: str, about: str, value: Estimate | None, asked: Bound | None) -> Figure:
    return _figure(name, about, value, "%", asked, "", 100.0)


def _figure(
    name: str, about: str, value: Estimate | None, unit: str, asked: Bound | None, note: str, factor: float
) -> Figure:
    """A figure; not measured where there is no estimate."""
    if value is None or math.isnan(value.value):
        why = _NOT_SHIPPED if value is None else "the oracle has no lead"
        return Figure(name=name, about=about, value=None, unit=unit, asked=asked, note=why)
    return Figure(
        name=name,
        about=about,
        value=factor * value.value,
        low=factor * value.low,
        high=factor * value.high,
        unit=unit,
        asked=asked,
        note=note,
    )
