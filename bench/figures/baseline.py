"""This version of ITP beside another one: the same calls in both, in turns of a fraction of a second.

Each pair of processes is a fresh interpreter with either version. While one times a subject the other
waits, so that other load on the machine, and drifts of its speed, affect both alike.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import itp_overhead
from figures.figure import Figure, Progress, at_most, number
from figures.subjects import SUBJECTS
from itp._util.command import UsageError
from itp.errors import ItpError
from itp_overhead.child import child, last_line

SLOWER_AT_MOST = 1.05
PAIRS, QUICK_PAIRS = 9, 3
TURNS, QUICK_TURNS = 8, 4
TURN_S = 0.15
_ABOUT = {
    "decision": "a decision, native engine",
    "forward_pass": "a forward pass, compiled",
    "buffer_cycle": "replay: sample 256 of a million, update them",
    "simulator_step": "a step of 1,024 simulated environments",
    "update_32": "an update of the learner, batch of 32",
    "update_256": "an update of the learner, batch of 256",
}
_BENCH = Path(__file__).parents[1]
_WORKER = Path(__file__).with_name("worker.py")
_TIMING = Path(itp_overhead.__file__).with_name("timing.py")


@dataclass(frozen=True, slots=True)
class Pair:
    """Median times of a call in one pair of processes, and the median ratio of neighbouring turns."""

    baseline_us: float
    here_us: float
    ratio: float


class Worker:
    """A process that times subjects in one environment; `worker` starts it."""

    def __init__(self, name: str, process: subprocess.Popen[str], complaints: IO[str]) -> None:
        self.name = name
        self._process = process
        self._complaints = complaints
        self.folder = Path(self._answer()["folder"])

    def make(self, subject: str) -> None:
        """Make a subject ready."""
        self._ask("make", subject)

    def time(self, seconds: float) -> float:
        """The median time of its calls, in microseconds."""
        return float(self._ask("time", seconds)["median_us"])

    def _ask(self, request: str, value: object) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps([request, value]) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the answer says why
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._complaints.seek(0)
            raise ItpError(f"{self.name}: {last_line(self._complaints.read())}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ItpError(f"{self.name}: {answer['error']}")
        return answer


def measure(
    baseline: str, *, quick: bool, progress: Progress, subjects: Sequence[str] | None = None
) -> list[Figure]:
    """Times of this version's calls over those of a baseline's.

    Parameters
    ----------
    baseline : str
        A wheel, or the folder of a virtual environment, with ITP.
    quick : bool
    progress : callable
    subjects : sequence of str, optional
        Of SUBJECTS; default: all.

    Raises
    ------
    UsageError
        It is neither, or its ITP does not run here, or is the one that runs here.
    """
    pairs, turns = (QUICK_PAIRS, QUICK_TURNS) if quick else (PAIRS, TURNS)
    measured: dict[str, list[Pair]] = {name: [] for name in subjects or SUBJECTS}
    failures: dict[str, str] = {}
    with environment(Path(baseline).absolute()) as python:
        for k in range(pairs):
            with ExitStack() as stack:
                there = _baseline_worker(stack, baseline, python)
                here = stack.enter_context(worker("here", Path(sys.executable)))
                if there.folder == here.folder:
                    raise UsageError(f"--baseline {baseline}: its ITP runs here too, from {here.folder}")
                for name in measured:
                    if name not in failures:
                        progress(f"pair {k + 1} of {pairs}, {name}")
                        try:
                            measured[name].append(_pair(there, here, name, turns=turns, swap=k % 2 == 1))
                        except ItpError as error:
                            failures[name] = str(error)
    figures = [_figure(name, pairs_of, failures.get(name)) for name, pairs_of in measured.items()]
    return [replace(figure, rough=quick) for figure in figures]


def _pair(there: Worker, here: Worker, name: str, *, turns: int, swap: bool) -> Pair:
    """Time a subject in both, in turns; each goes first in every other round."""
    order = (here, there) if swap else (there, here)
    for each in order:
        each.make(name)
    times_us: dict[str, list[float]] = {there.name: [], here.name: []}
    for k in range(turns):
        for each in order if k % 2 == 0 else reversed(order):
            times_us[each.name].append(each.time(TURN_S))
    before, now = times_us[there.name], times_us[here.name]
    return Pair(
        statistics.median(before),
        statistics.median(now),
        statistics.median(b / a for a, b in zip(before, now, strict=True)),
    )


def _figure(name: str, pairs: Sequence[Pair], failure: str | None) -> Figure:
    about, asked = f"{_ABOUT[name]}: here / baseline", at_most(SLOWER_AT_MOST)
    figure_name = f"{name}_ratio"
    if failure is not None:
        return Figure(name=figure_name, about=about, value=None, unit="x", asked=asked, note=failure)
    ratios = [pair.ratio for pair in pairs]
    before_us = statistics.median(pair.baseline_us for pair in pairs)
    now_us = statistics.median(pair.here_us for pair in pairs)
    return Figure(
        name=figure_name,
        about=about,
        value=statistics.median(ratios),
        low=min(ratios),
        high=max(ratios),
        unit="x",
        asked=asked,
        note=f"{number(before_us)} us before, {number(now_us)} us here; {len(ratios)} pairs of processes",
    )


# --- environments ---


@contextmanager
def environment(baseline: Path) -> Iterator[Path]:
    """The interpreter of a virtual environment, or of a temporary one into which a wheel is unpacked.

    The temporary one has this environment's packages besides; nothing is fetched.
    """
    if baseline.is_dir():
        python = baseline / "bin" / "python"
        if not python.is_file():
            raise UsageError(f"--baseline {baseline}: expected a wheel or a virtual environment; no {python}")
        yield python
        return
    if baseline.suffix != ".whl" or not zipfile.is_zipfile(baseline):
        raise UsageError(f"--baseline {baseline}: expected a wheel or the folder of a virtual environment")
    with tempfile.TemporaryDirectory(prefix="itp-bench-") as name:
        folder = Path(name)
        venv.create(folder, symlinks=True)
        python = folder / "bin" / "python"
        packages = Path(_print("sysconfig.get_path('platlib')", python))
        with zipfile.ZipFile(baseline) as wheel:
            wheel.extractall(packages)
        # Searched after the environment's own packages.
        (packages / "present.pth").write_text(_print("*sys.path", Path(sys.executable)) + "\n")
        yield python


def _print(expression: str, python: Path) -> str:
    """What an expression of `sys` or `sysconfig` is in another interpreter, as it prints it."""
    command: list[str | Path] = [python, "-I", "-c", f"import sys, sysconfig; print({expression}, sep='\\n')"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@contextmanager
def worker(name: str, python: Path) -> Iterator[Worker]:
    """A process of this interpreter that times subjects; it is killed at the end of the block."""
    with (
        tempfile.TemporaryDirectory(prefix="itp-bench-") as folder,
        tempfile.TemporaryFile("w+") as complaints,
    ):
        # As text, and in an empty folder: no module beside the program comes before an installed one.
        command: list[str | Path] = [python, "-c", _WORKER.read_text("utf-8"), _BENCH, _TIMING]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": complaints}
        with child(command, cwd=folder, **pipes) as process:
            yield Worker(name, process, complaints)


def _baseline_worker(stack: ExitStack, baseline: str, python: Path) -> Worker:
    try:
        return stack.enter_context(worker("baseline", python))
    except ItpError as error:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise UsageError(
            f"--baseline {baseline}: its ITP does not run (is it for Python {version}?): {error}"
        ) from None
