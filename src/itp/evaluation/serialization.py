"""A report as JSON; what is read is checked."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itp._core.sim.batch import TIMELINE
from itp.errors import ReportError
from itp.evaluation.configuration import Configuration
from itp.evaluation.metrics import METRICS, N_QUANTILES
from itp.evaluation.replicas import across
from itp.evaluation.results import Results, Timeline

_FORMAT = "itp-evaluation"
_VERSION = 3
_LARGEST_LOG = 700.0  # the largest whose exponential a float can hold


def to_json(results: Results) -> str:
    """Everything that `from_json` reads, and the comparisons for other programs."""
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        "configuration": asdict(results.configuration),
        "figures": {name: _nested(values) for name, values in results.figures.items()},
        "completion_s": _nested(results.completion_s),
        "slowdown": _nested(results.slowdown),
        "timelines": [
            {field.name: getattr(line, field.name) for field in fields(line)}
            | {"intervals": line.intervals.tolist()}
            for line in results.timelines
        ],
        "analysis": results.analysis.as_dict(),
        "replicas": [part.as_dict() for part in across(results)] if results.configuration.replicas else [],
    }
    return json.dumps(content, separators=(",", ":"), allow_nan=False)


def from_json(source: str | os.PathLike[str]) -> dict[str, Any]:
    """The fields of `Results` from JSON text, or from a file with it.

    Raises
    ------
    ReportError
        It is no such text; the message says what is wrong.
    """
    text, place = _text(source)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ReportError(f"{place}: expected JSON: {error}") from None
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ReportError(f"{place}: expected the JSON of an evaluation")
    if content.get("version") != _VERSION:
        raise ReportError(f"{place}: version {content.get('version')!r}; this ITP reads {_VERSION}")
    try:
        return _fields(content)
    except KeyError as error:
        raise ReportError(f"{place}: {error.args[0]!r} is missing") from None
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ReportError(f"{place}: {error}") from None


def _nested(values: NDArray[np.float64]) -> Any:
    """Nested lists, with None for NaN, which JSON does not know."""
    if np.isfinite(values).all():
        return values.tolist()
    objects = values.astype(object)
    objects[~np.isfinite(values)] = None
    return objects.tolist()


def _fields(content: dict[str, Any]) -> dict[str, Any]:
    configuration = _configuration(content["configuration"])
    shape = configuration.shape
    figures = {
        name: _array(content["figures"][name], (*shape, len(configuration.seeds)), name) for name in METRICS
    }
    if (np.abs(figures["log_slowdown"]) > _LARGEST_LOG).any():
        raise ValueError(f"log_slowdown: expected logarithms, at most {_LARGEST_LOG:g}")
    return {
        "configuration": configuration,
        "figures": figures,
        "completion_s": _array(content["completion_s"], (*shape, N_QUANTILES), "completion_s"),
        "slowdown": _array(content["slowdown"], (*shape, N_QUANTILES), "slowdown"),
        "timelines": tuple(_timeline(line, configuration) for line in content["timelines"]),
    }


def _text(source: str | os.PathLike[str]) -> tuple[str, str]:
    if isinstance(source, str) and source.lstrip()[:1] in ("{", "["):
        return source, "report"
    try:
        return Path(source).read_text(encoding="utf-8"), os.fspath(source)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise ReportError(f"{source}: {error}") from None


def _configuration(content: dict[str, Any]) -> Configuration:
    texts = {"scenarios", "about", "service_orders", "policies", "replicas"}
    numbers = {"seeds", "tasks"}
    values: dict[str, Any] = {}
    for field in fields(Configuration):
        value = content[field.name]
        if field.name in texts | numbers:
            kind = str if field.name in texts else int
            missing = not value and field.name != "replicas"
            if not isinstance(value, list) or missing or not all(type(item) is kind for item in value):
                raise ValueError(f"configuration.{field.name}: expected a list of {kind.__name__}")
            value = tuple(value)
        elif field.name in ("version", "command") and not isinstance(value, str):
            raise ValueError(f"configuration.{field.name}: expected a text")
        elif field.name == "rate_scale" and (type(value) not in (int, float) or not value > 0):
            raise ValueError("configuration.rate_scale: expected a number above 0")
        elif field.name in ("load", "duration_s") and not isinstance(value, (int, float, type(None))):
            raise ValueError(f"configuration.{field.name}: expected a number")
        values[field.name] = value
    configuration = Configuration(**values)
    for name in ("scenarios", "service_orders", "policies", "replicas", "seeds"):
        if len(set(values[name])) < len(values[name]):
            raise ValueError(f"configuration.{name}: an entry appears twice")
    if not len(configuration.about) == len(configuration.tasks) == len(configuration.scenarios):
        raise ValueError("configuration: expected as many of about and tasks as of scenarios")
    if configuration.reference not in (None, *configuration.policies):
        raise ValueError(f"configuration.reference: {configuration.reference!r} is not among the policies")
    for name in configuration.replicas:
        if name not in configuration.policies:
            raise ValueError(f"configuration.replicas: {name!r} is not among the policies")
    return configuration


def _array(content: object, shape: tuple[int, ...], name: str) -> NDArray[np.float64]:
    try:
        values = np.array(content, dtype=np.float64)  # None becomes NaN
    except (TypeError, ValueError):
        raise ValueError(f"{name}: expected numbers, {list(shape)}") from None
    if values.shape != shape:
        raise ValueError(f"{name}: expected {list(shape)} numbers; got {list(values.shape)}")
    return values


def _timeline(content: dict[str, Any], configuration: Configuration) -> Timeline:
    for key, known in (
        ("scenario", configuration.scenarios),
        ("service_order", configuration.service_orders),
        ("policy", configuration.policies),
        ("seed", configuration.seeds),
    ):
        if content[key] not in known:
            raise ValueError(f"timelines: {key} {content[key]!r} is not in the configuration")
    intervals = np.array([tuple(row) for row in content["intervals"]], dtype=TIMELINE)
    times = (intervals["start_s"], intervals["end_s"])
    if not all(np.isfinite(part).all() for part in times) or (intervals["stream"] < 0).any():
        raise ValueError("timelines: intervals: expected finite times, and streams from 0")
    return Timeline(
        scenario=content["scenario"],
        service_order=content["service_order"],
        policy=content["policy"],
        seed=content["seed"],
        intervals=intervals,
    )
