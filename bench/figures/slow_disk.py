"""Times of ``report_outcome`` with an experience log on a disk whose every write takes a second."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from itp_overhead.child import last_line, run_python
from itp_overhead.load import NotMeasured
from itp_overhead.timing import Timing

REPORTS_PER_S = 1000.0
_SOURCE = Path(__file__).with_name("slow_disk.c")
_REPORTER = Path(__file__).with_name("reporter.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowDisk:
    """Times of reports, and the number of disk operations that blocked meanwhile.

    Attributes
    ----------
    reports : Timing
        For each that took longer than the interval between reports also the times of those that were due in
        the meantime and had to wait.
    blocked : int
    """

    reports: Timing
    blocked: int


def measure(*, seconds: float) -> SlowDisk:
    """Report 1,000 outcomes a second in a process of its own.

    Raises
    ------
    NotMeasured
        No disk can be made to block here, or the log has not written to it.
    """
    with tempfile.TemporaryDirectory(prefix="itp-bench-") as name:
        folder = Path(name).resolve()
        library = compile_disk(folder / "slow_disk.so")
        log = folder / "log"
        found = json.loads(
            run_python(
                _REPORTER.read_text("utf-8"),
                str(log),
                str(seconds),
                str(REPORTS_PER_S),
                env=preloading(library),
            )
        )
    if not found["blocked"]:
        raise NotMeasured(f"the log did not use its disk in {seconds:g} s")
    times_ns = with_those_that_waited(np.array(found["taken_ns"]), int(1e9 / REPORTS_PER_S))
    return SlowDisk(reports=Timing("report", times_ns), blocked=found["blocked"])


def preloading(library: Path) -> dict[str, str]:
    """The environment of a process that preloads a library, after what is preloaded already (a sanitizer)."""
    before = os.environ.get("LD_PRELOAD", "")
    return {**os.environ, "LD_PRELOAD": f"{before} {library}".strip()}


def with_those_that_waited(times_ns: NDArray[np.int64], interval_ns: int) -> NDArray[np.int64]:
    """These times, and those of calls that were due at this interval while one was not over.

    A caller that waits makes no calls meanwhile, so that a long wait would count as one slow call among many
    (coordinated omission; corrected as by Tene's HdrHistogram).
    """
    waiting = times_ns - interval_ns
    parts = [times_ns]
    while len(waiting := waiting[waiting > 0]):
        parts.append(waiting)
        waiting = waiting - interval_ns
    return np.concatenate(parts)


def compile_disk(library: Path) -> Path:
    """Compile the disk that blocks, to be preloaded; NotMeasured where that cannot be done."""
    if sys.platform != "linux":
        raise NotMeasured("a blocking disk is put under a process on Linux alone")
    compiler = os.environ.get("CC", "cc").split()
    if shutil.which(compiler[0]) is None:
        raise NotMeasured(f"no C compiler {compiler[0]!r}: install one, or set CC")
    command = [*compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(_SOURCE), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotMeasured(f"the blocking disk does not compile: {last_line(done.stderr)}")
    return library
