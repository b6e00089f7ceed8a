"""What a run shows while it goes: a live panel on a terminal, else a line or a JSON object a round."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from types import TracebackType
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from itp_training.trainer import Moment, Round

_ROUNDS_SHOWN = 8
_REFRESHES_PER_S = 5


class Display:
    """Shows nothing but what the user must know: `--quiet`, and what the others are made from."""

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to leave."""

    def tick(self, moment: Moment) -> None:
        """Where the run stands."""

    def finished(self, rounds: Sequence[Round]) -> None:
        """One more round is over, the last of these."""

    def note(self, text: str) -> None:
        """Something the user must know, on standard error."""
        print(text, file=sys.stderr, flush=True)

    def end(self, summary: dict[str, Any], lines: Sequence[str]) -> None:  # noqa: ARG002
        """The run is over: what there is to say, for programs and for people."""
        for line in lines:
            print(line, flush=True)


class Lines(Display):
    """A plain line a round, for logs."""

    def __init__(self, rounds: Sequence[Round], n_rounds: int) -> None:
        self._begin_s, self._done_before, self._n_rounds = time.monotonic(), len(rounds), n_rounds

    def finished(self, rounds: Sequence[Round]) -> None:
        done = rounds[-1]
        decisions, updates = rates(rounds)
        spent_s = time.monotonic() - self._begin_s
        left_s = spent_s * (self._n_rounds - len(rounds)) / (len(rounds) - self._done_before)
        print(
            f"episode {done.episodes}: reward {done.reward:.3f}, slowdown {done.slowdown:.3f}, "
            f"validation {done.validation_slowdown:.3f}, loss {done.loss:.4g}, epsilon {done.epsilon:.2f}, "
            f"beta {done.beta:.2f}, {decisions:,.0f} decisions/s, {updates:,.0f} updates/s, "
            f"{clock(left_s)} left",
            flush=True,
        )


class JsonLines(Display):
    """A JSON object a round, and one at the end."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet

    def finished(self, rounds: Sequence[Round]) -> None:
        if not self._quiet:
            print(json.dumps(asdict(rounds[-1])), flush=True)

    def end(self, summary: dict[str, Any], lines: Sequence[str]) -> None:  # noqa: ARG002
        print(json.dumps(summary), flush=True)


class Panel(Display):
    """The last rounds in a table, and a bar, on a terminal."""

    def __init__(self, console: Console, rounds: Sequence[Round], n_rounds: int) -> None:
        self._rounds, self._n_rounds = rounds, n_rounds
        self._bar = Progress(
            BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), TextColumn("{task.description}")
        )
        self._task = self._bar.add_task("", total=1.0)
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=_REFRESHES_PER_S)
        self._phase, self._since_s, self._before = "", 0.0, 0

    def __enter__(self) -> Panel:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def tick(self, moment: Moment) -> None:
        now_s = time.monotonic()
        counting = "decisions" if moment.phase == "collecting" else "updates"
        count = getattr(moment, counting)
        if moment.phase != self._phase:
            self._phase, self._since_s, self._before = moment.phase, now_s, count
        rate = (count - self._before) / max(now_s - self._since_s, 1e-3)
        self._bar.update(
            self._task,
            completed=moment.share,
            description=f"{moment.phase}, {rate:,.0f} {counting}/s",
        )

    def finished(self, rounds: Sequence[Round]) -> None:
        self._rounds = rounds
        self._bar.update(self._task, completed=len(rounds) / self._n_rounds)

    def _render(self) -> Group:
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
        heads = ("episodes", "reward", "slow-\ndown", "vali-\ndation", "loss", "eps", "beta")
        for head in (*heads, "deci-\nsions/s", "up-\ndates/s"):
            table.add_column(head, justify="right", no_wrap=True)
        for number in range(max(len(self._rounds) - _ROUNDS_SHOWN, 0), len(self._rounds)):
            done = self._rounds[number]
            decisions, updates = rates(self._rounds[: number + 1])
            table.add_row(
                f"{done.episodes}",
                f"{done.reward:.3f}",
                f"{done.slowdown:.3f}",
                f"{done.validation_slowdown:.3f}",
                f"{done.loss:.4g}",
                f"{done.epsilon:.2f}",
                f"{done.beta:.2f}",
                f"{decisions:,.0f}",
                f"{updates:,.0f}",
            )
        return Group(table, self._bar) if self._rounds else Group(self._bar)


def display(rounds: Sequence[Round], n_rounds: int, *, as_json: bool, quiet: bool) -> Display:
    """The one that fits the options and where the output goes."""
    if as_json:
        return JsonLines(quiet)
    if quiet:
        return Display()
    console = Console()
    if console.is_terminal:
        return Panel(console, rounds, n_rounds)
    return Lines(rounds, n_rounds)


def rates(rounds: Sequence[Round]) -> tuple[float, float]:
    """Decisions and updates a second in the last of some rounds."""
    last = rounds[-1]
    decisions, updates = last.decisions, last.updates
    if len(rounds) > 1:
        decisions -= rounds[-2].decisions
        updates -= rounds[-2].updates
    return decisions / max(last.collect_s, 1e-9), updates / max(last.learn_s, 1e-9)


def clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
