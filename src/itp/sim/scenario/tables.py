"""The files a scenario may name: throughput traces, schedules, region tables; and the rows made of them."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from itp._util.messages import brief
from itp.errors import ScenarioError
from itp.sim.scenario.draws import Floats
from itp.sim.scenario.node import Node, Range

MAX_BYTES = 64 * 2**20
MAX_ROWS = 10**6
MAX_TOTAL_ROWS = 4 * 10**6
MIN_GAP_S = 1e-3
MIN_MEAN_MBIT = 1e-6
BIN_MS = 100

RATE = Range("Mbit/s", 0.0, 1e6)
TIME = Range("seconds", 0.0, 1e7)
# Columns of a schedule after the time, as a scenario file writes them.
COLUMNS = ("rate_mbit", "delay_ms", "loss_pct", "load")
_COLUMN_RANGES = (
    RATE,
    Range("ms", 0.0, 1e5),
    Range("percent", 0.0, 100.0),
    Range("a fraction of the rate", 0.0, 1.0, below=True),
)


@dataclass(frozen=True, slots=True)
class Trace:
    """Throughput over time, repeated from `loop_s` on: `t_s` begins with 0."""

    t_s: Floats
    mbit: Floats
    loop_s: float

    @property
    def mean_mbit(self) -> float:
        """Mean over time."""
        return float(np.diff(self.t_s, append=self.loop_s) @ self.mbit / self.loop_s)

    def scaled(self, mean_mbit: float) -> Trace:
        """The same shape, of another mean."""
        return Trace(self.t_s, self.mbit * (mean_mbit / self.mean_mbit), self.loop_s)

    def begun_at(self, k: int) -> Trace:
        """The same loop, entered at row `k`."""
        t_s = np.concatenate([self.t_s[k:], self.t_s[:k] + self.loop_s]) - self.t_s[k]
        return Trace(t_s, np.roll(self.mbit, -k), self.loop_s)


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive rows that can drive a link.

    Attributes
    ----------
    first, count : int
        Which rows of the table.
    loop_s : float
        Length of the loop; 0: the last row stays.
    mean_Bps : float
        Mean rate over time, goodput; NaN if no row names one.
    mean_load : float
        Mean load of what the link could carry; NaN if no row names one.
    mean_loss : float
        Mean probability of loss; NaN if no row names one.
    """

    first: int
    count: int
    loop_s: float
    mean_Bps: float = math.nan
    mean_load: float = math.nan
    mean_loss: float = math.nan


@dataclass(slots=True)
class RowTable:
    """Rows of equal width, gathered; equal runs of rows are kept once."""

    width: int
    count: int = 0
    _parts: list[Floats] = field(default_factory=list)
    _known: dict[bytes, int] = field(default_factory=dict)

    def add(self, rows: Floats) -> int:
        """The index of the first of these rows."""
        digest = hashlib.blake2b(np.ascontiguousarray(rows).tobytes(), digest_size=16).digest()
        first = self._known.get(digest)
        if first is None:
            first = self._known[digest] = self.count
            self._parts.append(rows)
            self.count += len(rows)
        return first

    def array(self) -> Floats:
        """All rows, read-only."""
        rows = np.concatenate(self._parts) if self._parts else np.empty((0, self.width))
        rows.flags.writeable = False
        return rows


def is_file(path: Path) -> bool:
    """Whether there is one; a name that no file can have is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def find_file(node: Node, base: Path) -> Path:
    """The file a key names, looked up beside the scenario."""
    path = base / node.text("the name of a file")
    if not is_file(path):
        raise node.fail(f"a file; there is none at {brief(path, 200)}")
    return path


def read_text(path: Path, what: str, limit: int = MAX_BYTES) -> str:
    """The text of a file, unpacked if it is gzip; ScenarioError names whatever is wrong with it."""
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            source = gzip.GzipFile(fileobj=file) if packed else file
            data = source.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ScenarioError(f"{path}: cannot be read as {what}: {error}") from error
    if len(data) > limit:
        raise ScenarioError(f"{path}: expected {what} of at most {limit / 2**20:g} MiB, unpacked")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ScenarioError(f"{path}: expected {what} as UTF-8 text: {error}") from error


def _number(text: str, allowed: Range, place: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value not in allowed:
        raise ScenarioError(f"{place}: {brief(text, 40)!r}: expected {allowed}")
    return value


def read_traces(path: Path, mtu: int) -> list[Trace]:
    """All traces of a file: mahimahi's (ms of every delivery), ``t,mbit``, or ``trace,t_s,mbit``."""
    numbered = enumerate(read_text(path, "a trace").splitlines(), 1)
    lines = [(i, line) for i, line in numbered if line.strip() and line[0] != "#"]
    if not lines:
        raise ScenarioError(f"{path}: expected a trace; the file is empty")
    traces = _csv_traces(path, lines) if "," in lines[0][1] else [_mahimahi(path, lines, mtu)]
    for trace in traces:
        if not trace.mean_mbit > MIN_MEAN_MBIT:
            raise ScenarioError(
                f"{path}: expected a trace that carries something; its mean is {trace.mean_mbit:g} Mbit/s"
            )
    return traces


def _mahimahi(path: Path, lines: list[tuple[int, str]], mtu: int) -> Trace:
    unit = Range("whole milliseconds", 0, 1e10)
    times = np.array([_number(line, unit, f"{path}: line {i}") for i, line in lines])
    if (times != np.floor(times)).any():
        raise ScenarioError(f"{path}: expected whole milliseconds, one delivery a line, or t,mbit")
    back = np.flatnonzero(np.diff(times) < 0)
    if back.size:
        raise ScenarioError(f"{path}: line {lines[back[0] + 1][0]}: time runs backwards")
    end_ms = times[-1]
    if end_ms <= 0 or end_ms / BIN_MS > MAX_ROWS:
        raise ScenarioError(
            f"{path}: expected a trace of 1 ms to {MAX_ROWS * BIN_MS / 1e3:g} s; got {end_ms / 1e3:g} s"
        )
    # A bin holds the deliveries after its start, up to and with its end.
    bins = np.maximum(times - 1, 0).astype(np.int64) // BIN_MS
    starts = np.arange(bins[-1] + 1) * float(BIN_MS)
    lengths = np.diff(starts, append=end_ms)
    return Trace(starts / 1e3, np.bincount(bins) * mtu * 8e-3 / lengths, float(end_ms) / 1e3)


def _csv_traces(path: Path, lines: list[tuple[int, str]]) -> list[Trace]:
    width = lines[0][1].count(",") + 1
    if width not in (2, 3):
        raise ScenarioError(f"{path}: line {lines[0][0]}: expected columns t,mbit or trace,t_s,mbit")
    first = 0 if _is_number(lines[0][1].rsplit(",", 1)[1]) else 1
    points: dict[str, list[tuple[float, float]]] = {}
    if len(lines) - first > MAX_ROWS:
        raise ScenarioError(f"{path}: expected at most {MAX_ROWS} rows; got {len(lines) - first}")
    for i, line in lines[first:]:
        words = line.rsplit(",", 2) if width == 3 else ["", *line.split(",")]
        place = f"{path}: line {i}"
        if len(words) != 3:
            raise ScenarioError(f"{place}: expected {width} columns")
        trace = points.setdefault(words[0], [])
        t_s = _number(words[1], Range("seconds", -1e12, 1e12), place)
        if trace and not t_s - trace[-1][0] >= MIN_GAP_S:
            raise ScenarioError(f"{place}: {t_s:g} s follows {trace[-1][0]:g} s: expected at least 1 ms more")
        trace.append((t_s, _number(words[2], RATE, place)))
    if not points:
        raise ScenarioError(f"{path}: expected a trace; there is only a heading")
    traces = []
    for name, rows in points.items():
        if len(rows) < 2:
            raise ScenarioError(f"{path}: trace {brief(name, 40)!r}: expected at least two rows")
        t_s, mbit = np.array(rows).T
        t_s = t_s - t_s[0]
        traces.append(Trace(t_s, mbit, float(t_s[-1] + np.median(np.diff(t_s)))))
        if traces[-1].loop_s > TIME.high:
            raise ScenarioError(f"{path}: trace {brief(name, 40)!r}: expected at most {TIME.high:g} s")
    return traces


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_schedule(node: Node, base: Path) -> tuple[Floats, float | None]:
    """Rows `t_s`, then `COLUMNS` (NaN: keeps its value), of a list or a file; and the file's loop, if any."""
    rows: list[list[float]] = []
    loop_s = None
    if isinstance(node.value, str):
        path = find_file(node, base)
        for i, line in enumerate(read_text(path, "a schedule").splitlines(), 1):
            words = line.partition("#")[0].split()
            place = f"{path}: line {i}"
            if words and words[0] == "loop":
                if len(words) != 2:
                    raise ScenarioError(f"{place}: expected loop and its seconds")
                loop_s = _number(words[1], TIME, place)
            elif words:
                rows.append(_schedule_row(words, place))
    else:
        items = node.items("rows [t_s, rate_mbit, delay_ms, loss_pct, load], or a file", 1, MAX_ROWS)
        rows = [_schedule_row_of(item) for item in items]
    if not rows or len(rows) > MAX_ROWS:
        raise node.refuse(f"expected 1 to {MAX_ROWS} rows; got {len(rows)}")
    table = np.array(rows)
    near = np.flatnonzero(np.diff(table[:, 0]) < MIN_GAP_S)
    if near.size:
        k = int(near[0])
        raise node.refuse(
            f"row {k + 2} at {table[k + 1, 0]:g} s follows {table[k, 0]:g} s: expected at least 1 ms more"
        )
    return table, loop_s


def _schedule_row(words: list[str], place: str) -> list[float]:
    if len(words) > 5:
        raise ScenarioError(f"{place}: expected at most 5 columns: t_s {' '.join(COLUMNS)}")
    row = [_number(words[0], TIME, place)]
    for word, allowed in zip(words[1:], _COLUMN_RANGES, strict=False):
        row.append(math.nan if word == "-" else _number(word, allowed, place))
    return row + [math.nan] * (5 - len(row))


def _schedule_row_of(item: Node) -> list[float]:
    cells = item.items("a row [t_s, rate_mbit, delay_ms, loss_pct, load]", 1, 5)
    row = [cells[0].plain(TIME)]
    for cell, allowed in zip(cells[1:], _COLUMN_RANGES, strict=False):
        row.append(math.nan if cell.value is None or cell.value == "-" else cell.plain(allowed))
    return row + [math.nan] * (5 - len(row))


def read_regions(path: Path) -> Floats:
    """Rate in Mbit/s and RTT in ms of every pair of regions in a CSV that has both, shape (k, 2)."""
    lines = (line for line in io.StringIO(read_text(path, "a table of regions")) if line[0] != "#")
    rows = csv.reader(lines, strict=True)
    try:
        heading = [name.strip() for name in next(rows, [])]
        # Of several measurements the last named is the newest; of RTTs the mean says most.
        rates = [i for i, name in enumerate(heading) if name == "rate_mbit" or name.startswith("throughput")]
        rtts = [heading.index(name) for name in ("rtt_ms", "rtt_avg_ms", "rtt_min_ms") if name in heading]
        if not rates or not rtts:
            raise ScenarioError(
                f"{path}: expected columns rate_mbit (or throughput..._mbit) and rtt_ms (or rtt_avg_ms)"
            )
        pairs = list(_pairs(path, rows, rates[::-1], rtts))
    except csv.Error as error:
        raise ScenarioError(f"{path}: expected comma-separated values: {error}") from error
    if not pairs:
        raise ScenarioError(f"{path}: expected rows with a rate and an RTT; there is none")
    return np.array(pairs)


def _pairs(
    path: Path, rows: Iterator[list[str]], rates: list[int], rtts: list[int]
) -> Iterator[tuple[float, float]]:
    for i, row in enumerate(rows, 2):
        if i > MAX_ROWS:
            raise ScenarioError(f"{path}: expected at most {MAX_ROWS} rows")
        rate, rtt = (
            next((row[k] for k in ks if k < len(row) and row[k].strip()), "") for ks in (rates, rtts)
        )
        if rate and rtt:
            yield (
                _number(rate, Range("Mbit/s", 0.0, RATE.high, above=True), f"{path}: row {i}"),
                _number(rtt, Range("ms", 0.0, 1e5), f"{path}: row {i}"),
            )


def read_sizes(path: Path, allowed: Range) -> Floats:
    """Sizes in ascending order: one a line, or the column ``size_bytes`` of a CSV with a heading."""
    text = read_text(path, "a table of sizes")
    lines = [(i, line) for i, line in enumerate(text.splitlines(), 1) if line.strip() and line[0] != "#"]
    column = 0
    if lines and not _is_number(lines[0][1].split(",")[0]):
        heading = [name.strip() for name in lines.pop(0)[1].split(",")]
        if "size_bytes" not in heading:
            raise ScenarioError(f"{path}: expected one size a line, or a CSV with a column size_bytes")
        column = heading.index("size_bytes")
    if not 1 <= len(lines) <= MAX_ROWS:
        raise ScenarioError(f"{path}: expected 1 to {MAX_ROWS} sizes; got {len(lines)}")
    sizes = []
    for i, line in lines:
        cells = line.split(",")
        if column >= len(cells):
            raise ScenarioError(f"{path}: line {i}: expected at least {column + 1} columns")
        sizes.append(_number(cells[column], allowed, f"{path}: line {i}"))
    return np.sort(np.array(sizes))
