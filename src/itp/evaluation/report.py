"""What an evaluation found: figures per seed, and what follows from them, as tables, charts and a page."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itp._core.sim.batch import TIMELINE
from itp._util.files import write_text
from itp.errors import MissingExtraError, ReportError
from itp.evaluation.analysis import ORACLE, Analysis, analyse
from itp.evaluation.markdown import markdown
from itp.evaluation.metrics import METRICS, N_QUANTILES
from itp.evaluation.replicas import across

__all__ = ["ORACLE", "Configuration", "Report", "Timeline", "check_charts"]

_FORMAT = "itp-evaluation"
_VERSION = 2
_LARGEST_LOG = 700.0  # the largest whose exponential a float can hold
_TIMELINE_INTERVALS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What was evaluated.

    Attributes
    ----------
    scenarios, about, tasks : tuple
        Names, what they are about, and tasks an episode.
    service_orders, policies : tuple of str
    seeds : tuple of int
        One world each in every scenario.
    replicas : tuple of str
        Those policies that are training seeds of one configuration.
    load : float, optional
        In place of the scenarios' own.
    rate_scale : float
        Every rate is that many times the scenario's.
    reference : str, optional
        What policies are compared with in place of the best classical rule.
    version, command : str
        Of ITP, and what repeats the evaluation.
    duration_s : float
        How long it took.
    """

    scenarios: tuple[str, ...]
    about: tuple[str, ...]
    tasks: tuple[int, ...]
    service_orders: tuple[str, ...]
    policies: tuple[str, ...]
    replicas: tuple[str, ...]
    seeds: tuple[int, ...]
    load: float | None
    rate_scale: float
    reference: str | None
    version: str
    command: str
    duration_s: float

    @property
    def shape(self) -> tuple[int, int, int]:
        """Scenarios, service orders, policies."""
        return len(self.scenarios), len(self.service_orders), len(self.policies)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Timeline:
    """What the streams served, and when, at the start of one episode.

    Attributes
    ----------
    scenario, service_order, policy : str
    seed : int
    intervals : ndarray
        TIMELINE[.]: stream, task, start_s, end_s, bytes.
    """

    scenario: str
    service_order: str
    policy: str
    seed: int
    intervals: NDArray[np.void]

    @classmethod
    def of(cls, configuration: Configuration, cell: tuple[int, ...], intervals: NDArray[np.void]) -> Timeline:
        """The start of the first seed's episode in a cell: scenario, order, policy by number."""
        return cls(
            scenario=configuration.scenarios[cell[0]],
            service_order=configuration.service_orders[cell[1]],
            policy=configuration.policies[cell[2]],
            seed=configuration.seeds[0],
            intervals=intervals[:_TIMELINE_INTERVALS],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Report:
    """Figures of every policy in every scenario, under every service order.

    Attributes
    ----------
    configuration : Configuration
        Names the rows of all arrays below.
    figures : mapping of str to ndarray
        For each of ``itp.evaluation.metrics.METRICS``: float64[scenarios, orders, policies, seeds].
    completion_s, slowdown : ndarray
        float64[scenarios, orders, policies, 200]: quantiles over the tasks of all seeds, from the least
        to the greatest.
    timelines : tuple of Timeline
        Of the scenario in which policies differ most.
    """

    configuration: Configuration
    figures: Mapping[str, NDArray[np.float64]]
    completion_s: NDArray[np.float64]
    slowdown: NDArray[np.float64]
    timelines: tuple[Timeline, ...] = ()

    @cached_property
    def analysis(self) -> Analysis:
        """Means, intervals and comparisons; computed once."""
        return analyse(self)

    # --- what people read ---

    def to_markdown(self, path: str | os.PathLike[str] | None = None) -> str:
        """Tables and a summary in words; also written to a file, if one is named."""
        text = markdown(self)
        if path is not None:
            write_text(path, text)
        return text

    def plot(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Every chart as an SVG file of its own, in a folder that is made if need be.

        Raises
        ------
        MissingExtraError
            matplotlib is not installed.
        """
        with _charts():
            from itp.evaluation.charts import charts, svg
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        paths = []
        for name, figure in charts(self):
            paths.append(target / f"{name}.svg")
            write_text(paths[-1], svg(figure))
        return paths

    def to_html(self, path: str | os.PathLike[str]) -> Path:
        """One page that needs nothing else: tables, charts, a summary in words.

        Raises
        ------
        MissingExtraError
            matplotlib is not installed.
        """
        with _charts():
            from itp.evaluation.html import page
        write_text(path, page(self))
        return Path(path)

    # --- what programs read ---

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Everything, as `from_json` reads it, and the comparisons; also written to a file, if named."""
        content = {
            "format": _FORMAT,
            "version": _VERSION,
            "configuration": asdict(self.configuration),
            "figures": {name: _listed(values) for name, values in self.figures.items()},
            "completion_s": _listed(self.completion_s),
            "slowdown": _listed(self.slowdown),
            "timelines": [
                {**_shallow(line), "intervals": line.intervals.tolist()} for line in self.timelines
            ],
            "analysis": self.analysis.as_dict(),
            "replicas": [part.as_dict() for part in across(self)] if self.configuration.replicas else [],
        }
        text = json.dumps(content, separators=(",", ":"), allow_nan=False)
        if path is not None:
            write_text(path, text)
        return text

    @classmethod
    def from_json(cls, source: str | os.PathLike[str]) -> Report:
        """Read what `to_json` returned or wrote.

        Parameters
        ----------
        source : str or path
            JSON text, or a file with it.

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
            configuration = _configuration(content["configuration"])
            shape = configuration.shape
            figures = {
                name: _array(content["figures"][name], (*shape, len(configuration.seeds)), name)
                for name in METRICS
            }
            if (np.abs(figures["log_slowdown"]) > _LARGEST_LOG).any():
                raise ValueError(f"log_slowdown: expected logarithms, at most {_LARGEST_LOG:g}")
            return cls(
                configuration=configuration,
                figures=figures,
                completion_s=_array(content["completion_s"], (*shape, N_QUANTILES), "completion_s"),
                slowdown=_array(content["slowdown"], (*shape, N_QUANTILES), "slowdown"),
                timelines=tuple(_timeline(line, configuration) for line in content["timelines"]),
            )
        except KeyError as error:
            raise ReportError(f"{place}: {error.args[0]!r} is missing") from None
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ReportError(f"{place}: {error}") from None


@contextmanager
def _charts() -> Iterator[None]:
    """Say what to do if matplotlib is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("matplotlib"):
            raise
        raise MissingExtraError("charts need matplotlib: pip install 'itp[report]'") from None


def check_charts() -> None:
    """Raise MissingExtraError now if charts cannot be drawn later."""
    with _charts():
        import matplotlib  # noqa: F401


def _shallow(line: Timeline) -> dict[str, Any]:
    return {field.name: getattr(line, field.name) for field in dataclasses.fields(line)}


def _listed(values: NDArray[np.float64]) -> Any:
    """Nested lists, with None for NaN, which JSON does not know."""
    if np.isfinite(values).all():
        return values.tolist()
    objects = values.astype(object)
    objects[~np.isfinite(values)] = None
    return objects.tolist()


# --- checks of what is read ---


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
    for field in dataclasses.fields(Configuration):
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
            raise ValueError(f"configuration.{name}: something is there twice")
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
