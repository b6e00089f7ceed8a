"""``itp demo``: compare policies over real TCP streams of unequal rates on this machine."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from itp import TaskPartitioner
from itp._util import console
from itp._util.command import UsageError
from itp._util.signals import interruptible
from itp._util.terminal import printable
from itp.cli.arguments import partitioner_options, rates, to_path
from itp.cli.units import json_text, size_text, time_text
from itp.cli.workload import Arrival, Workload, file_hash, make_files, own_files, schedule
from itp.errors import TransportError
from itp.evaluation.text import label
from itp.transport import Sender, Transfer
from itp.transport.io.addresses import parse_address

POLICIES = ("round_robin", "single_best", "least_completion_time", "auto", "set_v2")
_SHOWN_DECISIONS = 8
_LOAD = 0.6
# Arrivals take this share of a policy's time: some take long to catch up.
_ARRIVAL_SHARE = 4 / 7
_MAX_IN_FLIGHT = 200
_REFRESH_S = 0.1
_EXIT_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Run:
    """The workload under one policy."""

    policy: str
    transfers: tuple[Transfer, ...]
    makespan_s: float
    verified: int
    errors: tuple[str, ...]

    def report(self, capacity_mbps: float) -> dict[str, Any]:
        """The figures by name; slowdown is a geometric mean, relative to all streams together and idle."""
        results = [t.result() for t in self.transfers if t.exception() is None]
        times = [result.duration_s for result in results] or [float("nan")]
        slowdowns = [
            result.duration_s * capacity_mbps / (result.size_bytes * 8e-6)
            for result in results
            if result.size_bytes
        ]
        return {
            "policy": self.policy,
            "files": len(self.transfers),
            "verified": self.verified,
            "errors": list(self.errors),
            "mean_s": float(np.mean(times)),
            "p50_s": float(np.percentile(times, 50)),
            "p95_s": float(np.percentile(times, 95)),
            "slowdown": float(np.exp(np.mean(np.log(slowdowns or [float("nan")])))),
            "goodput_mbps": sum(result.size_bytes for result in results) * 8e-6 / self.makespan_s,
            "makespan_s": self.makespan_s,
        }


def build_parser(prog: str) -> argparse.ArgumentParser:
    """The parser of ``itp demo``."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Start a receiver, send the same files at the same times over paced TCP streams on "
        "this machine with each policy in turn, verify every file, and compare. Needs Linux.",
    )
    parser.add_argument(
        "--files", metavar="DIR", type=to_path, help="send these files (default: random ones)"
    )
    parser.add_argument(
        "--seconds", metavar="N", type=float, default=60.0, help="approximate duration (default: 60)"
    )
    parser.add_argument(
        "--rates",
        metavar="R,R,...",
        type=rates,
        default=(160.0, 80.0, 40.0, 20.0),
        help="rate of each stream in Mbit/s (default: 160,80,40,20)",
    )
    parser.add_argument(
        "--policy",
        metavar="NAME|FILE",
        nargs="+",
        action="extend",
        help="rules and models to compare, as for itp send; some decisions of the last one are shown "
        f"(default: {' '.join(POLICIES)})",
    )
    parser.add_argument(
        "--seed", metavar="N", type=int, default=0, help="seed of sizes, content and arrivals (default: 0)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def run(args: argparse.Namespace) -> int:
    """Run every policy; 0 if every file was verified every time."""
    if not 1.0 <= args.seconds <= 3600.0:
        raise UsageError(f"--seconds must be from 1 to 3600; got {args.seconds:g}")
    given = ",".join(f"{rate:g}" for rate in args.rates)
    if not 1 <= len(args.rates) <= 16 or not all(0.1 <= rate <= 1e5 for rate in args.rates):
        raise UsageError(f"--rates must be 1 to 16 rates from 0.1 to 100000 Mbit/s; got {given}")
    if args.seed < 0:
        raise UsageError(f"--seed must be >= 0; got {args.seed}")
    policies = {name: partitioner_options("--policy", name) for name in args.policy or POLICIES}
    load_Bps = _LOAD * sum(args.rates) * 125_000
    budget_bytes = round(load_Bps * args.seconds * _ARRIVAL_SHARE / len(policies))
    with interruptible(), tempfile.TemporaryDirectory(prefix="itp-demo-") as temporary:
        folder = Path(temporary)
        if args.files is None:
            made = folder / "files"
            made.mkdir()
            paths = make_files(made, budget_bytes, args.seed)
        else:
            paths = own_files(args.files)
        workload = schedule(paths, budget_bytes, load_Bps, args.seed)
        messages = console.messages()
        _announce(messages, workload, args.rates)
        columns = (TextColumn("{task.description:>21}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
        with console.progress(messages, *columns) as progress:
            runs = [
                _run_policy(name, options, workload, args.rates, folder, progress)
                for name, options in policies.items()
            ]
    reports = [run.report(sum(args.rates)) for run in runs]
    shown = runs[-1]
    decisions = _decisions(shown)
    if args.json:
        setting = {"rates_mbps": args.rates, "seed": args.seed}
        print(json_text({**setting, "policies": reports, "decisions": decisions}))
    else:
        _print(reports, shown.policy, decisions)
    for policy_run in runs:
        for error in policy_run.errors:
            console.say(messages, f"itp demo: {policy_run.policy}: {error}")
    return 1 if any(policy_run.errors for policy_run in runs) else 0


# --- one policy ---


def _run_policy(
    policy: str,
    options: dict[str, Any],
    workload: Workload,
    paces: Sequence[float],
    folder: Path,
    progress: Progress,
) -> Run:
    bar = progress.add_task(policy.replace("_", " "), total=workload.total_bytes)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        directory = Path(temporary)
        with (
            _receiver(directory) as (address, receiver),
            TaskPartitioner(n_streams=len(paces), **options) as partitioner,
        ):
            with Sender(
                *address,
                partitioner=partitioner,
                n_streams=len(paces),
                pace_mbps=paces,
                max_in_flight=_MAX_IN_FLIGHT,
            ) as sender:
                start_s = time.monotonic()
                transfers = _submit_all(sender, workload.arrivals, start_s, progress, bar)
                makespan_s = time.monotonic() - start_s
            received = _received_hashes(receiver)
        errors = _verify(workload.arrivals, transfers, received, directory)
    return Run(policy, tuple(transfers), makespan_s, len(transfers) - len(errors), tuple(errors))


def _submit_all(
    sender: Sender, arrivals: Sequence[Arrival], start_s: float, progress: Progress, bar: TaskID
) -> list[Transfer]:
    """Submit every file at its arrival time and wait until all have arrived."""
    transfers: list[Transfer] = []

    def show() -> None:
        progress.update(bar, completed=sum(transfer.delivered_bytes for transfer in transfers))

    for arrival in arrivals:
        while (early_s := start_s + arrival.at_s - time.monotonic()) > 0:
            time.sleep(min(early_s, _REFRESH_S))
            show()
        transfers.append(sender.submit(arrival.path))
    while not sender.wait(_REFRESH_S):
        show()
    show()
    return transfers


@contextmanager
def _receiver(directory: Path) -> Iterator[tuple[tuple[str, int], subprocess.Popen[str]]]:
    """Run a receiver process for one session; yields its address and the process."""
    program = [sys.executable, "-c", "import sys; from itp.cli import main; sys.exit(main())"]
    command = [*program, "recv", str(directory), "--listen", "127.0.0.1:0", "--once", "--json"]
    # In a session of its own: Ctrl-C does not reach it directly.
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                raise TransportError("the receiver did not start")
            yield parse_address(json.loads(line)["address"]), process
            process.wait(_EXIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise TransportError("the receiver did not end") from None
        finally:
            process.terminate()


def _received_hashes(receiver: subprocess.Popen[str]) -> dict[str, str | None]:
    """The hash of every file that the receiver reported, by name."""
    events = [json.loads(line) for line in receiver.stdout or ()]
    return {event["name"]: event["blake3"] for event in events if event["event"] == "file"}


def _verify(
    arrivals: Sequence[Arrival],
    transfers: Sequence[Transfer],
    received: dict[str, str | None],
    directory: Path,
) -> list[str]:
    """What is wrong, one line a file: sender, receiver and disk must agree with the source."""
    errors = []
    for arrival, transfer in zip(arrivals, transfers, strict=True):
        failure = transfer.exception()
        if failure is not None:
            errors.append(str(failure))
        elif not (
            transfer.result().blake3
            == received.get(arrival.path.name)
            == file_hash(directory / arrival.path.name)
            == arrival.blake3
        ):
            errors.append(f"{arrival.path.name}: the hashes of source, sender, receiver and disk differ")
    return errors


# --- what people see ---


def _announce(messages: Console, workload: Workload, paces: Sequence[float]) -> None:
    streams = ", ".join(f"{rate:g}" for rate in paces)
    console.say(
        messages,
        f"{len(workload.arrivals)} files, {size_text(workload.total_bytes)}, over streams of {streams} "
        f"Mbit/s; the same files at the same times with each policy",
    )
    if workload.left_out:
        console.say(messages, f"{workload.left_out} files left out, as they would take longer than --seconds")


def _decisions(shown: Run) -> list[dict[str, Any]]:
    """A few decisions of a run, from the smallest file to the largest."""
    results = [t.result() for t in shown.transfers if t.exception() is None]
    decided = sorted((r for r in results if r.decision is not None), key=lambda r: r.size_bytes)
    picks = sorted(set(np.linspace(0, len(decided) - 1, _SHOWN_DECISIONS).astype(int))) if decided else []
    return [
        {
            "file": decided[i].name,
            "size_bytes": decided[i].size_bytes,
            "stream_ids": decision.stream_ids,
            "chunk_sizes": decision.chunk_sizes,
            "expected_time_s": decision.expected_time_s,
            "duration_s": decided[i].duration_s,
        }
        for i in picks
        if (decision := decided[i].decision) is not None
    ]


def _print(reports: Sequence[dict[str, Any]], shown: str, decisions: Sequence[dict[str, Any]]) -> None:
    output = console.output()
    table = console.table(
        "seconds from a file's arrival until it is verified as a whole",
        ["policy"],
        ["mean", "p50", "p95", "slowdown", "all", "Mbit/s", "verified"],
    )
    for report in reports:
        table.add_row(
            label(report["policy"]),
            *(f"{report[key]:.3f}" for key in ("mean_s", "p50_s", "p95_s")),
            f"{report['slowdown']:.1f}",
            f"{report['makespan_s']:.1f}",
            f"{report['goodput_mbps']:.1f}",
            f"{report['verified']}/{report['files']}",
        )
    output.print(table, "")
    table = console.table(f"some decisions of {label(shown)}", [], [])
    for name in ("file", "size", "streams: chunk", "expected", "took"):
        table.add_column(name, justify="left" if name in ("file", "streams: chunk") else "right")
    for d in decisions:
        chunks = zip(d["stream_ids"], d["chunk_sizes"], strict=True)
        table.add_row(
            printable(d["file"]),
            size_text(d["size_bytes"]),
            ", ".join(f"{stream}: {size_text(chunk)}" for stream, chunk in chunks),
            time_text(d["expected_time_s"]),
            time_text(d["duration_s"]),
        )
    output.print(table, "")
