"""``itp send``: send files to a receiver over parallel streams."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, DownloadColumn, TransferSpeedColumn

from itp import TaskPartitioner
from itp._core.heuristic import AUTO, POLICIES
from itp._util import console
from itp._util.command import UsageError
from itp._util.signals import interruptible
from itp._util.terminal import printable
from itp.cli.address import check_address
from itp.cli.arguments import partitioner_options, rates, to_path
from itp.cli.units import json_text, size_text, time_text
from itp.transport import DEFAULT_PORT, Sender, StreamStatus, Transfer, TransferResult
from itp.transport.io.addresses import format_address

_REFRESH_S = 0.1


def build_parser(prog: str) -> argparse.ArgumentParser:
    """The parser of ``itp send``."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Send files to `itp recv`. The policy divides each over the streams, and the receiver "
        "verifies each as a whole. Exit code 0: every file arrived.",
    )
    parser.add_argument("files", metavar="FILE", nargs="+", type=to_path, help="files to send")
    parser.add_argument("address", metavar="HOST:PORT", help=f"the receiver; default port {DEFAULT_PORT}")
    parser.add_argument("--streams", metavar="N", type=int, default=4, help="parallel streams (default: 4)")
    parser.add_argument(
        "--pace-mbps", metavar="R,R,...", type=rates, help="cap of each stream in Mbit/s, 0 for none (Linux)"
    )
    parser.add_argument(
        "--policy",
        metavar="NAME|FILE",
        default="default",
        help="a rule, or a model: a shipped one's name, or an .onnx file. Behind a model's name, :typical, "
        ":balanced, :bulk or :prefer=X says what it decides for. "
        f"Rules: {', '.join(POLICIES)}, or {AUTO}, the one that measures best (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def run(args: argparse.Namespace) -> int:
    """Send the files; 0 if all arrived."""
    host, port = check_address("HOST:PORT", args.address, DEFAULT_PORT)
    _check_files(args.files)
    if args.pace_mbps is not None and len(args.pace_mbps) != args.streams:
        raise UsageError(f"--pace-mbps: one rate a stream, {args.streams} of them; got {len(args.pace_mbps)}")
    paces = None if args.pace_mbps is None else [rate or None for rate in args.pace_mbps]
    options = partitioner_options("--policy", args.policy)
    with interruptible():
        try:
            partitioner = TaskPartitioner(n_streams=args.streams, **options)
        except ValueError as error:
            raise UsageError(f"--streams: {error}") from None
        with partitioner:
            try:
                sender = Sender(host, port, partitioner=partitioner, n_streams=args.streams, pace_mbps=paces)
            except ValueError as error:
                raise UsageError(f"--pace-mbps: {error}") from None
            with sender:
                transfers = [sender.submit(file) for file in args.files]
                _watch(sender, transfers)
                streams = sender.streams()
    report = _report(args, transfers, streams)
    if args.json:
        print(json_text(report))
    else:
        _print(report)
    return 0 if all(file["error"] is None for file in report["files"]) else 1


def _check_files(files: Sequence[Path]) -> None:
    for file in files:
        if file.is_dir():
            raise UsageError(f"{file} is a directory; name the files in it")
    repeated = [name for name, count in Counter(file.name for file in files).items() if count > 1]
    if repeated:
        raise UsageError(f"several files are called {', '.join(repeated)}; they would overwrite each other")


def _watch(sender: Sender, transfers: Sequence[Transfer]) -> None:
    """Show progress on a terminal until every file has arrived or failed."""
    columns = (console.description(), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with console.progress(console.messages(), *columns) as progress:
        total = progress.add_task("total", total=None)
        bars = [progress.add_task(f"stream {i}", total=None) for i in range(len(sender.streams()))]
        while not sender.wait(_REFRESH_S):
            planned = [0] * len(bars)
            for transfer in transfers:
                if transfer.decision is not None:
                    for i, chunk in zip(
                        transfer.decision.stream_ids, transfer.decision.chunk_sizes, strict=True
                    ):
                        planned[i] += chunk
            for status, bar in zip(sender.streams(), bars, strict=True):
                state = "" if status.up else ", lost"
                progress.update(
                    bar,
                    description=f"stream {status.stream}{state}",
                    completed=status.delivered_bytes,
                    total=max(planned[status.stream], status.delivered_bytes),
                )
            progress.update(
                total,
                completed=sum(transfer.delivered_bytes for transfer in transfers),
                total=sum(transfer.size_bytes for transfer in transfers),
            )


def _report(
    args: argparse.Namespace, transfers: Sequence[Transfer], streams: Sequence[StreamStatus]
) -> dict[str, Any]:
    files = [_file_report(transfer) for transfer in transfers]
    return {
        "receiver": format_address(*check_address("HOST:PORT", args.address, DEFAULT_PORT)),
        "policy": args.policy,
        "files": files,
        "streams": [asdict(stream) for stream in streams],
    }


def _file_report(transfer: Transfer) -> dict[str, Any]:
    error = transfer.exception()
    report: dict[str, Any] = {
        "name": transfer.name,
        "path": str(transfer.path),
        "size_bytes": transfer.size_bytes,
    }
    result = None if error is not None else transfer.result()
    return report | {
        "error": None if error is None else str(error),
        "duration_s": result and result.duration_s,
        "throughput_mbps": result and result.throughput_mbps,
        "retransmitted_bytes": result and result.retransmitted_bytes,
        "blake3": result and result.blake3,
        "decision": result and _decision_report(result),
    }


def _decision_report(result: TransferResult) -> dict[str, Any] | None:
    decision = result.decision
    if decision is None:
        return None
    return {
        "action": decision.action,
        "stream_ids": decision.stream_ids,
        "chunk_sizes": decision.chunk_sizes,
        "expected_time_s": decision.expected_time_s,
        "source": decision.source,
    }


def _print(report: dict[str, Any]) -> None:
    messages = console.messages()
    table = console.table("", ["file"], ["size", "time", "Mbit/s", "streams", "blake3"])
    for file in report["files"]:
        if file["error"] is None:
            decision = file["decision"]
            table.add_row(
                printable(file["name"]),
                size_text(file["size_bytes"]),
                time_text(file["duration_s"]),
                f"{file['throughput_mbps']:.1f}",
                " ".join(map(str, decision["stream_ids"])) if decision else "",
                file["blake3"][:16],
            )
    if table.row_count:
        console.output().print(table)
    for stream in report["streams"]:
        if not stream["up"]:
            lost = f"stream {stream['stream']} was lost: {stream['error']}"
            console.say(messages, f"itp send: warning: {lost}")
    for file in report["files"]:
        if file["error"] is not None:
            console.say(messages, f"itp send: {file['error']}")
