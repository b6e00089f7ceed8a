"""``HOST:PORT`` as people write it, IPv6 in brackets."""

from __future__ import annotations


def parse_address(text: str, default_port: int | None = None) -> tuple[str, int]:
    """Host and port of ``HOST:PORT`` or ``[IPV6]:PORT``.

    Parameters
    ----------
    text : str
    default_port : int, optional
        What a text without a port means; None: the port must be there.

    Raises
    ------
    ValueError
    """
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        port = rest[1:] if rest.startswith(":") else ""
        malformed = not closed or (rest != "" and not rest.startswith(":"))
    else:
        host, colon, port = text.rpartition(":")
        if not colon:
            host, port = text, ""
        malformed = ":" in host
    if malformed or not host:
        raise ValueError(f"expected HOST:PORT, an IPv6 address in brackets ([::1]:7411); got {text!r}")
    if port == "" and default_port is not None and not text.endswith(":"):
        return host, default_port
    if not (port.isascii() and port.isdigit() and int(port) <= 65_535):
        raise ValueError(f"expected a port from 0 to 65535 after the last colon; got {text!r}")
    return host, int(port)


def format_address(host: str, port: int) -> str:
    """The inverse of ``parse_address``."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
