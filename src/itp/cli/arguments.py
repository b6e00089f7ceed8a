"""Arguments that several commands take, and checks of their values."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from itp._core.heuristic import AUTO
from itp._util.command import UsageError, check_name
from itp._util.terminal import system_error
from itp.models.load import shipped_models
from itp.models.spec import HARD_DEADLINES, NO_GUARD, is_model, parse
from itp.policies.names import NAMES
from itp.sim import scenario
from itp.sim.simulator import RULES

GROUPS = {"families": scenario.FAMILIES, "workloads": scenario.WORKLOADS}
"""Names that stand for several scenarios."""

_MAX_TASKS = 1_000_000
_MAX_STREAMS = 16


def to_path(text: str) -> Path:
    """A path, as an argument's type; an empty one, as of a variable that is not set, is refused."""
    if not text:
        raise argparse.ArgumentTypeError("expected a path; got an empty text")
    return Path(text)


def rates(text: str) -> tuple[float, ...]:
    """Comma-separated rates in Mbit/s, as an argument's type."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected rates like 200,100,50,20; got {text!r}") from None


def add_world_options(add: Callable[..., Any]) -> None:
    """Options that change the worlds of scenarios; see `check_world_options`."""
    add(
        "--load",
        metavar="X",
        type=float,
        help="offered load as a share of capacity (default: the scenario's)",
    )
    add("--tasks", metavar="N", type=int, help="tasks an episode (default: the scenario's)")
    add("--streams", metavar="N", type=int, help="number of paths, where the scenario leaves it open")
    add("--trace", metavar="FILE", type=to_path, help="replaces the traces that a scenario names")
    add("--regions", metavar="FILE", type=to_path, help="replaces the table of regions that a scenario names")


def check_world_options(args: argparse.Namespace) -> None:
    """UsageError unless the worlds can be as the options of `add_world_options` say."""
    check_range("--tasks", args.tasks, 1, _MAX_TASKS)
    check_range("--streams", args.streams, 1, _MAX_STREAMS)
    check_positive("--load", args.load)


def check_range(option: str, value: float | None, least: float, most: float) -> None:
    """UsageError unless a number, if there is one, is from `least` to `most`."""
    if value is not None and not least <= value <= most:
        raise UsageError(f"{option} must be from {least} to {most}; got {value}")


def check_positive(option: str, value: float | None) -> None:
    """UsageError unless a number, if there is one, is finite and above 0."""
    if value is not None and not (math.isfinite(value) and value > 0):
        raise UsageError(f"{option} must be more than 0; got {value:g}")


def check_output_file(option: str, file: Path | None) -> None:
    """UsageError unless a file, if one is named, can be made where it should be."""
    try:
        if file is not None and (file.is_dir() or not file.absolute().parent.is_dir()):
            raise UsageError(f"{option} must be a file in a folder that exists; got {file}")
    except OSError as error:
        raise UsageError(f"{option}: {system_error(error)}") from None


def check_policy(option: str, spec: str) -> None:
    """UsageError unless the text names a policy, or a model that exists."""
    if spec.removesuffix(HARD_DEADLINES) in RULES:
        return
    if not is_model(spec):
        check_name(option, spec, (*NAMES, AUTO, *shipped_models()))
        return
    try:
        model = parse(spec).model
    except ValueError as error:
        raise UsageError(f"{option} {error}") from None
    if model != "default" and model not in shipped_models() and not os.path.isfile(model):
        raise UsageError(f"{option} {spec}: no such file")


def partitioner_options(option: str, spec: str) -> dict[str, Any]:
    """What makes a ``TaskPartitioner`` decide by a rule or a model; UsageError unless the text names one.

    Options behind a name are those of ``itp.models.spec``, but for ``:no-guard``: a model is served with its
    guard.
    """
    rule = spec.removesuffix(HARD_DEADLINES)
    if rule in RULES:
        return {"heuristic": rule, "hard_deadlines": True if rule != spec else None}
    if not is_model(spec):
        check_name(option, spec, (*RULES, "default", *shipped_models()))
    check_policy(option, spec)
    model = parse(spec)
    if not model.guard:
        raise UsageError(f"{option} {spec}: a model is served with its guard; leave {NO_GUARD} out")
    options: dict[str, Any] = {"model": model.model, "hard_deadlines": model.hard_deadlines}
    return options if model.prefer is None else {**options, "prefer": model.prefer}


def check_scenario(option: str, name: str) -> None:
    """UsageError unless the text names a shipped scenario or a file."""
    if not os.path.isfile(name):
        check_name(option, name, (*scenario.FAMILIES, *scenario.WORKLOADS))


def scenarios_of(option: str, names: Sequence[str]) -> list[str]:
    """The names with those of `GROUPS` replaced by their members; UsageError as `check_scenario`."""
    found: list[str] = []
    for name in names:
        if name in GROUPS and not os.path.isfile(name):
            found += GROUPS[name]
        else:
            check_scenario(option, name)
            found.append(name)
    return found
