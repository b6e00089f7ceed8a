"""Compare policies: each runs in the same worlds.

>>> from itp.evaluation import compare
>>> report = compare(["least_completion_time", "pull", "oracle"], ["heterogeneous"], seeds=30)
>>> report.to_html("report.html")
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from importlib.metadata import version
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from itp.evaluation.analysis import ORACLE
from itp.evaluation.configuration import Configuration
from itp.evaluation.jobs import Job, Part, run_jobs
from itp.evaluation.metrics import METRICS, quantiles
from itp.evaluation.report import Report
from itp.evaluation.results import Timeline
from itp.policies.base import TEST_SEED, Policy
from itp.policies.names import NAMES, make
from itp.policies.served import ModelPolicy, name_apart
from itp.schema import SERVICE_ORDERS
from itp.sim.scenario import Scenario, load

DEFAULT_SEEDS = 30

# Measured; they only order the jobs and weigh the progress shown.
_RULE_US = 9.0
_DECISION_US = {ORACLE: 300.0, "size_interval": 25.0, "linucb": 12.0}
_PREPARATION_US_PER_TASK = {"size_interval": 3000.0, "linucb": 4000.0}
_UNKNOWN_US = 50.0
_MAX_SEEDS_OF_ORACLE_JOB = 8


def compare(
    policies: Iterable[str | os.PathLike[str] | Policy],
    scenarios: Iterable[str | os.PathLike[str] | Scenario],
    seeds: int | ArrayLike = DEFAULT_SEEDS,
    *,
    replicas: Iterable[str | os.PathLike[str] | Policy] = (),
    service_orders: Sequence[str] = SERVICE_ORDERS,
    processes: int | None = None,
    progress: Callable[[float, str], None] | None = None,
    load: float | None = None,
    tasks: int | None = None,
    rate_scale: float = 1.0,
    reference: str | None = None,
) -> Report:
    """Run every policy in every scenario, under every service order, on the same seeds.

    The work is divided among spawned processes: a script that calls this needs
    ``if __name__ == "__main__":``, unless `processes` is 1. Results do not depend on their number.

    Parameters
    ----------
    policies : iterable of str, path or Policy
        Names of ``itp.policies.NAMES``, models (a shipped name or a path that ends in ``.onnx``, with
        ``:no-guard`` or ``:hard-deadlines`` behind it: ``itp.policies.served``), or objects of that protocol,
        which can be pickled.
    scenarios : iterable of str, path or Scenario
        As for ``itp.sim.scenario.load``; each has a name of its own.
    seeds : int or sequence of int
        The number of worlds of each scenario, counted from ``TEST_SEED``, or their seeds. Lower seeds are
        for training.
    replicas : iterable of str, path or Policy
        Models that differ by their training seed alone. They are policies like the others; `across` and the
        report have their mean, least and most.
    service_orders : sequence of {"fifo", "srpt"}
    processes : int, optional
        Default: one for each CPU that this process may use.
    progress : callable, optional
        Called with the share of the work that is done (0 to 1) and the job that was finished last.
    load, tasks : optional
        Replace the scenarios' own: offered load as a share of capacity, tasks an episode.
    rate_scale : float
        Multiplies every rate; the load as a share of capacity stays.
    reference : str, optional
        The policy the others are compared with; default: the best classical rule of each scenario and order.

    Returns
    -------
    Report

    Raises
    ------
    ValueError, TypeError
        An argument is wrong.
    ScenarioError
        A scenario is wrong.
    ModelError
        There is no such model, or it cannot serve.
    EvaluationError
        A policy failed; the text says which, and where.
    """
    compared, trained = ready(policies, replicas)
    if not compared:
        raise ValueError("policies: expected at least one")
    every = [*compared, *trained]
    worlds = [
        _load(source).with_options(load=load, tasks=tasks, rate_scale=rate_scale) for source in scenarios
    ]
    numbers = _seeds(seeds)
    names = [policy.name for policy in every]
    _check_unique("policies", names)
    _check_unique("scenarios", [scenario.name for scenario in worlds])
    _check_unique("service_orders", list(service_orders))
    for order in service_orders:
        if order not in SERVICE_ORDERS:
            raise ValueError(f"service_orders: {order!r}: expected {' or '.join(SERVICE_ORDERS)}")
    if reference is not None and reference not in names:
        raise ValueError(f"reference = {reference!r}: expected one of the policies: {', '.join(names)}")
    processes = _processes(processes)
    ordered = [scenario.with_options(service_order=order) for scenario in worlds for order in service_orders]
    for policy, scenario in product(every, ordered):
        if isinstance(policy, ModelPolicy):
            policy.load(scenario)  # a model that cannot serve fails before hours are spent on the others
    jobs = _jobs(every, ordered, len(numbers), processes)
    start_s = time.monotonic()
    parts = run_jobs(jobs, every, ordered, numbers, processes, progress)
    configuration = Configuration(
        scenarios=tuple(scenario.name for scenario in worlds),
        about=tuple(scenario.about for scenario in worlds),
        service_orders=tuple(service_orders),
        policies=tuple(names),
        replicas=tuple(policy.name for policy in trained),
        seeds=tuple(int(seed) for seed in numbers),
        tasks=tuple(scenario.n_tasks for scenario in worlds),
        load=load,
        rate_scale=float(rate_scale),
        reference=reference,
        version=version("itp"),
        command="",
        duration_s=round(time.monotonic() - start_s, 1),
    )
    configuration = replace(configuration, command=_command(configuration, compared, trained, tasks))
    return _collect(configuration, parts)


def ready(
    policies: Iterable[str | os.PathLike[str] | Policy],
    replicas: Iterable[str | os.PathLike[str] | Policy] = (),
) -> tuple[list[Policy], list[Policy]]:
    """Make objects, each with a name of its own, of policies and replicas given by name, path or object.

    Models whose file names are alike, or are a rule's, are named by as much of their paths as distinguishes
    them.

    Raises
    ------
    ValueError, ModelError
        There is no such policy, or model.
    """
    compared, trained = [_made(policy) for policy in policies], [_made(policy) for policy in replicas]
    every = [*compared, *trained]
    models = [policy for policy in every if isinstance(policy, ModelPolicy)]
    name_apart(models, [*NAMES, *(policy.name for policy in every if policy not in models)])
    return compared, trained


def _made(policy: str | os.PathLike[str] | Policy) -> Policy:
    return make(os.fspath(policy)) if isinstance(policy, (str, os.PathLike)) else policy


def _load(source: str | os.PathLike[str] | Scenario) -> Scenario:
    return source if isinstance(source, Scenario) else load(source)


def _seeds(seeds: int | ArrayLike) -> NDArray[np.uint64]:
    given = np.asarray(seeds)
    if given.dtype.kind not in "iu":
        raise TypeError(f"seeds: expected integers; got {seeds!r}")
    if given.ndim == 0:
        if given < 1:
            raise ValueError(f"seeds = {seeds!r}: expected at least 1")
        given = TEST_SEED + np.arange(int(given))
    if given.ndim != 1 or not len(given) or len(np.unique(given)) < len(given):
        raise ValueError("seeds: expected a number, or different integers in one dimension")
    if given.min() < TEST_SEED:
        raise ValueError(
            f"seeds: expected at least {TEST_SEED}, as policies are trained on those below; got {given.min()}"
        )
    return given.astype(np.uint64)


def _check_unique(name: str, values: list[str]) -> None:
    if not values:
        raise ValueError(f"{name}: expected at least one")
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{name}: {value!r} appears twice")


def _processes(processes: int | None) -> int:
    if processes is None:
        affinity = getattr(os, "sched_getaffinity", None)
        return len(affinity(0)) if affinity else os.cpu_count() or 1
    if isinstance(processes, bool) or not isinstance(processes, int) or not 1 <= processes <= 512:
        raise ValueError(f"processes = {processes!r}: expected 1 to 512")
    return processes


def _jobs(
    policies: Sequence[Policy], scenarios: Sequence[Scenario], n_seeds: int, processes: int
) -> list[Job]:
    """All jobs, the longest first; those of the oracle, which takes longest, are divided by seeds."""
    jobs = []
    for (p, policy), (s, scenario) in product(enumerate(policies), enumerate(scenarios)):
        parts = 1
        if policy.name == ORACLE:
            wanted = max(-(-n_seeds // _MAX_SEEDS_OF_ORACLE_JOB), -(-2 * processes // len(scenarios)))
            parts = min(n_seeds, wanted)
        for k in range(parts):
            first, last = n_seeds * k // parts, n_seeds * (k + 1) // parts
            jobs.append(Job(p, s, first, last, _cost_s(policy.name, scenario.n_tasks, last - first)))
    return sorted(jobs, key=lambda job: -job.cost_s)


def _cost_s(policy: str, n_tasks: int, n_seeds: int) -> float:
    usual_us = _RULE_US if policy in NAMES else _UNKNOWN_US
    decisions_us = _DECISION_US.get(policy, usual_us) * n_seeds * n_tasks
    return 1e-6 * (decisions_us + _PREPARATION_US_PER_TASK.get(policy, 0.0) * n_tasks)


def _collect(configuration: Configuration, parts: list[Part]) -> Report:
    """The parts of all jobs in arrays [scenario, order, policy, ...]."""
    n_orders, n_policies = len(configuration.service_orders), len(configuration.policies)
    shape = (len(configuration.scenarios), n_orders, n_policies)
    figures = {name: np.full((*shape, len(configuration.seeds)), np.nan) for name in METRICS}
    samples: dict[tuple[int, ...], list[Part]] = {}
    timelines: dict[tuple[int, ...], Timeline] = {}
    for part in parts:
        s, o = divmod(part.job.scenario, n_orders)
        cell = (s, o, part.job.policy)
        for name, values in part.figures.items():
            figures[name][cell][part.job.first : part.job.last] = values
        samples.setdefault(cell, []).append(part)
        if part.job.first == 0:
            timelines[cell] = Timeline.of(configuration, cell, part.timeline)
    of_cells = {
        name: np.array(
            [
                quantiles(np.concatenate([getattr(part, name) for part in samples[cell]]))
                for cell in np.ndindex(shape)
            ]
        ).reshape(*shape, -1)
        for name in ("completion_s", "slowdown")
    }
    kept = _most_different(figures["log_slowdown"])
    return Report(
        configuration=configuration,
        figures=figures,
        completion_s=of_cells["completion_s"],
        slowdown=of_cells["slowdown"],
        timelines=tuple(timelines[cell] for cell in np.ndindex(shape) if cell[0] == kept),
    )


def _most_different(log_slowdown: NDArray[np.float64]) -> int:
    """The scenario in which policies differ most; the timelines of this one are kept."""
    means = np.nanmean(log_slowdown, axis=3)
    return int((means.max(axis=2) - means.min(axis=2)).mean(axis=1).argmax())


def _command(
    configuration: Configuration, policies: Sequence[Policy], replicas: Sequence[Policy], tasks: int | None
) -> str:
    """The command line that repeats the evaluation, as far as policies, models and scenarios have names."""
    seeds = configuration.seeds
    words: list[Any] = ["itp", "evaluate"]
    for option, given in (("--policy", policies), ("--replicas", replicas)):
        for policy in given:
            words += [option, policy.spec if isinstance(policy, ModelPolicy) else policy.name]
    for name in configuration.scenarios:
        words += ["--scenario", name]
    words += ["--seeds", len(seeds), "--first-seed", seeds[0]]
    orders = configuration.service_orders
    words += ["--service-order", orders[0] if len(orders) == 1 else "both"]
    if configuration.load is not None:
        words += ["--load", configuration.load]
    if tasks is not None:
        words += ["--tasks", tasks]
    if configuration.rate_scale != 1.0:
        words += ["--rate-scale", configuration.rate_scale]
    if configuration.reference is not None:
        words += ["--reference", configuration.reference]
    return shlex.join(map(str, words))
