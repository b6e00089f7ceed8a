"""``itp recv``: receive files into a folder."""

from __future__ import annotations

import argparse
import logging
import queue
from dataclasses import asdict
from typing import Any

from itp._util import console
from itp._util.command import UsageError
from itp._util.signals import interruptible
from itp.cli.address import check_address
from itp.cli.arguments import to_path
from itp.cli.units import json_text, size_text
from itp.transport import DEFAULT_PORT, ReceivedFile, Receiver, SessionSummary
from itp.transport.io.addresses import format_address


def build_parser(prog: str) -> argparse.ArgumentParser:
    """The parser of ``itp recv``."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Receive files into DIR until interrupted. There is no authentication yet: listen "
        "only where everyone who can connect may write into DIR.",
    )
    parser.add_argument("directory", metavar="DIR", type=to_path, help="existing folder the files go to")
    parser.add_argument(
        "--listen",
        metavar="HOST:PORT",
        default=f"127.0.0.1:{DEFAULT_PORT}",
        help="address to listen on; with port 0 the system chooses one (default: %(default)s)",
    )
    parser.add_argument("--once", action="store_true", help="end after the first session; 1 if a file failed")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line for every event")
    return parser


def run(args: argparse.Namespace) -> int:
    """Receive until interrupted, or with ``--once`` until the first session has ended."""
    host, port = check_address("--listen", args.listen, DEFAULT_PORT)
    if not args.directory.is_dir():
        raise UsageError(f"{args.directory} is not a directory")
    _warn_on_stderr()
    events: queue.SimpleQueue[ReceivedFile | SessionSummary] = queue.SimpleQueue()
    show = _show_json if args.json else _show_text

    def show_next() -> ReceivedFile | SessionSummary:
        event = events.get()
        show({"event": "file" if isinstance(event, ReceivedFile) else "session", **asdict(event)})
        return event

    try:
        with (
            interruptible(),
            Receiver(args.directory, host, port, on_file=events.put, on_session=events.put) as receiver,
        ):
            address = format_address(*receiver.address)
            show({"event": "listening", "address": address, "directory": str(args.directory)})
            while True:
                event = show_next()
                if args.once and isinstance(event, SessionSummary):
                    return 1 if event.error is not None or event.failed_files else 0
    finally:
        # The receiver's own end has cut these off.
        while not events.empty():
            show_next()


def _warn_on_stderr() -> None:
    """Show what the receiver turns away: garbage, other versions, too many connections."""
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("itp recv: %(message)s"))
    logging.getLogger("itp.transport").addHandler(handler)


def _show_json(event: dict[str, Any]) -> None:
    print(json_text(event), flush=True)


def _show_text(event: dict[str, Any]) -> None:
    """An event as a line for people; what is red has failed."""
    text, style = _line(event)
    console.say(console.output(), text, style)


def _line(event: dict[str, Any]) -> tuple[str, str | None]:
    if event["event"] == "listening":
        return f"listening on {event['address']}, files go to {event['directory']}", None
    if event["event"] == "session":
        counts = f"{event['received_files']} received, {event['failed_files']} failed"
        text = f"session from {event['peer']}: {counts}"
        return (text, None) if event["error"] is None else (f"{text}; {event['error']}", "red")
    if event["error"] is not None:
        return f"failed    {event['name']}: {event['error']}", "red"
    size, rate = size_text(event["size_bytes"]), event["size_bytes"] * 8e-6 / max(event["duration_s"], 1e-9)
    return f"received  {event['name']}  {size}  {rate:.1f} Mbit/s  blake3 {event['blake3'][:16]}", "green"
