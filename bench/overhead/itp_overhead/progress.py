"""What is being measured, for people who wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

from itp._util.console import say


@contextmanager
def shown_on(messages: Console) -> Iterator[Callable[[str], None]]:
    """Show names of measurements by a function: on a terminal in a line that changes, else in a line each."""
    if not messages.is_terminal:
        yield lambda name: say(messages, f"measuring {name}")
        return
    with messages.status("measuring", spinner="line") as status:
        yield lambda name: status.update(f"measuring {name}")
