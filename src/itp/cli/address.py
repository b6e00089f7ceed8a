"""An address on the command line."""

from __future__ import annotations

from itp._util.command import UsageError
from itp.transport.io.addresses import parse_address


def check_address(option: str, text: str, default_port: int) -> tuple[str, int]:
    """Host and port of a text; UsageError if it can be no address."""
    try:
        host, port = parse_address(text, default_port)
        host.encode("idna")  # as a name is looked up
    except UnicodeError:
        raise UsageError(f"{option}: expected a host's name or address before the port; got {text}") from None
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None
    return host, port
