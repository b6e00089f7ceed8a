"""The check ``policy``: the shipped models against the best rules, and what else is promised of decisions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from figures import baseline as versions
from figures import idle_hosts, promises, rescaling, serving
from figures.comparison import MODEL, OLD_MODEL, PREFERENCES, Seeds, evaluate, is_shipped, name_of
from figures.families import NUMBERS_OF_PATHS, USUAL_PATHS, all_families
from figures.figure import Figure, Progress, at_least, at_most, number
from itp.evaluation import DEFAULT_SEEDS
from itp.models.load import load_model

PLANNED_AT_MOST = 1.25
"""The most that a model may plan on an idle host, in units of the least that a rule plans."""
SAME_AT_LEAST = 99.9
"""Percent of decisions that rescaling leaves as they are; the rest is for rounding."""
DECISION_US = {4: 3.5, 16: 12.0}
P99_AT_MOST = 3.0
"""The most that the 99th percentile of decision times may be, in units of what is asked of the median."""
_CALLS = 20_000
_NOT_SHIPPED = f"{MODEL} is not shipped with this version"


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How much is measured.

    Attributes
    ----------
    seeds : Seeds
    hosts : int
        Idle hosts of each number of paths.
    worlds, tasks : int
        Of each workload that is rescaled.
    seconds : float
        Of timing.
    """

    seeds: Seeds
    hosts: int
    worlds: int
    tasks: int
    seconds: float


_FULL = Extent(seeds=Seeds(DEFAULT_SEEDS, 10), hosts=200, worlds=8, tasks=100, seconds=20.0)
_QUICK = Extent(seeds=Seeds(6, 3), hosts=40, worlds=3, tasks=40, seconds=4.0)


def measure(*, quick: bool, progress: Progress, baseline: str | None = None) -> list[Figure]:
    """All figures of the check: those that do not hold come first, then those that were not measured.

    Parameters
    ----------
    quick : bool
    progress : callable
    baseline : str, optional
        A wheel or virtual environment of the version whose decision time is compared.
    """
    extent = _QUICK if quick else _FULL
    compared = (
        []
        if baseline is None
        else versions.measure(baseline, quick=quick, progress=progress, subjects=("decision",))
    )
    figures = [
        *compared,
        *promises.figures_of(evaluate(all_families(), extent.seeds, progress)),
        *_decision_times(extent, progress),
        *_idle_hosts(extent, progress),
        *_rescaled(extent, progress),
    ]
    return losses_first([replace(figure, rough=quick) for figure in figures])


def losses_first(figures: Sequence[Figure]) -> list[Figure]:
    """Figures that break their bound, then those that were not measured, then the rest, each in order."""

    def place(figure: Figure) -> int:
        if figure.asked is None:
            return 2
        return {False: 0, None: 1, True: 2}[figure.holds]

    return sorted(figures, key=place)


def _decision_times(extent: Extent, progress: Progress) -> Iterator[Figure]:
    times: dict[int, serving.Times] = {}
    asked, note = True, _NOT_SHIPPED
    if is_shipped(MODEL):
        progress("decision times")
        times = serving.decision_times(MODEL, tuple(DECISION_US), seconds=extent.seconds, calls=_CALLS)
        net = load_model(MODEL).set_net
        asked = net is not None and net.kernel == "avx512"
        note = "" if asked else "asked of processors with AVX-512 alone"
    for n, most_us in DECISION_US.items():
        p50_us, p99_us, busy_us = times[n].quantiles_us() if n in times else (None, None, None)
        for name, what, value_us, factor in (
            ("p50", "median", p50_us, 1.0),
            ("p99", "99th percentile", p99_us, P99_AT_MOST),
            ("p99_busy", "99th percentile beside a busy thread", busy_us, P99_AT_MOST),
        ):
            yield Figure(
                name=f"decision_{name}_n{n}",
                about=f"a decision with {MODEL} over {n} streams, {what}",
                value=value_us,
                unit="us",
                asked=at_most(factor * most_us) if asked else None,
                note=note,
            )


def _idle_hosts(extent: Extent, progress: Progress) -> Iterator[Figure]:
    every = dict.fromkeys(range(1, max(NUMBERS_OF_PATHS) + 1), extent.hosts)
    for preference in PREFERENCES:
        name = f"idle_host_{preference}"
        yield _idle_host(name, MODEL, every, progress, prefer=preference)
    yield _idle_host(f"idle_host_{OLD_MODEL}", OLD_MODEL, {USUAL_PATHS: 5 * extent.hosts}, progress)


def _idle_host(
    name: str, model: str, by_streams: dict[int, int], progress: Progress, **options: str
) -> Figure:
    about = ", ".join((f"one task on an idle host: planned time of {model}", *options.values()))
    value, note = None, _NOT_SHIPPED
    if is_shipped(model):
        progress(f"idle hosts, {model}")
        found = idle_hosts.longest(model, by_streams, PLANNED_AT_MOST, **options)
        value = found.ratio
        rates = ", ".join(number(rate) for rate in found.host.rates_mbit)
        note = (
            f"{found.over} of {found.hosts} hosts over it; the worst under {found.service_order}: "
            f"{number(1e-6 * found.host.size_bytes)} MB over {rates} Mbit/s"
        )
    return Figure(
        name=name,
        about=f"{about} / the least of any rule, greatest of random hosts",
        value=value,
        unit="x",
        asked=at_most(PLANNED_AT_MOST),
        note=note,
    )


def _rescaled(extent: Extent, progress: Progress) -> Iterator[Figure]:
    for preference in PREFERENCES:
        value, note = None, _NOT_SHIPPED
        if is_shipped(MODEL):
            progress(f"rates and sizes times ten, {preference}")
            numbers = NUMBERS_OF_PATHS[1:]
            found = rescaling.agreement(
                name_of(preference), numbers, worlds=extent.worlds, tasks=extent.tasks
            )
            value, note = 100.0 * found.share, f"{found.decisions:,} decisions"
        yield Figure(
            name=f"rescaled_{preference}",
            about=f"rates, sizes and least chunk times ten: the same decisions of {MODEL}, {preference}",
            value=value,
            unit="%",
            asked=at_least(SAME_AT_LEAST),
            note=note,
        )
