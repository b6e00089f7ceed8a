"""The transport's log: what fails in one of its handlers must not end a thread that moves data."""

from __future__ import annotations

import logging
from contextlib import suppress

_logger = logging.getLogger("itp.transport")


class _Log:
    """The logger ``itp.transport``, without the exceptions that a handler may raise."""

    def info(self, message: str, *args: object) -> None:
        """Log what happened to one peer or file."""
        with suppress(Exception):
            _logger.info(message, *args)

    def warning(self, message: str, *args: object) -> None:
        """Log what went wrong outside of this process."""
        with suppress(Exception):
            _logger.warning(message, *args)

    def exception(self, message: str, *args: object) -> None:
        """Log the exception that is being handled."""
        with suppress(Exception):
            _logger.exception(message, *args)


log = _Log()
