"""``itp recv``: receive files into a folder."""

from __future__ import annotations

import argparse
import json
import logging
import queue
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from itp._util.command import UsageError
from itp._util.signals import interruptible
from itp.cli.units import size_text
from itp.transport import DEFAULT_PORT, ReceivedFile, Receiver, SessionSummary
from itp.transport.io.addresses import format_address, parse_address


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``itp recv``."""
    parser = subparsers.add_parser(
        "recv",
        help="receive files over parallel streams",
        description="Receive files into DIR until interrupted. There is no authentication yet: listen "
        "only where everyone who can connect may write into DIR.",
    )
    parser.add_argument("directory", metavar="DIR", type=Path, help="existing folder the files go to")
    parser.add_argument(
        "--listen",
        metavar="HOST:PORT",
        default=f"127.0.0.1:{DEFAULT_PORT}",
        help="address to listen on; port 0 lets the system choose (default: %(default)s)",
    )
    parser.add_argument("--once", action="store_true", help="end after the first session; 1 if a file failed")
    parser.add_argument("--json", action="store_true", help="one JSON object a line on standard output")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Receive until interrupted, or with ``--once`` until the first session has ended."""
    try:
        host, port = parse_address(args.listen, DEFAULT_PORT)
    except ValueError as error:
        raise UsageError(f"--listen: {error}") from None
    if not args.directory.is_dir():
        raise UsageError(f"{args.directory} is not a directory")
    _warn_on_stderr()
    events: queue.SimpleQueue[ReceivedFile | SessionSummary] = queue.SimpleQueue()
    tell = _tell_json if args.json else _Console().tell

    def tell_next() -> ReceivedFile | SessionSummary:
        event = events.get()
        tell({"event": "file" if isinstance(event, ReceivedFile) else "session", **asdict(event)})
        return event

    try:
        with (
            interruptible(),
            Receiver(args.directory, host, port, on_file=events.put, on_session=events.put) as receiver,
        ):
            address = format_address(*receiver.address)
            tell({"event": "listening", "address": address, "directory": str(args.directory)})
            while True:
                event = tell_next()
                if args.once and isinstance(event, SessionSummary):
                    return 1 if event.error is not None or event.failed_files else 0
    finally:
        # What the receiver's own end has cut off.
        while not events.empty():
            tell_next()


def _warn_on_stderr() -> None:
    """Show what the receiver turns away: garbage, other versions, too many connections."""
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("itp recv: %(message)s"))
    logging.getLogger("itp.transport").addHandler(handler)


def _tell_json(event: dict[str, Any]) -> None:
    print(json.dumps(event, default=str), flush=True)


class _Console:
    """The events as lines for people."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stdout, highlight=False, soft_wrap=True)

    def tell(self, event: dict[str, Any]) -> None:
        """Print one event."""
        getattr(self, f"_{event['event']}")(event)

    def _listening(self, event: dict[str, Any]) -> None:
        self._console.print(f"listening on {event['address']}, files go to {escape(event['directory'])}")

    def _file(self, event: dict[str, Any]) -> None:
        name, size = escape(event["name"]), size_text(event["size_bytes"])
        if event["error"] is not None:
            self._console.print(f"[red]failed[/red]    {name}: {escape(event['error'])}")
        else:
            rate = event["size_bytes"] * 8e-6 / max(event["duration_s"], 1e-9)
            self._console.print(
                f"[green]received[/green]  {name}  {size}  {rate:.1f} Mbit/s  blake3 {event['blake3'][:16]}"
            )

    def _session(self, event: dict[str, Any]) -> None:
        counts = f"{event['received_files']} received, {event['failed_files']} failed"
        text = f"session from {event['peer']}: {counts}"
        if event["error"] is not None:
            self._console.print(f"[red]{text}; {escape(event['error'])}[/red]")
        else:
            self._console.print(text)
