"""Tables and progress bars of all commands; importing this module imports rich."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.progress import Progress, ProgressColumn, TextColumn
from rich.table import Table

from itp._util.terminal import printable

LEAST_WIDTH = 80
"""What tables are made for: narrower terminals wrap their lines, and no figure is cut off."""


def output() -> Console:
    """Standard output, for what a command was asked for; text is shown as it is, without rich's markup."""
    console = Console(markup=False, emoji=False, highlight=False)
    console.width = max(console.width, LEAST_WIDTH)
    return console


def messages() -> Console:
    """Standard error, for progress, warnings and names of files that were written."""
    return Console(stderr=True, markup=False, emoji=False, highlight=False)


def say(console: Console, text: str, style: str | None = None) -> None:
    """Print a line that is not wrapped, however narrow the terminal; names in it may be of any characters."""
    console.print(printable(text), style=style, soft_wrap=True)


def progress(console: Console, *columns: ProgressColumn) -> Progress:
    """A progress bar that only a terminal shows, and that is gone in the end."""
    return _Progress(*columns, console=console, disable=not console.is_terminal, transient=True)


class _Progress(Progress):
    def stop(self) -> None:
        # Before rich 14.3 the end of a bar that was not shown is an empty line.
        if not self.disable:
            super().stop()


def description() -> TextColumn:
    """The column of a progress bar that shows a task's description as it is."""
    return TextColumn("{task.description}", markup=False)


def table(title: str, names: Sequence[str], figures: Sequence[str], *, header: bool = True) -> Table:
    """A table without sides, as narrow as its content; names that are too long are folded.

    Parameters
    ----------
    title : str
    names, figures : sequence of str
        Headings of the columns: names first, to the left, then figures, to the right.
    header : bool
        Show the headings.
    """
    made = Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
        show_header=header,
    )
    for name in names:
        made.add_column(name, overflow="fold")
    for name in figures:
        made.add_column(name, justify="right", no_wrap=True)
    return made
