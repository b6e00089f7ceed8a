"""The course of a run, whatever it trains: files and display kept up to date, Ctrl-C, going on later."""

from __future__ import annotations

import argparse
import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from itp._util.command import UsageError
from itp_training.display import Display
from itp_training.errors import TrainingError
from itp_training.progress import Interrupted, Moment, RoundLike, Run
from itp_training.run_files import RunFiles
from itp_training.run_folder import METRICS, holds_run
from itp_training.settings import Settings


def check_free(folder: Path) -> None:
    """UsageError for the folder of a new run that holds one already."""
    if holds_run(folder):
        raise UsageError(
            f"{folder} holds a run: --resume goes on with it, --out FOLDER names another place, "
            f"--load-model {folder} starts a new run with its weights"
        )


def check_there(folder: Path) -> None:
    """UsageError for a folder without a run to go on with."""
    if not holds_run(folder):
        raise UsageError(f"--resume: there is no run in {folder}; name its folder with --out")


def check_same(config: Settings, asked: Settings, folder: Path) -> None:
    """UsageError for options that contradict the run that is to go on."""
    different = [
        f"{name} = {_text(getattr(config, name))}, not {_text(getattr(asked, name))}"
        for name in config.defaults()
        if getattr(asked, name) != getattr(config, name)
    ]
    if different:
        raise UsageError(
            f"--resume: {folder} is a run with {'; '.join(different)}; it goes on as it began: leave the "
            f"options out, or start a new run with --load-model {folder}"
        )


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def resume_command(args: argparse.Namespace, folder: Path, usual: dict[str, object]) -> str:
    """The command that goes on with a run; of the options in `usual` those that differ from it."""
    command = [*shlex.split(args.prog), "--resume", "--out", str(folder)]
    for name, value in usual.items():
        found = getattr(args, name)
        if found != value:
            command += [f"--{name.replace('_', '-')}", str(found)]
    return shlex.join(command)


def follow(trainer: Run, folder: Path, shown: Display, resume: str) -> bool:
    """Run a trainer, keep its files and display up to date; returns whether it was stopped.

    Parameters
    ----------
    trainer : Run
    folder : Path
        Of the run.
    shown : Display
    resume : str
        The command that goes on with the run.

    Raises
    ------
    TrainingError
        It cannot go on, or its last checkpoint cannot be written.
    """
    with ExitStack() as stack:
        files = RunFiles(folder, trainer.config, trainer.rounds)
        stack.callback(files.close)
        if not files.has_events:
            shown.note("note: no curves for TensorBoard: pip install tensorboard (it is in itp[train])")

        def finished(_: RoundLike) -> None:
            shown.finished(trainer.rounds)
            try:
                files.add(trainer.rounds)
            except OSError as error:
                shown.note(f"warning: {folder / METRICS} cannot be written now: {error.strerror or error}")

        def not_saved(error: OSError) -> None:
            last = trainer.rounds[-1]
            shown.note(
                f"warning: no checkpoint at {last.unit} {last.step}: {error.strerror or error}; "
                "the last one stands, and training goes on"
            )

        with shown, stopping(trainer):
            return _run(trainer, folder, finished, not_saved, shown.tick, resume)


def _run(
    trainer: Run,
    folder: Path,
    finished: Callable[[RoundLike], None],
    not_saved: Callable[[OSError], None],
    tick: Callable[[Moment], None],
    resume: str,
) -> bool:
    """Run the trainer; returns whether it was stopped."""
    try:
        trainer.run(tick, finished, not_saved)
    except Interrupted:
        return True
    except BrokenPipeError:
        raise
    except OSError as error:
        raise TrainingError(
            f"{folder}: cannot be saved: {error.strerror or error}; the last checkpoint stands: "
            f"make room, then {resume}"
        ) from error
    return trainer.stop


@contextmanager
def stopping(trainer: Run) -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM ask the run to stop, and a second one leave at once."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(_number: int, _frame: FrameType | None) -> None:
        trainer.stop = True
        for number in before:
            signal.signal(number, signal.default_int_handler)

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
