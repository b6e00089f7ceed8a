"""Where a scenario's tables come from: a shipped name, a file, a mapping."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from itp._util.messages import brief
from itp.errors import ScenarioError
from itp.sim.scenario.node import Node
from itp.sim.scenario.tables import is_file, read_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FAMILIES = (
    "homogeneous",
    "heterogeneous",
    "shared-bottleneck",
    "lossy",
    "flaky",
    "bursts",
    "time-of-day",
    "mixed",
    "trace-driven",
    "inter-region",
)
"""Families that differ in their paths; all ask for much the same."""

WORKLOADS = (
    "lognormal-sizes",
    "exponential-sizes",
    "fixed-sizes",
    "two-humped-sizes",
    "recorded-sizes",
    "bursty-arrivals",
    "daily-arrivals",
    "closed-loop",
    "idle-host",
    "overload",
    "no-deadlines",
)
"""Families that differ in what is asked of the streams, over any number of paths."""

SHIPPED = (*FAMILIES, *WORKLOADS)
_FOLDERS = {name: folder for folder, of in (("families", FAMILIES), ("workloads", WORKLOADS)) for name in of}
_MAX_FILE_BYTES = 16 * 2**20


def read_source(source: object) -> tuple[Node, Path]:
    """The tables of a source, and the folder in which the files it names lie."""
    if isinstance(source, Mapping):
        return Node(source, "scenario"), Path()
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(f"source must be a shipped name, a file or a mapping; got {source!r}")
    path = Path(os.fspath(source))
    if source in SHIPPED:
        path = Path(__file__).parent / _FOLDERS[str(source)] / f"{source}.toml"
    if not is_file(path):
        raise ScenarioError(f"{brief(path, 200)}: no such file; shipped scenarios are {', '.join(SHIPPED)}")
    text = read_text(path, "a scenario", _MAX_FILE_BYTES)
    as_json = path.suffix == ".json" or (path.suffix != ".toml" and text.lstrip().startswith("{"))
    try:
        value = json.loads(text, object_pairs_hook=_without_doubles) if as_json else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else error
        raise ScenarioError(f"{path}: expected {'JSON' if as_json else 'TOML'}: {why}") from None
    return Node(value, str(path)), path.parent


def with_file(tables: Mapping[str, Any], key: str, path: str) -> tuple[dict[str, Any], bool]:
    """The tables with another file under every `key` of defaults, paths and shared links."""
    found = False

    def deep(part: object, depth: int) -> object:
        nonlocal found
        if isinstance(part, Mapping) and depth:
            found = found or key in part
            return {name: path if name == key else deep(child, depth - 1) for name, child in part.items()}
        if isinstance(part, (list, tuple)) and depth:
            return [deep(child, depth - 1) for child in part]
        return part

    # A list of tables, each with a table for a direction.
    places = ("defaults", "paths", "shared")
    return {name: deep(part, 3) if name in places else part for name, part in tables.items()}, found


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key, value in pairs:
        if key in table:
            raise ValueError(f"the key {brief(key, 60)!r} stands twice in one table")
        table[key] = value
    return table
